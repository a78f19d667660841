"""What holds for every notebook, read as a file."""

import ast
import collections
import graphlib
import json
import re

import pytest

from as_jupyterlab import normal
from badges import badge
from places import LESSONS, NOTEBOOKS, ROOMS, ROOT, module_of


def cells(path, kind):
    notebook = json.loads(path.read_text(encoding='utf-8'))
    return [
        (c, ''.join(c['source'])) for c in notebook['cells'] if c['cell_type'] == kind
    ]


def test_there_are_notebooks():
    assert {p.name[:2] for p in LESSONS} >= {
        '01',
        '02',
        '03',
        '04',
        '05',
        '06',
        '07',
        '08',
        '09',
        '10',
    } and len(ROOMS) >= 8


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_outputs(path):
    for cell, source in cells(path, 'code'):
        for output in cell['outputs']:
            assert output['output_type'] != 'error', f'saved error: {output}'
            assert 'application/vnd.jupyter.widget-view+json' not in output.get(
                'data', {}
            ), (
                'a widget or progress bar was saved (python tests/tools/prepare.py '
                f'takes it out), by:\n{source}'
            )
            for kind in output.get('data', {}):
                if kind.startswith('image/'):
                    alt = output['metadata'].get('alt') or output['metadata'].get(
                        kind, {}
                    ).get('alt', '')
                    assert len(alt) > 20, (
                        f'a picture without alternative text, made by:\n{source}'
                    )
            text = ''.join(output.get('text', ''))
            assert (
                'Traceback' not in text
                and '/tmp/' not in text
                and '/home/' not in text
                and '/root/' not in text
            ), text


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_opening_it_in_jupyterlab_changes_nothing(path):
    text = path.read_text(encoding='utf-8')
    assert normal(text) == text, 'run: python tests/tools/prepare.py'


def test_the_form_is_that_of_jupyterlab():
    """What its kernel says, sorted names, a cell's id, lists of lines, a last line."""
    text = (NOTEBOOKS[0]).read_text(encoding='utf-8')
    notebook = json.loads(text)
    cleaned = notebook | {'metadata': {'kernelspec': {'name': 'python3'}}}
    cleaned['cells'][0]['source'] = ''.join(cleaned['cells'][0]['source'])
    assert normal(json.dumps(cleaned)) != json.dumps(cleaned)
    made = json.loads(normal(json.dumps(cleaned)))
    assert made['metadata']['kernelspec']['display_name'] == 'Python 3 (ipykernel)'
    assert made['metadata']['language_info']['name'] == 'python'
    assert made['metadata'].keys() == notebook['metadata'].keys()
    assert made['cells'] == json.loads(text)['cells']
    assert normal(normal(text)) == normal(text) and normal(text).endswith('}\n')


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_pictures_in_prose_have_alternative_text(path):
    for _, source in cells(path, 'markdown'):
        assert not re.search(r'!\[\s*\]\(', source), source


def docstrings(tree) -> set[int]:
    """The numbers of the lines that docstrings take."""
    found = set()
    for node in ast.walk(tree):
        body = getattr(node, 'body', [])
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            found |= set(range(first.lineno, first.end_lineno + 1))
    return found


def most_lines(tree) -> int:
    """How long a cell may be: 30 lines, 40 for a function, 60 for a class."""
    kind = type(tree.body[0]) if len(tree.body) == 1 else None
    return {ast.FunctionDef: 40, ast.ClassDef: 60}.get(kind, 30)


def code_lines(source: str) -> tuple[int, int]:
    """How many lines of code a cell has, and how many it may have."""
    source = re.sub(r'^\s*[!%].*$', 'pass', source, flags=re.M)
    tree = ast.parse(source)
    words = docstrings(tree)
    lines = enumerate(source.splitlines(), 1)
    code = [i for i, line in lines if line.strip() and i not in words]
    return len(code), most_lines(tree)


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_cells_are_short_and_directives_come_first(path):
    for _, source in cells(path, 'code'):
        lines = [line for line in source.splitlines() if line.strip()]
        count, most = code_lines(source)
        assert count <= most, f'{count} lines:\n{source}'
        body = [i for i, line in enumerate(lines) if not line.startswith('#|')]
        below = lines[body[0] :] if body else []
        assert not any(line.startswith('#|') for line in below), (
            f'a directive below the first line of code:\n{source}'
        )


@pytest.mark.parametrize('path', LESSONS, ids=lambda p: p.stem)
def test_a_lesson_has_its_parts(path):
    prose = '\n'.join(source for _, source in cells(path, 'markdown'))
    assert (
        prose.startswith('# ')
        and '## What could go wrong' in prose
        and '## Exercise' in prose
        and '## Where to read more' in prose
    )
    code = [source for _, source in cells(path, 'code')]
    assert any(re.search(r'\bassert\b', source) for source in code)
    assert path.stat().st_size < 1_000_000


@pytest.mark.parametrize('path', LESSONS + ROOMS, ids=lambda p: p.stem)
def test_a_lesson_opens_in_colab(path):
    assert json.loads(path.read_text(encoding='utf-8'))['cells'][1] == badge(path), (
        'run: python tests/tools/prepare.py'
    )


def definitions(path):
    """The functions and classes of a notebook: name, code, whether it is exported."""
    for _, source in cells(path, 'code'):
        exported = source.startswith('#| export')
        source = re.sub(r'^\s*[!%].*$', '', source, flags=re.M)
        for node in ast.parse(source).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                yield node.name, ast.dump(node), exported


def test_nothing_is_defined_twice():
    homes = collections.defaultdict(set)
    for path in NOTEBOOKS:
        for name, code, exported in definitions(path):
            homes[code].add(path.name)
            if exported and not name.startswith('_'):
                homes[name].add(path.name)
    assert {what: where for what, where in homes.items() if len(where) > 1} == {}


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_links_lead_somewhere(path):
    for _, source in cells(path, 'markdown'):
        for target in re.findall(r'\]\(([^)#\s]+)', source):
            assert '://' in target or (path.parent / target).exists(), target


def imports(path, kinds):
    """The modules of the package that the exported cells of a notebook import, or the
    others."""
    for _, source in cells(path, 'code'):
        if source.startswith('#| export') in kinds:
            yield from re.findall(
                r'^from ddpm_teach\.([\w.]+) import', source, flags=re.M
            )


def test_imports_run_one_way():
    """Plumbing asks plumbing, lessons ask plumbing and what comes before them, and
    nobody goes in a circle."""
    homes = {module_of(path): path for path in LESSONS + ROOMS}
    asks = {
        module: set(imports(path, {True})) for module, path in homes.items() if module
    }
    graphlib.TopologicalSorter(asks).prepare()  # raises CycleError
    for module, asked in asks.items():
        for other in asked:
            if homes[module].parent.name == 'plumbing':
                assert homes[other].parent.name == 'plumbing', (
                    f'{module} imports {other}'
                )
            elif homes[module] in LESSONS and homes[other] in LESSONS:
                assert homes[other].name < homes[module].name, (
                    f'{module} imports {other}'
                )


def words_of(source: str) -> int:
    """Words of prose: no code, no displayed formula, no target of a link, no tag."""
    for pattern in (r'```.*?```', r'\$\$.*?\$\$', r'(?<=\])\([^)]*\)', r'<[^>]+>'):
        source = re.sub(pattern, '', source, flags=re.S)
    return len(source.split())


def prose_of(path) -> int:
    return sum(words_of(source) for _, source in cells(path, 'markdown'))


@pytest.mark.parametrize('path', LESSONS, ids=lambda p: p.stem)
def test_no_lesson_is_long(path):
    assert prose_of(path) <= 3000


def test_the_course_is_not_long():
    """01 to 09, what is folded included."""
    course = [path for path in LESSONS if '01' <= path.stem[:2] <= '09']
    assert sum(map(prose_of, course)) <= 20_000


def test_minutes_on_the_front_page():
    """A hundred words or forty lines of code a minute, in steps of five."""
    index = (ROOT / 'nbs' / 'index.ipynb').read_text(encoding='utf-8')
    for path in LESSONS:
        lines = 0
        for _, source in cells(path, 'code'):
            if '#| hide' not in source:
                lines += len([line for line in source.splitlines() if line.strip()])
        minutes = 5 * round((prose_of(path) / 100 + lines / 40) / 5)
        row = re.search(rf'\| \[{path.stem}\]\(.*?\\n', index)
        assert row and row[0].endswith(f'| {minutes} |\\n'), (path.stem, minutes)
