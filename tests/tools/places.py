"""Where things are: the repository, its notebooks, the lessons among them."""
import ast
import json
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]
LESSONS = sorted((ROOT / 'nbs').glob('[0-9][0-9]_*.ipynb'))
ROOMS = sorted((ROOT / 'nbs').glob('*/[a-z]*.ipynb'))            # plumbing and tools
NOTEBOOKS = [*LESSONS, *ROOMS, ROOT / 'nbs' / 'index.ipynb']


def name_of(path: pathlib.Path) -> str:
    """As the site calls it: '02_schedule', 'tools/playground'."""
    return path.relative_to(ROOT / 'nbs').with_suffix('').as_posix()


def notebook(stem: str) -> pathlib.Path:
    """The notebook of that name, on whichever floor it is."""
    found, = [path for path in NOTEBOOKS if path.stem == stem]
    return found


def module_of(path: pathlib.Path) -> str | None:
    """The module that a notebook exports, such as 'schedule' or 'plumbing.show'."""
    for cell in json.loads(path.read_text(encoding='utf-8'))['cells']:
        found = re.search(r'#\| default_exp ([\w.]+)', ''.join(cell['source']))
        if found:
            return found[1]
    return None


def public_names() -> dict[str, list[str]]:
    """The public names by module, as `ddpm_teach/__init__.pyi` has them."""
    stub = ast.parse((ROOT / 'ddpm_teach/__init__.pyi').read_text(encoding='utf-8'))
    return {node.module: [name.name for name in node.names] for node in stub.body}
