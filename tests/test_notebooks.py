"""What holds for every notebook, read as a file."""
import ast
import collections
import json
import pathlib
import re

import pytest

from badges import LESSONS, badge

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / 'nbs').glob('*.ipynb'))


def cells(path, kind):
    notebook = json.loads(path.read_text(encoding='utf-8'))
    return [(c, ''.join(c['source'])) for c in notebook['cells'] if c['cell_type'] == kind]


def test_there_are_notebooks():
    numbers = {p.name[:2] for p in NOTEBOOKS}
    assert {'00', '01', '02', '03', '04', '05', '06', '07', '08', '09', '10', '11', '12', '13', '14', '15', '16', 'in'} <= numbers


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_outputs(path):
    for cell, source in cells(path, 'code'):
        for output in cell['outputs']:
            assert output['output_type'] != 'error', f'saved error: {output}'
            assert 'application/vnd.jupyter.widget-view+json' not in output.get('data', {}), f'a widget or progress bar was saved (python tests/without_widgets.py takes it out), by:\n{source}'
            for kind in output.get('data', {}):
                if kind.startswith('image/'):
                    alt = output['metadata'].get('alt') or output['metadata'].get(kind, {}).get('alt', '')
                    assert len(alt) > 20, f'a picture without alternative text, made by:\n{source}'
            text = ''.join(output.get('text', ''))
            assert 'Traceback' not in text and '/tmp/' not in text and '/home/' not in text and '/root/' not in text, text


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_pictures_in_prose_have_alternative_text(path):
    for _, source in cells(path, 'markdown'):
        assert not re.search(r'!\[\s*\]\(', source), source


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_cells_are_short_and_directives_come_first(path):
    for _, source in cells(path, 'code'):
        lines = [line for line in source.splitlines() if line.strip()]
        assert len(lines) <= 25, f'{len(lines)} lines:\n{source}'
        body = [i for i, line in enumerate(lines) if not line.startswith('#|')]
        assert not any(line.startswith('#|') for line in lines[body[0]:]) if body else True, f'a directive below the first line of code:\n{source}'


@pytest.mark.parametrize('path', [p for p in NOTEBOOKS if p.name[:2].isdigit()], ids=lambda p: p.stem)
def test_a_lesson_has_its_parts(path):
    prose = '\n'.join(source for _, source in cells(path, 'markdown'))
    assert prose.startswith('# ') and '## What could go wrong' in prose and '## Exercise' in prose and '## Where to read more' in prose
    code = [source for _, source in cells(path, 'code')]
    assert any(re.search(r'\bassert\b', source) for source in code)
    assert path.stat().st_size < 1_000_000


@pytest.mark.parametrize('path', LESSONS, ids=lambda p: p.stem)
def test_a_lesson_opens_in_colab(path):
    assert json.loads(path.read_text(encoding='utf-8'))['cells'][1] == badge(path), 'run: python tests/badges.py'


def test_nothing_is_defined_twice():
    defined = collections.defaultdict(set)
    for path in NOTEBOOKS:
        for _, source in cells(path, 'code'):
            source = re.sub(r'^\s*[!%].*$', '', source, flags=re.M)
            for node in ast.parse(source).body:
                if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                    defined[node.name].add(path.name)
    assert {name: files for name, files in defined.items() if len(files) > 1} == {}


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_links_lead_somewhere(path):
    for _, source in cells(path, 'markdown'):
        for target in re.findall(r'\]\(([^)#\s]+)', source):
            assert '://' in target or (path.parent / target).exists(), target


@pytest.mark.parametrize('path', [p for p in NOTEBOOKS if p.name[:2].isdigit()], ids=lambda p: p.stem)
def test_imports_come_from_above(path):
    rooms = {re.search(r'#\| default_exp (\w+)', s).group(1): p.name[:2] for p in NOTEBOOKS for _, s in cells(p, 'code') if '#| default_exp' in s}
    for _, source in cells(path, 'code'):
        for module, names in re.findall(r'^from ddpm_teach\.(\w+) import (.*)', source, flags=re.M):
            # The exercises is the last, and its checks are used by all: they know the answers, and nothing of them goes into the library.
            is_check = module == 'exercises' and not source.startswith('#| export') and re.fullmatch(r'RIGHT|check_\w+', names)
            assert is_check or rooms[module] < path.name[:2], f'{path.name} imports {module}'


def test_quarto_gets_the_code_and_runs_nothing(monkeypatch):
    """nbdev would take exported cells out of the pages, and run those that import something without the cells above them."""
    processors = pytest.importorskip('nbdev.processors', reason='nbdev is missing: pip install -e ".[dev]"')
    from execnb.nbio import read_nb
    monkeypatch.chdir(ROOT)
    for path in NOTEBOOKS:
        shown = read_nb(path)
        processors.FilterDefaults()(shown)
        kept = {cell.id for cell in shown.cells if cell.source}
        for cell, source in cells(path, 'code'):
            hidden = re.search(r'\A(#\|.*\n)*#\| hide$', source, flags=re.M) is not None      # a lone default_exp has to be hidden, too
            assert (cell['id'] in kept) != hidden and not ('default_exp' in source and not hidden), source
