"""What the functions of the mathematics refuse, and what they must not: the first and
the last value that is allowed."""

import pytest
import torch

import ddpm_teach as d

SCHEDULE = d.cosine_schedule(10)
X = torch.zeros(2, 1, 4, 4)
MODEL = d.DDPM(torch.nn.Identity(), SCHEDULE)


def formulas(t):
    """Calls of the formulas with these steps."""
    t = torch.tensor(t)
    return [
        lambda: d.q_step(X, t, SCHEDULE, X),
        lambda: d.q_sample(X, t, SCHEDULE, X),
        lambda: d.posterior(X, X, t, SCHEDULE),
    ]


@pytest.mark.parametrize('t', [[0, 1], [1, 11]])
def test_steps_out_of_range(t):
    words = 'whole numbers from 1 to 10, one for each of the 2 pictures'
    for call in formulas(t):
        with pytest.raises(ValueError, match=words):
            call()


@pytest.mark.parametrize('t', [[1], [1, 2, 3], [[1], [2]]])
def test_another_number_of_steps(t):
    for call in formulas(t):
        with pytest.raises(TypeError, match='t is .* it should be Int.*with b = 2'):
            call()


def test_steps_that_are_allowed():
    assert (
        d.q_sample(X, torch.tensor([1, 10]), SCHEDULE, X).shape
        == d.q_step(X, torch.tensor([10, 1]), SCHEDULE, X).shape
        == X.shape
    )


def test_noise_of_another_shape():
    with pytest.raises(TypeError, match='eps is .*it should be Float'):
        d.q_sample(X, torch.tensor([1, 2]), SCHEDULE, X[:, :, :2])


def test_predictions():
    with pytest.raises(ValueError, match="'noise', it should be"):
        d.DDPM(torch.nn.Identity(), SCHEDULE, 'noise')
    assert MODEL.predicts == 'x0'


@pytest.mark.parametrize('counts', [dict(n=0), dict(n=1, batch_size=0), dict(n=-1)])
def test_no_pictures(counts):
    with pytest.raises(ValueError, match='should be a whole number, 1 or more'):
        d.sample(model=MODEL, **counts)


def test_sixteen_pictures_by_default():
    network = torch.nn.Conv2d(1, 1, 1)
    network.shape = (1, 4, 4)
    network.forward = lambda x, i: 0 * x
    assert d.sample(model=d.DDPM(network, SCHEDULE), progress=False).shape == (
        16,
        1,
        4,
        4,
    )


def test_interpolation():
    with pytest.raises(ValueError, match='from 1 to 10'):
        d.interpolate(X[0], X[0], 0, model=MODEL)
    with pytest.raises(ValueError, match='from 1 to 10'):
        d.interpolate(X[0], X[0], 11, model=MODEL)
    model = d.DDPM(lambda x, i: 0 * x, SCHEDULE)
    assert (
        len(d.interpolate(X[0], X[0], 1, model=model))
        == len(d.interpolate(X[0], X[0], 10, model=model))
        == 8
    )


@pytest.mark.parametrize('sampler', [d.ddim, d.dpm_solver])
def test_fast_samplers(sampler):
    model = d.DDPM(lambda x, i: 0 * x, SCHEDULE)
    for wrong in (dict(eta=-0.1), dict(eta=1.1), dict(steps=0), dict(steps=-1)):
        with pytest.raises(ValueError, match='should be'):
            list(sampler(model, X, **wrong))
    for right in (
        dict(eta=0.0),
        dict(eta=1.0),
        dict(steps=1),
        dict(steps=10),
        dict(steps=99),
        dict(start=1),
    ):
        assert list(sampler(model, X, **right))[-1].t == 0


def test_the_warning_says_how_much_is_left():
    with pytest.warns(
        UserWarning,
        match=r'after all 100 steps abar_T = 0\.364, so x_T still carries 60\.3%',
    ):
        d.linear_schedule(100)


@pytest.mark.parametrize(
    'make', [lambda: d.linear_schedule(100), lambda: d.Schedule([0.1, 0.1])]
)
def test_the_warning_points_at_the_caller(make):
    with pytest.warns(UserWarning) as caught:
        make()
    assert [warning.filename for warning in caught] == [__file__]


def test_a_sigmoid_with_another_tau():
    u = torch.linspace(-2, 3, 8, dtype=torch.float64)
    expected = (torch.sigmoid(u[-1] / 0.7) - torch.sigmoid(u / 0.7)) / (
        torch.sigmoid(u[-1] / 0.7) - torch.sigmoid(u[0] / 0.7)
    )
    assert torch.allclose(
        d.sigmoid_schedule(7, -2.0, 3.0, 0.7).abar[:-1], expected[:-1], atol=1e-12
    )


@pytest.mark.parametrize('stds', [1, 3])
def test_a_mixture_with_another_number_of_deviations(stds):
    with pytest.raises(ValueError, match='should'):
        d.Mixture(torch.zeros(2, 1), torch.ones(stds), torch.full((2,), 0.5))


def test_every_so_many_moments():
    model = d.DDPM(lambda x, i: 0 * x, SCHEDULE)
    assert [step.t for step in d.ancestral(model, X, every=3)] == [10, 9, 6, 3, 0]


def test_the_model_that_ships_can_be_loaded():
    assert d.pretrained.__wrapped__().network.shape == (3, 32, 32)
