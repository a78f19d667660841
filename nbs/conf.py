"""The notebooks as a site: `sphinx-build -E -W nbs _docs/site` shows what is stored in
them, runs nothing, and asks no network."""

import ast
import base64
import html
import json
import re
from configparser import ConfigParser
from importlib import resources
from pathlib import Path

from bs4 import BeautifulSoup

import ddpm_teach

HERE = Path(__file__).parent
settings = ConfigParser(delimiters=['='])
settings.read(HERE.parent / 'settings.ini', encoding='utf-8')
project, author, release, copyright = (
    settings['DEFAULT'][key] for key in ('title', 'author', 'version', 'copyright')
)

extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
exclude_patterns = ['**/runs', 'results', '**/.ipynb_checkpoints', '_proc']
nb_execution_mode = 'off'
nb_merge_streams = True
nb_ipywidgets_js = {}  # no widgets are stored, so no scripts for them
myst_enable_extensions = ['dollarmath']
# One file with its glyphs in it, which may be opened from a disk.
mathjax_path = 'tex-svg-full.js'
# Letters as high as those of the text around them.
mathjax3_config = {'svg': {'scale': 0.9}}
html_theme = 'furo'
html_title = project
html_static_path = [
    'styles.css',
    'search_excerpts.js',
    str(resources.files('mathjax') / 'static/mathjax/es5' / mathjax_path),
]
html_css_files = ['styles.css']
html_copy_source = False
# Sphinx's own would fetch pages, which browsers refuse to a page from a disk:
# `search_excerpts.js` reads them from a script that is written with the site.
html_show_search_summary = False
napoleon_numpy_docstring = False
autodoc_preserve_defaults = True
autodoc_typehints_format = 'short'
default_role = 'code'
# Quotation marks stay as they are typed: many of them are code.
smartquotes = False
LEAST_HEIGHT = 200  # of a figure on a narrow screen, in pixels, where it has as many


def least_width(png: bytes) -> int:
    """How wide a picture has to be to be read; a narrower screen moves over it."""
    width = int.from_bytes(png[16:20], 'big')
    height = int.from_bytes(png[20:24], 'big')
    return round(width * min(1, LEAST_HEIGHT / height))


def described(output: dict) -> dict:
    """A stored picture as HTML that keeps its alternative text, which myst-nb would
    drop."""
    for kind in [kind for kind in output.get('data', {}) if kind.startswith('image/')]:
        alt = output['metadata'].get('alt') or output['metadata'][kind]['alt']
        png = ''.join(output['data'][kind]).replace('\n', '')
        least = least_width(base64.b64decode(png))
        output['data'] = {
            'text/html': f'<div class="wide-figure"><img alt="{html.escape(alt)}" '
            f'style="min-width: {least}px" src="data:{kind};base64,{png}"></div>'
        }
    return output


def tagged(cell: dict) -> dict:
    """A cell with what myst-nb needs to hide its code, or to fold it as a solution."""
    metadata = cell['metadata']
    tags = metadata.get('tags', [])
    if re.match(r'(#\|.*\n)*#\| hide$', cell['source'], flags=re.M):
        tags = [*tags, 'remove-input']
    elif cell['cell_type'] == 'code' and 'solution' in tags:
        tags = [*tags, 'hide-input']
        prompts = {'code_prompt_show': 'Solution', 'code_prompt_hide': 'Solution'}
        metadata = metadata | {'mystnb': prompts}
    return cell | {'metadata': metadata | {'tags': tags}}


def read_notebook(name: str, text: str) -> str:
    """A notebook without directives, of hidden cells what they show, with its number in
    its title; the index with the list of pages."""
    notebook = json.loads(text)
    cells = [cell | {'source': ''.join(cell['source'])} for cell in notebook['cells']]
    cells = [tagged(cell) for cell in cells]
    for cell in cells:
        if cell['cell_type'] == 'code':
            cell['source'] = re.sub(r'\A(#\|.*\n?)+', '', cell['source'])
            cell['outputs'] = [described(output) for output in cell['outputs']]
    if name == 'index':
        pages = (
            toctree('Lessons', '[0-9]*')
            + toctree('Tools', 'tools/*', 'api')
            + toctree('Plumbing', 'plumbing/*')
        )
        cells.append({
            'cell_type': 'markdown',
            'id': 'pages',
            'metadata': {},
            'source': pages,
        })
    else:
        number = f'{name[:2]} ' if name[:2].isdigit() else ''
        cells[0]['source'] = re.sub(r'\A# ', f'# {number}', cells[0]['source'])
    return json.dumps(notebook | {'cells': [cell for cell in cells if cell['source']]})


def toctree(caption: str, *patterns: str) -> str:
    """A hidden list of pages."""
    return '\n'.join([
        '```{toctree}',
        ':hidden:',
        ':glob:',
        f':caption: {caption}',
        '',
        *patterns,
        '```',
        '',
        '',
    ])


def exports(path: Path) -> str | None:
    """The module that a notebook exports."""
    found = re.search(r'#\| default_exp ([\w.]+)', path.read_text(encoding='utf-8'))
    return found and found[1]


NOTEBOOKS = [*HERE.glob('*.ipynb'), *HERE.glob('*/*.ipynb')]
HOMES = {
    exports(path): path.relative_to(HERE).with_suffix('').as_posix()
    for path in NOTEBOOKS
}


def public_names() -> dict[str, list[str]]:
    """The public names by module, as `__init__.pyi` has them."""
    stub = Path(ddpm_teach.__file__).with_suffix('.pyi').read_text(encoding='utf-8')
    return {
        node.module: [name.name for name in node.names] for node in ast.parse(stub).body
    }


def list_names() -> str:
    """The public names, module by module."""
    lines = []
    for module, names in public_names().items():
        lines += [
            module,
            '-' * len(module),
            '',
            f'Derived and checked in :doc:`{HOMES[module]}`.',
            '',
        ]
        for name in names:
            kind = (
                'class' if isinstance(getattr(ddpm_teach, name), type) else 'function'
            )
            lines += (
                [f'.. auto{kind}:: ddpm_teach.{name}']
                + ['   :members:'] * (kind == 'class')
                + ['']
            )
    return '\n'.join(lines)


def read_page(app, name: str, source: list[str]):
    source[0] = (
        source[0] + list_names() if name == 'api' else read_notebook(name, source[0])
    )


def escaped(match: re.Match) -> str:
    """Code in backticks as it is; what else has a meaning for Sphinx without it."""
    return match[1] or '\\' + match[2]


def read_docstring(app, what, name, obj, options, lines: list[str]):
    """Docstrings are plain text: a star is a star. Fields are napoleon's business."""
    for i, line in enumerate(lines):
        if line.lstrip().startswith('..'):
            continue
        field, text = re.fullmatch(r'(\s*:\w+[^:]*:)?(.*)', line, flags=re.S).groups()
        lines[i] = (field or '') + re.sub(r'(`[^`]+`|\\.)|([*_|])', escaped, text)


TEXTS = {}  # by page: of each piece its anchor, its text, and whether it is code
PIECES = 'p, li, pre, dt, td'


def place_of(piece) -> str:
    """The anchor of the section, or of the name, that a piece of a page belongs to."""
    if piece.name == 'dt' and piece.get('id'):
        return piece['id']
    home = piece.find_parent(['section', 'dd'])
    if home is not None and home.name == 'dd':
        home = home.find_previous_sibling('dt')
    return home.get('id', '') if home is not None else ''


def keep_text(app, name: str, template: str, context: dict, doctree):
    """What an excerpt of a page may show: all but folded solutions."""
    if name == 'search':                   # it comes last
        write_texts(Path(app.outdir, '_static', 'page_texts.js'))
        for script in ('page_texts.js', 'search_excerpts.js', mathjax_path):
            app.add_js_file(script)
    if doctree is None:
        return
    page = BeautifulSoup(context['body'], 'html.parser')
    for gone in page.select('details, .headerlink, img'):
        gone.decompose()
    pieces = [p for p in page.select(PIECES) if not p.select_one(PIECES)]
    TEXTS[name] = [
        (place_of(piece), ' '.join(piece.text.split()), piece.name == 'pre')
        for piece in pieces
        if piece.text.strip()
    ]


def write_texts(path: Path):
    """The texts of all pages as a script, which a page from a disk may load."""
    texts = json.dumps(TEXTS, ensure_ascii=False)
    path.write_text(f'const PAGE_TEXTS = {texts}\n', encoding='utf-8')


def setup(app):
    app.connect('source-read', read_page)
    app.connect('autodoc-process-docstring', read_docstring, priority=900)
    app.connect('html-page-context', keep_text)
