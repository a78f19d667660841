"""Model files: what comes back, what old files say, and what is never written."""
import json
import os
import subprocess
import sys
import threading
from importlib import resources
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from ddpm_teach import DDPM, UNet, cosine_schedule, load, model_files, save
from ddpm_teach.plumbing.processes import all_shares, of_main, share
from ddpm_teach.plumbing.tensor_files import write_tensors

SHIPPED = Path(str(resources.files('ddpm_teach') / 'characters.safetensors'))


class Tower(nn.Module):
    """A network with arguments of every kind, and one without a default."""

    def __init__(self, depth, width=4, slope=.1, name='tower', wide=None, sides=(1, 2)):
        super().__init__()
        self.config = dict(
            depth=depth, width=width, slope=slope, name=name, wide=wide,
            sides=list(sides))
        self.layers = nn.ModuleList([nn.Linear(width, width) for _ in range(depth)])
        self.register_buffer('scale', torch.tensor(2.))

    def forward(self, x, t):
        for layer in self.layers:
            x = x + self.scale * layer(x).tanh()
        return x


class Latent(DDPM):
    """A model that is more than its network."""


@pytest.fixture(autouse=True)
def registries(monkeypatch):
    """Names that a test registers are gone after it."""
    monkeypatch.setattr(model_files, 'NETWORKS', dict(model_files.NETWORKS))
    monkeypatch.setattr(model_files, 'LIMITS', dict(model_files.LIMITS))


def small_unet(**config):
    torch.manual_seed(0)
    usual = dict(channels=(8, 16), groups=4, attention=(4,), size=8, patch=1)
    return UNet(**(usual | config))


def raw(path):
    """Tensors and words of a file, read without our own reader."""
    with safe_open(path, 'pt') as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        return tensors, {k: json.loads(v) for k, v in file.metadata().items()}


def test_the_model_that_ships_is_what_the_file_says():
    tensors, about = raw(SHIPPED)
    assert set(about) == {'format', 'network', 'predicts'}
    model = load(SHIPPED, 'cpu')
    weights = model.network.state_dict()
    assert len(weights) + 1 == len(tensors)
    for name, weight in weights.items():
        assert torch.equal(weight, tensors[f'network.{name}'].float())
    assert torch.equal(model.schedule.betas, tensors['betas'])
    assert model.predicts == about['predicts'] and model.limit is model_files.clip


def test_a_plain_unet_is_written_as_ever(tmp_path):
    """Same words, same names, same bits: earlier versions read it."""
    again = save(load(SHIPPED, 'cpu'), tmp_path / 'm.safetensors', half=True)
    was = raw(SHIPPED)
    now = raw(again)
    assert now[1] == was[1] and now[0].keys() == was[0].keys()
    for name, tensor in now[0].items():
        assert tensor.dtype == was[0][name].dtype and torch.equal(tensor, was[0][name])


@pytest.mark.parametrize('limit', ['clip', 'none', 'half'])
@pytest.mark.parametrize('predicts', ['eps', 'x0', 'v'])
def test_limits_and_predictions_come_back(tmp_path, limit, predicts):
    model_files.LIMITS['half'] = torch.tanh
    model = DDPM(
        small_unet(), cosine_schedule(9), predicts, limit=model_files.LIMITS[limit])
    again = load(save(model, tmp_path / 'm.safetensors'), 'cpu')
    assert again.limit is model.limit and again.predicts == predicts
    x = torch.randn(2, 3, 8, 8)
    t = torch.tensor([1, 9])
    with torch.no_grad():
        assert torch.equal(again.x0_hat(x, t), model.eval().x0_hat(x, t))


@pytest.mark.parametrize('change', [
    dict(), dict(depth=1, width=1), dict(depth=400, width=2), dict(wide=7),
    dict(wide=[3, 4]), dict(wide='very'), dict(wide=True), dict(slope=1),
    dict(sides=[]),
])
def test_registered_networks_come_back(tmp_path, change):
    model_files.NETWORKS['tower'] = Tower
    model = DDPM(Tower(**(dict(depth=3) | change)), cosine_schedule(9), limit=None)
    file = save(model, tmp_path / 'm.safetensors')
    assert raw(file)[1]['kind'] == 'tower'
    again = load(file, 'cpu')
    assert again.network.config == model.network.config
    x = torch.randn(2, model.network.config['width'])
    t = torch.tensor([1, 9])
    assert torch.equal(again(x, t), model(x, t))
    del model_files.NETWORKS['tower']
    with pytest.raises(ValueError, match="kind 'tower'.*import what registers it"):
        load(file)


@pytest.mark.parametrize('change, said', [
    (dict(depth=2**16), 'more weights than the file'),
    (dict(width=5), 'of shape'), (dict(depth=2), 'should not have'),
    (dict(depth=0), 'should not have'), (dict(depth=None), 'cannot be built'),
    (dict(wide=dict(a=1)), 'wide ='), (dict(wide=[[1]]), 'wide ='),
    (dict(name=3), 'name = 3'), (dict(slope=float('nan')), 'slope = nan'),
    (dict(height=1), 'arguments of Tower'),
])
def test_registered_networks_are_not_believed_either(tmp_path, change, said):
    model_files.NETWORKS['tower'] = Tower
    file = save(DDPM(Tower(3), cosine_schedule(9)), tmp_path / 'm.safetensors')
    tensors, about = raw(file)
    write_tensors(tensors, file, about | dict(network=about['network'] | change))
    with pytest.raises(ValueError, match='m.safetensors.*cannot be used.*' + said):
        load(file)
    del about['network']['depth']
    write_tensors(tensors, file, about)
    with pytest.raises(ValueError, match='cannot be built.*depth'):
        load(file)


@pytest.mark.parametrize('half', [False, True])
def test_the_same_weights_are_the_same_bytes(tmp_path, half):
    model = DDPM(small_unet(), cosine_schedule(9), limit=None)
    written = set()
    for i in range(9):
        written.add(save(model, tmp_path / f'{i}.safetensors', half).read_bytes())
    assert len(written) == 1
    code = (
        'import sys; from ddpm_teach import load, save;'
        'save(load(sys.argv[1], "cpu"), sys.argv[2], half=sys.argv[3] == "True")')
    file = tmp_path / 'other.safetensors'
    command = [sys.executable, '-c', code, str(tmp_path / '0.safetensors'), str(file)]
    subprocess.run([*command, str(half)], check=True)
    assert file.read_bytes() in written


def test_the_order_of_words_is_no_matter(tmp_path):
    """Files are read whatever their order is, and aligned as safetensors wants it."""
    file = save(DDPM(small_unet(), cosine_schedule(9)), tmp_path / 'm.safetensors')
    data = file.read_bytes()
    length = int.from_bytes(data[:8], 'little')
    assert length % 8 == 0
    header = json.loads(data[8:8 + length])
    assert list(header['__metadata__']) == sorted(header['__metadata__'])
    tensors, about = raw(file)
    write_tensors(tensors, tmp_path / 'n.safetensors', dict(reversed(about.items())))
    assert (tmp_path / 'n.safetensors').read_bytes() == data


def test_a_folder_is_loaded_by_what_is_in_it(tmp_path):
    model = DDPM(small_unet(), cosine_schedule(9))
    with pytest.raises(FileNotFoundError, match='the folder .*has no model.*give'):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match='no file .*missing.*give the path'):
        load(tmp_path / 'missing')
    (tmp_path / 'checkpoint.safetensors').touch()
    with pytest.raises(FileNotFoundError, match='has no model.*start it again'):
        load(tmp_path)
    (tmp_path / 'unet').mkdir()
    (tmp_path / 'model_index.json').touch()
    with pytest.raises(FileNotFoundError, match='from_diffusers'):
        load(tmp_path)
    file = save(model, tmp_path / 'model.safetensors')
    for path in (tmp_path, str(tmp_path), file):
        weights = load(path, 'cpu').network.state_dict()
        assert torch.equal(weights['first.weight'], model.network.first.weight)


WRAPPED = {
    'compiled': lambda net: torch.compile(net),
    'for several devices': lambda net: nn.DataParallel(net),
    'both': lambda net: nn.DataParallel(torch.compile(net)),
}


@pytest.mark.parametrize('wrap', WRAPPED)
def test_a_wrapped_network_is_written_as_a_plain_one(tmp_path, wrap):
    plain = DDPM(small_unet(), cosine_schedule(9))
    expected = save(plain, tmp_path / 'plain.safetensors').read_bytes()
    inside = DDPM(WRAPPED[wrap](plain.network), plain.schedule)
    for i, model in enumerate([inside, WRAPPED[wrap](plain), WRAPPED[wrap](inside)]):
        assert save(model, tmp_path / f'{i}.safetensors').read_bytes() == expected


class Twin(nn.Module):
    """One weight under two names, and numbers of other kinds."""

    def __init__(self, width=3):
        super().__init__()
        self.config = dict(width=width)
        self.one = nn.Linear(width, width)
        self.other = self.one
        self.register_buffer('mask', torch.ones(width, dtype=torch.bool))
        self.register_buffer('rows', torch.arange(width, dtype=torch.int32))

    def forward(self, x, t):
        return self.other(self.one(x))[:, self.rows] * self.mask


@pytest.mark.parametrize('half', [False, True])
def test_weights_with_two_names_and_other_kinds_of_numbers(tmp_path, half):
    model_files.NETWORKS['twin'] = Twin
    model = DDPM(Twin(), cosine_schedule(9), limit=None)
    again = load(save(model, tmp_path / 'm.safetensors', half), 'cpu')
    assert again.network.mask.dtype == torch.bool
    assert again.network.rows.dtype == torch.int32
    x = torch.randn(2, 3)
    t = torch.tensor([1, 9])
    with torch.no_grad():
        assert (again(x, t) - model(x, t)).abs().max() < (.01 if half else 1e-9)


def test_a_registered_network_without_its_arguments_is_refused(tmp_path):
    model_files.NETWORKS['linear'] = nn.Linear
    for config in (None, dict(bias=print), dict(bias={(1, 2): 3})):
        network = nn.Linear(2, 2)
        if config:
            network.config = config
        with pytest.raises(ValueError, match='model cannot be written'):
            save(DDPM(network, cosine_schedule(9)), tmp_path / 'm.safetensors')


def other_models():
    plain = DDPM(small_unet(), cosine_schedule(9))
    long = DDPM(Tower(2), cosine_schedule(9))
    long.network.config['name'] = {'a': 1}
    return {
        'a network without a name': DDPM(nn.Linear(2, 2), cosine_schedule(9)),
        'a limit without a name': DDPM(plain.network, plain.schedule, limit=torch.tanh),
        'a conditioner': DDPM(plain.network, plain.schedule, conditioner=print),
        'a subclass': Latent(plain.network, plain.schedule),
        'arguments that a reader would refuse': long,
        'a condition that is fixed': plain.bound(None),
        'a network alone': plain.network,
    }


@pytest.mark.parametrize('kind', other_models())
def test_what_would_not_come_back_is_not_written(tmp_path, kind):
    model_files.NETWORKS['tower'] = Tower
    with pytest.raises((ValueError, TypeError), match='model'):
        save(other_models()[kind], tmp_path / 'folder' / 'm.safetensors')
    assert not list(tmp_path.iterdir())


def test_attention_at_no_resolution_of_old_files(tmp_path):
    """It went unnoticed once, so such files exist."""
    file = save(DDPM(small_unet(), cosine_schedule(9)), tmp_path / 'm.safetensors')
    tensors, about = raw(file)
    old = about | dict(network=about['network'] | dict(attention=[4, 7, 32]))
    write_tensors(tensors, file, old)
    assert load(file, 'cpu').network.config['attention'] == [4]


def test_other_threads_build_what_they_like():
    """A bound on one network is none on those of other threads."""
    built = []
    with model_files.at_most(1):
        other = threading.Thread(target=lambda: built.append(Tower(9)))
        other.start()
        other.join()
        with pytest.raises(ValueError, match='more weights'):
            Tower(9)
    assert len(built) == 1 and Tower(9)


def test_a_device_that_is_not_here_is_refused(tmp_path):
    with pytest.raises(ValueError, match='device is .meta.'):
        load(SHIPPED, 'meta')


def test_one_process_needs_no_accelerate():
    """What a process does alone."""
    code = (
        'import sys, torch\n'
        'from ddpm_teach.plumbing import processes as p\n'
        'weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]\n'
        'weights[0].grad = torch.ones(2)\n'
        'p.average_gradients(weights), p.copy_from_main(torch.nn.Linear(1, 1))\n'
        'assert weights[1].grad is None and weights[0].grad.sum() == 2\n'
        'assert p.mean_over_processes(torch.tensor(3.)) == 3\n'
        'assert "accelerate" not in sys.modules\n')
    alone = {k: v for k, v in os.environ.items() if k != 'WORLD_SIZE'}
    subprocess.run([sys.executable, '-c', code], check=True, env=alone)
    assert share(5) == range(5) and of_main('mine') == 'mine'
    assert torch.equal(all_shares(torch.arange(5)), torch.arange(5))
