"""Nothing is lost: a training that is killed, starved of disk or started twice ends as
one that was left alone."""
import collections
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
pytestmark = pytest.mark.skipif(
    sys.platform != 'linux', reason='kills processes and limits files as Linux does')
EPOCHS = 6


def new_model(seed=0):
    torch.manual_seed(seed)
    network = UNet(
        channels=(8, 16), groups=4, attention=(), size=8, patch=1, dropout=.2)
    return DDPM(network, cosine_schedule(50))


def noise(*shape):
    """Bytes, always the same."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def pictures(n=64):
    return noise(n, 3, 8, 8)


def quiet(out=None, **options):
    return usual(out, bf16=False, progress=False, **options)


def go(out, **options):
    """The training that all tests here interrupt."""
    torch.set_num_threads(1)
    hooks = quiet(out, **options)
    return train(new_model(), pictures(), EPOCHS, batch_size=8, hooks=hooks)


class Run:
    """A training in a process of its own, forked from a server that has imported
    everything, so that a kill falls into the training."""

    def __init__(self, function, *args):
        self.said = pathlib.Path(tempfile.mkstemp(suffix='.stderr')[1])
        self.process = FORKS.Process(
            target=_child, args=(self.said, function, args), daemon=True)
        self.process.start()

    def wait(self, seconds=180):
        self.process.join(seconds)
        return self.process.exitcode

    def ends_well(self):
        assert self.wait() == 0, self.error()

    def kill(self, kind=signal.SIGKILL):
        # A process that has ended before cannot be found.
        with contextlib.suppress(ProcessLookupError):
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
    places = [str(HERE), str(HERE / 'tools')]
    if os.environ.get('PYTHONPATH'):
        places.append(os.environ['PYTHONPATH'])
    os.environ['PYTHONPATH'] = os.pathsep.join(places)
    FORKS.set_forkserver_preload([
        'test_interruption', 'torch._dynamo', 'accelerate', 'accelerate.utils',
        'filelock', 'safetensors.torch', 'tqdm.auto'])


def state(out):
    """All that a training leaves behind, without times: both files' tensors and words,
    and the log."""
    checkpoint, about = read_all(out / 'checkpoint.safetensors')
    model, _ = read_all(out / 'model.safetensors')
    log = json.loads((out / 'log.json').read_text())
    keys = ('loss_of_each_epoch', 'first_losses', 'lr', 'seed')
    return checkpoint, about, model, {key: log[key] for key in keys}


def read_all(path):
    from safetensors import safe_open
    with safe_open(path, 'pt') as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        return tensors, dict(file.metadata())


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    return one == other


def assert_same(a, b):
    for one, other in zip(a, b):
        assert one.keys() == other.keys()
        for name in one:
            assert same(one[name], other[name]), name


def unfinished(out):
    return list(out.glob('*.part'))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def epochs_kept(out):
    """Of a checkpoint that must be readable, or 0 if there is none."""
    path = out / 'checkpoint.safetensors'
    return len(read_all(path)[0]['losses']) // 8 if path.exists() else 0


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
    """What a training that nobody interrupts leaves, and the seconds that it takes."""
    out = tmp_path_factory.mktemp('alone')
    # With the first one the server starts.
    Run(go, tmp_path_factory.mktemp('first')).ends_well()
    start = time.perf_counter()
    Run(go, out).ends_well()
    return state(out), time.perf_counter() - start


def killed_again_and_again(out, most, seconds, rng):
    """A training that is killed until it comes through, `most` times at most. For each
    kill, the epochs that are kept then and the number of unfinished files."""
    seen = []
    while len(seen) < most:
        run = Run(go, out)
        time.sleep(rng.uniform(0, 1) * seconds)
        if run.kill() != -signal.SIGKILL:
            # It had ended before.
            break
        seen.append((epochs_kept(out), len(unfinished(out))))
    return seen


@pytest.mark.parametrize('kills', [3, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_ends_with_the_same_bits(tmp_path, alone, kills):
    expected, seconds = alone
    rng = random.Random(kills)
    trainings = 0
    seen = []
    while len(seen) < kills:
        out = tmp_path / str(trainings)
        trainings += 1
        most = min(5, kills - len(seen))
        seen += killed_again_and_again(out, most, seconds, rng)
        Run(go, out).ends_well()
        assert_same(state(out), expected)
        assert not unfinished(out)
    if kills == 50:
        record_kills(trainings, seen)


def record_kills(trainings, seen):
    epochs = collections.Counter(kept for kept, _ in seen)
    assert len(epochs) > 3, 'the kills should fall into different epochs'
    record(
        'killed_at_random_moments', kills=len(seen), trainings=trainings,
        epochs_kept_at_the_kill={str(kept): epochs[kept] for kept in sorted(epochs)},
        half_written_files_left=sum(parts for _, parts in seen),
        different_at_the_end=0)


class Half:
    """A file that gets half of what is written, and then its process is killed."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def write(self, data):
        self.file.write(data[:len(data) // 2])
        self.file.flush()
        die()


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def go_and_die_in_the_third_checkpoint(out, moment):
    real_open = pathlib.Path.open
    real_replace = pathlib.Path.replace
    writes = itertools.count(1)

    def third(path):
        if not path.name.startswith('checkpoint') or path.suffix != '.part':
            return False
        return next(writes) == 3

    def opened(self, mode='r', *rest, **options):
        file = real_open(self, mode, *rest, **options)
        return Half(file) if moment == 'middle' and third(self) else file

    def replaced(self, target):
        if moment == 'before rename' and third(self):
            die()
        return real_replace(self, target)

    pathlib.Path.open = opened
    pathlib.Path.replace = replaced
    go(out)


@pytest.mark.parametrize('moment', ['middle', 'before rename'])
def test_killed_while_it_writes_a_checkpoint(tmp_path, alone, moment):
    run = Run(go_and_die_in_the_third_checkpoint, tmp_path, moment)
    assert run.wait() == -signal.SIGKILL, run.error()
    left, = unfinished(tmp_path)
    assert left.name.startswith('checkpoint.safetensors.')
    whole = tmp_path / 'checkpoint.safetensors'
    share = left.stat().st_size / whole.stat().st_size
    if moment == 'middle':
        assert .4 < share < .6
    else:
        assert share >= 1
    # The checkpoint before the third stays.
    assert epochs_kept(tmp_path) == 2
    assert_it_goes_on(tmp_path, alone)


def assert_it_goes_on(out, alone):
    Run(go, out).ends_well()
    assert_same(state(out), alone[0])
    assert not unfinished(out)


def limit_files(epoch, *rest):
    """No file may grow beyond 5,000 bytes."""
    if epoch == 1:
        limits = (5000, resource.RLIM_INFINITY)
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def assert_says(run, *words):
    """A training has failed, with these words in the last line."""
    assert run.wait() == 1
    said = run.error().splitlines()[-1]
    for part in words:
        assert part in said, said


def test_a_file_that_may_not_grow_is_reported_and_the_last_good_one_stays(
    tmp_path, alone
):
    run = Run(partial(go, tmp_path, preview=limit_files))
    assert_says(run, 'checkpoint.safetensors', os.strerror(errno.EFBIG), 'space left')
    assert epochs_kept(tmp_path) == 2
    assert not unfinished(tmp_path)
    assert_it_goes_on(tmp_path, alone)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 3 MB; needs the right to mount."""
    place = tmp_path / 'disk'
    place.mkdir()
    if os.getuid():
        pytest.skip('only root may mount a small disk')
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', str(place)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip('may not mount a small disk here')
    yield place
    subprocess.run(['umount', '-l', str(place)], check=True)


def fill(disk, epoch, *rest):
    if epoch == 1:
        with contextlib.suppress(OSError):
            (disk / 'filler').write_bytes(bytes(10**7))


def test_a_full_disk_is_reported_and_the_last_good_file_stays(small_disk, alone):
    out = small_disk / 'out'
    run = Run(partial(go, out, preview=partial(fill, small_disk)))
    assert_says(run, str(out), os.strerror(errno.ENOSPC), 'space left')
    assert epochs_kept(out) == 2
    assert not unfinished(out)
    (small_disk / 'filler').unlink()
    assert_it_goes_on(out, alone)


@contextlib.contextmanager
def files_limited_to(size):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_pictures_and_models_are_whole_or_not_at_all(tmp_path):
    """The other files, written with a limit on their length."""
    model = save(new_model(), tmp_path / 'm.safetensors')
    grid = save_grid(torch.zeros(4, 3, 8, 8), tmp_path / 'a.png')
    new = tmp_path / 'new'
    before = contents(tmp_path)
    writes = {
        model: partial(save, new_model(1), model),
        grid: partial(save_grid, torch.rand(4, 3, 8, 8), grid),
        new: partial(write_whole, new, bytes(200)),
    }
    with files_limited_to(100):
        for path, write in writes.items():
            words = f'{path.name}.*could not be written.*space left'
            with pytest.raises(OSError, match=words) as error:
                write()
            assert error.value.errno == errno.EFBIG
    assert contents(tmp_path) == before


def hold(flag, epoch, *rest):
    if epoch == 0:
        flag.touch()
        time.sleep(600)


def test_a_second_training_into_the_same_folder_is_refused(tmp_path, alone):
    out = tmp_path / 'out'
    flag = tmp_path / 'flag'
    first = Run(partial(go, out, preview=partial(hold, flag)))
    while not flag.exists():
        time.sleep(.01)
    before = contents(out)
    assert 'checkpoint.safetensors' in before
    words = 'another run is writing to.*wait until it has ended, or give another folder'
    with pytest.raises(ValueError, match=words):
        go(out, resume=False)
    assert_says(Run(go, out), 'another run is writing to')
    assert contents(out) == before
    # A lock dies with its process, and the file that stays behind locks nothing.
    assert first.kill() == -signal.SIGKILL
    assert (out / '.lock').exists()
    assert_it_goes_on(out, alone)


def test_a_failed_training_gives_its_folder_back(tmp_path):
    """Also while its error, and with it all that it held, is kept, as a notebook
    does."""
    def fail(*args):
        raise RuntimeError('on purpose')

    with pytest.raises(RuntimeError) as kept:
        go(tmp_path, preview=fail)
    assert kept.value.__traceback__ is not None
    assert len(go(tmp_path).losses) == 8 * EPOCHS


SCRIPT = f"""
import sys
sys.path[:0] = [{str(HERE)!r}, {str(HERE / 'tools')!r}]
import test_interruption as here
try:
    here.go(sys.argv[1])
except ValueError as error:
    print(error, flush=True)
here.go(sys.argv[2])
"""


def test_several_processes_lock_once_and_are_refused_together(tmp_path):
    script = tmp_path / 'script.py'
    script.write_text(SCRIPT)
    held = tmp_path / 'held'
    both = tmp_path / 'both'
    launch = [sys.executable, '-m', 'torch.distributed.run', '--standalone',
              '--nproc-per-node=2', str(script), str(held), str(both)]
    env = os.environ | {'OMP_NUM_THREADS': '1'}
    with only_one(held):
        done = subprocess.run(
            launch, capture_output=True, text=True, timeout=180, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('another run is writing to') == 2
    assert list(contents(held)) == ['.lock']
    assert epochs_kept(both) == EPOCHS


@pytest.mark.parametrize('share', [.3, .7])
def test_ctrl_c_leaves_a_checkpoint_that_can_be_used(tmp_path, alone, share):
    run = Run(go, tmp_path)
    time.sleep(share * alone[1])
    assert run.kill(signal.SIGINT) == 0 or 'KeyboardInterrupt' in run.error()
    assert not unfinished(tmp_path)
    assert epochs_kept(tmp_path) <= EPOCHS
    assert_it_goes_on(tmp_path, alone)


def one_epoch(model):
    return train(model, pictures(), 1, batch_size=8, hooks=quiet())


def test_dropout_belongs_to_the_step_and_leaves_the_callers_generator_alone(tmp_path):
    def stop(epoch, *rest):
        # Whoever else draws must not matter.
        torch.rand(5)
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / 'stopped', preview=stop)
    torch.manual_seed(123)
    resumed = go(tmp_path / 'stopped')
    straight = go(None)
    assert resumed.losses == straight.losses
    assert_same([resumed.model.state_dict()], [straight.model.state_dict()])
    model = new_model()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    one_epoch(model)
    assert torch.equal(torch.rand(3), expected)
    # Dropout does something here.
    network = UNet(**model.network.config | {'dropout': 0.})
    without = one_epoch(DDPM(network, cosine_schedule(50)))
    assert without.losses != straight.losses[:8]


def test_weights_that_are_not_finite_are_not_kept(tmp_path):
    go(tmp_path)
    path = tmp_path / 'checkpoint.safetensors'
    before = path.read_bytes()
    model = new_model()
    model.network.first.bias.data[0] = float('inf')
    nothing = torch.optim.SGD(model.parameters(), lr=1.)
    run = Training(model, as_data(pictures()), None, nothing, 1, 1., 8, 0,
                   torch.device('cpu'), [])
    with pytest.raises(FloatingPointError, match='not finite.*stays as it was'):
        save_checkpoint(path, run)
    assert path.read_bytes() == before


def experiment(out):
    """The paper's experiment with a small network, on noise."""
    warnings.simplefilter('ignore')
    paper.UNet = partial(UNet, channels=(8, 16), groups=4, attention=())
    paper.usual = partial(usual, bf16=False)
    labels = torch.zeros(280, 1, dtype=torch.int16)
    data = Pictures(noise(280, 3, 32, 32), labels, {'class': ['noise']})
    paper.run_experiment(
        'tiny', cosine_schedule(4), epochs=2, data=data, samples=40, out=out,
        progress=False)


def experiment_state(out):
    found = json.loads((out / 'tiny.json').read_text())
    found.pop('seconds_of_last_start')
    for key in ('pictures_per_second', 'date'):
        found['log'].pop(key)
    return found, {path.name: path.read_bytes() for path in out.rglob('*.webp')}


STAGES = [
    'tiny/checkpoint.safetensors',
    'tiny/with-noise.webp',
    'tiny/not-clipped.webp',
    'tiny.webp',
]
CASES = [
    pytest.param(STAGES[1:2], id='one'),
    pytest.param(STAGES, id='all', marks=pytest.mark.slow),
]


def kill_after(stage, out):
    """An experiment, killed as soon as that file is there; what it leaves."""
    run = Run(experiment, out)
    while not (out / stage).exists() and run.process.is_alive():
        time.sleep(.005)
    run.kill()
    left = [path.name for path in out.rglob('*') if path.suffix in ('.webp', '.json')]
    return tuple(sorted(left))


@pytest.mark.parametrize('stages', CASES)
def test_an_experiment_that_is_killed_between_its_stages_ends_the_same(
    tmp_path, stages
):
    Run(experiment, tmp_path / 'alone').ends_well()
    out = tmp_path / 'killed'
    met = []
    for stage in stages:
        met.append(kill_after(stage, out))
        # Every picture is whole.
        for path in out.rglob('*.webp'):
            Image.open(path).load()
    assert len(set(met)) > len(stages) // 2, met
    Run(experiment, out).ends_well()
    assert experiment_state(out) == experiment_state(tmp_path / 'alone')
    assert not list(out.rglob('*.part'))
    if stages == STAGES:
        record(
            'experiment_killed_between_its_stages', killed_after=stages,
            files_at_each_kill=[len(files) for files in met], different_at_the_end=0)
