"""Put a changed module into the package, and run the checks of the notebooks against it, each in a process of its own."""
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

from places import ROOT, module_of, notebook as find

PRELOAD = ['torch', 'torchvision', 'accelerate', 'matplotlib.pyplot', 'IPython.display', 'safetensors.torch', 'tqdm.auto', 'joblib', 'filelock', 'platformdirs', 'pytest']


def code_cells(notebook: str) -> list[tuple[str, str, str]]:
    """(id, source, nearest heading) of each code cell that is not exported, nor slow."""
    found, heading = [], ''
    for cell in json.loads(find(notebook).read_text(encoding='utf-8'))['cells']:
        source = ''.join(cell['source'])
        if cell['cell_type'] == 'markdown':
            heading = (re.findall(r'^#+ (.*)$', source, flags=re.M) or [heading])[-1]
        elif not source.startswith(('#| export', '#| slow', '#| default_exp')):
            found.append((cell['id'], source, heading))
    return found


def pieces(body: list[ast.stmt]):
    """Statements in the order in which they run; loops and branches are taken apart."""
    for node in body:
        if isinstance(node, ast.For):
            yield ast.Assign([node.target], node.iter, lineno=0)
        elif isinstance(node, (ast.If, ast.While)):
            yield ast.Expr(node.test)
        elif isinstance(node, ast.With):
            for item in node.items:
                yield ast.Assign([item.optional_vars], item.context_expr, lineno=0) if item.optional_vars else ast.Expr(item.context_expr)
        elif not isinstance(node, ast.Try):
            yield node
            continue
        for part in [node, *getattr(node, 'handlers', [])]:
            for field in ('body', 'orelse', 'finalbody'):
                yield from pieces(getattr(part, field, []))


def names(source: str) -> tuple[set[str], set[str]]:
    """The globals that a cell needs from above, and those that it sets."""
    def inner(table):
        return {s.get_name() for s in table.get_symbols() if s.is_global()}.union(*(inner(child) for child in table.get_children()))
    used, later, sets = set(), set(), set()
    for piece in pieces(ast.parse(source).body):
        top = symtable.symtable(ast.unparse(piece), 'cell', 'exec')
        inside = set().union(*(inner(child) for child in top.get_children()))
        if isinstance(piece, (ast.FunctionDef, ast.ClassDef)):
            later |= inside                                        # wanted when it is called
        used |= ({s.get_name() for s in top.get_symbols() if s.is_referenced()} | (inside - later)) - sets
        sets |= {s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()}
    return used | (later - sets), sets


def needed(notebook: str, wanted: set[str]) -> list[tuple[str, str]]:
    """(id, source) of the cells `wanted`, and of those above that set a name which they use."""
    missing, kept = set(), []
    for cell, source, _ in reversed(code_cells(notebook)):
        used, sets = names(source)
        changes = {match for match in re.findall(r'^(\w+)\.[\w.]+(?:, [\w.]+)* = ', source, flags=re.M)}        # name.attribute = ...
        if cell in wanted or sets & missing or changes & missing:
            missing, kept = (missing - sets) | used, [(cell, source), *kept]
    return kept


def install(module: str, source: str, folder: str):
    """Make `source` the module of that name, before anything else of the package is loaded."""
    import ddpm_teach
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
    """Run cells as their notebook would. What the notebook exports comes from the package, so a change there is seen."""
    exported = module_of(find(notebook))
    space = dict(vars(importlib.import_module(f'ddpm_teach.{exported}'))) if exported else {}
    space['__name__'] = '__main__'
    for cell, source in cells:
        try:
            exec(compile(source, f'{notebook}#{cell}', 'exec'), space)
        except BaseException as error:
            error.where, error.space, error.source = f'{notebook}#{cell}', space, source
            raise


def run_test(test: str):
    import pytest
    if pytest.main([str(ROOT / test), '-q', '-x', '-p', 'no:cacheprovider', '--no-header']):
        raise AssertionError(f'{test} failed')


def values(error: AssertionError) -> str:
    """The assertion that failed, and in brackets the numbers that it compared."""
    trace, line = error.__traceback__, None
    while trace:
        line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == error.where else line
        trace = trace.tb_next
    for node in ast.walk(ast.parse(error.source)):
        if isinstance(node, ast.Assert) and node.lineno <= line <= node.end_lineno:
            value = lambda part: eval(compile(ast.Expression(part), '', 'eval'), error.space)
            numbers = []
            for part in ast.walk(node.test):
                with contextlib.suppress(Exception):
                    if isinstance(part, ast.Compare):
                        sides = [side for side in [part.left, *part.comparators] if not isinstance(side, ast.Constant)]
                        numbers += [f'{float(value(side)):.2g}' for side in sides]
                    elif isinstance(part, ast.Call) and ast.unparse(part.func) in ('torch.allclose', 'torch.equal'):
                        one, other = (value(side) for side in part.args[:2])
                        numbers.append(f'off by {float((one.double() - other.double()).abs().max()):.2g}')
            return ast.unparse(node.test) + (f'   [{", ".join(numbers)}]' if numbers else '')
    return str(error) or 'an assertion'


def trial(change: tuple[str, str] | None, checks: list[str], limit: int = 120, together: bool = False, stop: bool = False) -> list[tuple[str, str | None, float]]:
    """For each of `checks`: its name, what it says (None: all is well), and its seconds. In a fresh process only.
    `together`: the first alone, the others of one notebook in one go, up to the first that fails. `stop`: all of one notebook in one go, and end at the first that fails."""
    os.environ.update(IN_TEST='1', MPLBACKEND='Agg')
    os.chdir(ROOT / 'nbs')
    sys.path[:0] = [str(ROOT), str(ROOT / 'nbs/tools'), str(ROOT / 'tests'), str(ROOT / 'tests/tools')]
    import torch
    torch.set_num_threads(1)
    jobs = {c: [c] for c in (checks if not together else [] if stop else checks[:1])}
    for c in checks[len(jobs):]:
        jobs.setdefault(c.split('#')[0], []).append(c)
    found = []
    signal.signal(signal.SIGPROF, _too_long)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            if change: install(*change, folder)
        except BaseException as error:
            return [('import', f'{type(error).__name__}: {error}', 0.)]
        for name, group in jobs.items():
            start, said = time.process_time(), None
            signal.setitimer(signal.ITIMER_PROF, limit)                # counts the time that this process works, however busy the machine
            try:
                notebook = name.split('#')[0]
                run_test(name) if name.startswith('tests/') else run_cells(notebook, needed(notebook, {c.split('#')[1] for c in group}))
            except BaseException as error:
                said = values(error) if isinstance(error, AssertionError) and hasattr(error, 'source') else f'{type(error).__name__}: {error}'
                name = getattr(error, 'where', name)
            signal.setitimer(signal.ITIMER_PROF, 0)
            found.append((name, said, time.process_time() - start))
            if stop and said:
                break
    return found


def quick_checks(notebooks: list[str], limit: int) -> list[str]:
    """The cells that assert something and, with what they need from above, pass within `limit` seconds as things are."""
    every = [f'{n}#{cell}' for n in notebooks for cell, source, _ in code_cells(n) if 'assert ' in source and not source.startswith('#| hide')]
    return [found[0][0] for found in trials([(None, [check], limit) for check in every]) if found[0][1] is None]


def trials(work: list[tuple], processes: int = 2):
    """`trial` for each entry of `work`, in order, every one in a process of its own, forked from one that has loaded the libraries."""
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(PRELOAD)
    with context.Pool(processes, maxtasksperchild=1) as pool:
        yield from pool.imap(_one, work, chunksize=1)


def _too_long(*_):
    raise TimeoutError('it takes too long')


def _one(arguments: tuple):
    return trial(*arguments)
