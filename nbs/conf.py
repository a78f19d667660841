"""The notebooks as a site: `sphinx-build -E -W nbs _docs/site` shows what is stored in
them, runs nothing, and asks no network."""

import ast
import html
import json
import re
from configparser import ConfigParser
from importlib import resources
from pathlib import Path

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
mathjax_path = (
    'tex-svg-full.js'  # one file with its glyphs in it, which may be opened from a disk
)
html_theme, html_title = 'furo', project
html_static_path = [
    'styles.css',
    str(resources.files('mathjax') / 'static/mathjax/es5' / mathjax_path),
]
html_css_files = ['styles.css']
html_copy_source = False
html_show_search_summary = (
    False  # it would fetch pages, which browsers refuse to a page from a disk
)
napoleon_numpy_docstring = False
autodoc_preserve_defaults = True
autodoc_typehints_format = 'short'
default_role, smartquotes = (
    'code',
    False,
)  # quotation marks stay as they are typed: many of them are code


def described(output: dict) -> dict:
    """A stored picture as HTML that keeps its alternative text, which myst-nb would
    drop."""
    for kind in [kind for kind in output.get('data', {}) if kind.startswith('image/')]:
        alt = output['metadata'].get('alt') or output['metadata'][kind]['alt']
        png = ''.join(output['data'][kind]).replace('\n', '')
        source = f'data:{kind};base64,{png}'
        picture = f'<img alt="{html.escape(alt)}" src="{source}">'
        output['data'] = {'text/html': picture}
    return output


def read_notebook(name: str, text: str) -> str:
    """A notebook without directives, of hidden cells what they show, with its number in
    its title; the index with the list of pages."""
    notebook = json.loads(text)
    cells = [cell | {'source': ''.join(cell['source'])} for cell in notebook['cells']]
    for cell in cells:
        if re.match(r'(#\|.*\n)*#\| hide$', cell['source'], flags=re.M):
            kept = cell['metadata'].get('tags', [])
            cell['metadata'] = cell['metadata'] | {'tags': [*kept, 'remove-input']}
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


def setup(app):
    app.connect('source-read', read_page)
    app.connect('autodoc-process-docstring', read_docstring, priority=900)
