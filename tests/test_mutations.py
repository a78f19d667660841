"""Is every mistake of the bug museum caught?

Each is put into the package, one at a time, and the check that is named beside it must
fail. How the code is written, and in which module it stands, does not matter.
"""
import ast
import builtins
import io
import json
import sys
import time
import tokenize

import pytest

from mutants import cell_of, code_cells, names, quick_checks, trials
from places import ROOT

sys.path.insert(0, str(ROOT / 'nbs/tools'))
from mistakes import MISTAKES, Mistake, home, texts  # noqa: E402
from patterns import checks, replaced  # noqa: E402

forks = pytest.mark.skipif(sys.platform == 'win32', reason='forks processes')
by_name = pytest.mark.parametrize('mistake', MISTAKES, ids=lambda m: m.name)
RESULT = ROOT / 'nbs/results/bug_museum/mutations.json'
OF_NAMES = 'tests/test_package.py::test_modules_define_the_names_they_use'
NOTICING = [
    'show',
    'draws',
    '01_data',
    '02_schedule',
    '03_forward',
    '04_objective',
    '05_unet',
    '06_training',
    '07_sampling',
    '09_fast_sampling',
    '11_guidance',
    '12_text',
    '13_latents',
    'oracles',
    'drawing',
    'hooks',
]


# The list.

def test_the_list_is_whole():
    assert len(MISTAKES) >= 60
    assert len({mistake.name for mistake in MISTAKES}) == len(MISTAKES)


@by_name
def test_a_mistake_has_one_place_and_one_check(mistake):
    as_it_is = ast.unparse(ast.parse(texts()[mistake.module]))
    assert mistake.changed() != as_it_is + '\n'
    assert cell_of(mistake.check)


@by_name
def test_a_mistake_is_wrong_and_not_misspelt(mistake):
    """A name that is nowhere would be noticed by any check at all."""
    missing = names(mistake.changed())[0] - set(vars(builtins))
    assert bool(missing) == (mistake.check == OF_NAMES), missing


# Moving and rewriting.

def rewritten(text: str) -> str:
    """The same module without comments, docstrings and annotations, in long lines."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            if ast.get_docstring(node) is not None:
                node.body[0] = ast.Pass()
        if isinstance(node, ast.FunctionDef):
            node.returns = None
    return ast.unparse(tree)


def wrapped(text: str) -> str:
    """The same module with line breaks at all commas and brackets that allow them."""
    lines = text.splitlines(keepends=True)
    depth = 0
    breaks = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.OP:
            depth += (token.string in '([{') - (token.string in ')]}')
            if depth and token.string in '([,':
                breaks.append(token.end)
    for row, column in reversed(breaks):
        line = lines[row - 1]
        lines[row - 1] = line[:column] + '\n' + line[column:]
    return ''.join(lines)


@by_name
def test_how_a_module_is_written_does_not_matter(mistake):
    text = texts()[mistake.module]
    wrong = mistake.changed()
    assert mistake.changed_in(wrapped(text)) == wrong
    assert mistake.changed_in(rewritten(text)) == rewritten(wrong) + '\n'


@by_name
def test_where_a_function_stands_does_not_matter(mistake):
    moved = dict(texts())
    text = moved.pop(mistake.module)
    moved['plumbing.elsewhere'] = text
    assert home(mistake.where, moved) == 'plumbing.elsewhere'


MODULE = '''
class Walk:
    def step(self, x: Tensor, n: int = 3) -> Tensor:
        """Up, then down."""
        low, high = x - self.size, x + self.size
        warn("up")
        return torch.where(low > 0, high, low, out=None)

def _far(walk):
    return walk.step(0, n=5)

Walk.far = _far
'''


@pytest.mark.parametrize('where, right, wrong, line', [
    ('Walk.step', 'x + self.size', 'x', 'low, high = (x - self.size, x)'),
    ('Walk.step', 'n=3', 'n=4', 'def step(self, x: Tensor, n: int=4) -> Tensor:'),
    ('Walk.step', 'high = ...', 'high = 2 * (...)', '2 * (x + self.size))'),
    ('Walk.step', "warn('up')", '', 'pass'),
    ('Walk.step', 'torch.where(low > 0, ...)', 'f(...)', 'f(high, low, out=None)'),
    ('Walk.step', 'return ...', 'return low', 'return low'),
    ('far', 'walk.step(..., n=5)', 'walk.step(...)', 'return walk.step(0)'),
    ('Walk.far', 'n=5', 'n=6', 'return walk.step(0, n=6)'),
    ('Walk._far', '_walk', 'None', 'return None.step(0, n=5)'),
])
def test_what_a_pattern_fits(where, right, wrong, line):
    assert line in replaced(MODULE, where, right, wrong)


@pytest.mark.parametrize('where, right, said', [
    ('linear_schedule', 'T / 7', r'test: in .*schedule: `T / 7` stands 0 times in '),
    ('Schedule.__init__', 'self.abar', r'`self.abar` stands \d+ times in .*__init__'),
    ('Schedule.lost', 'x', '0 modules of ddpm_teach have a function Schedule.lost'),
])
def test_a_mistake_without_its_place_is_refused(where, right, said):
    with pytest.raises(ValueError, match=said):
        Mistake('test', where, right, 'wrong', '').changed()


def test_a_function_in_two_modules_is_refused():
    twice = {'data': 'def f(): pass', 'plumbing.show': 'def f(): pass'}
    with pytest.raises(ValueError, match=r'2 modules .* \(data, plumbing.show\)'):
        home('f', twice)


def test_a_check_is_found_by_what_it_asserts():
    cell = '''
print(error(model))
with raises(ValueError):
    jump(x, t=-1)
refused(lambda: train(few.flip(0)))
assert error(model) < .1, 'too much'
'''
    for asserted in ('error(model)', 'jump(x, t=-1)', 'few.flip(0)', '... < 0.1'):
        assert checks(cell, asserted)
    assert not checks('print(error(model))\nerror(model) < .1', 'error(model)')
    with pytest.raises(ValueError, match='0 cells of .*02_schedule.ipynb .* `1 == 2`'):
        cell_of('02_schedule: 1 == 2')


# The mistakes, one at a time.

@forks
def test_the_checks_pass_as_things_are():
    groups = {}
    for check in sorted({cell_of(mistake.check) for mistake in MISTAKES}):
        groups.setdefault(check.partition('#')[0], []).append(check)
    work = [(None, checks, 120, True, True) for checks in groups.values()]
    for tried in trials(work):
        assert all(said is None for _, said, _ in tried), tried


@forks
def test_every_mistake_is_caught():
    work = [((m.module, m.changed()), [cell_of(m.check)]) for m in MISTAKES]
    said = [tried[-1][1] for tried in trials(work)]
    assert [m.name for m, words in zip(MISTAKES, said) if words is None] == []


def test_the_stored_result_is_that_of_these_mistakes():
    rows = json.loads(RESULT.read_text(encoding='utf-8'))['mistakes']
    kept = [{key: row[key] for key in Mistake._fields} for row in rows]
    wanted = [mistake._asdict() for mistake in MISTAKES]
    assert kept == wanted, 'run: pytest --slow tests/test_mutations.py'


def short(notebook: str) -> str:
    """As the museum calls it: '02', 'show'."""
    number = notebook.partition('_')[0]
    return number if number.isdigit() else notebook


def trial_of(mistake: Mistake, quick: list[str]) -> tuple:
    """Its own check, then every quick check."""
    change = (mistake.module, mistake.changed())
    return change, [cell_of(mistake.check), *quick], 120, True, False


def row(mistake: Mistake, tried: list[tuple]) -> dict:
    """What the museum shows of it: where it is caught, by which words, who noticed."""
    said = tried[0][1]
    assert said is not None, mistake.name
    notebook, _, cell = cell_of(mistake.check).partition('#')
    place = notebook
    if cell:
        heading, = [above for id, _, above in code_cells(notebook) if id == cell]
        place = f'{short(notebook)}: {heading}'
    failed = [name for name, words, _ in tried if words is not None and '#' in name]
    noticed = sorted({short(name.partition('#')[0]) for name in failed})
    return mistake._asdict() | dict(place=place, said=said, noticed_in=noticed)


@forks
@pytest.mark.slow
def test_every_mistake_against_all_quick_checks():
    """Which notebooks notice? Writes what the bug museum shows."""
    quick = quick_checks(NOTICING, 1)
    rows = []
    work = [trial_of(mistake, quick) for mistake in MISTAKES]
    for mistake, tried in zip(MISTAKES, trials(work)):
        rows.append(row(mistake, tried))
        print(mistake.name, rows[-1]['noticed_in'], flush=True)
    about = dict(
        command='pytest --slow tests/test_mutations.py',
        date=time.strftime('%Y-%m-%d'),
        quick_checks=len(quick),
        mistakes=rows,
    )
    RESULT.write_text(json.dumps(about, indent=1) + '\n', encoding='utf-8')
