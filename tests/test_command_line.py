"""The program in a terminal: refusals before any work, the words of options, what is
said when it is stopped."""
import inspect
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import time
import warnings

import pytest
import torch
from PIL import Image

import ddpm_teach as d
from ddpm_teach import cli

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture
def say(capsys):
    """Runs a command here; its status, and what it printed to both streams."""
    def called(*words):
        status = 0
        try:
            cli.main([str(word) for word in words])
        except SystemExit as end:
            status = end.code
        printed = capsys.readouterr()
        return status, printed.out, printed.err
    return called


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """A folder to work in, with pictures, a small network and a short chain."""
    monkeypatch.chdir(tmp_path)
    small = dict(channels=(8, 16), groups=4, attention=())
    monkeypatch.setattr(cli, 'UNet', lambda **given: d.UNet(**given | small))
    listening = small | dict(width=16)
    monkeypatch.setattr(
        cli, 'TextUNet', lambda n, **given: d.TextUNet(n, **given | listening))
    folder = tmp_path / 'my pictures'
    folder.mkdir()
    images = torch.randint(0, 256, (24, 3, 20, 20), dtype=torch.uint8)
    for i, image in enumerate(images):
        d.to_pil(image).save(folder / f'{i}.png')
    return tmp_path


def learn(*words, out='runs/a b'):
    return [
        'train', '--data', 'my pictures', '--size', 16, '--batch-size', 8,
        '--timesteps', 60, '--out', out, *words]


@pytest.fixture
def nothing_is_done(monkeypatch):
    """Neither drawing nor training nor reading may begin."""
    def refuse(*args, **kwargs):
        raise AssertionError('work was begun')
    for name in ('sample', 'train', 'characters', 'image_folder', 'run_experiment'):
        monkeypatch.setattr(cli, name, refuse)


REFUSED = [
    ('sample -n 200 --out faces.jpg', "--out is 'faces.jpg'.*faces.png"),
    ('sample -n 200 --out .', "'.', which is a folder.*--separate"),
    ('sample -n 200 --out faces', "'faces'.*faces.png"),
    ('sample -n 40000 --out a.webp', '--out is .*16383.*a.png'),
    ('sample --out no/a.png', "no folder 'no'"),
    ('sample --gif chain.png', '--gif is .*ending in .gif'),
    ('sample --gif no/chain.gif', "no folder 'no'"),
    ('sample --separate --out file.txt', "'file.txt' is a file"),
    ('sample --separate --out theirs', '0001.png is there already'),
    ('sample --sampler ancestral --steps 10', '--steps is 10.*--sampler ddim'),
    ('sample --sampler ddmi', 'ddmi.*ddim'),
    ('sample --steps 0', "--steps.*'0' should be a whole number, 1 or more"),
    ('sample --seed ' + 20 * '9', '--seed.*at most 18 digits'),
    ('sample --device gpu', "--device is 'gpu'"),
    ('sample --model theirs', '--model: .*model.safetensors'),
    ('sample --model no.safetensors', "--model: there is no file 'no.safetensors'"),
    ('sample --stps 10', '--steps'),
    ('train --bach-size 10', '--batch-size'),
    ('train --out file.txt', "--out is 'file.txt'.*is a file"),
    ('train --out file.txt/run', "--out is .*'file.txt' is a file"),
    ('train --size 30', '--size is 30'),
    ('train --lr 0', "--lr.*'0' should be"),
    ('train --lr nan', "--lr.*'nan' should be"),
    ('train --device cuda:99', "--device is 'cuda:99'"),
    ('train --from no.safetensors', "--from: there is no file 'no.safetensors'"),
    ('train --from theirs --size 64', '--size was given beside --from'),
    ('train --timesteps 12 --schedule linear-rescaled', '--timesteps above 20'),
    ('paper --out file.txt', "'file.txt' is a file"),
    ('train --from theirs --grey', '--grey was given beside --from'),
    ('train --grey', '--grey'),
    ('train --layout each', '--layout.*each'),
    ('exercises', "'DIR'"),
    ('exercises file.txt', "'file.txt' is a file"),
    ('draw', 'draw'),
]


@pytest.mark.parametrize('line, words', REFUSED)
def test_refused_before_the_work(
    line, words, say, nothing_is_done, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    pathlib.Path('file.txt').touch()
    pathlib.Path('theirs').mkdir()
    Image.new('RGB', (8, 8)).save('theirs/0001.png')
    before = sorted(tmp_path.rglob('*'))
    status, out, err = say(*line.split())
    assert (status, out) == (2, '')
    assert re.search(words, err), err
    assert err.startswith('ddpm_teach: ') and err.count('\n') == 1
    assert sorted(tmp_path.rglob('*')) == before


@pytest.mark.skipif(os.name != 'posix' or os.geteuid() == 0, reason='root may write')
def test_a_folder_that_is_not_writable(say, nothing_is_done, tmp_path):
    tmp_path.chmod(0o500)
    for line in (['sample', '--out', tmp_path / 'a.png'], ['train', '--out', tmp_path]):
        status, _, err = say(*line)
        assert status == 2 and 'written' in err
    tmp_path.chmod(0o700)


def test_version_and_help(say):
    assert say('--version')[:2] == (0, f'ddpm_teach {d.__version__}\n')
    for name in cli.program.commands:
        status, out, _ = say(name, '--help')
        assert status == 0 and max(map(len, out.splitlines())) <= 88
        assert name == 'exercises' or 'Examples:' in out


def test_every_example_in_help_is_understood():
    """Each is read to its end by the command that it is for."""
    found = 0
    for name, command in cli.program.commands.items():
        text = command.help.replace('\\\n', ' ')
        for line in re.findall(r'python -m ddpm_teach (.*)', text):
            first, *words = shlex.split(line)
            assert first == name
            command.make_context(name, words)
            found += 1
    assert found > 8


def test_help_names_the_steps_that_the_samplers_take():
    options = cli.program.commands['sample'].params
    words = {option.name: option.help for option in options}
    for sampler in (d.dpm_solver, d.ddim):
        steps = inspect.signature(sampler).parameters['steps'].default
        assert f'{steps} for {sampler.__name__}' in words['steps']


def test_without_a_seed_it_is_said_and_draws_the_same_again(say, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = say('-n', 2, '--steps', 3)
    assert status == 0
    seed, = re.findall(r'--seed (\d+)', out)
    say('-n', 2, '--steps', 3, '--seed', seed, '--out', 'again.png')
    assert pathlib.Path('samples.png').read_bytes() == (
        pathlib.Path('again.png').read_bytes())
    say('-n', 2, '--steps', 3, '--out', 'other.png')
    assert pathlib.Path('samples.png').read_bytes() != (
        pathlib.Path('other.png').read_bytes())


def test_separate_files_and_the_chain(say, tmp_path):
    out = tmp_path / 'new' / 'faces'
    line = ['sample', '-n', 3, '--seed', 1, '--sampler', 'ddim', '--steps', 4]
    status, _, err = say(*line, '--separate', '--out', out, '--gif', tmp_path / 'c.gif')
    assert status == 0, err
    assert [p.name for p in sorted(out.iterdir())] == [
        '0001.png', '0002.png', '0003.png']
    say(*line, '--out', tmp_path / 'grid.png', '--zoom', 1)
    grid = d.load_grid(tmp_path / 'grid.png', 3, 2)
    for picture, file in zip(grid, sorted(out.iterdir())):
        assert torch.equal(picture, d.load_grid(file, 1, 1)[0])
    assert Image.open(tmp_path / 'c.gif').n_frames == 5
    assert say(*line, '--separate', '--out', out)[0] == 0         # ours: written again


def test_a_training_from_beginning_to_end(say, tiny):
    """Its own size, previews, on for longer, refused in options, and begun anew."""
    status, out, err = say(*learn('--epochs', 2, '--preview', 1))
    assert status == 0, err
    assert '24 pictures, 16x16' in err and 'Traceback' not in err
    run = tiny / 'runs/a b'
    assert {'preview-0001.png', 'preview-0002.png', 'samples.png'} <= {
        path.name for path in run.iterdir()}
    typed = shlex.split(out.splitlines()[-1])[3:]
    assert say(*typed, '-n', 2)[0] == 0                           # pasted as it stands
    assert say('sample', '-n', 2, '--model', run)[0] == 0         # or the folder
    assert d.load(run / 'model.safetensors').shape == (3, 16, 16)

    status, _, err = say(*learn('--epochs', 3))
    assert status == 0 and 'goes on' in err
    status, _, err = say(*learn('--epochs', 3, '--lr', 1e-3))
    assert status == 2 and '--lr' in err and '--fresh' in err and 'resume' not in err
    status, _, err = say(*learn('--epochs', 1, '--lr', 1e-3, '--fresh'))
    assert status == 0 and 'goes on' not in err


def test_from_a_model(say, tiny, monkeypatch):
    """Its weights and its size are those that the training starts from."""
    say(*learn('--epochs', 1))
    model = tiny / 'runs/a b/model.safetensors'
    started = []
    monkeypatch.setattr(cli, 'train', lambda model, data, *args, **options: (
        started.append((model.network, data, options)) or 1 / 0))
    with pytest.raises(ZeroDivisionError):
        cli.main(['train', '--data', 'my pictures', '--from', str(model), '--no-flip',
                  '--lr', '1e-4', '--out', 'runs/new'])
    (network, data, options), = started
    kept = d.load(model).network.state_dict()
    assert all(torch.equal(w, kept[name]) for name, w in network.state_dict().items())
    assert data.images.shape[-1] == 16 and data.mirror is False
    assert options['lr'] == 1e-4


@pytest.mark.parametrize('size', [8, 16, 24, 32, 40, 64, 72, 128, 256])
def test_every_size_has_a_network(size):
    """A multiple of 8, as the help says."""
    asked = cli.program.commands['train'].make_context('train', ['--size', str(size)])
    model = cli.new_model(cli.SimpleNamespace(**asked.params))
    assert model.shape == (3, size, size)
    assert 2 <= cli.attends_at(size) <= 32


def test_grey_pictures(say, tiny):
    status, _, err = say(*learn('--epochs', 1, '--grey', out='grey'))
    assert status == 0, err
    assert d.load('grey/model.safetensors').shape == (1, 16, 16)
    status, _, err = say('sample', '-n', 1, '--model', 'grey', '--gif', 'grey.gif')
    assert status == 0, err


def test_words_from_a_table_to_a_prompt(say, tiny):
    rows = [f'{i}.png,"a {"red" if i % 2 else "blue"} square, {i}"' for i in range(24)]
    table = tiny / 'my pictures/captions.csv'
    table.write_text('file,caption\n' + '\n'.join(rows))
    status, out, err = say(*learn('--words', '--epochs', 1))
    assert status == 0 and 'learns' in err and ' red' in err
    assert "sample 'a blue square, 0' --model 'runs/a b/model.safetensors'" in out
    asked = ['--model', 'runs/a b', '-n', 2, '--steps', 3, '--seed', 1]
    pictures = []
    for more in (['red square'], ['red square', '--guidance', 1],
                 ['red square', '--without', 'blue'], ['--without', 'blue'], []):
        status, _, err = say('sample', *more, *asked, '--out', 'x.png')
        assert status == 0, err
        pictures.append((tiny / 'x.png').read_bytes())
    assert len(set(pictures)) == 5
    status, _, err = say('sample', 'sqare', *asked)
    assert status == 0 and "'sqare'; the nearest by its letters is 'square'" in err
    status, _, err = say('sample', 'red', '--without', 'blue', '--guidance', 1, *asked)
    assert status == 2 and 'above 1' in err
    status, out, _ = say('words', '--model', 'runs/a b')
    assert status == 0 and {'a', 'blue', 'red', 'square'} < set(out.split())
    status, out, _ = say('words')
    assert status == 0 and 'round glasses' in out and 'facing left' in out
    table.unlink()
    status, _, err = say(*learn('--words', out='runs/b'))
    assert status == 2 and 'captions.csv' in err and not (tiny / 'runs/b').exists()


def test_a_prompt_for_a_model_without_words(say, tiny):
    say(*learn('--epochs', 1))
    for words in (['red'], ['--without', 'red']):
        status, _, err = say('sample', *words, '--model', 'runs/a b', '-n', 2)
        assert status == 2 and 'without conditions' in err


def test_a_folder_with_pictures_in_two_places(say, tiny):
    """It is refused by options, and what they say works."""
    inside = tiny / 'my pictures' / 'more'
    inside.mkdir()
    for i in range(8):
        (tiny / f'my pictures/{i}.png').rename(inside / f'{i}.png')
    status, _, err = say(*learn('--epochs', 1))
    assert status == 2 and '--layout flat' in err and 'layout=' not in err
    status, _, err = say(*learn('--epochs', 1, '--layout', 'flat'))
    assert status == 0 and '16 pictures, 16x16' in err


def test_mirrors_are_the_default_and_precision_can_be_chosen(say, tiny, monkeypatch):
    seen = []
    monkeypatch.setattr(cli, 'train', lambda model, data, *args, **options: (
        seen.append((data.mirror, options['hooks'])) or 1 / 0))
    for words in ([], ['--bf16'], ['--no-bf16']):
        with pytest.raises(ZeroDivisionError):
            cli.main([str(word) for word in learn(*words)])
    assert [mirror for mirror, _ in seen] == 3 * [True]
    precision = [
        hook.bf16 for _, hooks in seen for hook in hooks
        if isinstance(hook, d.Precision)]
    assert precision == [None, True, False]


def test_warnings_have_no_source_and_speak_of_options(say, tiny):
    status, _, err = say(*learn('--epochs', 1))
    assert status == 0
    warned = [line for line in err.splitlines() if 'warning' in line.lower()]
    assert warned and all(w.startswith('ddpm_teach: warning: ') for w in warned)
    assert re.search(r'--epochs \d+', err) and '.py:' not in err
    assert 'epochs=' not in err and 'warn' not in err.replace('warning: ', '')


@pytest.mark.parametrize('said, typed', [
    ('device is \'x\', it should', '--device is \'x\', it should'),
    ('give batch_size=8 and epochs=40', 'give --batch-size 8 and --epochs 40'),
    ('or resume=False to begin anew', 'or --fresh to begin anew'),
    ('train: lr is 3', '--lr is 3'),
    ('data with `mirror=False`', 'data with --no-flip'),
    ('take bf16=False', 'take --no-bf16'),
    ('load: there is no file', '--model: there is no file'),
    ('image_folder: skipped 1', '--data: skipped 1'),
    ('up to 3 epochs of 4 steps', 'up to 3 epochs of 4 steps'),
    ('one\n   line', 'one line'),
    ("In Python, layout='flat' or 'all' reads", "--layout flat or 'all' reads"),
    ('or in Python say it: white=255 (or', 'or say it: --white 255 (or'),
])
def test_the_words_of_options(said, typed):
    assert cli.in_options(said) == typed


def test_what_is_said_to_the_caller_of_python_stays(recwarn):
    """Only the command line changes how warnings are shown."""
    shown = warnings.showwarning
    with pytest.raises(SystemExit):
        cli.main(['draw'])
    assert warnings.showwarning is shown


def test_too_little_memory_is_one_line(say, monkeypatch, tmp_path):
    def fill(*args, **options):
        raise RuntimeError('DefaultCPUAllocator: can\'t allocate memory')
    monkeypatch.setattr(cli, 'sample', fill)
    status, _, err = say('sample', '--out', tmp_path / 'a.png')
    assert status == 2 and '--batch-size' in err and err.count('\n') == 1


def test_other_pictures_are_not_judged_by_what_was_learned_of_ours():
    """Labels of our characters say nothing of noise."""
    from ddpm_teach import paper
    ours = d.characters(80, progress=False)
    noise = torch.randint(0, 256, (80, 3, 32, 32), dtype=torch.uint8)
    labels = torch.zeros(80, 1, dtype=torch.int16)
    theirs = d.Pictures(noise, labels, {'class': ['noise']})
    of_labels = {'unclear', 'doubt', 'variation'}
    assert of_labels < set(paper._judged(ours.images, ours, ours))
    found = paper._judged(noise, theirs, theirs)
    assert not of_labels & set(found) and {'kernel', 'grain', 'copies'} < set(found)


# Ctrl-C

def stop(*args, **kwargs):
    raise KeyboardInterrupt


def test_a_drawing_that_is_stopped_is_no_training(say, monkeypatch, tmp_path):
    monkeypatch.setattr(cli, 'sample', stop)
    status, _, err = say('sample', '--out', tmp_path / 'a.png')
    assert status == 130 and 'drawing' in err and 'training' not in err


def test_a_training_says_what_is_kept(say, tiny, monkeypatch):
    """Nothing before it began or in its first epoch; then what, and how to go on."""
    monkeypatch.setattr(cli, 'image_folder', stop)
    status, _, err = say(*learn())
    assert status == 130 and 'nothing was changed' in err
    monkeypatch.undo()
    monkeypatch.chdir(tiny)
    small = dict(channels=(8, 16), groups=4, attention=())
    monkeypatch.setattr(cli, 'UNet', lambda **given: d.UNet(**given | small))
    listening = small | dict(width=16)
    monkeypatch.setattr(
        cli, 'TextUNet', lambda n, **given: d.TextUNet(n, **given | listening))

    monkeypatch.setattr(cli.Forecast, 'after_step', stop)
    status, _, err = say(*learn('--epochs', 3))
    assert status == 130 and 'nothing of it is kept' in err

    def second(self, run):
        if len(run.losses) > run.steps_in_epoch:
            raise KeyboardInterrupt

    monkeypatch.setattr(cli.Forecast, 'after_step', second)
    status, _, err = say(*learn('--epochs', 3))
    assert status == 130 and 'after 1 of 3 epochs' in err
    typed = shlex.split(err.splitlines()[-1])
    assert typed[3:] == [str(word) for word in learn('--epochs', 3)]
    assert (tiny / 'runs/a b/checkpoint.safetensors').exists()


@pytest.mark.skipif(os.name != 'posix', reason='sends a signal')
@pytest.mark.parametrize('seconds', [.3, .8])
def test_stopped_while_the_library_is_read(seconds, tmp_path):
    """No traceback, while PyTorch is imported."""
    env = os.environ | dict(PYTHONPATH=str(ROOT))
    process = subprocess.Popen(
        [sys.executable, '-m', 'ddpm_teach', 'sample', '-n', '500'], cwd=tmp_path,
        env=env, stderr=subprocess.PIPE, text=True,
        # what is started with `&` would ignore it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and 'Traceback' not in err, err
    assert list(tmp_path.iterdir()) == []


# Time

@pytest.mark.parametrize('seconds, words', [
    (.2, 'a second'), (7.4, '7 seconds'), (89, '89 seconds'), (100, '2 minutes'),
    (3000, '50 minutes'), (5500, '1.5 hours'), (36000, '10 hours')])
def test_time_in_words(seconds, words):
    assert cli.about(seconds) == words


class Training:
    """What the forecast sees: 20 epochs of 100 steps, 150 of which are done."""
    losses = 150 * [0.]
    steps = 2000
    epochs = 20
    epoch = 1
    steps_in_epoch = 100


@pytest.mark.parametrize('every, words', [
    (None, 'about 31 minutes'), (2, 'about 31 minutes; first preview after 50 seconds'),
    (50, 'about 31 minutes; first preview after 31 minutes')])
def test_the_forecast(every, words):
    assert cli.Forecast(every).words(Training(), 1.) == words
