"""Nothing is lost: a training that is killed, starved of disk or started twice ends as one that was left alone."""
import contextlib
import errno
import itertools
import json
import multiprocessing
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from functools import partial

import pytest
import torch
from PIL import Image

from ddpm_teach import DDPM, Pictures, UNet, cosine_schedule, paper, save, train, usual
from ddpm_teach.data import as_data
from ddpm_teach.hooks import save_checkpoint
from ddpm_teach.plumbing.files import write_whole
from ddpm_teach.plumbing.processes import only_one
from ddpm_teach.plumbing.show import save_grid
from ddpm_teach.training import Run as Training
from record import record

resource = pytest.importorskip('resource')
pytestmark = pytest.mark.skipif(sys.platform != 'linux', reason='kills processes and limits files as Linux does')
EPOCHS = 6


def new_model(seed=0):
    torch.manual_seed(seed)
    return DDPM(UNet(channels=(8, 16), groups=4, attention=(), size=8, patch=1, dropout=.2), cosine_schedule(50))


def pictures(n=64):
    return torch.randint(0, 256, (n, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def quiet(out=None, **options):
    return usual(out, bf16=False, progress=False, **options)


def go(out, **options):
    """The training that all tests here interrupt."""
    torch.set_num_threads(1)
    hooks = quiet(out, **options)
    return train(new_model(), pictures(), EPOCHS, batch_size=8, hooks=hooks)


class Run:
    """A training in a process of its own, forked from a server that has imported everything, so that a kill falls into the training."""

    def __init__(self, function, *args):
        self.said = pathlib.Path(tempfile.mkstemp(suffix='.stderr')[1])
        self.process = FORKS.Process(target=_child, args=(self.said, function, args), daemon=True)
        self.process.start()

    def wait(self, seconds=180):
        self.process.join(seconds)
        return self.process.exitcode

    def ends_well(self):
        assert self.wait() == 0, self.error()

    def kill(self, kind=signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):               # it has ended before
            os.kill(self.process.pid, kind)
        return self.wait()

    def error(self):
        return self.said.read_text().strip()


def _child(said, function, args):
    sys.stderr = said.open('w', buffering=1)
    torch.set_num_threads(1)
    function(*args)


HERE = pathlib.Path(__file__).parent
FORKS = multiprocessing.get_context('forkserver')


@pytest.fixture(scope='module', autouse=True)
def forks():
    """The server finds this file, and loads what the first optimiser loads."""
    os.environ['PYTHONPATH'] = os.pathsep.join([str(HERE), str(HERE / 'tools'), *filter(None, [os.environ.get('PYTHONPATH')])])
    FORKS.set_forkserver_preload(['test_interruption', 'torch._dynamo', 'accelerate', 'accelerate.utils', 'filelock', 'safetensors.torch', 'tqdm.auto'])


def state(out):
    """All that a training leaves behind, without times: both files' tensors and words, and the log."""
    checkpoint, about = read_all(out / 'checkpoint.safetensors')
    model, _ = read_all(out / 'model.safetensors')
    log = json.loads((out / 'log.json').read_text())
    return checkpoint, about, model, {key: log[key] for key in ('loss_of_each_epoch', 'first_losses', 'lr', 'seed')}


def read_all(path):
    from safetensors import safe_open
    with safe_open(path, 'pt') as file:
        return {name: file.get_tensor(name) for name in file.keys()}, {key: value for key, value in file.metadata().items()}


def assert_same(a, b):
    for one, other in zip(a, b):
        assert one.keys() == other.keys()
        for name in one:
            assert torch.equal(one[name], other[name]) if isinstance(one[name], torch.Tensor) else one[name] == other[name], name


def epochs_kept(out):
    """Of a checkpoint that must be readable, or 0 if there is none."""
    path = out / 'checkpoint.safetensors'
    return len(read_all(path)[0]['losses']) // 8 if path.exists() else 0


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
    """What a training that nobody interrupts leaves, and the seconds that it takes."""
    out = tmp_path_factory.mktemp('alone')
    Run(go, tmp_path_factory.mktemp('first')).ends_well()            # the server starts
    start = time.perf_counter()
    Run(go, out).ends_well()
    return state(out), time.perf_counter() - start


@pytest.mark.parametrize('kills', [3, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_ends_with_the_same_bits(tmp_path, alone, kills):
    expected, seconds = alone
    rng, done, seen, parts = random.Random(kills), 0, [], 0
    for attempt in itertools.count():
        out = tmp_path / str(attempt)                               # a training, killed again and again until it comes through or has been killed five times
        for _ in range(5):
            if done == kills:
                break
            run = Run(go, out)
            time.sleep(rng.uniform(0, 1) * seconds)
            if run.kill() != -signal.SIGKILL:                       # it had ended before
                break
            done += 1
            seen.append(epochs_kept(out))
            parts += len(list(out.glob('*.part')))
        Run(go, out).ends_well()
        assert_same(state(out), expected)
        assert not list(out.glob('*.part'))
        if done == kills:
            break
    if kills == 50:
        assert len(set(seen)) > 3, 'the kills should fall into different epochs'
        record('killed_at_random_moments', kills=kills, trainings=attempt + 1, epochs_kept_at_the_kill={str(k): seen.count(k) for k in sorted(set(seen))},
               half_written_files_left=parts, different_at_the_end=0)


class Half:
    """A file that gets half of what is written, and then its process is killed."""

    def __init__(self, file): self.file = file
    def __enter__(self): return self
    def __exit__(self, *error): self.file.close()

    def write(self, data):
        self.file.write(data[:len(data) // 2])
        self.file.flush()
        os.kill(os.getpid(), signal.SIGKILL)


def go_and_die_in_the_third_checkpoint(out, moment):
    real_open, real_replace, writes = pathlib.Path.open, pathlib.Path.replace, itertools.count(1)
    third = lambda path: path.name.startswith('checkpoint') and path.suffix == '.part' and next(writes) == 3

    def opened(self, mode='r', *rest, **options):
        file = real_open(self, mode, *rest, **options)
        return Half(file) if moment == 'middle' and third(self) else file

    def replaced(self, target):
        if moment == 'before rename' and third(self): os.kill(os.getpid(), signal.SIGKILL)
        return real_replace(self, target)

    pathlib.Path.open, pathlib.Path.replace = opened, replaced
    go(out)


@pytest.mark.parametrize('moment', ['middle', 'before rename'])
def test_killed_while_it_writes_a_checkpoint(tmp_path, alone, moment):
    run = Run(go_and_die_in_the_third_checkpoint, tmp_path, moment)
    assert run.wait() == -signal.SIGKILL, run.error()
    (left,), whole = tmp_path.glob('*.part'), tmp_path / 'checkpoint.safetensors'
    assert left.name.startswith('checkpoint.safetensors.')
    assert .4 < left.stat().st_size / whole.stat().st_size < .6 if moment == 'middle' else left.stat().st_size >= whole.stat().st_size
    assert epochs_kept(tmp_path) == 2                               # the one before the third
    assert_it_goes_on(tmp_path, alone)


def assert_it_goes_on(out, alone):
    Run(go, out).ends_well()
    assert_same(state(out), alone[0])
    assert not list(out.glob('*.part'))


def limit_files(epoch, *rest):
    if epoch == 1: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))       # no file may grow beyond 5,000 bytes


def test_a_file_that_may_not_grow_is_reported_and_the_last_good_one_stays(tmp_path, alone):
    run = Run(partial(go, tmp_path, preview=limit_files))
    assert run.wait() == 1
    said = run.error().splitlines()[-1]
    assert 'checkpoint.safetensors' in said and os.strerror(errno.EFBIG) in said and 'space left' in said, said
    assert epochs_kept(tmp_path) == 2 and not list(tmp_path.glob('*.part'))
    assert_it_goes_on(tmp_path, alone)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 3 MB; needs the right to mount."""
    place = tmp_path / 'disk'
    place.mkdir()
    if os.getuid() or subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', str(place)], capture_output=True).returncode:
        pytest.skip('may not mount a small disk here')
    yield place
    subprocess.run(['umount', '-l', str(place)], check=True)


def fill(disk, epoch, *rest):
    if epoch == 1:
        try: (disk / 'filler').write_bytes(bytes(10**7))
        except OSError: pass


def test_a_full_disk_is_reported_and_the_last_good_file_stays(small_disk, alone):
    out = small_disk / 'out'
    run = Run(partial(go, out, preview=partial(fill, small_disk)))
    assert run.wait() == 1
    said = run.error().splitlines()[-1]
    assert str(out) in said and os.strerror(errno.ENOSPC) in said and 'space left' in said, said
    assert epochs_kept(out) == 2 and not list(out.glob('*.part'))
    (small_disk / 'filler').unlink()
    assert_it_goes_on(out, alone)


def test_pictures_and_models_are_whole_or_not_at_all(tmp_path):
    """The other files, written with a limit on their length."""
    model, grid = save(new_model(), tmp_path / 'm.safetensors'), save_grid(torch.zeros(4, 3, 8, 8), tmp_path / 'a.png')
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        for write, path in [(lambda: save(new_model(1), model), model), (lambda: save_grid(torch.rand(4, 3, 8, 8), grid), grid), (lambda: write_whole(tmp_path / 'new', bytes(200)), tmp_path / 'new')]:
            with pytest.raises(OSError, match=f'{path.name}.*could not be written.*space left') as error:
                write()
            assert error.value.errno == errno.EFBIG
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def hold(flag, epoch, *rest):
    if epoch == 0:
        flag.touch()
        time.sleep(600)


def test_a_second_training_into_the_same_folder_is_refused(tmp_path, alone):
    out, flag = tmp_path / 'out', tmp_path / 'flag'
    first = Run(partial(go, out, preview=partial(hold, flag)))
    while not flag.exists():
        time.sleep(.01)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(ValueError, match='another run is writing to.*wait until it has ended, or give another folder'):
        go(out, resume=False)
    second = Run(go, out)
    assert second.wait() == 1 and 'another run is writing to' in second.error().splitlines()[-1]
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before and 'checkpoint.safetensors' in before
    assert first.kill() == -signal.SIGKILL                          # a lock dies with its process, and the file that stays behind locks nothing
    assert (out / '.lock').exists()
    assert_it_goes_on(out, alone)


def test_a_failed_training_gives_its_folder_back(tmp_path):
    """Also while its error, and with it all that it held, is kept, as a notebook does."""
    def fail(*args): raise RuntimeError('on purpose')
    with pytest.raises(RuntimeError) as kept:
        go(tmp_path, preview=fail)
    assert kept.value.__traceback__ is not None
    assert len(go(tmp_path).losses) == 8 * EPOCHS


def test_several_processes_lock_once_and_are_refused_together(tmp_path):
    script = tmp_path / 'script.py'
    script.write_text(f"""
import sys
sys.path[:0] = {[str(HERE), str(HERE / 'tools')]!r}
import test_interruption as here
try: here.go(sys.argv[1])
except ValueError as error: print(error, flush=True)
here.go(sys.argv[2])
""")
    launch = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2', str(script), str(tmp_path / 'held'), str(tmp_path / 'both')]
    with only_one(tmp_path / 'held'):
        done = subprocess.run(launch, capture_output=True, text=True, timeout=180, env=os.environ | {'OMP_NUM_THREADS': '1'})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('another run is writing to') == 2 and [path.name for path in (tmp_path / 'held').iterdir()] == ['.lock']
    assert epochs_kept(tmp_path / 'both') == EPOCHS


@pytest.mark.parametrize('share', [.3, .7])
def test_ctrl_c_leaves_a_checkpoint_that_can_be_used(tmp_path, alone, share):
    run = Run(go, tmp_path)
    time.sleep(share * alone[1])
    assert run.kill(signal.SIGINT) == 0 or 'KeyboardInterrupt' in run.error()
    assert not list(tmp_path.glob('*.part')) and epochs_kept(tmp_path) <= EPOCHS
    assert_it_goes_on(tmp_path, alone)


def test_dropout_belongs_to_the_step_and_leaves_the_callers_generator_alone(tmp_path):
    def stop(epoch, *rest):
        torch.rand(5)                                               # whoever else draws must not matter
        if epoch == 2: raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / 'stopped', preview=stop)
    torch.manual_seed(123)
    resumed, straight = go(tmp_path / 'stopped'), go(None)
    assert resumed.losses == straight.losses
    assert all(torch.equal(a, b) for a, b in zip(resumed.model.state_dict().values(), straight.model.state_dict().values()))
    model = new_model()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    train(model, pictures(), 1, batch_size=8, hooks=quiet())
    assert torch.equal(torch.rand(3), expected)
    without = train(DDPM(UNet(**model.network.config | dict(dropout=0.)), cosine_schedule(50)), pictures(), 1, batch_size=8, hooks=quiet())
    assert without.losses != straight.losses[:8]                    # dropout does something here


def test_weights_that_are_not_finite_are_not_kept(tmp_path):
    go(tmp_path)
    before = (tmp_path / 'checkpoint.safetensors').read_bytes()
    model = new_model()
    model.network.first.bias.data[0] = float('inf')
    nothing = torch.optim.SGD(model.parameters(), lr=1.)
    run = Training(model, as_data(pictures()), None, nothing, 1, 1., 8, 0, torch.device('cpu'), [])
    with pytest.raises(FloatingPointError, match='not finite.*stays as it was'):
        save_checkpoint(tmp_path / 'checkpoint.safetensors', run)
    assert (tmp_path / 'checkpoint.safetensors').read_bytes() == before


def experiment(out):
    """The paper's experiment with a small network, on noise."""
    warnings.simplefilter('ignore')
    paper.UNet = partial(UNet, channels=(8, 16), groups=4, attention=())
    paper.usual = partial(usual, bf16=False)
    images = torch.randint(0, 256, (280, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    data = Pictures(images, torch.zeros(280, 1, dtype=torch.int16), {'class': ['noise']})
    paper.run_experiment('tiny', cosine_schedule(4), epochs=2, data=data, samples=40, out=out, progress=False)


def experiment_state(out):
    found = json.loads((out / 'tiny.json').read_text())
    found.pop('seconds_of_last_start')
    for key in ('pictures_per_second', 'date'):
        found['log'].pop(key)
    return found, {path.name: path.read_bytes() for path in out.rglob('*.webp')}


STAGES = ['tiny/checkpoint.safetensors', 'tiny/with-noise.webp', 'tiny/not-clipped.webp', 'tiny.webp']


@pytest.mark.parametrize('stages', [STAGES[1:2], pytest.param(STAGES, marks=pytest.mark.slow)], ids=['one', 'all'])
def test_an_experiment_that_is_killed_between_its_stages_ends_the_same(tmp_path, stages):
    Run(experiment, tmp_path / 'alone').ends_well()
    out, met = tmp_path / 'killed', []
    for stage in stages:
        run = Run(experiment, out)
        while not (out / stage).exists() and run.process.is_alive():
            time.sleep(.005)
        run.kill()
        met.append(tuple(sorted(path.name for path in out.rglob('*') if path.suffix in ('.webp', '.json'))))
        for path in out.rglob('*.webp'):
            Image.open(path).load()                                 # whole
    assert len(set(met)) > len(stages) // 2, met
    Run(experiment, out).ends_well()
    assert experiment_state(out) == experiment_state(tmp_path / 'alone')
    assert not list(out.rglob('*.part'))
    if stages == STAGES:
        record('experiment_killed_between_its_stages', killed_after=stages, files_at_each_kill=[len(files) for files in met], different_at_the_end=0)
