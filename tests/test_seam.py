"""One seam lets every condition in: labels, a picture with its noise level, and data
that
are no pictures. No sampler knows of any of them."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import ddpm_teach as d
from ddpm_teach.data import Batch, Points
from ddpm_teach.guidance import guided, steered
from ddpm_teach.hooks import Hook
from ddpm_teach.objective import Denoiser
from ddpm_teach.plumbing.draws import CONDITION, NOISE

SAMPLERS = {'ancestral': d.ancestral, 'ddim': d.ddim, 'dpm_solver': d.dpm_solver}


def quiet(*more):
    return [*d.usual(bf16=False, progress=False), *more]


def last(sampler, model, x, **options):
    *_, step = sampler(model, x, **options)
    return step.x


# (a) Labels: a tiny network learns them in seconds, and draws what was asked


class Labels(nn.Module):
    """Rows of labels to a condition; a row of its own says nothing."""

    def __init__(self, classes: int):
        super().__init__()
        self.classes = classes

    def forward(self, labels):
        return {'label': torch.as_tensor(labels).reshape(-1)}

    def nothing(self, n: int):
        return {'label': torch.full((n,), self.classes)}


class Coloured(nn.Module):
    """Pictures of 4x4 pixels with a label each, in one hidden layer."""

    shape = (3, 4, 4)

    def __init__(self, classes: int, T: int):
        super().__init__()
        self.T = T
        self.said = nn.Embedding(classes + 1, 16)
        self.layers = nn.Sequential(
            nn.Linear(48 + 2 + 16, 128), nn.SiLU(), nn.Linear(128, 48)
        )

    def forward(self, x, i, given):
        angle = (i[:, None] / self.T) * 1.5
        seen = [x.flatten(1), angle.sin(), angle.cos(), self.said(given['label'])]
        return self.layers(torch.cat(seen, 1)).view_as(x)


COLOURS = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=torch.uint8)


def coloured(n=600):
    """Plain squares in three colours, labelled, a little uneven."""
    labels = torch.arange(n) % 3
    noise = torch.randint(
        0, 30, (n, 3, 4, 4), generator=torch.Generator().manual_seed(0)
    )
    images = COLOURS[labels][:, :, None, None].expand(-1, -1, 4, 4).long()
    images = (images - noise).abs().clamp(0, 255).to(torch.uint8)
    return d.Pictures(images, labels[:, None], {'colour': ['red', 'green', 'blue']})


def dropping(conditioner, share):
    """A condition for training: the labels, or nothing in a share of the rows."""

    def given(batch, draws):
        said = conditioner(batch.labels)
        silent = conditioner.nothing(len(batch.labels))
        drop = draws.uniform(CONDITION, len(batch.labels)) < share
        return {name: torch.where(drop, silent[name], said[name]) for name in said}

    return given


@pytest.fixture(scope='module')
def obedient():
    torch.manual_seed(0)
    conditioner = Labels(3)
    schedule = d.cosine_schedule(100)
    model = d.DDPM(Coloured(3, 100), schedule, conditioner=conditioner)
    objective = d.denoising(given=dropping(conditioner, 0.2))
    return d.train(model, coloured(), 40, objective=objective, hooks=quiet()).model


def colour_of(images):
    return images.mean((2, 3)).argmax(1)


@pytest.mark.parametrize('name', SAMPLERS)
def test_a_network_draws_what_was_asked(obedient, name):
    asked = torch.arange(48) % 3
    images = d.sample(
        48,
        asked.tolist(),
        model=obedient,
        sampler=SAMPLERS[name],
        seed=0,
        progress=False,
    )
    assert (colour_of(images) == asked).float().mean() > 0.97
    one = d.sample(
        12, 1, model=obedient, sampler=SAMPLERS[name], seed=1, progress=False
    )
    assert (colour_of(one) == 1).all()
    free = d.sample(60, model=obedient, sampler=SAMPLERS[name], seed=0, progress=False)
    assert len(colour_of(free).unique()) == 3  # nothing said: all of them


def test_a_scale_above_one_says_it_louder(obedient):
    """Guided, the squares are further from the other colours, not nearer."""
    plain, loud = (
        d.sample(30, 2, model=obedient, guidance=scale, seed=0, progress=False)
        for scale in (1.0, 2.0)
    )
    assert (colour_of(loud) == 2).all() and not torch.equal(plain, loud)
    again = d.sample(30, 2, model=obedient, seed=0, progress=False)
    assert torch.equal(loud, again)  # 2 is the default


def test_splitting_changes_no_draw_and_no_condition(obedient):
    asked = [0, 1, 2, 2, 1, 0, 0]
    whole = d.sample(7, asked, model=obedient, seed=3, progress=False)
    parts = d.sample(7, asked, model=obedient, seed=3, batch_size=2, progress=False)
    assert (whole - parts).abs().max() < 1e-4
    assert colour_of(parts).tolist() == asked


def test_drawing_leaves_the_network_as_it_was(obedient):
    for training in (False, True):
        obedient.train(training)
        d.sample(2, 1, model=obedient, guidance=2.0, seed=0, progress=False)
        assert obedient.network.training is training
    obedient.eval()


def test_what_cannot_be_asked_is_refused(obedient):
    silent = d.DDPM(lambda x, i: 0 * x, d.cosine_schedule(5))
    silent.shape = (3, 4, 4)
    for wrong in (dict(prompt='red'), dict(prompt=None, guidance=2.0)):
        with pytest.raises(ValueError, match='should'):
            d.sample(2, model=silent, progress=False, **wrong)
    with pytest.raises(ValueError, match='prompt.*should'):
        d.sample(3, [0, 1], model=obedient, progress=False)


# (b) A low-resolution picture, itself noised, and how much


class Sharpener(nn.Module):
    """A picture from a coarse one: a convolution over both, and the two levels."""

    shape = (1, 8, 8)

    def __init__(self, T: int):
        super().__init__()
        self.T = T
        self.layers = nn.Sequential(
            nn.Conv2d(4, 24, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(24, 24, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(24, 1, 3, padding=1),
        )

    def forward(self, x, i, given):
        coarse = F.interpolate(given['low'], scale_factor=2)
        time = (i / self.T)[:, None, None, None].expand_as(x)
        level = given['level'][:, None, None, None].expand_as(x)
        return self.layers(torch.cat([x, coarse, time, level.float()], 1))


def coarse_and_noised(batch, draws):
    """The picture at half the size with noise of a random level, which is told."""
    low = F.avg_pool2d(batch.x0, 2)
    level = draws.uniform(CONDITION, len(low)).to(low) * 0.3
    noise = draws.normal(CONDITION, like=low)
    return {'low': low + level[:, None, None, None] * noise, 'level': level}


def squares(n):
    """Grey squares on another grey, 8x8."""
    rng = torch.Generator().manual_seed(1)
    images = (
        torch.randint(0, 256, (n, 1, 1, 1), generator=rng).expand(-1, -1, 8, 8).clone()
    )
    images[:, :, 2:6, 2:6] = torch.randint(0, 256, (n, 1, 1, 1), generator=rng)
    return images.to(torch.uint8)


@pytest.mark.parametrize('name', SAMPLERS)
def test_a_coarse_picture_is_followed(name, sharpener):
    wanted = d.to_float(squares(400)[:16])
    given = {'low': F.avg_pool2d(wanted, 2), 'level': torch.zeros(16)}
    rng = torch.Generator().manual_seed(2)
    drawn = last(
        SAMPLERS[name], sharpener.bound(given), torch.randn(16, 1, 8, 8, generator=rng)
    )
    off = (F.avg_pool2d(drawn, 2) - given['low']).abs().mean()
    other = (F.avg_pool2d(drawn, 2) - given['low'].roll(1, 0)).abs().mean()
    assert off < 0.25 * other and off < 0.15


@pytest.fixture(scope='module')
def sharpener():
    torch.manual_seed(0)
    model = d.DDPM(Sharpener(100), d.cosine_schedule(100))
    objective = d.denoising(given=coarse_and_noised)
    return d.train(model, squares(400), 40, objective=objective, hooks=quiet()).model


def test_one_row_of_a_condition_is_for_all(sharpener):
    low = {'low': torch.zeros(1, 1, 4, 4), 'level': torch.zeros(1)}
    for_each = {name: value.expand(3, *value.shape[1:]) for name, value in low.items()}
    x = torch.randn(3, 1, 8, 8)
    t = torch.tensor([7, 50, 100])
    one = sharpener.bound(low).x0_hat(x, t)
    assert torch.equal(one, sharpener.bound(for_each).x0_hat(x, t))


# (c) Numbers instead of pictures, without a limit


class Line(nn.Module):
    """A vector of three numbers in and out."""

    shape = (3,)

    def __init__(self, T: int):
        super().__init__()
        self.T = T
        self.layers = nn.Sequential(
            nn.Linear(5, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 3)
        )

    def forward(self, x, i):
        angle = (i[:, None] / self.T) * 1.5
        return self.layers(torch.cat([x, angle.sin(), angle.cos()], 1))


@pytest.mark.parametrize('name', SAMPLERS)
def test_vectors_beyond_one_survive(name, vectors):
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(3))
    drawn = last(SAMPLERS[name], vectors, x)
    assert drawn.abs().max() > 2  # nothing was clipped
    assert (drawn.mean(0) - torch.tensor([3.0, -2.0, 0.0])).abs().max() < 0.3
    assert 0.2 < drawn.std(0).mean() < 0.9


@pytest.fixture(scope='module')
def vectors():
    torch.manual_seed(0)
    centre = torch.tensor([3.0, -2.0, 0.0])
    points = centre + 0.5 * torch.randn(2000, 3)
    model = d.DDPM(Line(100), d.cosine_schedule(100), limit=None)
    return d.train(model, Points(points), 20, hooks=quiet()).model


def test_a_sample_of_vectors(vectors):
    assert d.sample(5, model=vectors, seed=0, progress=False).shape == (5, 3)


# Guidance, where it is exact


class Ideal(Denoiser):
    """What the ideal denoiser of a mixture believes."""

    def __init__(self, world, schedule):
        super().__init__(schedule, tuple(world.means.shape[1:]), limit=None)
        self.world = world

    def belief(self, xt, t):
        return self.world.x0_mean(xt, t, self.schedule)


def gaussian(mean):
    """One component, exactly."""
    as64 = dict(dtype=torch.float64)
    return d.Mixture(
        torch.tensor([[mean]], **as64),
        torch.tensor([0.2], **as64),
        torch.ones(1, **as64),
    )


def test_steering_is_the_line_through_two_beliefs():
    schedule = d.cosine_schedule(50)
    toward = Ideal(gaussian(0.6), schedule)
    away = Ideal(gaussian(-1.0), schedule)
    x = torch.linspace(-2, 2, 50, dtype=torch.float64)[:, None]
    t = torch.arange(1, 51)
    there = toward.x0_hat(x, t)
    here = away.x0_hat(x, t)
    for scale in (-1.0, 0.0, 0.5, 1.0, 3.0):
        found = steered(toward, away, scale).x0_hat(x, t)
        assert torch.allclose(found, here + scale * (there - here), atol=1e-12)
    assert torch.equal(steered(toward, away, 1.0).x0_hat(x, t), there)
    assert torch.equal(steered(toward, away, 0.0).x0_hat(x, t), here)


def test_steering_between_two_levels_only():
    schedule = d.cosine_schedule(50)
    toward = Ideal(gaussian(0.6), schedule)
    away = Ideal(gaussian(-1.0), schedule)
    x = torch.zeros(1, 1, dtype=torch.float64)
    part = steered(toward, away, 3.0, interval=(10, 20))
    for t, inside in [(9, False), (10, True), (20, True), (21, False)]:
        t = torch.tensor([t])
        same = torch.equal(part.x0_hat(x, t), toward.x0_hat(x, t))
        assert same != inside


def test_the_limit_comes_after_steering():
    schedule = d.cosine_schedule(50)
    toward = Ideal(gaussian(0.9), schedule)
    away = Ideal(gaussian(-0.9), schedule)
    toward.limit = d.clip
    x = torch.zeros(1, 1, dtype=torch.float64)
    t = torch.tensor([50])
    both = steered(toward, away, 2.0)
    assert both.belief(x, t).item() > 1 and both.x0_hat(x, t).item() == 1


@pytest.mark.parametrize('name', SAMPLERS)
def test_steered_samples_of_two_gaussians_are_exact(name):
    """Two Gaussians of one width: the steered belief is that of a third, whose mean
    lies
    on the line through theirs. So its samples are known exactly."""
    schedule = d.cosine_schedule(200)
    away = Ideal(gaussian(-0.5), schedule)
    toward = Ideal(gaussian(0.5), schedule)
    third = Ideal(gaussian(-0.5 + 2.5 * 1.0), schedule)
    x = torch.randn(
        200, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    rngs = [torch.Generator().manual_seed(1) for _ in range(2)]
    draws = [
        lambda rng=rng: torch.randn(200, 1, dtype=torch.float64, generator=rng)
        for rng in rngs
    ]
    found = last(SAMPLERS[name], steered(toward, away, 2.5), x, draw=draws[0])
    wanted = last(SAMPLERS[name], third, x, draw=draws[1])
    assert torch.allclose(found, wanted, atol=1e-9)


def test_guided_is_steered_between_conditions(obedient):
    given, nothing = {'label': torch.tensor([1])}, {'label': torch.tensor([3])}
    x = torch.randn(4, 3, 4, 4)
    t = torch.tensor([5, 30, 60, 100])
    bound = guided(obedient, given, 2.0)
    by_hand = steered(obedient.bound(given), obedient.bound(nothing), 2.0)
    assert torch.equal(bound.x0_hat(x, t), by_hand.x0_hat(x, t))
    other = guided(obedient, given, 2.0, without={'label': torch.tensor([0])})
    assert not torch.equal(other.x0_hat(x, t), bound.x0_hat(x, t))


# Other objectives, other hooks, other processes


def test_the_loop_trains_something_else():
    """An autoencoder: its objective draws nothing and knows no schedule."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 2), nn.Linear(2, 8))
    basis = torch.randn(2, 8)
    data = Points(torch.randn(640, 2) @ basis)

    def rebuild(model, batch, draws):
        return F.mse_loss(model(batch.x0), batch.x0)

    trained = d.train(model, data, 30, objective=rebuild, lr=2e-2, hooks=quiet())
    assert sum(trained.losses[-10:]) < 0.05 * sum(trained.losses[:10])


def test_draws_do_not_depend_on_the_share():
    for purpose in (NOISE, CONDITION):
        whole = d.Draws(5, 7)
        parts = [d.Draws(5, 7, (i, 2)) for i in range(2)]
        for name, arguments in dict(whole=(6, 1, 9), uniform=(6,)).items():
            all_rows = getattr(whole, name)(purpose, *arguments)
            halves = [getattr(p, name)(purpose, 3, *arguments[1:]) for p in parts]
            assert torch.equal(all_rows[0::2], halves[0])
            assert torch.equal(all_rows[1::2], halves[1])
        like = torch.zeros(6, 2, 2)
        all_rows = whole.normal(purpose, like)
        halves = [p.normal(purpose, like[:3]) for p in parts]
        assert torch.equal(torch.stack(halves, 1).flatten(0, 1), all_rows)


def test_labels_are_right_where_pictures_are_mirrored():
    images = torch.arange(4, dtype=torch.uint8).reshape(1, 1, 1, 4).repeat(40, 3, 1, 1)
    labels = torch.zeros(40, 1, dtype=torch.long)
    data = d.Pictures(images, labels, {'flip': ['none', 'horizontal']}, mirror=True)
    for batch in d.batches(data, 0, 20):
        turned = batch.x0[:, 0, 0, 0] > batch.x0[:, 0, 0, -1]
        assert torch.equal(batch.labels[:, 0].bool(), turned)
        assert 0 < turned.sum() < 20


def test_hooks_are_told_in_order():
    heard = []

    class Listener(Hook):
        def begin(self, run):
            heard.append('begin')

        def after_step(self, run):
            heard.append('step')

        def after_epoch(self, run):
            heard.append(f'epoch {run.epoch}')

        def finish(self, run):
            heard.append('finish')

        def end(self):
            heard.append('end')

    torch.manual_seed(0)
    model = d.DDPM(Line(10), d.cosine_schedule(10), limit=None)
    d.train(model, Points(torch.randn(8, 3)), 2, batch_size=4, hooks=[Listener()])
    epoch = ['step', 'step']
    assert heard == ['begin', *epoch, 'epoch 1', *epoch, 'epoch 2', 'finish', 'end']


SCRIPT = """
import sys, torch
sys.path.insert(0, sys.argv[1])
import test_seam as here
import ddpm_teach as d
torch.set_num_threads(1)
torch.manual_seed(0)
conditioner = here.Labels(3)
model = d.DDPM(here.Coloured(3, 50), d.cosine_schedule(50), conditioner=conditioner)
objective = d.denoising(given=here.dropping(conditioner, .2))
trained = d.train(model, here.coloured(128), 2, objective=objective, hooks=here.quiet())
pictures = d.sample(5, [0, 1, 2, 0, 1], model=trained.model, seed=0, progress=False)
from ddpm_teach.plumbing.processes import processes
name = f'{sys.argv[2]}/{processes().process_index}.pt'
torch.save(dict(losses=trained.losses, pictures=pictures), name)
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='starts processes with gloo')
def test_two_processes_see_the_same_conditions(tmp_path):
    script = tmp_path / 'script.py'
    script.write_text(SCRIPT)
    found = {}
    for count in (1, 2):
        out = tmp_path / str(count)
        out.mkdir()
        launch = [sys.executable]
        if count > 1:
            launch += [
                '-m',
                'torch.distributed.run',
                '--standalone',
                '--nproc-per-node=2',
            ]
        here = os.path.dirname(__file__)
        subprocess.run(
            [*launch, str(script), here, str(out)],
            check=True,
            timeout=300,
            capture_output=True,
            env=os.environ | {'OMP_NUM_THREADS': '1'},
        )
        found[count] = torch.load(out / '0.pt')
    ours, theirs = (torch.tensor(found[count]['losses']) for count in (1, 2))
    assert (theirs / ours - 1).abs().max() < 1e-4
    assert (found[1]['pictures'] - found[2]['pictures']).abs().max() < 1e-2


def test_no_sampler_names_a_condition():
    """The samplers' code says nothing of prompts, guidance, labels or latents."""
    for name in ('sampling', 'fast_sampling'):
        path = os.path.join(os.path.dirname(d.__file__), f'{name}.py')
        with open(path, encoding='utf-8') as file:
            code = file.read()
        for word in ('given', 'guid', 'prompt', 'label', 'condition', 'clip', 'limit'):
            assert word not in code.split('# %%', 2)[2], f'{name} knows of {word}'


def test_batches_are_tuples_that_slice():
    batch = Batch(torch.zeros(4, 3), torch.zeros(4, 1).long(), torch.arange(4))
    assert Batch(*(part[1::2] for part in batch)).index.tolist() == [1, 3]
