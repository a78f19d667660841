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


@pytest.fixture
def no_model(monkeypatch):
    """No model may be loaded."""
    from ddpm_teach import drawing

    def refuse(*args):
        raise AssertionError('a model was loaded')

    monkeypatch.setattr(drawing, 'pretrained', refuse)
    monkeypatch.setattr(drawing, 'load', refuse)


AS_TYPED = 'sampler=ddim, steps=10'
WRONG_DRAWINGS = [
    (dict(sampler='ddim'), AS_TYPED),
    (dict(sampler='no_such'), AS_TYPED),
    (dict(sampler=10), AS_TYPED),
    (dict(sampler=d.linear_schedule), AS_TYPED),
    (dict(sampler=d.Schedule), AS_TYPED),
    (dict(sampler=d.ancestral, steps=10), 'ancestral goes through all'),
    (dict(steps='10'), "steps is '10', it should be a whole number"),
    (dict(steps=0), 'steps is 0'),
    (dict(steps=2.5), 'steps is 2.5'),
    (dict(n=(2, 3, 32, 32)), r'n is \(2, 3, 32, 32\), it should be a whole number'),
    (dict(n=MODEL), r'^n is a DDPM; .*sample\(16, model=model\)'),
    (dict(prompt=MODEL), r'^prompt is a DDPM; .*sample\(16, model=model\)'),
    (dict(seed=torch.Generator()), 'seed is .*whole number, 0 or more'),
    (dict(seed='1'), 'seed is'),
    (dict(seed=-1), 'seed is -1'),
    (dict(device='gpu'), "device is 'gpu'"),
    (dict(guidance=2.0), 'without a prompt'),
    (dict(model=torch.nn.Identity()), r'is a Identity.*DDPM\(network, schedule\)'),
    (dict(model=d.Trained(MODEL, [])), r'is a Trained.*give \.model'),
    (dict(model=SCHEDULE), 'is a Schedule, it should be a Denoiser'),
]


@pytest.mark.parametrize('given, words', WRONG_DRAWINGS)
def test_drawings_refused_before_a_model_is_loaded(given, words, no_model):
    with pytest.raises((TypeError, ValueError), match=words) as error:
        d.sample(**given)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize('name', ['ancestral', 'ddim', 'dpm_solver'])
def test_a_sampler_that_is_called_says_what_to_type(name):
    sampler = getattr(d, name)
    for call in (sampler, lambda **given: sampler(MODEL, **given)):
        with pytest.raises(TypeError, match=AS_TYPED):
            call()
    with pytest.raises(TypeError, match="unexpected keyword argument 'step'"):
        sampler(MODEL, X, step=10)
    chain = sampler(MODEL, X)
    with pytest.raises(TypeError, match=f'a chain that has begun.*{AS_TYPED}'):
        d.sample(sampler=chain)
    with pytest.raises(TypeError, match=AS_TYPED):
        d.interpolate(X[0], X[0], 3, model=MODEL, sampler=name)


def test_fewer_steps_by_name():
    """Of the default sampler, and of one that is named."""
    asked = []

    def network(x, i):
        asked.append(int(i[0]))
        return 0 * x

    model = d.DDPM(network, SCHEDULE)
    model.shape = (1, 4, 4)
    for sampler in (None, d.ddim, d.dpm_solver):
        asked.clear()
        d.sample(1, model=model, sampler=sampler, steps=4, progress=False)
        assert len(asked) == 4


def test_a_model_by_its_path(tmp_path):
    """A file, or the folder of a training."""
    path = d.save(d.pretrained(), tmp_path / 'model.safetensors')
    options = dict(steps=2, seed=0, progress=False)
    wanted = d.sample(1, **options)
    for model in (path, str(path), tmp_path, str(tmp_path)):
        assert torch.equal(d.sample(1, model=model, **options), wanted)
    with pytest.raises(FileNotFoundError, match='no model.safetensors'):
        d.sample(1, model=tmp_path.parent)
    with pytest.raises(FileNotFoundError, match='runs/mine'):
        d.sample(1, model='runs/mine')


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
    for name in ('characters', 'words'):
        assert d.pretrained.__wrapped__(name).network.shape == (3, 32, 32)
