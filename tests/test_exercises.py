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

import torch

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
    for kind in ('10_paper/paper', 'paper_elsewhere'):
        place = pathlib.Path('results', kind)
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
    assert file.stat().st_size < 40_000_000
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


def smooth(weights, d, start):
    for w in weights:
        start = d * start + (1 - d) * w
    return start


def opinions(x0, xt, t, schedule):
    """Two means and two variances."""
    alpha, before = schedule.alpha[t], schedule.abar[t - 1]
    return xt / alpha**.5, before**.5 * x0, (1 - alpha) / alpha, 1 - before


def merged(x0, xt, t, schedule):
    a, b, var_a, var_b = opinions(x0, xt, t, schedule)
    variance = 1 / (1 / var_a + 1 / var_b)
    return variance * (a / var_a + b / var_b), variance


def strided(x, belief, schedule, times, powers=(.5, .5, .5, .5), to=None, at=None):
    """DDIM, with powers of abar in place of its roots, another end or beginning."""
    abar = schedule.abar
    for t, s in zip(times, times[1:]):
        x0_hat = belief(x, at(t, s) if at else t)
        s = to(t, s) if to else s
        p, q, r, u = powers
        eps = (x - abar[t]**p * x0_hat) / (1 - abar[t])**q
        x = abar[s]**r * x0_hat + (1 - abar[s])**u * eps
    return x


def simple(network, x0, t, schedule, eps, shift=0, powers=(.5, .5)):
    abar = schedule.abar[t - shift][:, None]
    xt = abar**powers[0] * x0 + (1 - abar)**powers[1] * eps
    return (network(xt, t - 1) - eps).square().mean()


def squares(parts):
    return (parts - parts.mean()).square()


# The exercise; an answer, of its arguments; words of the remark that names the mistake.
WRONG = [
    ('abar_by_hand', 'lambda b: 1 - b', 'alpha without its product'),
    ('abar_by_hand', 'lambda b: 2 * exercises.check_abar_by_hand.right(b)', 'twice'),
    ('more_noise', 'lambda s: int((s.snr < 1).sum())', 'how many t'),
    ('more_noise', 'lambda s: 0', 'no noise at all'),
    ('cosine_betas', 'lambda T, s: 1 - exercises.check_cosine_betas.right(T, s)',
     'That is alpha'),
    ('clean', 'lambda xt, e, a: (xt - e) / a**.5', 'The noise has a factor'),
    ('clean', 'lambda xt, e, a: (xt - a**.5 * e) / (1 - a)**.5', 'exchanged'),
    ('noised_batch', 'lambda *given: -exercises.q_sample(*given)', 'sign'),
    ('noised_batch', 'lambda x, t, s, e: exercises.q_sample(x, t, s, -e)',
     'added, not taken'),
    ('noised_batch', 'lambda x, t, s, e: exercises.q_sample(x, t, s, 0 * e)',
     'noise is missing'),
    ('two_opinions', 'lambda *given: merged(*given)[::-1]', 'exchanged'),
    ('two_opinions', 'lambda *given: (sum(opinions(*given)[:2]) / 2,'
     ' merged(*given)[1])', 'plain average'),
    ('two_opinions', 'lambda *given: (sum(opinions(*given)[:2]) / 2,'
     ' sum(opinions(*given)[2:]) / 2)', 'plain averages'),
    ('two_opinions', 'lambda *given: (sum(opinions(*given)[:2]) / 2,'
     ' sum(opinions(*given)[2:]))', 'plain average'),
    ('two_opinions', 'lambda *given: (merged(*given)[0], 1 / merged(*given)[1])',
     'precision'),
    ('two_opinions', 'lambda *given: (merged(*given)[0], merged(*given)[1]**.5)',
     'standard deviation'),
    ('two_opinions', 'lambda *given: (merged(*given)[0], 7.)', 'result 2 of 2'),
    ('score', 'lambda xt, t, w, s: (s.abar[t][:, None]**.5 * w.x0_mean(xt, t, s) - xt)',
     'not divided by the variance'),
    ('eps_to_v_weight', 'lambda snr: snr * (snr + 1)', 'divides it'),
    ('kl_weight', 'lambda t, s: s.beta[t] / (2 * s.alpha[t]**.5 * (1 - s.abar[t]))',
     'squared'),
    ('mean_from_eps', 'lambda e, x, t, s: (x - s.beta[t] * e'
     ' / (1 - s.abar[t - 1])**.5) / s.alpha[t]**.5', 'one step off'),
    ('mean_from_eps', 'lambda e, x, t, s: (x + s.beta[t] * e'
     ' / (1 - s.abar[t])**.5) / s.alpha[t]**.5', 'taken away'),
    ('simple_loss', 'lambda *given: simple(*given, shift=1)', 'one step off'),
    ('simple_loss', 'lambda *given: simple(*given, powers=(1, 1))', 'roots'),
    ('simple_loss', 'lambda *given: simple(*given, powers=(.5, 1))',
     'the noise enters'),
    ('simple_loss', 'lambda *given: simple(*given, powers=(1, .5))',
     'the picture enters'),
    ('simple_loss', 'lambda *given: simple(*given) / 2', 'half'),
    ('multiplications', 'lambda i, o, side: 9 * i * o * (side - 2)**2', 'the edge'),
    ('embed', 'lambda t, d: exercises.check_embed.right(t, d)[:, d // 2:]', 'cosines'),
    ('with_time', 'lambda h, e, f: h + f(e.relu())[:, :, None, None]', 'ReLU'),
    ('through', 'lambda x, d, u: exercises.check_through.right(x, d, u[::-1])',
     'reverse order'),
    ('what_is_left', 'lambda d, k: d**(k + 1)', 'One update too many'),
    ('draw_times', 'lambda n, T: torch.randint(1, T + 1, (n,)).sort().values',
     'order of size'),
    ('draw_times', 'lambda n, T: torch.randint(2, T + 1, (n,))', 'From 2 to T'),
    ('descend', 'lambda w, f, lr, n: exercises.check_descend.right(w, f, 1., n)',
     'learning rate is missing'),
    ('descend', 'lambda w, f, lr, n: exercises.check_descend.right(w, f, lr, n + 1)',
     'too many'),
    ('moving_average', 'lambda w, d: smooth(w[1:], d, 0.)', 'starts from zero'),
    ('moving_average', 'lambda w, d: smooth(w, d, 0.)', 'starts from zero'),
    ('moving_average', 'lambda w, d: smooth(w, d, 0.) / (1 - d**len(w))',
     'starts from zero'),
    ('moving_average', 'lambda w, d: smooth(w, 1 - d, 0.)', 'starts from zero'),
    ('moving_average', 'lambda w, d: smooth(w[1:-1], d, w[0])', 'one too early'),
    ('last_line', 'lambda m, v, z, t: m + v**.5 * z * (t == 1)', 'other way round'),
    ('last_line', 'lambda m, v, z, t: m - v**.5 * z * (t > 1)', 'takes it away'),
    ('beliefs', 'lambda chain, times: [chain[t].x0_hat for t in times]', 'index'),
    ('toy_chain', 'lambda x, b, s, z: exercises.check_toy_chain.right('
     'x, b, s, z.roll(1, 0))', 'z[t - 1]'),
    ('frechet_1d', 'lambda m, v, n, w: (m - n)**2 + v + w - (v * w)**.5',
     'factor of two'),
    ('frechet_1d', 'lambda m, v, n, w: (m - n)**2 + v + w + 2 * (v * w)**.5',
     'taken away, not added'),
    ('frechet_1d', 'lambda m, v, n, w: ((m - n)**2 + v + w - 2 * (v * w)**.5) / 2',
     'factor of two'),
    ('frechet_1d', 'lambda m, v, n, w: 2 * ((m - n)**2 + v + w - 2 * (v * w)**.5)',
     'factor of two'),
    ('mean_of_pairs', 'lambda K: 2 * (K.sum() - K.trace()) / len(K) / (len(K) - 1)',
     'factor of two'),
    ('mean_of_pairs', 'lambda K: K.sum() / len(K) / (len(K) - 1)', 'diagonal'),
    ('jackknife_error', 'lambda p: (squares(p).sum() / (len(p) - 1))**.5',
     'That is the standard deviation of the results, with G - 1'),
    ('jackknife_error', 'lambda p: (squares(p).sum())**.5', 'only added up'),
    ('jackknife_error', 'lambda p: (len(p) - 1) * squares(p).mean()**.5',
     'under the root'),
    ('jackknife_error', 'lambda p: squares(p).mean()', 'variance of the results'),
    ('stride_end', 'lambda x, e, a: x + (1 - a)**.5 * e', 'picture has a factor'),
    ('stride_end', 'lambda x, e, a: a**.5 * x - (1 - a)**.5 * e', 'added'),
    ('sub_grid', 'lambda T, n: list(range(T, -1, -n))', 'number of strides'),
    ('ddim_walk', 'lambda *g: strided(*g, powers=(.5, .5, 1, .5))', 'root is missing'),
    ('ddim_walk', 'lambda *g: strided(*g, powers=(.5, .5, .5, 1))', 'root is missing'),
    ('ddim_walk', 'lambda *g: strided(*g, powers=(1, .5, .5, .5))', 'root is missing'),
    ('ddim_walk', 'lambda *g: strided(*g, powers=(.5, 1, .5, .5))', 'root is missing'),
    ('ddim_walk', 'lambda *g: strided(*g, powers=(1, 1, 1, 1))', 'No root anywhere'),
    ('ddim_walk', 'lambda *g: strided(*g, to=lambda t, s: t - 1)', 'ends at t - 1'),
    ('ddim_walk', 'lambda *g: strided(*g, at=lambda t, s: max(s, 1))',
     'was asked for at s'),
    ('scale', 'lambda T: 1000 - T', 'difference'),
    ('error_gain', 'lambda s: ((1 - s.abar[-2]) / s.abar[-2])**.5', 'T - 1'),
    ('lower_end', 'lambda a, b: a.low - b.value', 'Only the error of a'),
    ('lower_end', 'lambda a, b: 2 * exercises.check_lower_end.right(a, b)', 'twice'),
]


@pytest.mark.parametrize('name, answer, words', WRONG)
def test_a_wrong_answer_hears_its_mistake(name, answer, words):
    said = getattr(exercises, f'check_{name}')(eval(answer))
    assert words in said and not said.startswith('Not yet: expected'), said


@pytest.mark.parametrize('check', CHECKS)
def test_a_remark_speaks_of_nothing_unseen(check):
    """Each is read alone: it does not lean on another."""
    for remark in getattr(exercises, check).mistakes:
        leans = re.match(r'(The same|As above|Again|Also|Likewise)\b', remark)
        assert not leans, remark


@pytest.mark.parametrize('check', CHECKS)
def test_the_call_that_a_remark_prints_can_be_pasted(check, capsys):
    """In a notebook that has the answer and its check, as often as one likes."""
    name = check.removeprefix('check_')
    exercise = getattr(exercises, check)
    calls = []

    def answer(*given):
        calls.append(len(given))
        for value in given:
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                value.mul_(0)
        return 1e6 * torch.arange(3.)**len(calls)

    for wrong in (answer, lambda *given: given[99]):
        said = exercise(wrong)
        line = said.splitlines()[-1]
        assert 'The same call:' in said and ' a ' not in line, said
        exec(line, {name: answer, check: exercise})
        exec(line, {name: answer, check: exercise})
        assert len(capsys.readouterr().out.splitlines()) == 2
    assert set(calls) == {len(exercise.cases[0])}
    assert exercise(exercise.right) == exercises.RIGHT


def test_right_numbers_of_another_type_are_no_mistake_of_order():
    said = exercises.check_clean(
        lambda *given: exercises.check_clean.right(*given).float())
    assert 'the numbers are float32' in said, said


@pytest.mark.parametrize('path', LESSONS[1:], ids=name_of)
def test_two_exercises_ask_before_they_are_run(path):
    code = '\n'.join(source for _, source in cells(path))
    asked = len(re.findall(r'print\(compare\([ab], ', code)) + code.count('(Predict.)')
    assert asked >= 2
    assert 'compare(' not in code or 'a = b = None' in code


@pytest.mark.parametrize('guess, words', [
    (None, 'Guess first'), (.37, 'close'), (.2, 'right size'), (4., 'factor of 11'),
    (-.36, 'sign'), (0., 'nothing')])
def test_a_prediction_hears_how_far_it_was(guess, words):
    assert words in exercises.compare(guess, .36)
