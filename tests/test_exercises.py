"""The exercises of the notebooks, read as files: form, folding, copies without them."""
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

NBS = ROOT / 'nbs'
BOOK = 'exercises.ipynb'
COPIED = [path for path in LESSONS + ROOMS if path.name != BOOK]
WITH_CHECKS = [path for path in LESSONS if '02' <= path.name[:2] <= '10']
CHECK = r'from ddpm_teach\.exercises import check_(\w+)\nprint\(check_\1\(\1\)\)'
STARTER = r'def {}\([^\n]*\):\n    return None   # your answer'
CHECKS = [name for name in dir(exercises) if name.startswith('check_')]


def cells(path):
    """Each cell of a notebook with its source."""
    found = json.loads(path.read_text(encoding='utf-8'))['cells']
    return [(cell, ''.join(cell['source'])) for cell in found]


def is_solution(cell):
    return 'solution' in cell['metadata'].get('tags', [])


def name_of(path):
    return path.stem


def checks_of(path):
    """The exercises of a notebook: the place of each check, and its name."""
    found = []
    for i, (_, source) in enumerate(cells(path)):
        if match := re.fullmatch(CHECK, source):
            found.append((i, match.group(1)))
    return found


@pytest.mark.parametrize('path', WITH_CHECKS, ids=name_of)
def test_an_exercise_has_its_parts(path):
    """A question, a starter that returns None, its check, its solution folded."""
    listed = cells(path)
    for i, name in checks_of(path):
        question, question_text = listed[i - 2]
        assert question['cell_type'] == 'markdown', name
        assert re.match(r'\*\*\d\.\*\* ', question_text), name
        assert re.fullmatch(STARTER.format(name), listed[i - 1][1]), name

        (output,) = listed[i][0]['outputs']
        assert ''.join(output['text']) == 'Not attempted yet.\n', name

        solution, text = listed[i + 1]
        assert is_solution(solution) and solution['outputs'] == [], name
        assert solution['metadata']['jupyter'] == {'source_hidden': True}, name
        assert f'def {name}_solution(' in text, name
        assert f'assert check_{name}({name}_solution) == RIGHT' in text, name


@pytest.mark.parametrize('path', WITH_CHECKS, ids=name_of)
def test_one_exercise_is_open(path):
    """It has an answer in a folded cell of prose; two or more others have checks."""
    prose = [source for cell, source in cells(path)
             if is_solution(cell) and source.startswith('<details>')]
    assert len(prose) == 1 and len(checks_of(path)) >= 2


def test_every_check_is_used_once():
    used = [f'check_{name}' for path in WITH_CHECKS for _, name in checks_of(path)]
    assert sorted(used) == sorted(CHECKS)


@pytest.mark.parametrize('path', LESSONS, ids=name_of)
def test_solutions_are_marked_and_folded(path):
    for cell, source in cells(path):
        marks = ('_solution(', '<summary>Solution', '<summary>An answer')
        if any(mark in source for mark in marks):
            assert is_solution(cell), source
        if is_solution(cell) and cell['cell_type'] == 'code':
            assert cell['metadata']['jupyter']['source_hidden'], source
        allowed = {'tags', 'jupyter'} if is_solution(cell) else set()
        assert set(cell['metadata']) <= allowed, cell['metadata']


def command(name):
    """Where a program of this Python's environment is."""
    here = pathlib.Path(sys.executable).parent
    return shutil.which(name, path=f'{here}{os.pathsep}{os.environ["PATH"]}')


def test_cleaning_keeps_marks_and_folds(tmp_path):
    pytest.importorskip('nbdev')
    copy = tmp_path / '02_schedule.ipynb'
    notebook = json.loads((NBS / copy.name).read_text(encoding='utf-8'))
    notebook['cells'][0]['metadata'] = {'collapsed': True}    # what it should take away
    copy.write_text(json.dumps(notebook), encoding='utf-8')
    subprocess.run([command('nbdev_clean'), '--fname', str(copy)], cwd=ROOT, check=True)
    metadata = [cell['metadata'] for cell, _ in cells(copy)]
    assert metadata[0] == {}
    assert metadata == [cell['metadata'] for cell, _ in cells(NBS / copy.name)]
    assert {'tags': ['solution'], 'jupyter': {'source_hidden': True}} in metadata
    assert {'tags': ['solution']} in metadata


READ = ['tools/peers.py', 'styles.css', 'results/06_training/shipped.json',
        'results/08_evaluation/samples.webp', 'images/samples.png']


def assert_links_lead_somewhere(path):
    for cell, source in cells(path):
        if cell['cell_type'] != 'markdown':
            continue
        for target in re.findall(r'\]\(([^)#\s]+)', source):
            outside = '://' in target or target.endswith(BOOK)
            assert outside or (path.parent / target).exists(), target


def assert_no_solutions(folder):
    """All notebooks but the book of answers, without solutions, and what they read."""
    copies = sorted(folder.rglob('*.ipynb'))
    expected = sorted(path.relative_to(NBS) for path in COPIED)
    assert [path.relative_to(folder) for path in copies] == expected
    for path in copies:
        listed = cells(path)
        original = cells(NBS / path.relative_to(folder))
        assert listed == [pair for pair in original if not is_solution(pair[0])]
        for _, source in listed:
            assert '_solution' not in source and '<details>' not in source, path.name
        assert_links_lead_somewhere(path)
    for name in READ:
        assert (folder / name).read_bytes() == (NBS / name).read_bytes()
    for kind in ('paper', 'other'):
        place = pathlib.Path('results/10_paper', kind)
        stored = {path.name for path in (NBS / place).iterdir() if path.is_file()}
        assert stored
        assert stored == {path.name for path in (folder / place).iterdir()}


def test_copies_have_no_solutions(tmp_path, monkeypatch):
    mine = tmp_path / 'new/mine'
    assert copy_exercises(mine) == mine.resolve()
    assert_no_solutions(mine)
    empty = tmp_path / 'empty'
    empty.mkdir()
    monkeypatch.chdir(empty)
    copy_exercises('.')
    assert_no_solutions(pathlib.Path.cwd())
    assert sorted(path.name for path in tmp_path.iterdir()) == ['empty', 'new']
    assert os.listdir(tmp_path / 'new') == ['mine']


def full(*args):
    raise OSError('the disk is full')


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path, monkeypatch):
    work = tmp_path / 'work'
    work.mkdir()
    (work / 'notes.txt').write_text('mine')
    for taken in (work, work / 'notes.txt'):
        with pytest.raises(FileExistsError, match='not an empty folder'):
            copy_exercises(taken)
    monkeypatch.setattr(exercises.shutil, 'copyfile', full)
    with pytest.raises(OSError, match='full'):
        copy_exercises(tmp_path / 'half')
    assert [path.name for path in tmp_path.rglob('*')] == ['work', 'notes.txt']


@pytest.mark.parametrize('name', ['02_schedule'])
def test_a_copy_runs(name, tmp_path):
    nbclient = pytest.importorskip('nbclient')
    nbformat = pytest.importorskip('nbformat')
    folder = copy_exercises(tmp_path / 'mine')
    notebook = nbformat.read(folder / f'{name}.ipynb', 4)
    resources = {'metadata': {'path': str(folder)}}
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name='python3', resources=resources).execute()
    said = []
    for cell in notebook.cells:
        if re.fullmatch(CHECK, cell.source):
            said += [output.text for output in cell.outputs]
    assert said == ['Not attempted yet.\n'] * len(said) and len(said) >= 3


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """The wheel, unpacked; built from a copy of its sources: builds leave files."""
    pytest.importorskip('setuptools')
    place = tmp_path_factory.mktemp('wheel')
    source = place / 'source'
    left_out = shutil.ignore_patterns('__pycache__', 'runs', '.*')
    for name in ('ddpm_teach', 'nbs'):
        shutil.copytree(ROOT / name, source / name, ignore=left_out)
    for name in ('setup.py', 'settings.ini', 'pyproject.toml', 'README.md', 'LICENSE'):
        shutil.copy(ROOT / name, source)
    training = source / 'nbs/results/10_paper/paper/linear-100-l1-0'
    training.mkdir(exist_ok=True)
    (training / 'checkpoint.safetensors').write_bytes(b'large')    # not for the wheel
    build = [sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps',
             '--no-build-isolation', '--wheel-dir', place, source]
    built = subprocess.run(build, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (file,) = place.glob('*.whl')
    assert file.stat().st_size < 20_000_000
    with zipfile.ZipFile(file) as packed:
        packed.extractall(place / 'installed')
    return place / 'installed'


def test_the_wheel_holds_the_notebooks(wheel, tmp_path):
    assert (wheel / 'ddpm_teach/nbs/tools' / BOOK).is_file()
    assert not list(wheel.rglob('checkpoint.safetensors'))
    call = [sys.executable, '-m', 'ddpm_teach', 'exercises', 'mine']
    settings = dict(cwd=tmp_path, env={**os.environ, 'PYTHONPATH': str(wheel)},
                    capture_output=True, text=True)
    run = subprocess.run(call, **settings)
    said = f'mine: {len(COPIED)} notebooks without solutions'
    assert run.returncode == 0 and run.stdout.startswith(said), run.stdout + run.stderr
    assert_no_solutions(tmp_path / 'mine')
    again = subprocess.run(call, **settings)
    said = "ddpm_teach: copy_exercises: 'mine' is not an empty folder"
    assert again.returncode == 2 and again.stderr.startswith(said)
    assert again.stderr.count('\n') == 1


def test_an_editable_install_finds_those_of_the_clone():
    assert notebooks() == NBS


def starters():
    """The arguments of every starter, by name."""
    found = {}
    for path in WITH_CHECKS:
        listed = cells(path)
        for i, name in checks_of(path):
            (function,) = ast.parse(listed[i - 1][1]).body
            found[name] = ', '.join(argument.arg for argument in function.args.args)
    return found


def test_every_exercise_is_described():
    arguments = starters()
    for name in CHECKS:
        check = getattr(exercises, name)
        short = name.removeprefix('check_')
        assert check.__doc__ == check.about
        assert check.__doc__.startswith(f'`{short}({arguments[short]})`: '), name
        assert len(check.mistakes) >= 3, name
