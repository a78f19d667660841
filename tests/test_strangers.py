"""Files from strangers are refused with one clear error before they take memory, and
the library neither asks the network nor writes where it was not told to."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ddpm_teach import (
    DDPM, UNet, cosine_schedule, load, load_grid, results, save_grid, train, usual
)
from ddpm_teach.plumbing.tensor_files import words_of
from record import record

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = dict(channels=(8, 16), groups=4, attention=(), size=8, patch=1)


def new_model():
    torch.manual_seed(0)
    return DDPM(UNet(**CONFIG), cosine_schedule(10))


def go(out, resume=True):
    """A training into a folder, one epoch of two steps."""
    black = torch.zeros(16, 3, 8, 8, dtype=torch.uint8)
    hooks = usual(out, resume=resume, bf16=False, progress=False)
    return train(new_model(), black, 1, batch_size=8, hooks=hooks)


def go_on(checkpoint):
    return go(checkpoint.parent)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """The tensors and words of a good model and of a good checkpoint."""
    folder = tmp_path_factory.mktemp('whole')
    go(folder)
    names = ('model', 'checkpoint')
    return {name: parts(folder / f'{name}.safetensors') for name in names}


READERS = {'model': load, 'checkpoint': go_on}


def parts(path):
    with safe_open(path, 'pt') as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        words = {key: json.loads(value) for key, value in file.metadata().items()}
    return tensors, words


class Raw(str):
    """A word that is put into a file as it is, though it is no JSON."""


def written(path, tensors, about):
    words = {}
    for key, value in about.items():
        words[key] = value if isinstance(value, Raw) else json.dumps(value)
    save_file(tensors, path, words)
    return path


def claims(path, header, length=0):
    """A file with a header of our own, and `length` bytes behind it that take no room
    on the disk."""
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, 'little') + text)
    os.truncate(path, 8 + len(text) + length)
    return path


def refused(read, path, seconds=5.):
    """`read` must raise ValueError of one line that names the file and says what to do,
    soon."""
    start = time.process_time()
    with pytest.raises(ValueError) as error:
        read(path)
    said = str(error.value)
    assert '\n' not in said and len(said) < 1000, said
    assert path.name in said and 'cannot be used' in said, said
    assert 'train again or copy it again' in said or 'resume=False' in said, said
    assert time.process_time() - start < seconds
    return said


# What a model file may say of its network


NETWORKS = {
    'a billion channels': dict(channels=[10**9, 10**9]),
    'a number too long': dict(channels=[8, 10**400]),
    'negative': dict(channels=[-8, 16]),
    'zero': dict(channels=[0, 16]),
    'none': dict(channels=[]),
    'strings': dict(channels=['8', '16']),
    'nested': dict(channels=[[8], [16]]),
    'a string': dict(channels='8,16'),
    'null': dict(channels=None),
    'a thousand levels': dict(channels=[8] * 1000),
    'other channels': dict(channels=[16, 16]),
    'true': dict(blocks=True),
    'a billion blocks': dict(blocks=10**9),
    'as many blocks as there may be': dict(blocks=2**16),
    'a fraction': dict(blocks=1.5),
    'no groups': dict(groups=0),
    'groups that do not divide': dict(groups=3),
    'no size': dict(size=0),
    'a size that does not divide': dict(size=9),
    'a giant patch': dict(size=2**16, patch=2**15, image_channels=2**16),
    'negative dropout': dict(dropout=-.1),
    'dropout that is no number': dict(dropout=float('nan')),
    'dropout of 2': dict(dropout=2.),
    'infinite dropout': dict(dropout=float('inf')),
    'attention nowhere a number': dict(attention=[None]),
    'an unknown argument': dict(forward='os.system'),
    'a nested argument': dict(groups={'groups': 8}),
}


@pytest.mark.parametrize('change', NETWORKS)
def test_absurd_networks_are_refused(whole, tmp_path, change):
    tensors, about = whole['model']
    network = about['network'] | NETWORKS[change]
    path = tmp_path / 'm.safetensors'
    refused(load, written(path, tensors, about | dict(network=network)))


WORDS = {
    'another format': dict(format='ddpm_teach model 2'),
    'no format': dict(format=None),
    'a nested format': dict(format=[['ddpm_teach model 1']]),
    'no network': dict(network=None),
    'a list for a network': dict(network=[8, 16]),
    'an unknown prediction': dict(predicts='x1'),
    'a list of predictions': dict(predicts=['x0']),
    'no JSON': dict(network=Raw('{')),
    'JSON that is nested without end': dict(network=Raw('[' * 100_000)),
    'a number of a million digits': dict(network=Raw('9' * 1_000_000)),
}


@pytest.mark.parametrize('change', WORDS)
def test_other_words_are_refused(whole, tmp_path, change):
    tensors, about = whole['model']
    path = written(tmp_path / 'm.safetensors', tensors, about | WORDS[change])
    refused(load, path)


def test_a_missing_word_is_refused(whole, tmp_path):
    tensors, about = whole['model']
    assert about.keys() == {'format', 'network', 'predicts'}
    for missing in about:
        rest = {key: value for key, value in about.items() if key != missing}
        refused(load, written(tmp_path / 'm.safetensors', tensors, rest))


BETAS = {
    'NaN': torch.tensor([.1, float('nan')]),
    '1': torch.tensor([.1, 1.]),
    'above 1': torch.tensor([.1, 7.]),
    '0': torch.tensor([0., .5]),
    'negative': torch.tensor([-.1, .5]),
    'infinite': torch.tensor([.1, float('inf')]),
    '2-D': torch.full((2, 2), .5),
    '0-D': torch.tensor(.5),
    'none': torch.empty(0),
    'whole numbers': torch.ones(3, dtype=torch.int64),
    'a million and one': torch.full((10**6 + 1,), .5),
}


@pytest.mark.parametrize('kind', BETAS)
def test_wrong_betas_are_refused(whole, tmp_path, kind):
    tensors, about = whole['model']
    betas = BETAS[kind]
    if betas.is_floating_point():
        betas = betas.double()
    path = written(tmp_path / 'm.safetensors', tensors | dict(betas=betas), about)
    refused(load, path)


def changed(tensors, kind):
    """One tensor dropped, added, of another shape or type, or none at all."""
    name = next(key for key in sorted(tensors) if key.endswith('conv1.weight'))
    value = tensors[name]
    if kind == 'empty':
        return {}
    if kind == 'missing':
        return {key: v for key, v in tensors.items() if key != name}
    if kind == 'extra':
        return tensors | {'stowaway': torch.zeros(3)}
    others = {
        'shape': value.flatten(),
        'size': value[:, :1].contiguous(),
        'integers': value.long(),
        'bytes': value.to(torch.uint8),
    }
    return tensors | {name: others[kind]}


@pytest.mark.parametrize('kind', [
    'missing', 'extra', 'shape', 'size', 'integers', 'bytes', 'empty'])
@pytest.mark.parametrize('name', READERS)
def test_other_tensors_are_refused(whole, tmp_path, name, kind):
    tensors, about = whole[name]
    path = written(tmp_path / f'{name}.safetensors', changed(tensors, kind), about)
    refused(READERS[name], path)


SPOILT = {
    'nothing': lambda data: b'',
    '7 bytes': lambda data: data[:7],
    'header': lambda data: data[:500],
    'half': lambda data: data[:len(data) // 2],
    'one byte short': lambda data: data[:-1],
    'one byte more': lambda data: data + b'0',
    'text': lambda data: b'<html>404</html>' * 9,
    'a giant header': lambda data: (10**8).to_bytes(8, 'little') + b'{' * 10**6,
}


@pytest.mark.parametrize('kind', SPOILT)
@pytest.mark.parametrize('name', READERS)
def test_files_that_are_not_whole_are_refused(whole, tmp_path, name, kind):
    path = written(tmp_path / f'{name}.safetensors', *whole[name])
    path.write_bytes(SPOILT[kind](path.read_bytes()))
    refused(READERS[name], path)


@pytest.mark.parametrize('name', READERS)
def test_pickles_are_refused(whole, tmp_path, name):
    path = tmp_path / f'{name}.safetensors'
    torch.save(whole[name][0], path)
    refused(READERS[name], path)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_numbers_that_are_not_finite_are_refused(whole, tmp_path, value):
    tensors, about = whole['model']
    spoilt = {name: weight.clone() for name, weight in tensors.items()}
    first = next(name for name in spoilt if name.startswith('network.'))
    spoilt[first].view(-1)[0] = value
    path = written(tmp_path / 'm.safetensors', spoilt, about)
    assert 'finite' in refused(load, path)


CHECKPOINTS = {
    'another format': dict(format='ddpm_teach checkpoint 4'),
    'an old format': dict(format='ddpm_teach checkpoint 2'),
    'another rate': dict(lr=1.),
    'JSON that is nested without end': dict(network=Raw('[' * 100_000)),
    'no precision': {'precision.bf16': None},
    'a nested seed': dict(seed=[[0]]),
    'steps in words': dict(T='ten'),
    'memory that is a number': dict(optimiser_memory=3),
    'memory that is null': dict(optimiser_memory=None),
    'memory that is nested': dict(optimiser_memory={'exp_avg': [[0]]}),
    'memory without weights': dict(optimiser_memory=['exp_avg']),
    'memory of another name': dict(optimiser_memory={'exp_avg': [0], 'stowaway': [0]}),
    'memory of many names': dict(
        optimiser_memory={f'{i}': [0] for i in range(100_000)}),
    'memory of a weight that is not there': dict(optimiser_memory={'exp_avg': [999]}),
    'memory of a weight below 0': dict(optimiser_memory={'exp_avg': [-1]}),
    'memory of one weight twice': dict(optimiser_memory={'exp_avg': [0, 0]}),
    'memory of a weight that is a truth': dict(optimiser_memory={'exp_avg': [True]}),
}


@pytest.mark.parametrize('change', CHECKPOINTS)
def test_other_words_of_a_checkpoint_are_refused(whole, tmp_path, change):
    tensors, about = whole['checkpoint']
    path = tmp_path / 'checkpoint.safetensors'
    refused(go_on, written(path, tensors, about | CHECKPOINTS[change]))
    assert len(go(tmp_path, resume=False).losses) == 2      # what the errors advise


@pytest.mark.parametrize('shape', [(3,), (4, 2), (2000,), ()])
def test_losses_of_another_shape_are_refused(whole, tmp_path, shape):
    tensors, about = whole['checkpoint']
    losses = torch.ones(shape, dtype=torch.float64)
    path = tmp_path / 'checkpoint.safetensors'
    refused(go_on, written(path, tensors | dict(losses=losses), about))


BOMB = """
import resource
import sys
from pathlib import Path
import torch
from ddpm_teach import load

def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

before = most()
try:
    load(Path(sys.argv[1]))
except ValueError as error:
    print(error, file=sys.stderr)
else:
    raise SystemExit('it was loaded')
print((most() - before) / 1024)
"""
WIDTHS = {
    torch.float16: ('F16', 2),
    torch.float32: ('F32', 4),
    torch.float64: ('F64', 8),
}
MANY = {f'{i}': ([1], ('F32', 4)) for i in range(20_000)}
BOMBS = {                       # of the network, and of the tensors that there are
    'a billion betas': ({}, {'betas': ([10**9], ('F64', 8))}),
    'a giant tensor': ({}, {'network.first.weight': ([2**31, 3], ('F32', 4))}),
    'many tensors': ({}, MANY),
    'many blocks': (dict(blocks=20_000), MANY),
    'a giant network': (dict(channels=[2**15, 2**16]), {}),
}


def bomb(path, model, network, more):
    """A file that claims to be large: a good header with some changes."""
    tensors, about = model
    about = about | dict(network=about['network'] | network)
    header = {'__metadata__': {key: json.dumps(v) for key, v in about.items()}}
    sizes = {name: (list(w.shape), WIDTHS[w.dtype]) for name, w in tensors.items()}
    end = 0
    for name, (shape, (dtype, width)) in (sizes | more).items():
        size = width * torch.Size(shape).numel()
        offsets = [end, end + size]
        header[name] = dict(dtype=dtype, shape=shape, data_offsets=offsets)
        end += size
    return claims(path, header, end)


@pytest.mark.skipif(sys.platform != 'linux', reason='measures memory as Linux does')
@pytest.mark.parametrize('kind', BOMBS)
def test_a_bomb_takes_no_memory(whole, tmp_path, kind):
    """Each claims gigabytes; refusing it must take less than 60 MB more than the
    process had, and less than 20 seconds of its own time, start included."""
    path = bomb(tmp_path / 'bomb.safetensors', whole['model'], *BOMBS[kind])
    start = os.times().children_user
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', BOMB, str(path)], capture_output=True,
        text=True, env=os.environ | {'OMP_NUM_THREADS': '1'}, timeout=300)
    assert done.returncode == 0 and done.stderr.count('\n') == 1, done.stderr
    assert float(done.stdout) < 60, done.stdout
    assert os.times().children_user - start < 20


def betas(**entry):
    """A header with one entry, which is wrong in something."""
    return {'betas': dict(dtype='F64', shape=[1], data_offsets=[0, 8]) | entry}


HEADERS = {
    'a list': [1],
    'a string': 'header',
    'no entries': {},
    'an entry that is none': {'betas': 3},
    'a shape that is none': betas(shape=None),
    'a nested shape': betas(shape=[[1]]),
    'a shape in words': betas(shape=['one']),
    'an infinite shape': betas(shape=[float('inf')]),
    'a negative shape': betas(shape=[-1]),
    'offsets in words': betas(data_offsets=['0', 'end']),
    'one offset': betas(data_offsets=[8]),
    'a nested dtype': betas(dtype=['F64']),
    'words that are no strings': {'__metadata__': {'format': 3}},
    'words that are none': {'__metadata__': [3]},
}


@pytest.mark.parametrize('kind', HEADERS)
def test_headers_that_are_nonsense_are_refused(whole, tmp_path, kind):
    header = HEADERS[kind]
    path = claims(tmp_path / 'm.safetensors', header, 8)
    refused(load, path)
    assert words_of(path) == {}
    if isinstance(header, dict) and '__metadata__' not in header:    # good words first
        good = {key: json.dumps(v) for key, v in whole['model'][1].items()}
        path = tmp_path / 'm.safetensors'
        refused(load, claims(path, dict(__metadata__=good) | header, 8))
    refused(go_on, path.rename(tmp_path / 'checkpoint.safetensors'))


def test_results_and_grids_of_strangers(tmp_path):
    (tmp_path / 'mine.json').write_text('[' * 100_000)
    with pytest.raises(ValueError, match='mine.json.*remove it'):
        results(tmp_path)
    pictures = torch.rand(4, 3, 32, 32)
    grid = save_grid(pictures, tmp_path / 'grid.png', cols=2, zoom=1)
    assert load_grid(grid, 4, 2).shape == (4, 3, 32, 32)
    with pytest.raises(ValueError, match='grid.png.*which is not n = 9 pictures'):
        load_grid(grid, 9, 3)
    grid.write_bytes(grid.read_bytes()[:3000])
    with pytest.raises(ValueError, match='grid.png.*write it again'):
        load_grid(grid, 4, 2)


RUNS_PROGRAMS = re.compile(
    r'\b(?:import|from) \w*pickle|pickle\.\w+\(|torch\.load\(|torch\.save\(|np\.load\('
    r'|\beval\(\)?[\'"a-z]|\bexec\(')
OUR_OWN = {'plumbing/types.py': 'eval(hint, '}        # annotations that are in quotes


def test_nothing_in_the_library_unpickles():
    home = ROOT / 'ddpm_teach'
    for path in home.rglob('*.py'):
        text = path.read_text(encoding='utf-8')
        allowed = OUR_OWN.get(path.relative_to(home).as_posix())
        if allowed is not None:
            assert text.count(allowed) == 1, path
            text = text.replace(allowed, '')
        assert not RUNS_PROGRAMS.search(text), path


# Offline, and nothing written elsewhere


OFFLINE = """
import socket

def refuse(*args, **kwargs):
    raise AssertionError('the network was asked')

class NoSocket(socket.socket):
    def __init__(self, *args, **kwargs):
        refuse()

socket.socket = NoSocket
socket.create_connection = socket.getaddrinfo = refuse

import importlib
import pkgutil
import ddpm_teach as d
for module in pkgutil.walk_packages(d.__path__, 'ddpm_teach.'):
    if module.name != 'ddpm_teach.__main__':
        importlib.import_module(module.name)

import torch
torch.set_num_threads(1)
from ddpm_teach.cli import main
assert d.sample(2, seed=0, progress=False).shape == (2, 3, 32, 32)
few = d.characters(120, progress=False)
network = d.UNet(channels=(8, 16), groups=4, attention=())
model = d.DDPM(network, d.cosine_schedule(10))
d.train(model, few, 1, hooks=d.usual('run', bf16=False, progress=False))
d.evaluate(few.images[:40], few, few)
main(['sample', '-n', '2', '--model', 'run/model.safetensors', '--out', 'drawn.png'])
main(['sample', '-n', '1', '--seed', '0'])
"""
WRITTEN = {
    'run/.lock', 'run/checkpoint.safetensors', 'run/log.json', 'run/model.safetensors',
    'drawn.png', 'samples.png'}
ALLOWED = (                          # our cache, and where matplotlib keeps its fonts
    '.cache/ddpm_teach/characters/', '.cache/matplotlib/', '.config/matplotlib/')


def tree(folder):
    files = [path for path in folder.rglob('*') if not path.is_dir()]
    return {str(path.relative_to(folder)) for path in files}


def package():
    """What lies in the package, but for what Python keeps there."""
    return {path for path in tree(ROOT / 'ddpm_teach') if '__pycache__' not in path}


def without_network() -> list[str]:
    """What to put before a command to cut its network, where the system allows it."""
    if shutil.which('unshare') is None:
        return []
    tried = subprocess.run(['unshare', '-n', 'true'], capture_output=True)
    return ['unshare', '-n'] if tried.returncode == 0 else []


def moved_home(places) -> dict[str, str]:
    """The environment, with home and temporary files elsewhere."""
    ours = ('XDG_', 'HF_', 'MPL', 'TORCH', 'IPYTHON', 'JUPYTER')
    kept = {key: v for key, v in os.environ.items() if not key.startswith(ours)}
    before = os.environ.get('PYTHONPATH', '')
    return kept | dict(
        HOME=str(places['home']), TMPDIR=str(places['temporary']), OMP_NUM_THREADS='1',
        PYTHONDONTWRITEBYTECODE='1', PYTHONPATH=os.pathsep.join([str(ROOT), before]))


@pytest.mark.skipif(
    sys.platform != 'linux', reason='moves home and cache by the environment')
def test_offline_and_nothing_written_elsewhere(tmp_path):
    """All of it in a process without sockets and, where the system allows it, without a
    network; home, temporary and working folder are watched."""
    names = ('home', 'temporary', 'work')
    places = {name: tmp_path / name for name in names}
    for place in places.values():
        place.mkdir()
    before = package()
    done = subprocess.run(
        [*without_network(), sys.executable, '-W', 'ignore', '-c', OFFLINE],
        cwd=places['work'], env=moved_home(places), capture_output=True, text=True,
        timeout=500)
    assert done.returncode == 0, done.stderr
    assert tree(places['work']) == WRITTEN
    stray = {path for path in tree(places['home']) if not path.startswith(ALLOWED)}
    assert stray == set()
    assert tree(places['temporary']) == set()
    assert package() == before


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which('unshare') is None, reason='cannot cut the network here')
def test_the_notebooks_run_without_a_network(tmp_path):
    """In a copy, with only the loopback device, which the notebooks' kernels need."""
    for folder in ('nbs', 'ddpm_teach'):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / 'settings.ini', tmp_path)
    env = os.environ | dict(PYTHONPATH=str(tmp_path), OMP_NUM_THREADS='1')
    found = {}
    start = time.perf_counter()
    for path in sorted((tmp_path / 'nbs').rglob('*.ipynb')):
        test = f'nbdev_test --path {path.relative_to(tmp_path)} --n_workers 1'
        done = subprocess.run(
            ['unshare', '-n', 'sh', '-c', f'ip link set lo up && {test}'],
            cwd=tmp_path, env=env, capture_output=True, text=True)
        found[path.stem] = done.returncode == 0
        said = (done.stdout + done.stderr)[-500:] if done.returncode else ''
        print(path.stem, found[path.stem], said)
    failed = sorted(name for name, good in found.items() if not good)
    record(
        'notebooks_without_a_network', passed=len(found) - len(failed), failed=failed,
        seconds=round(time.perf_counter() - start))
    assert not failed, failed
