"""README.md is nbs/index.ipynb turned into Markdown."""
import re

from nbconvert import MarkdownExporter
from places import ROOT

LOCAL_LINK = r'\]\((?!\w+://|#)(\.\./)?([^)]+)\)'


def readme() -> str:
    """The text of README.md: links to files beside the notebook lead through nbs/."""
    text, _ = MarkdownExporter().from_filename(ROOT / 'nbs' / 'index.ipynb')
    from_root = re.sub(LOCAL_LINK, lambda m: '](' + ('' if m[1] else 'nbs/') + f'{m[2]})', text)
    return from_root.strip() + '\n'


def write_readme():
    (ROOT / 'README.md').write_text(readme(), encoding='utf-8')
