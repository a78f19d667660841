"""How many small changes of the code do the checks notice? `pip install cosmic-ray && python tests/mutation_score.py` changes every operator, number and
truth value of five modules, one at a time, in memory, and runs the quick checks of the notebooks against each. The result: nbs/results/bug_museum/mutation_score.json.
`--sample 100` takes that many changes of each module at random. Reasons for survivors are kept from the last result."""
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
NOTEBOOKS = {'schedule': '02_schedule', 'forward': '03_forward', 'objective': '04_objective', 'sampling': '07_sampling', 'fast_sampling': '09_fast_sampling'}


def changes(module: str) -> list[dict]:
    """Every change that cosmic-ray knows. Left out are its bit operations: on floating-point numbers they raise an error at once, and would only flatter the score."""
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names
    source, found = (ROOT / f'ddpm_teach/{module}.py').read_text(encoding='utf-8'), {}
    for name in sorted(operator_names()):
        if 'Bit' in name or 'Shift' in name or get_operator(name).arguments():
            continue
        operator = get_operator(name)()
        places = [place for node in ast_nodes(get_ast(source)) for place in operator.mutation_positions(node)]
        for k in range(len(places)):
            changed = mutate_code(source, operator, k)
            lines = [(a, b) for a, b in zip(source.splitlines(), changed.splitlines()) if a != b]
            if changed != source and lines:
                found[changed] = dict(module=module, operator=name.removeprefix('core/'), line=lines[0][0].strip(), changed=lines[0][1].strip(), source=changed)
    return list(found.values())


def suite(checks: list[str], module: str) -> list[str]:
    """The checks of the module's own notebook and of those after it (those before it do not know it), then the quick tests that go with it."""
    tests = dict(sampling=['tests/test_processes.py::test_each_picture_is_drawn_by_one_process'], fast_sampling=['tests/test_fast_sampling.py'])
    return [c for c in checks if c[:2] >= NOTEBOOKS[module][:2]] + ['tests/test_refusals.py'] + tests.get(module, []) + ['tests/test_bad_input.py']


def main(sample: int | None, processes: int, limit: int, modules: list[str]):
    checks, counts, survivors = quick_checks(list(NOTEBOOKS.values()), limit), {}, []
    print(len(checks), 'quick checks:', *checks, flush=True)
    reasons = {(s['module'], s['line'], s['changed']): s['reason'] for s in json.loads(RESULT.read_text(encoding='utf-8'))['survivors']} if RESULT.exists() else {}
    for module in modules:
        as_it_is = next(trials([((module, (ROOT / f'ddpm_teach/{module}.py').read_text(encoding='utf-8')), suite(checks, module), 20 * limit, True, True)]))
        assert all(said is None for _, said, _ in as_it_is), f'{module}: a check fails without any change: {as_it_is[-1]}'
        every = changes(module)
        chosen = random.Random(0).sample(every, min(sample or len(every), len(every)))
        count = counts[module] = collections.Counter(changes=len(every), tried=len(chosen))
        work = [((module, c['source']), suite(checks, module), 20 * limit, True, True) for c in chosen]
        for change, found in zip(chosen, trials(work, processes)):
            name, said, _ = found[-1]
            outcome = 'survived' if said is None else 'not importable' if name == 'import' else 'killed'
            count[outcome] += 1
            if said is None:
                kept = {key: change[key] for key in ('module', 'operator', 'line', 'changed')}
                survivors.append(kept | dict(reason=reasons.get((module, change['line'], change['changed']), '')))
                print(module, '|', change['line'], '->', change['changed'], flush=True)
        print(module, dict(count), flush=True)
    total = sum(counts.values(), collections.Counter())
    about = dict(command=' '.join(['python tests/mutation_score.py', *sys.argv[1:]]), tool=f'cosmic-ray {metadata.version("cosmic-ray")}', python=sys.version.split()[0], torch=metadata.version('torch'),
                 date=time.strftime('%Y-%m-%d'), checks=checks, modules={m: dict(c) for m, c in counts.items()},
                 score=round(total['killed'] / (total['killed'] + total['survived']), 4), survivors=survivors)
    RESULT.write_text(json.dumps(about, indent=1) + '\n', encoding='utf-8')
    print('score', about['score'], dict(total))


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--sample', type=int, help='changes of each module; by default all')
    parser.add_argument('--processes', type=int, default=2)
    parser.add_argument('--limit', type=int, default=10, help='seconds in which a quick check must pass')
    parser.add_argument('--modules', nargs='+', default=list(NOTEBOOKS))
    given = parser.parse_args()
    main(given.sample, given.processes, given.limit, given.modules)
