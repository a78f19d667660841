"""Below its title each notebook can be opened in Colab, and installs what is missing.

This writes both cells, the same in each notebook.
"""
import json
import pathlib
from configparser import ConfigParser

from places import LESSONS, ROOMS, ROOT

BADGE = 'c01ab000'
INSTALL = 'c01ab001'


def settings() -> dict:
    config = ConfigParser(delimiters=['='])
    config.read(ROOT / 'settings.ini', encoding='utf-8')
    return config['DEFAULT']


def badge(path: pathlib.Path) -> dict:
    """The cell below the title of a notebook."""
    about = settings()
    place = path.relative_to(ROOT).as_posix()
    address = f"{about['user']}/{about['repo']}/blob/{about['branch']}/{place}"
    text = f'[Open in Colab](https://colab.research.google.com/github/{address})'
    return dict(cell_type='markdown', id=BADGE, metadata={}, source=[text])


def install() -> dict:
    """The first cell of code: installs the library where it cannot be imported.

    Colab opens only the notebook. The wheel brings the stored results along. Nothing
    happens in a clone, in tests and without a network.
    """
    source = f"""\
#| hide
from importlib.util import find_spec

if find_spec('ddpm_teach') is None:      # in Colab, or in a Jupyter that has it not
    place = 'git+{settings()['git_url']}'
    packages = f'"ddpm_teach[notebooks] @ {{place}}"'
    get_ipython().run_line_magic('pip', f'install -q {{packages}}')"""
    return dict(
        cell_type='code', execution_count=None, id=INSTALL, metadata={}, outputs=[],
        source=source.splitlines(keepends=True))


def write_badges():
    for path in [*LESSONS, *ROOMS]:
        notebook = json.loads(path.read_text(encoding='utf-8'))
        title, *others = [
            cell for cell in notebook['cells'] if cell['id'] not in (BADGE, INSTALL)]
        notebook['cells'] = [title, badge(path), install(), *others]
        text = json.dumps(notebook, sort_keys=True, indent=1, ensure_ascii=False)
        path.write_text(text + '\n', encoding='utf-8')
