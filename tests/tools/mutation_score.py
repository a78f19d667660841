"""How many small changes of the code do the checks notice?

    pip install cosmic-ray
    python tests/tools/mutation_score.py

changes every operator, number and truth value of five modules, one at a time, in
memory, and runs the quick checks of the notebooks against each. The result:
nbs/results/bug_museum/mutation_score.json. `--sample 100` takes that many changes of
each module at random. Reasons for survivors are kept from the last result.
"""
import argparse
import collections
import json
import random
import sys
import time
from importlib import metadata

from mutants import quick_checks, trials
from places import ROOT

RESULT = ROOT / 'nbs/results/bug_museum/mutation_score.json'
NOTEBOOKS = {
    'schedule': '02_schedule',
    'forward': '03_forward',
    'objective': '04_objective',
    'sampling': '07_sampling',
    'fast_sampling': '09_fast_sampling',
}
TESTS = {
    'sampling': ['tests/test_processes.py::test_each_picture_is_drawn_by_one_process'],
    'fast_sampling': ['tests/test_fast_sampling.py'],
}


def text_of(module: str) -> str:
    """The source of a module: 'schedule', 'plumbing.show'."""
    path = ROOT / 'ddpm_teach' / f'{module.replace(".", "/")}.py'
    return path.read_text(encoding='utf-8')


def operators() -> list[tuple]:
    """Names and operators of cosmic-ray.

    Left out are its bit operations: on floating-point numbers they raise an error at
    once, and would only flatter the score.
    """
    from cosmic_ray.plugins import get_operator, operator_names
    kept = []
    for name in sorted(operator_names()):
        operator = get_operator(name)
        if 'Bit' not in name and 'Shift' not in name and not operator.arguments():
            kept.append((name.removeprefix('core/'), operator()))
    return kept


def changes(module: str) -> list[dict]:
    """Every change of a module that these operators make."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    source = text_of(module)
    nodes = list(ast_nodes(get_ast(source)))
    found = {}
    for name, operator in operators():
        places = [list(operator.mutation_positions(node)) for node in nodes]
        for k in range(sum(map(len, places))):
            changed = mutate_code(source, operator, k)
            pairs = zip(source.splitlines(), changed.splitlines())
            lines = [(old, new) for old, new in pairs if old != new]
            if lines:
                old, new = (line.strip() for line in lines[0])
                found[changed] = dict(
                    module=module, operator=name, line=old, changed=new, source=changed)
    return list(found.values())


def suite(checks: list[str], module: str) -> list[str]:
    """The checks that can notice a change in a module, the quick ones first.

    These are those of its own notebook and of the notebooks after it (those before it
    do not know it), and the quick tests that go with it.
    """
    later = [check for check in checks if check[:2] >= NOTEBOOKS[module][:2]]
    return [
        *later,
        'tests/test_refusals.py',
        *TESTS.get(module, []),
        'tests/test_bad_input.py',
    ]


def known_reasons() -> dict[tuple, str]:
    """Why a change survives, as far as it was explained before."""
    if not RESULT.exists():
        return {}
    stored = json.loads(RESULT.read_text(encoding='utf-8'))['survivors']
    return {(s['module'], s['line'], s['changed']): s['reason'] for s in stored}


def outcome(found: list[tuple]) -> str:
    """What became of a change."""
    name, said, _ = found[-1]
    if said is None:
        return 'survived'
    return 'not importable' if name == 'import' else 'killed'


def score_of(module: str, checks: list[str], options) -> tuple[dict, list[dict]]:
    """Counts for one module, and the changes that nothing noticed."""
    limit = 20 * options.limit
    chosen_checks = suite(checks, module)
    sound = (module, text_of(module))
    as_it_is = next(trials([(sound, chosen_checks, limit, True, True)]))
    assert all(said is None for _, said, _ in as_it_is), (
        f'{module}: a check fails without any change: {as_it_is[-1]}')
    every = changes(module)
    tried = min(options.sample or len(every), len(every))
    chosen = random.Random(0).sample(every, tried)
    count = collections.Counter(changes=len(every), tried=tried)
    survivors = []
    work = [
        ((module, change['source']), chosen_checks, limit, True, True)
        for change in chosen
    ]
    for change, found in zip(chosen, trials(work, options.processes)):
        became = outcome(found)
        count[became] += 1
        if became == 'survived':
            keys = ('module', 'operator', 'line', 'changed')
            survivors.append({key: change[key] for key in keys})
            print(module, '|', change['line'], '->', change['changed'], flush=True)
    print(module, dict(count), flush=True)
    return count, survivors


def main(options):
    """Score the modules, and write the result."""
    checks = quick_checks(list(NOTEBOOKS.values()), options.limit)
    print(len(checks), 'quick checks:', *checks, flush=True)
    reasons = known_reasons()
    counts = {}
    survivors = []
    for module in options.modules:
        counts[module], new = score_of(module, checks, options)
        survivors += new
    for s in survivors:
        s['reason'] = reasons.get((s['module'], s['line'], s['changed']), '')
    total = sum(counts.values(), collections.Counter())
    about = dict(
        command=' '.join(['python tests/tools/mutation_score.py', *sys.argv[1:]]),
        tool=f'cosmic-ray {metadata.version("cosmic-ray")}',
        python=sys.version.split()[0],
        torch=metadata.version('torch'),
        date=time.strftime('%Y-%m-%d'),
        checks=checks,
        modules={module: dict(count) for module, count in counts.items()},
        score=round(total['killed'] / (total['killed'] + total['survived']), 4),
        survivors=survivors,
    )
    RESULT.write_text(json.dumps(about, indent=1) + '\n', encoding='utf-8')
    print('score', about['score'], dict(total))


def read_options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--sample', type=int, help='changes of each module; by default all')
    parser.add_argument('--processes', type=int, default=2)
    limit = 'seconds in which a quick check must pass'
    parser.add_argument('--limit', type=int, default=10, help=limit)
    parser.add_argument('--modules', nargs='+', default=list(NOTEBOOKS))
    return parser.parse_args()


if __name__ == '__main__':
    main(read_options())
