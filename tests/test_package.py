"""The package as programs see it: in step with its notebooks, light, offline, and whole
without them."""
import ast
import builtins
import configparser
import importlib
import json
import multiprocessing
import os
import pathlib
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

import ddpm_teach as d
from places import public_names

ROOT = pathlib.Path(__file__).parents[1]


def run(code, **env):
    """Run `code` in a fresh process and return what it printed."""
    command = [sys.executable, '-c', code]
    env = {**os.environ, **env}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_readme_is_the_index():
    from readme import readme
    stored = (ROOT / 'README.md').read_text(encoding='utf-8')
    assert stored == readme(), 'run: python tests/tools/prepare.py'


def test_version_is_one():
    config = configparser.ConfigParser(delimiters=['='])
    config.read(ROOT / 'settings.ini')
    assert config['DEFAULT']['version'] == d.__version__


def test_every_public_name_is_found():
    for module, names in public_names().items():
        exported = importlib.import_module(f'ddpm_teach.{module}').__all__
        for name in names:
            assert name in exported, name
            assert getattr(d, name) is not None, name
    with pytest.raises(AttributeError):
        d.no_such_name


def test_names_are_offered(tmp_path):
    """By `dir`, and by the tab key of IPython and Jupyter, before any of them has been
    used."""
    code = """
import ddpm_teach
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
assert set(ddpm_teach.__all__) <= set(dir(ddpm_teach))
shell = InteractiveShell(user_ns={'ddpm_teach': ddpm_teach})
offered = set()
with provisionalcompleter():
    for typed in ('ddpm_teach.dd', 'from ddpm_teach import sa'):
        for completion in shell.Completer.completions(typed, len(typed)):
            offered.add(completion.text)
print(*sorted(offered))
"""
    offered = run(code, IPYTHONDIR=str(tmp_path)).split()
    assert {'ddim', 'ddpm_loss', 'sample', 'save', 'save_grid'} <= set(offered)


def imported(node):
    """The modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or '']
    return []


def test_modules_use_neither_nbdev_nor_fastcore():
    for path in (ROOT / 'ddpm_teach').rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            packages = {name.split('.')[0] for name in imported(node)}
            assert not packages & {'nbdev', 'fastcore', 'execnb'}, path


def test_modules_define_the_names_they_use():
    """A function that leans on a global of its notebook works there, and fails for
    whoever imports it."""
    from mutants import names
    for name in public_names():
        module = importlib.import_module(f'ddpm_teach.{name}')
        source = pathlib.Path(module.__file__).read_text(encoding='utf-8')
        used, _ = names(source)
        assert used - set(vars(builtins)) == set(), name


def test_sampling_is_light_and_offline():
    code = """
import socket
import sys


def refuse(*args, **kwargs):
    raise AssertionError('the network was asked')


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
heavy = ['torchvision', 'matplotlib', 'ipywidgets', 'accelerate', 'dicebear', 'nbdev',
         'fastcore', 'IPython']
print([name for name in heavy if name in sys.modules])
"""
    assert run(code).strip() == '[]'


def total(pictures):
    return pictures.images.long().sum().item()


def _characters(cache, queue):
    os.environ['XDG_CACHE_HOME'] = cache
    queue.put(total(d.characters(40, progress=False)))


def totals_of_two_processes(cache):
    """What two processes draw that start together."""
    context = multiprocessing.get_context('spawn')
    queue = context.Queue()
    arguments = (str(cache), queue)
    two = [context.Process(target=_characters, args=arguments) for _ in range(2)]
    for process in two:
        process.start()
    values = [queue.get(timeout=120) for _ in two]
    for process in two:
        process.join()
    return values


@pytest.mark.skipif(sys.platform != 'linux', reason='moves the cache by XDG_CACHE_HOME')
def test_two_first_calls_draw_once_and_a_broken_drawing_is_not_read(
    tmp_path, monkeypatch
):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    one, other = totals_of_two_processes(tmp_path)
    assert one == other
    files = list(tmp_path.rglob('*.safetensors'))
    assert len(files) == 1
    assert not list(tmp_path.rglob('*.part'))
    file = files[0]
    drawn = file.stat().st_mtime_ns
    # What an interrupted drawing leaves.
    (file.parent / (file.name + '.99.part')).write_bytes(b'half')
    again = d.characters(40, progress=False)
    assert total(again) == one
    assert file.stat().st_mtime_ns == drawn
    more = d.characters(60, progress=False)
    assert torch.equal(more.images[:40], again.images)
    assert torch.equal(more.labels[:40], again.labels)


# Each public name, called in this process, where no notebook has run.

def made(folder):
    """What the calls below share."""
    data = d.characters(64, progress=False)
    x0 = d.to_float(data.images[:4])
    eps = torch.randn(4, 3, 32, 32)
    t = torch.tensor([1, 2, 50, 100])
    schedule = d.cosine_schedule(100)
    network = d.UNet(channels=(8, 16), groups=4)
    model = d.DDPM(network, schedule)
    fig, axes = d.figure()
    pictures = folder / 'pictures'
    pictures.mkdir()
    d.to_pil(x0[0]).save(pictures / 'one.png')
    hooks = d.usual(progress=False, bf16=False)
    labels, _ = d.read_labels(data.images)
    return SimpleNamespace(
        folder=folder, data=data, x0=x0, eps=eps, t=t, schedule=schedule,
        xt=d.q_sample(x0, t, schedule, eps), network=network, model=model,
        chain=[d.Step(1, x0, None), d.Step(0, x0, x0)], fig=fig, axes=axes,
        pictures=pictures, trained=d.train(model, data, 1, hooks=hooks),
        points=d.features(data.images), labels=labels)


def plotted(m):
    d.plot_curves({'a': [1, 2], 'b': [2, 1]}, alt='two lines', ax=m.axes[0])
    return m.fig


def stored_grid(m):
    return d.load_grid(d.save_grid(m.x0, m.folder / 'b.webp', 2, 1), 4, 2)


def shown(show, *args, **options):
    """Whoever shows returns nothing."""
    show(*args, **options)
    return True


def picture_calls(m):
    return dict(
        animate=lambda: d.animate(m.chain, m.folder / 'a.gif'),
        figure=lambda: m.fig,
        image_grid=lambda: d.image_grid(m.x0),
        plot_curves=lambda: plotted(m),
        save_grid=lambda: d.save_grid(m.x0, m.folder / 'a.png'),
        load_grid=lambda: stored_grid(m),
        show_chain=lambda: shown(d.show_chain, m.chain, alt='a chain'),
        show_figure=lambda: shown(d.show_figure, m.fig, 'axes'),
        show_images=lambda: shown(d.show_images, m.x0, alt='faces', titles='abcd'),
        to_float=lambda: d.to_float(m.data.images),
        to_pil=lambda: d.to_pil(m.x0[0]),
        to_uint8=lambda: d.to_uint8(m.x0),
    )


def data_calls(m):
    data = m.data
    return dict(
        Batch=lambda: data.rows(torch.arange(2)),
        Pictures=lambda: d.Pictures(data.images, data.labels, data.words).describe(0),
        Points=lambda: d.Points(m.x0).rows(torch.arange(2)),
        batches=lambda: next(d.batches(data)),
        characters=lambda: data,
        image_folder=lambda: d.image_folder(m.pictures),
        pictures=lambda: d.pictures([d.to_pil(m.x0[0])]),
        Draws=lambda: d.Draws(0, 0).uniform(1, 3),
    )


def density(m):
    mixture = d.Mixture(torch.zeros(2, 1), torch.ones(2), torch.full((2,), .5))
    return mixture.log_density(torch.zeros(3, 1), torch.tensor([1, 2, 3]), m.schedule)


def schedule_calls(m):
    return dict(
        Schedule=lambda: d.Schedule(torch.full((50,), .5)),
        cosine_schedule=lambda: m.schedule,
        linear_schedule=lambda: d.linear_schedule(1000),
        sigmoid_schedule=lambda: d.sigmoid_schedule(100),
        small_variance=lambda: d.small_variance(m.schedule),
        large_variance=lambda: d.large_variance(m.schedule),
        best_variance=lambda: d.best_variance(m.schedule, 1 - m.schedule.abar),
        angle_steps=lambda: d.angle_steps(m.schedule, 100, 7),
        even_steps=lambda: d.even_steps(m.schedule, 100, 7),
        log_snr_steps=lambda: d.log_snr_steps(m.schedule, 100, 7),
        quadratic_steps=lambda: d.quadratic_steps(m.schedule, 100, 7),
    )


def formula_calls(m):
    x0 = m.x0
    xt = m.xt
    eps = m.eps
    t = m.t
    schedule = m.schedule
    return dict(
        Mixture=lambda: density(m),
        eps_from_x0=lambda: d.eps_from_x0(x0, xt, t, schedule),
        x0_from_eps=lambda: d.x0_from_eps(eps, xt, t, schedule),
        v_from_x0=lambda: d.v_from_x0(x0, xt, t, schedule),
        x0_from_v=lambda: d.x0_from_v(x0, xt, t, schedule),
        posterior=lambda: d.posterior(x0, xt, t, schedule),
        q_sample=lambda: xt,
        q_step=lambda: d.q_step(x0, t, schedule, eps),
        clip=lambda: d.clip(2 * x0),
        like_v=lambda: d.like_v(t, schedule, 'eps'),
        min_snr=lambda: d.min_snr(t, schedule, 'v'),
        prior_kl=lambda: d.prior_kl(x0, schedule),
        ddpm_loss=lambda: d.ddpm_loss(m.model, x0, t, eps, F.l1_loss, d.min_snr),
        vlb_terms=lambda: d.vlb_terms(m.model, x0, t, eps),
    )


def stored_for_diffusers(m):
    network = d.UNet((8, 16), groups=4, patch=1, attention=())
    return d.to_diffusers(d.DDPM(network, m.schedule, 'v'), m.folder / 'theirs')


def model_calls(m):
    """The models for diffusers are read after one has been written."""
    grid = torch.randn(1, 8, 4, 4)
    block = d.ResBlock(8, 8, 8, 4)
    path = m.folder / 'm.safetensors'
    return dict(
        DDPM=lambda: m.model.x0_hat(m.xt, m.t),
        Denoiser=lambda: d.Denoiser(m.schedule),
        Attention=lambda: d.Attention(8, 4)(grid),
        ResBlock=lambda: block(grid, torch.randn(1, 8)),
        UNet=lambda: m.network(m.x0, m.t - 1),
        time_embedding=lambda: d.time_embedding(m.t, 8),
        save=lambda: d.save(m.model, path),
        load=lambda: d.load(d.save(m.model, path)),
        pretrained=d.pretrained,
        to_diffusers=lambda: stored_for_diffusers(m),
        from_diffusers=lambda: d.from_diffusers(m.folder / 'theirs'),
        diffusers_sampler=lambda: d.diffusers_sampler(m.folder / 'theirs'),
    )


def experiment(m):
    return d.run_experiment(
        'one', d.cosine_schedule(2), epochs=1,
        data=d.characters(300, progress=False), samples=40, out=m.folder,
        progress=False)


def training_calls(m):
    return dict(
        Trained=lambda: m.trained,
        train=lambda: m.trained,
        denoising=lambda: d.denoising(),
        usual=d.usual,
        Averaging=d.Averaging,
        Checkpoint=lambda: d.Checkpoint(m.folder / 'kept'),
        Hook=d.Hook,
        Plan=lambda: d.plan(m.model, m.data, 2),
        plan=lambda: str(d.plan(m.model, m.data, 2)),
        Precision=d.Precision,
        Muon=lambda: d.Muon(m.model.parameters(), 1e-3),
        Preview=lambda: d.Preview(print),
        Progress=d.Progress,
        adamw=lambda: d.adamw(m.model.parameters(), 1e-3),
        Tracker=lambda: d.Tracker('tensorboard', m.folder),
        results=lambda: d.results(m.folder),
        run_experiment=lambda: experiment(m),
        copy_exercises=lambda: d.copy_exercises(m.folder / 'exercises'),
    )


def sampling_calls(m):
    model = m.model
    x0 = m.x0
    return dict(
        Step=lambda: m.chain[0],
        ancestral=lambda: list(d.ancestral(model, m.eps, start=2)),
        ddim=lambda: list(d.ddim(model, m.eps, start=3)),
        dpm_solver=lambda: list(d.dpm_solver(model, m.eps, steps=3)),
        interpolate=lambda: d.interpolate(x0[0], x0[1], 2, 3, model=model),
        back_and_forth=lambda: list(d.back_and_forth(model, m.eps, start=3)),
        edit=lambda: d.edit(x0[0], n=2, model=model, progress=False),
        inpaint=lambda: d.inpaint(
            x0[0], x0[0, 0] > 0, n=2, model=model, progress=False),
        sample=lambda: d.sample(1, model=model, seed=0, progress=False),
        steered=lambda: d.steered(model, model, 2.).x0_hat(m.xt, m.t),
        guided=lambda: d.guided(model, None, 2.),
        noising_panel=lambda: d.noising_panel(x0[0]),
        schedules_panel=d.schedules_panel,
        denoising_panel=lambda: d.denoising_panel(model, 2),
        training_panel=lambda: d.training_panel(model, m.data.images, 1),
    )


def evaluation_calls(m):
    data = m.data
    points = m.points
    labels = m.labels
    one = points[:, 0]
    other = points[:, 1]
    return dict(
        Estimate=lambda: d.Estimate(1., 0., 2.),
        bits_per_dim=lambda: d.bits_per_dim(m.model, data.images[:2], per_t=2),
        features=lambda: points,
        evaluate=lambda: d.evaluate(data.images[:40], data, data),
        frechet_distance=lambda: d.frechet_distance(points, points),
        kernel_distance=lambda: d.kernel_distance(points, points),
        read_labels=lambda: labels,
        nearest=lambda: d.nearest(m.x0, data.images),
        label_coverage=lambda: d.label_coverage(labels, data.labels, data.words),
        label_variation=lambda: d.label_variation(labels, data.labels),
        nearer=lambda: d.nearer(one, other),
        copies=lambda: d.copies(one, other),
        # It needs weights from the network: tested below.
        inception_features=lambda: d.inception_features,
    )


def word_calls(m):
    texts = d.caption(m.data.labels[:4], d.Draws(0, 0))
    words = d.Words(['blue', 'hair'])
    network = d.TextUNet(len(words), channels=(8, 16), groups=4, attention=())
    batch = m.data.rows(torch.arange(4))
    asked = d.DDPM(network, m.schedule, conditioner=words)
    return dict(
        caption=lambda: texts,
        sayable=d.sayable,
        Words=lambda: words(['blue hair']),
        captioned=lambda: d.captioned(words)(batch, d.Draws(0, 0)),
        TextUNet=lambda: network(m.x0, m.t - 1, words.nothing(len(m.x0))),
        words_panel=lambda: d.words_panel(asked, n=2),
    )


def latent_calls(m):
    coder = d.Autoencoder((8, 16), size=32)
    batch = m.data.rows(torch.arange(4))
    return dict(
        Autoencoder=lambda: coder.decode(coder.encode(m.x0)),
        encoded=lambda: d.encoded(coder, m.data, progress=False),
        reconstruction=lambda: d.reconstruction()(coder, batch, d.Draws(0, 0)),
    )


ROOMS = [picture_calls, data_calls, schedule_calls, formula_calls, model_calls,
         training_calls, sampling_calls, evaluation_calls, word_calls, latent_calls]


def test_every_export_works_without_a_notebook(tmp_path):
    m = made(tmp_path)
    calls = {}
    for room in ROOMS:
        calls |= room(m)
    assert sorted(calls) == d.__all__
    for name, call in calls.items():
        assert call() is not None, name


class StandIn(torch.nn.Module):
    """For the network of torch-fidelity."""

    def __init__(self, name, layers, feature_extractor_weights_path):
        super().__init__()
        assert layers == ['2048']
        assert pathlib.Path(feature_extractor_weights_path).exists()

    def forward(self, x):
        assert x.dtype == torch.uint8
        return (x.float().mean((2, 3)),)


@pytest.fixture
def inception_cache(monkeypatch, tmp_path):
    """An empty folder for the weights, and no network kept before or after."""
    import platformdirs
    from ddpm_teach.inception import inception_network
    monkeypatch.setattr(platformdirs, 'user_cache_path', lambda name: tmp_path)
    inception_network.cache_clear()
    yield tmp_path
    inception_network.cache_clear()


def test_inception_says_what_it_needs(monkeypatch, inception_cache):
    """Without its package, without a network, and (with a stand-in for both) what is
    passed on to it."""
    theirs = 'torch_fidelity.feature_extractor_inceptionv3'
    monkeypatch.setitem(sys.modules, 'torch_fidelity', None)
    monkeypatch.setitem(sys.modules, theirs, None)
    with pytest.raises(ImportError, match=r'pip install "ddpm_teach\[inception\]"'):
        d.inception_features(torch.zeros(2, 3, 32, 32))
    stand_in = type(sys)('stand_in')
    stand_in.FeatureExtractorInceptionV3 = StandIn
    stand_in.URL_INCEPTION_V3 = 'http://127.0.0.1:9/weights.pth'
    monkeypatch.setitem(sys.modules, theirs, stand_in)
    with pytest.raises(ConnectionError, match='could not be fetched'):
        d.inception_features(torch.zeros(2, 3, 32, 32))
    # Nothing half fetched stays.
    assert list(inception_cache.iterdir()) == []
    (inception_cache / 'inception-2015-12-05.pth').touch()
    found = d.features(torch.ones(2, 3, 32, 32), d.inception_features)
    assert found.tolist() == [[255.] * 3] * 2


def test_reader_is_small():
    assert (ROOT / 'ddpm_teach/reader.safetensors').stat().st_size < 1_000_000


def test_stored_log_belongs_to_the_shipped_model():
    path = ROOT / 'nbs/results/06_training/shipped.json'
    log = json.loads(path.read_text(encoding='utf-8'))
    model = d.pretrained()
    assert model.network.config == log['network']
    assert model.predicts == log['predicts']
    assert model.schedule.T == log['T']
    losses = log['loss_of_each_epoch']
    assert losses[-1] < losses[0] / 5
    assert len(losses) >= 20
