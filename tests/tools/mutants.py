"""Put a changed module into the package, and run the checks of the notebooks on it.

Each trial has a process of its own. A check is the cell of a notebook,
'02_schedule#f54b4ad8', or a test, 'tests/test_package.py::test_license'.
"""
import ast
import contextlib
import importlib.util
import io
import json
import multiprocessing
import os
import pathlib
import re
import signal
import symtable
import sys
import tempfile
import time

from places import ROOT, module_of
from places import notebook as find

sys.path.insert(0, str(ROOT / 'nbs/tools'))
from patterns import checks  # noqa: E402

PRELOAD = [
    'torch',
    'torchvision',
    'accelerate',
    'matplotlib.pyplot',
    'IPython.display',
    'safetensors.torch',
    'tqdm.auto',
    'joblib',
    'filelock',
    'platformdirs',
    'pytest',
]
DIFFER = ('torch.allclose', 'torch.equal')
NOT_RUN = ('export', 'slow', 'default_exp')
GIVES_ATTRIBUTE = r'^(\w+)\.[\w.]+(?:, [\w.]+)* = '     # name.attribute = ...


# Cells.

def directives(source: str) -> list[str]:
    """What the lines `#| ...` of a cell say."""
    return re.findall(r'^#\|\s*(.*)$', source, flags=re.M)


def code_cells(notebook: str) -> list[tuple[str, str, str]]:
    """(id, source, heading above) of each code cell that is not exported, nor slow."""
    found = []
    heading = ''
    for cell in json.loads(find(notebook).read_text(encoding='utf-8'))['cells']:
        source = ''.join(cell['source'])
        if cell['cell_type'] == 'markdown':
            heading = (re.findall(r'^#+ (.*)$', source, flags=re.M) or [heading])[-1]
        elif not any(said.startswith(NOT_RUN) for said in directives(source)):
            found.append((cell['id'], source, heading))
    return found


def cell_of(check: str) -> str:
    """The cell that makes a check which is given by what it asserts.

    check: 'notebook: what it asserts', as in mistakes.py; a test stays as it is.
    Returns 'notebook#cell'. Raises ValueError unless one cell asserts it.
    """
    if check.startswith('tests/'):
        return check
    notebook, _, asserted = check.partition(': ')
    cells = [id for id, source, _ in code_cells(notebook) if checks(source, asserted)]
    if len(cells) != 1:
        raise ValueError(
            f'{len(cells)} cells of {find(notebook).relative_to(ROOT)} check '
            f'`{asserted}`, there should be one: {" ".join(cells)}'
        )
    return f'{notebook}#{cells[0]}'


def pieces(body: list[ast.stmt]):
    """Statements in the order in which they run; loops and branches are taken apart."""
    for node in body:
        if isinstance(node, ast.For):
            yield given(node.target, node.iter)
        elif isinstance(node, (ast.If, ast.While)):
            yield ast.Expr(node.test)
        elif isinstance(node, ast.With):
            for item in node.items:
                yield given(item.optional_vars, item.context_expr)
        elif not isinstance(node, ast.Try):
            yield node
            continue
        for part in [node, *getattr(node, 'handlers', [])]:
            for field in ('body', 'orelse', 'finalbody'):
                yield from pieces(getattr(part, field, []))


def given(target: ast.expr | None, value: ast.expr) -> ast.stmt:
    """The statement that gives a value to a target, if there is one."""
    return ast.Assign([target], value, lineno=0) if target else ast.Expr(value)


def globals_in(table: symtable.SymbolTable) -> set[str]:
    """The globals that a function asks for, with those of functions inside it."""
    own = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global()}
    return own.union(*(globals_in(child) for child in table.get_children()))


def names(source: str) -> tuple[set[str], set[str]]:
    """The globals that a cell needs from above, and those that it sets."""
    used = set()
    later = set()
    sets = set()
    for piece in pieces(ast.parse(source).body):
        top = symtable.symtable(ast.unparse(piece), 'cell', 'exec')
        inside = set().union(*(globals_in(child) for child in top.get_children()))
        if isinstance(piece, (ast.FunctionDef, ast.ClassDef)):
            later |= inside                            # wanted when it is called
        symbols = top.get_symbols()
        asked = {symbol.get_name() for symbol in symbols if symbol.is_referenced()}
        used |= (asked | (inside - later)) - sets
        sets |= {symbol.get_name() for symbol in symbols if is_set(symbol)}
    return used | (later - sets), sets


def is_set(symbol: symtable.Symbol) -> bool:
    return symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()


def needed(notebook: str, wanted: set[str]) -> list[tuple[str, str]]:
    """(id, source) of the cells `wanted`, and of those above that they need.

    These are the cells that set a name which they use, or an attribute of it.
    """
    missing = set()
    kept = []
    for cell, source, _ in reversed(code_cells(notebook)):
        used, sets = names(source)
        changes = set(re.findall(GIVES_ATTRIBUTE, source, flags=re.M))
        if cell in wanted or sets & missing or changes & missing:
            missing = (missing - sets) | used
            kept.insert(0, (cell, source))
    return kept


# Running.

def install(module: str, source: str, folder: str):
    """Make `source` the module of that name, such as 'schedule' or 'plumbing.show'.

    That has to be done before anything else of the package is loaded.
    """
    import ddpm_teach  # noqa: F401
    assert not [name for name in sys.modules if name.startswith('ddpm_teach.')]
    path = pathlib.Path(folder) / f'{module}.py'
    path.write_text(source, encoding='utf-8')
    spec = importlib.util.spec_from_file_location(f'ddpm_teach.{module}', path)
    changed = importlib.util.module_from_spec(spec)
    sys.modules[changed.__name__] = changed
    spec.loader.exec_module(changed)
    home, _, name = changed.__name__.rpartition('.')
    setattr(importlib.import_module(home), name, changed)


def run_cells(notebook: str, cells: list[tuple[str, str]]):
    """Run cells as their notebook would, in its folder.

    What the notebook exports comes from the package, so a change there is seen.
    """
    path = find(notebook)
    os.chdir(path.parent)
    exported = module_of(path)
    space = {}
    if exported:
        space |= vars(importlib.import_module(f'ddpm_teach.{exported}'))
    space['__name__'] = '__main__'
    for cell, source in cells:
        try:
            exec(compile(source, f'{notebook}#{cell}', 'exec'), space)
        except BaseException as error:
            error.where = f'{notebook}#{cell}'
            error.space = space
            error.source = source
            raise


def run_test(test: str):
    import pytest
    options = ['-q', '-x', '-p', 'no:cacheprovider', '--no-header']
    if pytest.main([str(ROOT / test), *options]):
        raise AssertionError(f'{test} failed')


def run_check(name: str, group: list[str]):
    """One test, or some cells of one notebook."""
    if name.startswith('tests/'):
        run_test(name)
        return
    notebook = name.partition('#')[0]
    run_cells(notebook, needed(notebook, {check.partition('#')[2] for check in group}))


# What a check said.

def said_by(error: BaseException) -> str:
    if isinstance(error, AssertionError) and hasattr(error, 'source'):
        return values(error)
    return f'{type(error).__name__}: {error}'


def values(error: AssertionError) -> str:
    """The assertion that failed, and in brackets the numbers that it compared."""
    line = None
    trace = error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == error.where:
            line = trace.tb_lineno
        trace = trace.tb_next
    for node in ast.walk(ast.parse(error.source)):
        if isinstance(node, ast.Assert) and node.lineno <= line <= node.end_lineno:
            numbers = compared(node.test, error.space)
            shown = f'   [{", ".join(numbers)}]' if numbers else ''
            return ast.unparse(node.test) + shown
    return str(error) or 'an assertion'


def compared(test: ast.expr, space: dict) -> list[str]:
    """The numbers in a test, as far as they can be computed once more."""
    def value(part: ast.expr):
        return eval(compile(ast.Expression(part), '', 'eval'), space)

    numbers = []
    for part in ast.walk(test):
        with contextlib.suppress(Exception):
            if isinstance(part, ast.Compare):
                sides = [part.left, *part.comparators]
                sides = [side for side in sides if not isinstance(side, ast.Constant)]
                numbers += [f'{float(value(side)):.2g}' for side in sides]
            elif isinstance(part, ast.Call) and ast.unparse(part.func) in DIFFER:
                one, other = (value(side).double() for side in part.args[:2])
                numbers.append(f'off by {float((one - other).abs().max()):.2g}')
    return numbers


# Trials.

def in_one_go(checks: list[str], together: bool, stop: bool) -> dict[str, list[str]]:
    """What `trial` runs at once: a name, and the checks."""
    alone = len(checks)
    if together:
        alone = 0 if stop else 1
    jobs = {check: [check] for check in checks[:alone]}
    for check in checks[alone:]:
        jobs.setdefault(check.partition('#')[0], []).append(check)
    return jobs


def prepare():
    """What notebooks expect to find, on one thread."""
    os.environ.update(IN_TEST='1', MPLBACKEND='Agg')
    os.chdir(ROOT / 'nbs')
    folders = [ROOT, ROOT / 'nbs/tools', ROOT / 'tests', ROOT / 'tests/tools']
    sys.path[:0] = [str(folder) for folder in folders]
    import torch
    torch.set_num_threads(1)
    signal.signal(signal.SIGPROF, too_long)


def too_long(*_):
    raise TimeoutError('it takes too long')


def trial(
    change: tuple[str, str] | None,
    checks: list[str],
    limit: int = 120,
    together: bool = False,
    stop: bool = False,
) -> list[tuple[str, str | None, float]]:
    """For each check: its name, what it says (None: all is well), and its seconds.

    In a fresh process only.   change: a module and its source.   limit: in seconds.
    together: the first alone, the others of one notebook in one go, up to the first
    that fails.   stop: all of one notebook in one go, and end at the first that fails.
    """
    prepare()
    found = []
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        try:
            if change:
                install(*change, folder)
        except BaseException as error:
            return [('import', said_by(error), 0.)]
        for name, group in in_one_go(checks, together, stop).items():
            found.append(timed(name, group, limit))
            if stop and found[-1][1]:
                break
    return found


def timed(name: str, group: list[str], limit: int) -> tuple[str, str | None, float]:
    """Run one job. Only the time that this process works counts towards the limit."""
    said = None
    start = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, limit)
    try:
        run_check(name, group)
    except BaseException as error:
        said = said_by(error)
        name = getattr(error, 'where', name)
    signal.setitimer(signal.ITIMER_PROF, 0)
    return name, said, time.process_time() - start


def quick_checks(notebooks: list[str], limit: int) -> list[str]:
    """The cells that assert something and pass within `limit` seconds as things are.

    That includes what they need from above.
    """
    every = [
        f'{notebook}#{cell}'
        for notebook in notebooks
        for cell, source, _ in code_cells(notebook)
        if 'assert ' in source and 'hide' not in directives(source)
    ]
    tried = trials([(None, [check], limit) for check in every])
    return [found[0][0] for found in tried if found[0][1] is None]


def trials(work: list[tuple], processes: int = 2):
    """`trial` for each entry of `work`, in order, every one in a process of its own.

    It is forked from a process that has loaded the libraries.
    """
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(PRELOAD)
    with context.Pool(processes, maxtasksperchild=1) as pool:
        yield from pool.imap(one_trial, work, chunksize=1)


def one_trial(arguments: tuple):
    return trial(*arguments)
