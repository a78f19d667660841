"""Each notebook says below its title how to open it in Colab; this writes that."""
import json
import pathlib
from configparser import ConfigParser

from places import LESSONS, ROOMS, ROOT


def badge(path: pathlib.Path) -> dict:
    """The cell below the title of a notebook.

    Colab opens only the notebook; package and stored results come with the clone.
    """
    config = ConfigParser(delimiters=['='])
    config.read(ROOT / 'settings.ini', encoding='utf-8')
    settings = config['DEFAULT']
    repo = settings['repo']
    place = path.relative_to(ROOT)
    address = f"{settings['user']}/{repo}/blob/{settings['branch']}/{place.as_posix()}"
    text = (
        f'[Open in Colab](https://colab.research.google.com/github/{address}). '
        'There, run this first: '
        f"`!git clone -q {settings['git_url']} && pip install -q ./{repo}`, "
        f'then `%cd {repo}/{place.parent.as_posix()}`.'
    )
    return dict(cell_type='markdown', id='c01ab000', metadata={}, source=[text])


def write_badges():
    for path in [*LESSONS, *ROOMS]:
        notebook = json.loads(path.read_text(encoding='utf-8'))
        cells = [cell for cell in notebook['cells'] if cell['id'] != 'c01ab000']
        notebook['cells'] = [cells[0], badge(path), *cells[1:]]
        text = json.dumps(notebook, sort_keys=True, indent=1, ensure_ascii=False)
        path.write_text(text + '\n', encoding='utf-8')
