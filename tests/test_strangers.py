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

from ddpm_teach import (
    DDPM,
    UNet,
    cosine_schedule,
    load,
    load_grid,
    results,
    save_grid,
    train,
    usual,
)
from record import record

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = dict(channels=(8, 16), groups=4, attention=(), size=8, patch=1)


def new_model():
    torch.manual_seed(0)
    return DDPM(UNet(**CONFIG), cosine_schedule(10))


def go(out, **options):
    hooks = usual(out, bf16=False, progress=False, **options)
    data = torch.zeros(16, 3, 8, 8, dtype=torch.uint8)
    return train(new_model(), data, 1, batch_size=8, hooks=hooks)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """The tensors and words of a good model and of a good checkpoint."""
    folder = tmp_path_factory.mktemp('whole')
    go(folder)
    return {
        name: parts(folder / f'{name}.safetensors') for name in ('model', 'checkpoint')
    }


def parts(path):
    from safetensors import safe_open

    with safe_open(path, 'pt') as file:
        return {name: file.get_tensor(name) for name in file.keys()}, {
            key: json.loads(value) for key, value in file.metadata().items()
        }


def written(path, tensors, about):
    from safetensors.torch import save_file

    save_file(
        tensors,
        path,
        {
            key: value if isinstance(value, Raw) else json.dumps(value)
            for key, value in about.items()
        },
    )
    return path


class Raw(str):
    """A word that is put into a file as it is, though it is no JSON."""


def claims(path, header, length=0):
    """A file with a header of our own, and `length` bytes behind it that take no room
    on the disk."""
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, 'little') + text)
    os.truncate(path, 8 + len(text) + length)
    return path


def refused(read, path, seconds=5.0):
    """`read` must raise ValueError of one line that names the file and says what to do,
    soon."""
    start = time.perf_counter()
    with pytest.raises(ValueError) as error:
        read(path)
    said = str(error.value)
    assert (
        '\n' not in said
        and len(said) < 1000
        and path.name in said
        and 'cannot be used' in said
    ), said
    assert 'train again or copy it again' in said or 'resume=False' in said, said
    assert time.perf_counter() - start < seconds
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
    'negative dropout': dict(dropout=-0.1),
    'dropout that is no number': dict(dropout=float('nan')),
    'dropout of 2': dict(dropout=2.0),
    'infinite dropout': dict(dropout=float('inf')),
    'attention nowhere a number': dict(attention=[None]),
    'an unknown argument': dict(forward='os.system'),
    'a nested argument': dict(groups={'groups': 8}),
}


@pytest.mark.parametrize('change', NETWORKS)
def test_absurd_networks_are_refused(whole, tmp_path, change):
    tensors, about = whole['model']
    refused(
        load,
        written(
            tmp_path / 'm.safetensors',
            tensors,
            about | dict(network=about['network'] | NETWORKS[change]),
        ),
    )


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
    refused(load, written(tmp_path / 'm.safetensors', tensors, about | WORDS[change]))


def test_a_missing_word_is_refused(whole, tmp_path):
    tensors, about = whole['model']
    for missing in about:
        refused(
            load,
            written(
                tmp_path / 'm.safetensors',
                tensors,
                {key: value for key, value in about.items() if key != missing},
            ),
        )


BETAS = {
    'NaN': torch.tensor([0.1, float('nan')]),
    '1': torch.tensor([0.1, 1.0]),
    'above 1': torch.tensor([0.1, 7.0]),
    '0': torch.tensor([0.0, 0.5]),
    'negative': torch.tensor([-0.1, 0.5]),
    'infinite': torch.tensor([0.1, float('inf')]),
    '2-D': torch.full((2, 2), 0.5),
    '0-D': torch.tensor(0.5),
    'none': torch.empty(0),
    'whole numbers': torch.ones(3, dtype=torch.int64),
    'a million and one': torch.full((10**6 + 1,), 0.5),
}


@pytest.mark.parametrize('kind', BETAS)
def test_wrong_betas_are_refused(whole, tmp_path, kind):
    tensors, about = whole['model']
    betas = BETAS[kind].double() if BETAS[kind].is_floating_point() else BETAS[kind]
    refused(
        load, written(tmp_path / 'm.safetensors', tensors | dict(betas=betas), about)
    )


def changed(tensors, kind):
    """One tensor dropped, added, of another shape or type, or with a number that is
    none."""
    name = next(key for key in sorted(tensors) if key.endswith('conv1.weight'))
    value = tensors[name]
    return {
        'missing': {k: v for k, v in tensors.items() if k != name},
        'extra': tensors | {'stowaway': torch.zeros(3)},
        'shape': tensors | {name: value.flatten()},
        'size': tensors | {name: value[:, :1].contiguous()},
        'integers': tensors | {name: value.long()},
        'bytes': tensors | {name: value.to(torch.uint8)},
        'empty': {},
    }[kind]


@pytest.mark.parametrize(
    'kind', ['missing', 'extra', 'shape', 'size', 'integers', 'bytes', 'empty']
)
def test_other_tensors_are_refused(whole, tmp_path, kind):
    for name, read in [('model', load), ('checkpoint', lambda path: go(path.parent))]:
        tensors, about = whole[name]
        refused(
            read,
            written(tmp_path / f'{name}.safetensors', changed(tensors, kind), about),
        )


@pytest.mark.parametrize(
    'kind',
    [
        'nothing',
        '7 bytes',
        'header',
        'half',
        'one byte short',
        'one byte more',
        'pickle',
        'text',
        'a giant header',
    ],
)
def test_files_that_are_not_whole_or_of_another_kind_are_refused(whole, tmp_path, kind):
    for name, read in [('model', load), ('checkpoint', lambda path: go(path.parent))]:
        path = written(tmp_path / f'{name}.safetensors', *whole[name])
        data = path.read_bytes()
        if kind == 'pickle':
            torch.save(whole[name][0], path)
        else:
            path.write_bytes(
                {
                    'nothing': b'',
                    '7 bytes': data[:7],
                    'header': data[:500],
                    'half': data[: len(data) // 2],
                    'one byte short': data[:-1],
                    'one byte more': data + b'0',
                    'text': b'<html>404</html>' * 9,
                    'a giant header': (10**8).to_bytes(8, 'little') + b'{' * 10**6,
                }[kind]
            )
        refused(read, path)


def test_numbers_that_are_not_finite_are_refused(whole, tmp_path):
    tensors, about = whole['model']
    for value in (float('nan'), float('inf')):
        spoilt = {name: w.clone() for name, w in tensors.items()}
        next(iter(w for name, w in spoilt.items() if name.startswith('network.'))).view(
            -1
        )[0] = value
        assert 'finite' in refused(
            load, written(tmp_path / 'm.safetensors', spoilt, about)
        )


def test_other_words_of_a_checkpoint_are_refused(whole, tmp_path):
    tensors, about = whole['checkpoint']
    names = [f'{i}' for i in range(100_000)]
    for change in [
        dict(format='ddpm_teach checkpoint 1'),
        dict(lr=1.0),
        dict(network=Raw('[' * 100_000)),
        {'precision.bf16': None},
        dict(seed=[[0]]),
        dict(T='ten'),
        dict(optimiser_memory=3),
        dict(optimiser_memory=names),
    ]:
        refused(
            lambda path: go(path.parent),
            written(tmp_path / 'checkpoint.safetensors', tensors, about | change),
        )
    for losses in (
        torch.zeros(3).double(),
        torch.zeros(4, 2).double(),
        torch.zeros(2000).double(),
        torch.tensor(1.0).double(),
    ):
        refused(
            lambda path: go(path.parent),
            written(
                tmp_path / 'checkpoint.safetensors',
                tensors | dict(losses=losses),
                about,
            ),
        )
    assert len(go(tmp_path, resume=False).losses) == 2  # what the errors advise


BOMB = """
import resource, sys
from pathlib import Path
import torch
from ddpm_teach import load
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    load(Path(sys.argv[1]))
except ValueError as error:
    print(error, file=sys.stderr)
else:
    raise SystemExit('it was loaded')
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='measures memory as Linux does')
@pytest.mark.parametrize(
    'kind',
    [
        'a billion betas',
        'a giant tensor',
        'many tensors',
        'many blocks',
        'a giant network',
    ],
)
def test_a_bomb_takes_no_memory(whole, tmp_path, kind):
    """Each claims gigabytes; refusing it must take less than 60 MB more than the
    process had, and less than 20 seconds of its own time, start included."""
    tensors, about = whole['model']
    words = {key: json.dumps(value) for key, value in about.items()}
    if kind == 'a giant network':
        words['network'] = json.dumps(about['network'] | dict(channels=[2**15, 2**16]))
    if kind == 'many blocks':
        words['network'] = json.dumps(about['network'] | dict(blocks=20_000))
    header, end = {'__metadata__': words}, 0
    sizes = {
        name: (
            list(w.shape),
            {
                torch.float16: ('F16', 2),
                torch.float32: ('F32', 4),
                torch.float64: ('F64', 8),
            }[w.dtype],
        )
        for name, w in tensors.items()
    }
    if kind == 'a billion betas':
        sizes['betas'] = [10**9], ('F64', 8)
    if kind == 'a giant tensor':
        sizes['network.first.weight'] = [2**31, 3], ('F32', 4)
    if kind in ('many tensors', 'many blocks'):
        sizes |= {f'{i}': ([1], ('F32', 4)) for i in range(20_000)}
    for name, (shape, (dtype, width)) in sizes.items():
        size = width * torch.Size(shape).numel()
        header[name] = dict(dtype=dtype, shape=shape, data_offsets=[end, end + size])
        end += size
    path = claims(tmp_path / 'bomb.safetensors', header, end)
    start = os.times().children_user
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', BOMB, str(path)],
        capture_output=True,
        text=True,
        env=os.environ | {'OMP_NUM_THREADS': '1'},
        timeout=300,
    )
    assert done.returncode == 0 and done.stderr.count('\n') == 1, done.stderr
    assert float(done.stdout) < 60 and os.times().children_user - start < 20, (
        done.stdout
    )


HEADERS = {
    'a list': [1],
    'a string': 'header',
    'no entries': {},
    'an entry that is none': {'betas': 3},
    'a shape that is none': {
        'betas': dict(dtype='F64', shape=None, data_offsets=[0, 8])
    },
    'a nested shape': {'betas': dict(dtype='F64', shape=[[1]], data_offsets=[0, 8])},
    'a shape in words': {
        'betas': dict(dtype='F64', shape=['one'], data_offsets=[0, 8])
    },
    'an infinite shape': {
        'betas': dict(dtype='F64', shape=[float('inf')], data_offsets=[0, 8])
    },
    'a negative shape': {'betas': dict(dtype='F64', shape=[-1], data_offsets=[0, 8])},
    'offsets in words': {
        'betas': dict(dtype='F64', shape=[1], data_offsets=['0', 'end'])
    },
    'one offset': {'betas': dict(dtype='F64', shape=[1], data_offsets=[8])},
    'a nested dtype': {'betas': dict(dtype=['F64'], shape=[1], data_offsets=[0, 8])},
    'words that are no strings': {'__metadata__': {'format': 3}},
    'words that are none': {'__metadata__': [3]},
}


@pytest.mark.parametrize('kind', HEADERS)
def test_headers_that_are_nonsense_are_refused(whole, tmp_path, kind):
    path = claims(tmp_path / 'm.safetensors', HEADERS[kind], 8)
    refused(load, path)
    header, good = (
        HEADERS[kind],
        {key: json.dumps(value) for key, value in whole['model'][1].items()},
    )
    if (
        isinstance(header, dict) and '__metadata__' not in header
    ):  # with good words before it
        refused(
            load,
            claims(tmp_path / 'm.safetensors', dict(__metadata__=good) | header, 8),
        )
    refused(
        lambda path: go(path.parent), path.rename(tmp_path / 'checkpoint.safetensors')
    )


def test_results_and_grids_of_strangers(tmp_path):
    (tmp_path / 'mine.json').write_text('[' * 100_000)
    with pytest.raises(ValueError, match='mine.json.*remove it'):
        results(tmp_path)
    grid = save_grid(torch.rand(4, 3, 32, 32), tmp_path / 'grid.png', cols=2, zoom=1)
    assert load_grid(grid, 4, 2).shape == (4, 3, 32, 32)
    with pytest.raises(ValueError, match='grid.png.*which is not n = 9 pictures'):
        load_grid(grid, 9, 3)
    grid.write_bytes(grid.read_bytes()[:3000])
    with pytest.raises(ValueError, match='grid.png.*write it again'):
        load_grid(grid, 4, 2)


def test_nothing_in_the_library_unpickles():
    unsafe = (
        r'\b(?:import|from) \w*pickle|pickle\.\w+\(|torch\.load\(|torch\.save\('
        r'|np\.load\(|\beval\(\)?[\'"a-z]|\bexec\('
    )
    for path in (ROOT / 'ddpm_teach').rglob('*.py'):
        text = path.read_text(encoding='utf-8')
        found = re.findall(unsafe, text)
        if path.name == 'types.py':  # reads annotations of our own code
            found.remove('eval(h')
        assert found == [], path


# Offline, and nothing written elsewhere


OFFLINE = """
import socket, sys
def refuse(*args, **kwargs): raise AssertionError('the network was asked')
class NoSocket(socket.socket):
    def __init__(self, *args, **kwargs): refuse()
socket.socket, socket.create_connection, socket.getaddrinfo = NoSocket, refuse, refuse
import importlib, pkgutil
import ddpm_teach as d
for module in pkgutil.iter_modules(d.__path__):
    if module.name != '__main__': importlib.import_module('ddpm_teach.' + module.name)
import torch
torch.set_num_threads(1)
from ddpm_teach.cli import main
assert d.sample(2, seed=0, progress=False).shape == (2, 3, 32, 32)
few = d.characters(120, progress=False)
network = d.UNet(channels=(8, 16), groups=4, attention=())
hooks = d.usual('run', bf16=False, progress=False)
d.train(d.DDPM(network, d.cosine_schedule(10)), few, 1, hooks=hooks)
d.evaluate(few.images[:40], few, few)
main(['sample', '-n', '2', '--model', 'run/model.safetensors', '--out', 'drawn.png'])
main(['sample', '-n', '1', '--seed', '0'])
"""


def tree(folder):
    return {
        str(path.relative_to(folder)) for path in folder.rglob('*') if not path.is_dir()
    }


@pytest.mark.skipif(
    sys.platform != 'linux', reason='moves home and cache by the environment'
)
def test_offline_and_nothing_written_elsewhere(tmp_path):
    """All of it in a process without sockets and, where the system allows it, without a
    network; home, temporary and working folder are watched."""
    before = (
        ['unshare', '-n']
        if shutil.which('unshare')
        and subprocess.run(['unshare', '-n', 'true'], capture_output=True).returncode
        == 0
        else []
    )
    places = {name: tmp_path / name for name in ('home', 'temporary', 'work')}
    for place in places.values():
        place.mkdir()
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(('XDG_', 'HF_', 'MPL', 'TORCH', 'IPYTHON', 'JUPYTER'))
    }
    env = kept | dict(
        HOME=str(places['home']),
        TMPDIR=str(places['temporary']),
        OMP_NUM_THREADS='1',
        PYTHONDONTWRITEBYTECODE='1',
        PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]),
    )
    package = tree(ROOT / 'ddpm_teach')
    done = subprocess.run(
        [*before, sys.executable, '-W', 'ignore', '-c', OFFLINE],
        cwd=places['work'],
        env=env,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert tree(places['work']) == {
        'run/.lock',
        'run/checkpoint.safetensors',
        'run/log.json',
        'run/model.safetensors',
        'drawn.png',
        'samples.png',
    }
    allowed = (
        '.cache/ddpm_teach/characters/',
        '.cache/matplotlib/',
        '.config/matplotlib/',
    )  # our cache, and where matplotlib keeps its list of fonts
    assert not {
        path for path in tree(places['home']) if not path.startswith(allowed)
    }, tree(places['home'])
    assert tree(places['temporary']) == set()
    assert {
        path for path in tree(ROOT / 'ddpm_teach') if '__pycache__' not in path
    } == {path for path in package if '__pycache__' not in path}


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which('unshare') is None, reason='cannot cut the network here'
)
def test_the_notebooks_run_without_a_network(tmp_path):
    """In a copy, with only the loopback device, which the notebooks' kernels need."""
    for folder in ('nbs', 'ddpm_teach'):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / 'settings.ini', tmp_path)
    env = os.environ | dict(PYTHONPATH=str(tmp_path), OMP_NUM_THREADS='1')
    found, start = {}, time.perf_counter()
    for path in sorted((tmp_path / 'nbs').rglob('*.ipynb')):
        name = path.relative_to(tmp_path)
        command = f'ip link set lo up && nbdev_test --path {name} --n_workers 1'
        done = subprocess.run(
            ['unshare', '-n', 'sh', '-c', command],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
        )
        found[path.stem] = done.returncode == 0
        print(
            path.stem,
            found[path.stem],
            (done.stdout + done.stderr)[-500:] if done.returncode else '',
        )
    record(
        'notebooks_without_a_network',
        passed=sum(found.values()),
        failed=sorted(name for name, good in found.items() if not good),
        seconds=round(time.perf_counter() - start),
    )
    assert all(found.values()), found
