"""Each lesson says below its title how to open it in Colab. `python tests/badges.py` writes that from settings.ini; a test compares."""
import json
import pathlib
from configparser import ConfigParser

ROOT = pathlib.Path(__file__).parents[1]
LESSONS = sorted((ROOT / 'nbs').glob('[0-9]*.ipynb'))


def badge(path: pathlib.Path) -> dict:
    """The cell that belongs below the title of a lesson. Colab opens only the notebook; the package and the stored results come with the clone."""
    config = ConfigParser(delimiters=['='])
    config.read(ROOT / 'settings.ini', encoding='utf-8')
    user, repo, branch, url, nbs = (config['DEFAULT'][key] for key in ('user', 'repo', 'branch', 'git_url', 'nbs_path'))
    text = (f'[Open in Colab](https://colab.research.google.com/github/{user}/{repo}/blob/{branch}/{nbs}/{path.name}). '
            f'There, run this first: `!git clone -q {url} && pip install -q ./{repo}`, then `%cd {repo}/{nbs}`.')
    return {'cell_type': 'markdown', 'id': 'c01ab000', 'metadata': {}, 'source': [text]}


if __name__ == '__main__':
    for path in LESSONS:
        notebook = json.loads(path.read_text(encoding='utf-8'))
        cells = [cell for cell in notebook['cells'] if cell['id'] != 'c01ab000']
        notebook['cells'] = [cells[0], badge(path), *cells[1:]]
        path.write_text(json.dumps(notebook, sort_keys=True, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')
