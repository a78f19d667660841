"""The package as editors, type checkers and prompts see it."""
import contextlib
import io
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest
import torch

import ddpm_teach as d

ROOT = pathlib.Path(__file__).parents[1]


# What stands at a prompt.

def made():
    """An object of every public class."""
    images = torch.zeros(12_000, 3, 32, 32, dtype=torch.uint8)
    labels = torch.zeros(12_000, 18, dtype=torch.int16)
    words = {f'attribute {i}': ['a value'] * 40 for i in range(18)}
    schedule = d.cosine_schedule(1000)
    network = d.UNet(channels=(8, 16), groups=4)
    model = d.DDPM(network, schedule, 'v')
    x = torch.randn(4, 3, 32, 32)
    thousand = torch.full((1000,), 1e-3)
    data = d.Pictures(images, labels, words)
    return dict(
        Pictures=data,
        Batch=data.rows(torch.arange(64)),
        Points=d.Points(x),
        Schedule=schedule,
        UNet=network,
        DDPM=model,
        Denoiser=d.Denoiser(schedule, (3, 32, 32)),
        Step=d.Step(999, x, x),
        Trained=d.Trained(model, [.123456789] * 10_000),
        Estimate=d.Estimate(396.595657971721, 366.49558407143263, 426.69573187200933),
        Mixture=d.Mixture(torch.zeros(1000, 2), thousand, thousand),
        Draws=d.Draws(0, 0),
        steered=d.steered(model, model, 2.),
        bound=d.DDPM(lambda x, t, given: x, schedule).bound({'label': x}),
        **{hook.__name__: hook() for hook in (d.Averaging, d.Hook, d.Precision,
                                              d.Progress)},
        Checkpoint=d.Checkpoint('runs/mine'),
        Preview=d.Preview(print),
        Tracker=d.Tracker('tensorboard'))


OBJECTS = made()


@pytest.mark.parametrize('name', OBJECTS)
def test_a_repr_is_one_short_line(name):
    text = repr(OBJECTS[name])
    assert len(text) <= 100 and '\n' not in text, text
    assert 'tensor(' not in text and 'object at 0x' not in text, text


def test_reprs_say_what_it_is():
    said = {name: repr(thing) for name, thing in OBJECTS.items()}
    assert said['Schedule'].startswith('Schedule(T=1000, abar_T=2.4')
    assert said['UNet'] == 'UNet(channels=[8, 16], groups=4)'
    assert said['DDPM'].startswith('DDPM(network=UNet(channels=[8, 16], groups=4), ')
    assert said['Estimate'] == 'Estimate(value=396.596, low=366.496, high=426.696)'
    assert said['Draws'] == 'Draws(seed=0, step=0)'
    assert 'means=float32 (1000, 2)' in said['Mixture']
    for name in d.__all__:
        assert said.get(name, name).startswith((name, 'Steered')), said[name]
    assert '12000' in said['Pictures'] and '32' in said['Pictures']
    assert 'float32 (64, 3, 32, 32)' in said['Batch']
    assert 'losses=list of 10,000' in said['Trained']


def test_print_shows_the_layers_of_a_network():
    assert '(time): Sequential(' in str(OBJECTS['UNet'])
    assert eval(repr(OBJECTS['UNet']), vars(d)).config == OBJECTS['UNet'].config


def test_a_result_that_holds_reprs_is_short():
    scores = {name: OBJECTS['Estimate'] for name in ('frechet', 'kernel')}
    assert len(repr(scores)) < 150
    coverage = d.label_coverage(
        torch.zeros(40, 1, dtype=torch.long), torch.zeros(40, 1, dtype=torch.long),
        {'hair': [str(i) for i in range(100)]})
    assert len(repr(coverage)) < 120
    model = d.DDPM(d.UNet(channels=(8,), groups=4, attention=()), d.cosine_schedule(2))
    bits = d.bits_per_dim(model, torch.zeros(2, 3, 32, 32, dtype=torch.uint8), 2)
    assert len(repr(bits)) <= 100


# What stands below a cell of a notebook.

SHOWN = """
import sys
import torch
import ddpm_teach as d
from IPython.core.formatters import DisplayFormatter
labels = torch.zeros(100, 0)
for size in (8, 32):
    for channels in (1, 3):
        images = torch.randint(0, 256, (100, channels, size, size)).to(torch.uint8)
        data = d.Pictures(images, labels, {})
        for thing in (data, data.rows(torch.arange(64))):
            shown, about = DisplayFormatter().format(thing)
            assert shown['image/png'][:4] == b'\\x89PNG', shown
            assert len(shown['text/plain']) <= 100
            assert 500 < len(shown['image/png']) < 300_000
points = d.Points(torch.zeros(100, 2)).rows(torch.arange(3))
shown, _ = DisplayFormatter().format(points)
assert list(shown) == ['text/plain'], shown
print([name for name in ('matplotlib', 'torchvision') if name in sys.modules])
"""


def test_pictures_and_batches_show_themselves(tmp_path):
    env = {**os.environ, 'IPYTHONDIR': str(tmp_path)}
    done = subprocess.run(
        [sys.executable, '-c', SHOWN], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == '[]'


# What editors offer.

def script(code):
    jedi = pytest.importorskip('jedi')
    return jedi.Script(code, project=jedi.Project(ROOT))


@pytest.mark.parametrize('code, offered', [
    ('import ddpm_teach\nddpm_teach.dd', {'ddim', 'ddpm_loss'}),
    ('import ddpm_teach as d\nd.Sched', {'Schedule'}),
    ('from ddpm_teach import sa', {'sample', 'save', 'save_grid'}),
    ('from ddpm_teach import characters\ncharacters(9).im', {'images'}),
    ('from ddpm_teach import cosine_schedule\ncosine_schedule(9).ab', {'abar'}),
    ('from ddpm_teach import train\ntrain(1, 2).lo', {'losses'}),
    ('from ddpm_teach import load\nload("a").sch', {'schedule'}),
    ('from ddpm_teach import sample\nsample(se', {'seed='}),
])
def test_names_are_completed(code, offered):
    assert offered <= {found.name for found in script(code).complete()}


@pytest.mark.parametrize('name', d.__all__)
def test_the_docstring_stands_at_every_name(name):
    """Where the mouse rests on it."""
    found = script(f'from ddpm_teach import {name}\n{name}').help(2, 1)
    said = ' '.join(thing.docstring() for thing in found)
    first = getattr(d, name).__doc__.strip().splitlines()[0]
    assert first in said, said[:200]


@pytest.mark.parametrize('name', ['sample', 'q_sample', 'UNet', 'ddim', 'evaluate'])
def test_arguments_stand_at_the_bracket(name):
    import inspect
    found, = script(f'from ddpm_teach import {name}\n{name}(').get_signatures()
    offered = [parameter.name for parameter in found.params]
    wanted = [p for p in inspect.signature(getattr(d, name)).parameters]
    assert [name for name in offered if name != '*'] == wanted


# What type checkers find.

MISTAKES = [
    ('sample(4, sedd=1)', 'sedd'),
    ('sample("four")', 'str'),
    ('d.nope', 'nope'),
    ('UNet(128)', 'int'),
    ('linear_schedule("x")', 'str'),
    ('Schedule(T=3)', 'T'),
    ('train(DDPM(UNet(), linear_schedule())).losses', 'data'),
    ('train(UNet(), characters(9)).loss', 'loss'),
    ('evaluate(sample(4), characters(9))', 'held_out'),
    ('cosine_schedule(T=10, z=2)', 'z'),
]
RIGHT = """
from collections.abc import Iterator
from torch import Tensor
import ddpm_teach as d
from ddpm_teach import (
    DDPM, Estimate, Pictures, Schedule, Step, Trained, UNet, ancestral, characters,
    cosine_schedule, ddim, evaluate, linear_schedule, load, sample, save, train)

data: Pictures = characters(9)
schedule: Schedule = cosine_schedule(T=10)
model = DDPM(UNet((8, 16), groups=4), schedule, 'v')
trained: Trained = train(model, data, 2, hooks=d.usual('runs/mine'))
images: Tensor = sample(4, model=model, sampler=ddim, steps=10, seed=0)
steps: Iterator[Step] = ancestral(model, images)
scores: dict[str, Estimate] = evaluate(images, data, data)
abar: Tensor = schedule.abar
again: DDPM = load(save(model, 'a.safetensors'))
"""
IMPORTS = """
import ddpm_teach as d
from ddpm_teach import (
    DDPM, Schedule, UNet, characters, cosine_schedule, evaluate, linear_schedule,
    sample, train)
"""


# PyTorch's own files take a minute.
CONFIG = """
[mypy]
follow_imports = silent
[mypy-torch.*,numpy.*,PIL.*,matplotlib.*,IPython.*,accelerate.*,safetensors.*]
follow_imports = skip
follow_imports_for_stubs = True
"""


def checked(path):
    """The complaints of mypy."""
    api = pytest.importorskip('mypy.api')
    config = path.with_name('mypy.ini')
    config.write_text(CONFIG)
    cache = path.with_name('cache')
    command = ['--config-file', str(config), '--cache-dir', str(cache),
               '--hide-error-context', '--no-error-summary', str(path)]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        found, errors, _ = api.run(command)
    assert not errors, errors
    return found.splitlines()


def test_type_checkers_find_mistakes_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setenv('MYPYPATH', str(ROOT))
    path = tmp_path / 'program.py'
    calls = [call for call, _ in MISTAKES]
    path.write_text('\n'.join([*IMPORTS.splitlines(), *calls, RIGHT]))
    first = len(IMPORTS.splitlines()) + 1
    found = {}
    for line in checked(path):
        place, number, kind, said = line.split(':', 3)
        if kind == ' error':
            assert pathlib.Path(place).name == 'program.py', line
            found[int(number) - first] = said
    for i, (call, word) in enumerate(MISTAKES):
        assert word in found.get(i, ''), (call, found.get(i))
    assert not [said for i, said in found.items() if i >= len(MISTAKES)], found


# What is installed.

@pytest.fixture(scope='module')
def sources(tmp_path_factory):
    """What a build reads: it leaves files."""
    source = tmp_path_factory.mktemp('build') / 'source'
    left_out = shutil.ignore_patterns('__pycache__', 'nbs')
    shutil.copytree(ROOT / 'ddpm_teach', source / 'ddpm_teach', ignore=left_out)
    for name in ('setup.py', 'settings.ini', 'pyproject.toml', 'README.md', 'LICENSE'):
        shutil.copy(ROOT / name, source)
    return source


def built(kind, source, place):
    """A wheel of these sources, opened."""
    pytest.importorskip('setuptools')
    code = f"""
import sys
from setuptools import build_meta
print(build_meta.build_{kind}(sys.argv[1]), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, '-c', code, place], cwd=source,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (name,) = place.glob('*.whl')
    return zipfile.ZipFile(name)


def test_the_wheel_tells_editors(sources, tmp_path):
    with built('wheel', sources, tmp_path) as wheel:
        for name in ('py.typed', '__init__.pyi'):
            packed = wheel.read(f'ddpm_teach/{name}')
            assert packed == (ROOT / 'ddpm_teach' / name).read_bytes()


def test_an_editable_install_is_a_path(sources, tmp_path):
    """Editors follow a path; they do not run a program that finds modules."""
    with built('editable', sources, tmp_path) as wheel:
        (name,) = [n for n in wheel.namelist() if n.endswith('.pth')]
        assert pathlib.Path(wheel.read(name).decode().strip()) == sources
