"""Is every mistake of the bug museum caught? Each is put into the package, one at a time, and the check that is named beside it must fail."""
import json
import sys
import time

import pytest

from mutants import code_cells, quick_checks, trials
from places import NOTEBOOKS, ROOT

sys.path.insert(0, str(ROOT / 'nbs/tools'))
from mistakes import MISTAKES, ROOMS  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform == 'win32', reason='forks processes')
RESULT = ROOT / 'nbs/results/bug_museum/mutations.json'


def test_the_list_is_whole():
    assert len(MISTAKES) >= 60 and len({m.name for m in MISTAKES}) == len(MISTAKES)
    assert {m.module for m in MISTAKES} == {module for modules in ROOMS.values() for module in modules}
    cells = {f'{path.stem}#{cell}' for path in NOTEBOOKS for cell, *_ in code_cells(path.stem)}
    assert {m.check for m in MISTAKES if not m.check.startswith('tests/')} <= cells


def test_the_checks_pass_as_things_are():
    groups = {}
    for check in sorted({m.check for m in MISTAKES}):
        groups.setdefault(check.split('#')[0], []).append(check)
    for found in trials([(None, checks, 120, True, True) for checks in groups.values()]):
        assert all(said is None for _, said, _ in found), found


def test_every_mistake_is_caught():
    missed = [m.name for m, found in zip(MISTAKES, trials([((m.module, m.changed()), [m.check]) for m in MISTAKES])) if found[-1][1] is None]
    assert missed == []


def test_the_stored_result_is_that_of_these_mistakes():
    rows = json.loads(RESULT.read_text(encoding='utf-8'))['mistakes']
    assert [(r['name'], r['module'], r['right'], r['wrong'], r['check']) for r in rows] == [tuple(m) for m in MISTAKES], 'run: pytest --slow tests/test_mutations.py'


@pytest.mark.slow
def test_every_mistake_against_all_quick_checks():
    """Which notebooks notice? Writes nbs/results/bug_museum/mutations.json, which the bug museum shows."""
    notebooks = ['show', '01_data', '02_schedule', '03_forward', '04_objective', '05_unet', '06_training', '07_sampling', '09_fast_sampling']
    checks = quick_checks(notebooks, 1)
    places = {f'{n}#{cell}': f'{n[:2]}: {heading}' for n in notebooks for cell, _, heading in code_cells(n)}
    homes = dict(zip(('show', 'data', 'schedule', 'forward', 'objective', 'unet', 'training', 'sampling', 'fast_sampling'), notebooks))
    work = [((m.module, m.changed()), [m.check, *(c for c in checks if c >= homes[m.module])], 120, True, False) for m in MISTAKES]     # a notebook knows only what is above it
    rows = []
    for m, found in zip(MISTAKES, trials(work)):
        assert found[0][1] is not None, m.name
        noticed = sorted({name.split('_')[0] for name, said, _ in found if said is not None and '#' in name})
        rows.append(m._asdict() | dict(place=places.get(m.check, m.check), said=found[0][1], noticed_in=noticed))
        print(m.name, noticed, flush=True)
    about = dict(command='pytest --slow tests/test_mutations.py', date=time.strftime('%Y-%m-%d'), quick_checks=len(checks), mistakes=rows)
    RESULT.write_text(json.dumps(about, indent=1) + '\n', encoding='utf-8')
