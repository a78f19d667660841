"""The exercises of the notebooks, read as files: their form, their folding, and copies without solutions."""
import ast
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import pytest

from ddpm_teach import copy_exercises, exercises
from ddpm_teach.plumbing.files import notebooks
from places import LESSONS, ROOMS, ROOT

COPIED = [path for path in LESSONS + ROOMS if path.name != 'exercises.ipynb']
WITH_CHECKS = [path for path in LESSONS if '02' <= path.name[:2] <= '10']
CHECK = r'from ddpm_teach\.exercises import check_(\w+)\nprint\(check_\1\(\1\)\)'


def cells(path):
    return [(c, ''.join(c['source'])) for c in json.loads(path.read_text(encoding='utf-8'))['cells']]


def is_solution(cell):
    return 'solution' in cell['metadata'].get('tags', [])


@pytest.mark.parametrize('path', WITH_CHECKS, ids=lambda p: p.stem)
def test_an_exercise_has_its_parts(path):
    """A starter that returns None, its check, its solution folded; and at most one that is open, with an answer in a folded cell of prose."""
    found, prose = [], 0
    listed = cells(path)
    for i, (cell, source) in enumerate(listed):
        if match := re.fullmatch(CHECK, source):
            name = match.group(1)
            assert listed[i - 2][0]['cell_type'] == 'markdown' and re.match(r'\*\*\d\.\*\* ', listed[i - 2][1]), source
            assert re.fullmatch(rf'def {name}\(.*\): return None   # your answer', listed[i - 1][1]), source
            assert ''.join(cell['outputs'][0]['text']) == 'Not attempted yet.\n' and len(cell['outputs']) == 1, source
            solution, text = listed[i + 1]
            assert is_solution(solution) and solution['metadata']['jupyter'] == {'source_hidden': True}, source
            assert f'def {name}_solution(' in text and f'assert check_{name}({name}_solution) == RIGHT' in text and solution['outputs'] == []
            found.append(name)
        prose += is_solution(cell) and source.startswith('<details>')
    assert prose == 1 and len(found) >= 2, (found, prose)


def test_every_check_is_used_once():
    used = [match.group(1) for path in WITH_CHECKS for _, source in cells(path) if (match := re.fullmatch(CHECK, source))]
    assert sorted(used) == sorted(name.removeprefix('check_') for name in dir(exercises) if name.startswith('check_'))


@pytest.mark.parametrize('path', LESSONS, ids=lambda p: p.stem)
def test_solutions_are_marked_and_folded(path):
    for cell, source in cells(path):
        if '_solution(' in source or '<summary>Solution' in source or '<summary>An answer' in source:
            assert is_solution(cell), source
        if is_solution(cell) and cell['cell_type'] == 'code':
            assert cell['metadata']['jupyter']['source_hidden'], source
        assert set(cell['metadata']) <= ({'tags', 'jupyter'} if is_solution(cell) else set()), cell['metadata']


def test_cleaning_keeps_marks_and_folds(tmp_path):
    pytest.importorskip('nbdev')
    copy = tmp_path / '02_schedule.ipynb'
    notebook = json.loads((ROOT / 'nbs' / copy.name).read_text(encoding='utf-8'))
    notebook['cells'][0]['metadata'] = {'collapsed': True}                    # what it should take away
    copy.write_text(json.dumps(notebook), encoding='utf-8')
    subprocess.run([shutil.which('nbdev_clean', path=f'{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'), '--fname', str(copy)], cwd=ROOT, check=True)
    metadata = [cell['metadata'] for cell, _ in cells(copy)]
    assert metadata[0] == {} and metadata == [cell['metadata'] for cell, _ in cells(ROOT / 'nbs' / copy.name)]
    assert {'tags': ['solution'], 'jupyter': {'source_hidden': True}} in metadata and {'tags': ['solution']} in metadata


def assert_no_solutions(folder):
    """All notebooks but the book of answers; every cell that is no solution as it was; and whatever they read."""
    assert sorted(p.relative_to(folder) for p in folder.rglob('*.ipynb')) == sorted(p.relative_to(ROOT / 'nbs') for p in COPIED)
    for path in folder.rglob('*.ipynb'):
        assert cells(path) == [pair for pair in cells(ROOT / 'nbs' / path.relative_to(folder)) if not is_solution(pair[0])]
        assert not any('_solution' in source or '<details>' in source for _, source in cells(path)), path.name
        for target in re.findall(r'\]\(([^)#\s]+)', '\n'.join(source for cell, source in cells(path) if cell['cell_type'] == 'markdown')):
            assert '://' in target or (path.parent / target).exists() or target.endswith('exercises.ipynb'), target
    for name in ('tools/peers.py', 'styles.css', 'results/06_training/shipped.json', 'results/08_evaluation/samples.webp', 'images/samples.png'):
        assert (folder / name).read_bytes() == (ROOT / 'nbs' / name).read_bytes()
    for kind in ('paper', 'other'):
        stored = {p.name for p in (ROOT / 'nbs/results/10_paper' / kind).iterdir() if p.is_file()}
        assert stored and stored == {p.name for p in (folder / 'results/10_paper' / kind).iterdir()}


def test_copies_have_no_solutions(tmp_path, monkeypatch):
    assert copy_exercises(tmp_path / 'new/mine') == (tmp_path / 'new/mine').resolve()
    assert_no_solutions(tmp_path / 'new/mine')
    empty = tmp_path / 'empty'
    empty.mkdir()
    monkeypatch.chdir(empty)
    copy_exercises('.')
    assert_no_solutions(pathlib.Path.cwd())
    assert sorted(p.name for p in tmp_path.iterdir()) == ['empty', 'new'] and os.listdir(tmp_path / 'new') == ['mine']


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path, monkeypatch):
    work = tmp_path / 'work'
    work.mkdir()
    (work / 'notes.txt').write_text('mine')
    for taken in (work, work / 'notes.txt'):
        with pytest.raises(FileExistsError, match='not an empty folder'):
            copy_exercises(taken)
    monkeypatch.setattr(exercises.shutil, 'copyfile', lambda *args: (_ for _ in ()).throw(OSError('the disk is full')))
    with pytest.raises(OSError, match='full'):
        copy_exercises(tmp_path / 'half')
    assert [p.name for p in tmp_path.rglob('*')] == ['work', 'notes.txt']


@pytest.mark.parametrize('name', ['02_schedule'])
def test_a_copy_runs(name, tmp_path):
    nbclient, nbformat = pytest.importorskip('nbclient'), pytest.importorskip('nbformat')
    folder = copy_exercises(tmp_path / 'mine')
    notebook = nbformat.read(folder / f'{name}.ipynb', 4)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name='python3', resources={'metadata': {'path': str(folder)}}).execute()
    said = [output.get('text', '') for cell in notebook.cells for output in cell.get('outputs', []) if 'check_' in cell.source]
    assert said == ['Not attempted yet.\n'] * len(said) and len(said) >= 3


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """The wheel, built from a copy of what it is built from (a build leaves files behind) and unpacked."""
    pytest.importorskip('setuptools')
    place = tmp_path_factory.mktemp('wheel')
    for name in ('ddpm_teach', 'nbs'):
        shutil.copytree(ROOT / name, place / 'source' / name, ignore=shutil.ignore_patterns('__pycache__', 'runs', '.*'))
    for name in ('setup.py', 'settings.ini', 'pyproject.toml', 'README.md', 'LICENSE'):
        shutil.copy(ROOT / name, place / 'source')
    left = place / 'source/nbs/results/10_paper/paper/linear-100-l1-0'                # what a training leaves; not for the wheel
    left.mkdir(exist_ok=True)
    (left / 'checkpoint.safetensors').write_bytes(b'large')
    built = subprocess.run([sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation', '--wheel-dir', place, place / 'source'], capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (file,) = place.glob('*.whl')
    assert file.stat().st_size < 20_000_000
    with zipfile.ZipFile(file) as packed:
        packed.extractall(place / 'installed')
    return place / 'installed'


def test_the_wheel_holds_the_notebooks(wheel, tmp_path):
    assert (wheel / 'ddpm_teach/nbs/tools/exercises.ipynb').is_file() and not list(wheel.rglob('checkpoint.safetensors'))
    run = subprocess.run([sys.executable, '-m', 'ddpm_teach', 'exercises', 'mine'], cwd=tmp_path, env={**os.environ, 'PYTHONPATH': str(wheel)}, capture_output=True, text=True)
    assert run.returncode == 0 and run.stdout.startswith(f'mine: {len(COPIED)} notebooks without solutions'), run.stdout + run.stderr
    assert_no_solutions(tmp_path / 'mine')
    again = subprocess.run([sys.executable, '-m', 'ddpm_teach', 'exercises', 'mine'], cwd=tmp_path, env={**os.environ, 'PYTHONPATH': str(wheel)}, capture_output=True, text=True)
    assert again.returncode == 2 and again.stderr.startswith("ddpm_teach: copy_exercises: 'mine' is not an empty folder") and again.stderr.count('\n') == 1


def test_an_editable_install_finds_those_of_the_clone():
    assert notebooks() == ROOT / 'nbs'


def test_every_exercise_is_described():
    for name in dir(exercises):
        if name.startswith('check_'):
            check = getattr(exercises, name)
            title = re.match(rf'`{name.removeprefix("check_")}\(([^)]*)\)`: ', check.__doc__)
            assert title, name
            node = next(n for path in WITH_CHECKS for _, source in cells(path) if source.startswith(f'def {name.removeprefix("check_")}(') for n in ast.parse(source).body)
            assert title.group(1) == ', '.join(a.arg for a in node.args.args), name
            assert check.__doc__ == check.about and len(check.mistakes) >= 3
