"""The package as programs see it: in step with its notebooks, light, offline, and whole without them."""
import ast
import importlib
import json
import multiprocessing
import pathlib
import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

import ddpm_teach as d
from places import public_names

ROOT = pathlib.Path(__file__).parents[1]


def run(code, **env):
    """Run `code` in a fresh process and return what it printed."""
    import os
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env={**os.environ, **env})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_readme_is_the_index():
    from readme import readme
    assert (ROOT / 'README.md').read_text(encoding='utf-8') == readme(), 'run: python tests/tools/prepare.py'


def test_version_is_one():
    import configparser
    config = configparser.ConfigParser(delimiters=['='])
    config.read(ROOT / 'settings.ini')
    assert config['DEFAULT']['version'] == d.__version__


def test_every_public_name_is_found():
    for module, names in public_names().items():
        exported = importlib.import_module(f'ddpm_teach.{module}').__all__
        for name in names:
            assert name in exported and getattr(d, name) is not None, name
    with pytest.raises(AttributeError):
        d.no_such_name


def test_names_are_offered(tmp_path):
    """By `dir`, and by the tab key of IPython and Jupyter, before any of them has been used."""
    code = """
import ddpm_teach
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
assert set(ddpm_teach.__all__) <= set(dir(ddpm_teach))
shell = InteractiveShell(user_ns={'ddpm_teach': ddpm_teach})
with provisionalcompleter():
    print(*sorted({c.text for typed in ('ddpm_teach.dd', 'from ddpm_teach import sa') for c in shell.Completer.completions(typed, len(typed))}))
"""
    offered = run(code, IPYTHONDIR=str(tmp_path)).split()
    assert {'ddim', 'ddpm_loss', 'sample', 'save', 'save_grid'} <= set(offered)


def test_modules_use_neither_nbdev_nor_fastcore():
    for path in (ROOT / 'ddpm_teach').glob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ''] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split('.')[0] in ('nbdev', 'fastcore', 'execnb') for name in names), path


def test_modules_define_the_names_they_use():
    """A function that leans on a global of its notebook works there, and fails for whoever imports it."""
    import builtins
    from mutants import names
    for name in public_names():
        module = importlib.import_module(f'ddpm_teach.{name}')
        used, _ = names(pathlib.Path(module.__file__).read_text(encoding='utf-8'))
        assert used - set(vars(builtins)) == set(), name


def test_sampling_is_light_and_offline():
    code = """
import socket, sys
def refuse(*args, **kwargs): raise AssertionError('the network was asked')
socket.socket.connect = refuse
socket.getaddrinfo = refuse
import ddpm_teach
from ddpm_teach import sample, linear_schedule, DDPM, pretrained
from functools import partial
import torch
model = pretrained()
short = DDPM(model.network, linear_schedule(4, .1, .9999), model.predicts)
images = sample(2, model=short, seed=0, progress=False)
assert images.shape == (2, 3, 32, 32)
heavy = [m for m in ('torchvision', 'matplotlib', 'ipywidgets', 'accelerate', 'dicebear', 'nbdev', 'fastcore', 'IPython') if m in sys.modules]
print(heavy)
"""
    assert run(code).strip() == '[]'


def _characters(cache, queue):
    import os
    os.environ['XDG_CACHE_HOME'] = cache
    queue.put(d.characters(40, progress=False).images.long().sum().item())


@pytest.mark.skipif(sys.platform != 'linux', reason='moves the cache by XDG_CACHE_HOME')
def test_two_first_calls_draw_once_and_a_broken_drawing_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    queue = multiprocessing.get_context('spawn').Queue()
    two = [multiprocessing.get_context('spawn').Process(target=_characters, args=(str(tmp_path), queue)) for _ in range(2)]
    [p.start() for p in two]
    values = [queue.get(timeout=120) for _ in two]
    [p.join() for p in two]
    assert values[0] == values[1]
    files = list(tmp_path.rglob('*.safetensors'))
    assert len(files) == 1 and not list(tmp_path.rglob('*.part'))
    drawn = files[0].stat().st_mtime_ns
    (files[0].parent / (files[0].name + '.99.part')).write_bytes(b'half')       # what an interrupted drawing leaves
    again = d.characters(40, progress=False)
    assert again.images.long().sum().item() == values[0] and files[0].stat().st_mtime_ns == drawn
    more = d.characters(60, progress=False)
    assert torch.equal(more.images[:40], again.images) and torch.equal(more.labels[:40], again.labels)


def test_every_export_works_without_a_notebook(tmp_path):
    """Each public name is called in this process, where no notebook has run."""
    data = d.characters(64, progress=False)
    x0, eps = d.to_float(data.images[:4]), torch.randn(4, 3, 32, 32)
    t, schedule = torch.tensor([1, 2, 50, 100]), d.cosine_schedule(100)
    xt = d.q_sample(x0, t, schedule, eps)
    network = d.UNet(channels=(8, 16), groups=4)
    model = d.DDPM(network, schedule)
    chain = [d.Step(1, x0, None), d.Step(0, x0, x0)]
    fig, axes = d.figure()
    folder = tmp_path / 'pictures'
    folder.mkdir()
    d.to_pil(x0[0]).save(folder / 'one.png')
    trained = d.train(model, data, 1, hooks=d.usual(progress=False, bf16=False))
    points, (labels, _) = d.features(data.images), d.read_labels(data.images)
    calls = dict(
        animate=lambda: d.animate(chain, tmp_path / 'a.gif'), figure=lambda: fig, image_grid=lambda: d.image_grid(x0),
        plot_curves=lambda: d.plot_curves({'a': [1, 2], 'b': [2, 1]}, alt='two lines', ax=axes[0]) or fig,
        save_grid=lambda: d.save_grid(x0, tmp_path / 'a.png'), load_grid=lambda: d.load_grid(d.save_grid(x0, tmp_path / 'b.webp', 2, 1), 4, 2), show_chain=lambda: d.show_chain(chain, alt='a chain') or 1,
        show_figure=lambda: d.show_figure(fig, 'axes') or 1, show_images=lambda: d.show_images(x0, alt='faces', titles='abcd') or 1,
        to_float=lambda: d.to_float(data.images), to_pil=lambda: d.to_pil(x0[0]), to_uint8=lambda: d.to_uint8(x0),
        Pictures=lambda: d.Pictures(data.images, data.labels, data.words).describe(0), batches=lambda: next(d.batches(data)),
        characters=lambda: data, image_folder=lambda: d.image_folder(folder), pictures=lambda: d.pictures([d.to_pil(x0[0])]),
        to_diffusers=lambda: d.to_diffusers(d.DDPM(d.UNet((8, 16), groups=4, patch=1, attention=()), schedule, 'v'), tmp_path / 'theirs'), from_diffusers=lambda: d.from_diffusers(tmp_path / 'theirs'),
        diffusers_sampler=lambda: d.diffusers_sampler(tmp_path / 'theirs'),
        Schedule=lambda: d.Schedule(torch.full((50,), .5)), cosine_schedule=lambda: schedule, linear_schedule=lambda: d.linear_schedule(1000),
        sigmoid_schedule=lambda: d.sigmoid_schedule(100),
        Mixture=lambda: d.Mixture(torch.zeros(2, 1), torch.ones(2), torch.full((2,), .5)).log_density(torch.zeros(3, 1), torch.tensor([1, 2, 3]), schedule),
        eps_from_x0=lambda: d.eps_from_x0(x0, xt, t, schedule), x0_from_eps=lambda: d.x0_from_eps(eps, xt, t, schedule),
        v_from_x0=lambda: d.v_from_x0(x0, xt, t, schedule), x0_from_v=lambda: d.x0_from_v(x0, xt, t, schedule),
        posterior=lambda: d.posterior(x0, xt, t, schedule), q_sample=lambda: xt, q_step=lambda: d.q_step(x0, t, schedule, eps),
        DDPM=lambda: model.x0_hat(xt, t), ddpm_loss=lambda: d.ddpm_loss(model, x0, t, eps, F.l1_loss, d.min_snr), like_v=lambda: d.like_v(t, schedule, 'eps'),
        min_snr=lambda: d.min_snr(t, schedule, 'v'), prior_kl=lambda: d.prior_kl(x0, schedule), vlb_terms=lambda: d.vlb_terms(model, x0, t, eps),
        Attention=lambda: d.Attention(8, 4)(torch.randn(1, 8, 4, 4)), ResBlock=lambda: d.ResBlock(8, 8, 8, 4)(torch.randn(1, 8, 4, 4), torch.randn(1, 8)),
        UNet=lambda: network(x0, t - 1), time_embedding=lambda: d.time_embedding(t, 8), Trained=lambda: trained, train=lambda: trained,
        save=lambda: d.save(model, tmp_path / 'm.safetensors'), load=lambda: d.load(d.save(model, tmp_path / 'm.safetensors')),
        Step=lambda: chain[0], ancestral=lambda: list(d.ancestral(model, eps, start=2)), interpolate=lambda: d.interpolate(x0[0], x0[1], 2, 3, model=model),
        ddim=lambda: list(d.ddim(model, eps, start=3)), dpm_solver=lambda: list(d.dpm_solver(model, eps, steps=3)),
        **{name: lambda name=name: getattr(d, name)(schedule, 100, 7) for name in ('angle_steps', 'even_steps', 'log_snr_steps', 'quadratic_steps')},
        noising_panel=lambda: d.noising_panel(x0[0]), schedules_panel=d.schedules_panel, denoising_panel=lambda: d.denoising_panel(model, 2), training_panel=lambda: d.training_panel(model, data.images, 1),
        Points=lambda: d.Points(x0).rows(torch.arange(2)), Batch=lambda: data.rows(torch.arange(2)), Denoiser=lambda: d.Denoiser(schedule), clip=lambda: d.clip(2 * x0),
        denoising=lambda: d.denoising(), Draws=lambda: d.Draws(0, 0).uniform(1, 3), small_variance=lambda: d.small_variance(schedule), large_variance=lambda: d.large_variance(schedule),
        steered=lambda: d.steered(model, model, 2.).x0_hat(xt, t), guided=lambda: d.guided(model, None, 2.), usual=d.usual, Averaging=d.Averaging, Hook=d.Hook,
        Checkpoint=lambda: d.Checkpoint(tmp_path / 'kept'), Precision=d.Precision, Preview=lambda: d.Preview(print), Progress=d.Progress, Tracker=lambda: d.Tracker('tensorboard', tmp_path),
        results=lambda: d.results(tmp_path), run_experiment=lambda: d.run_experiment('one', d.cosine_schedule(2), epochs=1, data=d.characters(300, progress=False), samples=40, out=tmp_path, progress=False),
        copy_exercises=lambda: d.copy_exercises(tmp_path / 'exercises'), pretrained=d.pretrained, sample=lambda: d.sample(1, model=model, seed=0, progress=False),
        Estimate=lambda: d.Estimate(1., 0., 2.), bits_per_dim=lambda: d.bits_per_dim(model, data.images[:2], per_t=2), features=lambda: points,
        evaluate=lambda: d.evaluate(data.images[:40], data, data), frechet_distance=lambda: d.frechet_distance(points, points),
        kernel_distance=lambda: d.kernel_distance(points, points), read_labels=lambda: labels, nearest=lambda: d.nearest(x0, data.images),
        label_coverage=lambda: d.label_coverage(labels, data.labels, data.words), label_variation=lambda: d.label_variation(labels, data.labels),
        nearer=lambda: d.nearer(points[:, 0], points[:, 1]), copies=lambda: d.copies(points[:, 0], points[:, 1]),
        inception_features=lambda: d.inception_features)                 # it needs weights from the network: tested below
    assert sorted(calls) == d.__all__
    for name, call in calls.items():
        assert call() is not None, name


def test_inception_says_what_it_needs(monkeypatch, tmp_path):
    """Without its package, without a network, and (with a stand-in for both) what is passed on to it."""
    import platformdirs
    from ddpm_teach import inception
    monkeypatch.setattr(platformdirs, 'user_cache_path', lambda name: tmp_path)
    inception.inception_network.cache_clear()
    monkeypatch.setitem(sys.modules, 'torch_fidelity', None)
    monkeypatch.setitem(sys.modules, 'torch_fidelity.feature_extractor_inceptionv3', None)
    with pytest.raises(ImportError, match=r'pip install "ddpm_teach\[inception\]"'):
        d.inception_features(torch.zeros(2, 3, 32, 32))

    class StandIn(torch.nn.Module):
        def __init__(self, name, layers, feature_extractor_weights_path):
            super().__init__()
            assert layers == ['2048'] and pathlib.Path(feature_extractor_weights_path).exists()

        def forward(self, x):
            assert x.dtype == torch.uint8
            return (x.float().mean((2, 3)),)

    stand_in = type(sys)('stand_in')
    stand_in.FeatureExtractorInceptionV3, stand_in.URL_INCEPTION_V3 = StandIn, 'http://127.0.0.1:9/weights.pth'
    monkeypatch.setitem(sys.modules, 'torch_fidelity.feature_extractor_inceptionv3', stand_in)
    with pytest.raises(ConnectionError, match='could not be fetched'):
        d.inception_features(torch.zeros(2, 3, 32, 32))
    assert list(tmp_path.iterdir()) == []                                  # nothing half fetched stays
    (tmp_path / 'inception-2015-12-05.pth').touch()
    assert d.features(torch.ones(2, 3, 32, 32), d.inception_features).tolist() == [[255.] * 3] * 2
    inception.inception_network.cache_clear()


def test_reader_is_small():
    assert (ROOT / 'ddpm_teach/reader.safetensors').stat().st_size < 1_000_000


def test_stored_log_belongs_to_the_shipped_model():
    log = json.loads((ROOT / 'nbs/results/06_training/shipped.json').read_text())
    model = d.pretrained()
    assert model.network.config == log['network'] and model.predicts == log['predicts'] and model.schedule.T == log['T']
    assert log['loss_of_each_epoch'][-1] < log['loss_of_each_epoch'][0] / 5 and len(log['loss_of_each_epoch']) >= 20
