"""README.md is nbs/index.ipynb turned into Markdown. `python tests/readme.py` writes it; a test compares."""
import pathlib
import re

from nbconvert import MarkdownExporter

ROOT = pathlib.Path(__file__).parents[1]


def readme() -> str:
    """The text that README.md should have: links to files beside the notebook lead through nbs/."""
    text, _ = MarkdownExporter().from_filename(ROOT / 'nbs' / 'index.ipynb')
    local = r'\]\((?!\w+://|#)(?:\.\./)?([^)]+)\)'
    place = lambda match: f']({match.group(1)})' if '](../' in match.group(0) else f'](nbs/{match.group(1)})'
    return re.sub(local, place, text).strip() + '\n'


if __name__ == '__main__':
    (ROOT / 'README.md').write_text(readme(), encoding='utf-8')
