"""README.md is nbs/index.ipynb turned into Markdown."""
import re

from nbconvert import MarkdownExporter
from places import ROOT

LOCAL_LINK = r'\]\((?!\w+://|#)(\.\./)?([^)]+)\)'


def readme() -> str:
    """The text of README.md: links to files beside the notebook lead through nbs/."""
    text, _ = MarkdownExporter().from_filename(ROOT / 'nbs' / 'index.ipynb')

    def from_root(link: re.Match) -> str:
        folder = '' if link[1] else 'nbs/'
        return f']({folder}{link[2]})'

    return re.sub(LOCAL_LINK, from_root, text).strip() + '\n'


def write_readme():
    (ROOT / 'README.md').write_text(readme(), encoding='utf-8')
