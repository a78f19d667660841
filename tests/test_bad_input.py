"""Bad input to every public function.

Each row gets a ValueError or TypeError that says which argument it was, what it was
and what it should be; or a right answer, which is checked.
`pytest tests/test_bad_input.py -s -k table` prints the table.
"""
import functools
import pathlib
import subprocess
import sys
import tempfile
import warnings
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

import ddpm_teach as d

# Short schedules leave signal.
pytestmark = pytest.mark.filterwarnings('ignore:after all')
few = settings(derandomize=True, deadline=None, max_examples=12, database=None)
# The folder stays until this process ends.
_KEPT = tempfile.TemporaryDirectory()
FOLDER = pathlib.Path(_KEPT.name)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


T = 20
SCHEDULE = d.cosine_schedule(T)
NETWORK = d.UNet(channels=(8, 16), groups=4)
MODEL = d.DDPM(NETWORK, SCHEDULE)
BYTES = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=seeded(0))
X = d.to_float(BYTES)
MASK = X[0, 0] > 0
EPS = torch.randn(2, 3, 32, 32, generator=seeded(1))
STEPS = torch.tensor([1, T])
CHAIN = [d.Step(1, X, None), d.Step(0, X, X)]
POINTS = torch.randn(40, 5, generator=seeded(2))
LABELS = torch.zeros(40, 2, dtype=torch.int16)
PLAIN = d.Pictures(BYTES, torch.zeros(2, 0), {})
WORDS = {'hair': ['red', 'blue'], 'flip': ['no', 'yes']}
LABELLED = d.Pictures(BYTES, LABELS[:2], WORDS)
ONE = torch.ones(1)
MIXTURE = d.Mixture(torch.zeros(1, 1), ONE, ONE)
NAN = float('nan')
INF = float('inf')
PNG = FOLDER / 'a.png'
GIF = FOLDER / 'a.gif'
THEIRS = FOLDER / 'theirs'


class Row(NamedTuple):
    function: str
    argument: str
    given: str
    call: Any              # what is called, without arguments
    was: tuple = ()        # the message says one of these: what the argument was
    answer: Any = None     # instead of an error: what the answer must be like


def bad(function, argument, given, call, *was):
    """A row that is refused with one of the words `was`."""
    return Row(function, argument, given, call, was)


def good(function, argument, given, call, answer):
    """A row that gets a right answer."""
    return Row(function, argument, given, call, answer=answer)


def table(function, argument, call, inputs):
    """Rows of one call that takes the input: (what is given, the input, *was)."""
    return [
        bad(function, argument, given, partial(call, value), *was)
        for given, value, *was in inputs
    ]


def some(inputs, *kinds):
    """The inputs of these kinds."""
    return [row for row in inputs if row[0] in kinds]


def but(inputs, *kinds):
    """The inputs of all other kinds."""
    return [row for row in inputs if row[0] not in kinds]


def changed(x, value):
    """The same with one element replaced."""
    x = x.clone()
    x.view(-1)[0] = value
    return x


def wrong_pictures(x):
    """What can be wrong with pictures, made from right ones."""
    return [
        ('an array of NumPy', x.numpy(), 'ndarray'),
        ('whole numbers', x.long(), 'int64'),
        ('truth values', x > 0, 'bool'),
        ('complex numbers', x.to(torch.complex64), 'complex64'),
        ('a dimension too few', x[0], '(3, 32, 32)', '(32, 32)'),
        ('no pictures', x[:0], '(0, 3, 32, 32)', '[]', 'shape (0, '),
        ('two channels', x[..., :2, :, :], '(2, 2, 32, 32)', '(2, 32, 32)'),
        ('a nan', changed(x, NAN), 'nan'),
        ('an infinity', changed(x, torch.inf), 'infinite'),
        ('bytes as floats', ((x + 1) * 127.5).round(), 'look like bytes'),
        ('on the device meta', x.to('meta'), 'meta'),
    ]


# Pictures that are looked at or judged.
DRAWN = {
    'image_grid': ('images', lambda x: d.image_grid(x)),
    'save_grid': ('images', lambda x: d.save_grid(x, PNG)),
    'show_images': ('images', lambda x: d.show_images(x, 'words')),
    'features': ('images', lambda x: d.features(x)),
    'read_labels': ('images', lambda x: d.read_labels(x)),
    'inception_features': ('x', lambda x: d.inception_features(x)),
    'nearest': ('images', lambda x: d.nearest(x, BYTES)),
    'evaluate': ('samples', lambda x: d.evaluate(x, LABELLED, LABELLED)),
}

# Numbers of any range and shape: a nan stays a nan.
FORMULAS = {
    'q_step': ('x', lambda x: d.q_step(x, STEPS, SCHEDULE, EPS)),
    'q_sample': ('x0', lambda x: d.q_sample(x, STEPS, SCHEDULE, EPS)),
    'posterior': ('x0', lambda x: d.posterior(x, X, STEPS, SCHEDULE)[0]),
    'eps_from_x0': ('x0', lambda x: d.eps_from_x0(x, X, STEPS, SCHEDULE)),
    'x0_from_eps': ('eps', lambda x: d.x0_from_eps(x, X, STEPS, SCHEDULE)),
    'v_from_x0': ('x0', lambda x: d.v_from_x0(x, X, STEPS, SCHEDULE)),
    'x0_from_v': ('v', lambda x: d.x0_from_v(x, X, STEPS, SCHEDULE)),
    'ddpm_loss': ('x0', lambda x: d.ddpm_loss(MODEL, x, STEPS, EPS)),
    'vlb_terms': ('x0', lambda x: d.vlb_terms(MODEL, x, STEPS, EPS)),
    'prior_kl': ('x0', lambda x: d.prior_kl(x, SCHEDULE)),
}

# Steps t, one for each of two pictures.
WITH_STEPS = {
    'q_step': lambda t: d.q_step(X, t, SCHEDULE, EPS),
    'q_sample': lambda t: d.q_sample(X, t, SCHEDULE, EPS),
    'posterior': lambda t: d.posterior(X, X, t, SCHEDULE),
    'eps_from_x0': lambda t: d.eps_from_x0(X, X, t, SCHEDULE),
    'x0_from_eps': lambda t: d.x0_from_eps(EPS, X, t, SCHEDULE),
    'v_from_x0': lambda t: d.v_from_x0(X, X, t, SCHEDULE),
    'x0_from_v': lambda t: d.x0_from_v(X, X, t, SCHEDULE),
    'DDPM': lambda t: MODEL(X, t),
    'DDPM.x0_hat': lambda t: MODEL.x0_hat(X, t),
    'ddpm_loss': lambda t: d.ddpm_loss(MODEL, X, t, EPS),
    'vlb_terms': lambda t: d.vlb_terms(MODEL, X, t, EPS),
    'min_snr': lambda t: d.min_snr(t, SCHEDULE, 'v'),
    'like_v': lambda t: d.like_v(t, SCHEDULE, 'v'),
    'Mixture.log_density':
        lambda t: MIXTURE.log_density(torch.zeros(2, 1), t, SCHEDULE),
    'Mixture.x0_mean':
        lambda t: MIXTURE.x0_mean(torch.zeros(2, 1), t, SCHEDULE),
}
WRONG_STEPS = [
    ('0', torch.tensor([0, 1]), '[0, 1]'),
    ('negative', torch.tensor([1, -1]), '[1, -1]'),
    ('above T', torch.tensor([1, T + 1]), '[1, 21]'),
    ('floats', torch.tensor([1., 2.]), 'float32'),
    ('a list', [1, 2], 'list'),
    ('two dimensions', torch.ones(2, 1, dtype=torch.long), '[[1], [1]]', '(2, 1)'),
    ('a single number', torch.tensor(3), '3'),
    ('none', torch.ones(0, dtype=torch.long), '[]', '(0,)'),
    ('truth values', torch.tensor([True, True]), 'bool'),
    ('on the device meta', STEPS.to('meta'), 'meta'),
]


class Count(NamedTuple):
    """A whole number, from the least to the most that is right."""
    function: str
    argument: str
    call: Any
    least: int = 1
    most: Any = None


COUNTS = [
    Count('image_grid', 'cols', lambda n: d.image_grid(X, n)),
    Count('image_grid', 'gap', lambda n: d.image_grid(X, gap=n), 0),
    Count('save_grid', 'zoom', lambda n: d.save_grid(X, PNG, zoom=n)),
    Count('load_grid', 'n', lambda n: d.load_grid(PNG, n, 1)),
    Count('load_grid', 'cols', lambda n: d.load_grid(PNG, 2, n)),
    Count('load_grid', 'size', lambda n: d.load_grid(PNG, 2, 2, n)),
    Count('figure', 'cols', lambda n: d.figure(n)),
    Count('figure', 'rows', lambda n: d.figure(1, n)),
    Count('show_images', 'cols', lambda n: d.show_images(X, 'words', cols=n)),
    Count('show_chain', 'image', lambda n: d.show_chain(CHAIN, 'words', n), 0, 1),
    Count('show_chain', 'columns',
          lambda n: d.show_chain(CHAIN, 'words', columns=n)),
    Count('animate', 'frames', lambda n: d.animate(CHAIN, GIF, n)),
    Count('animate', 'zoom', lambda n: d.animate(CHAIN, GIF, zoom=n)),
    Count('characters', 'n', lambda n: d.characters(n)),
    Count('characters', 'size', lambda n: d.characters(2, n)),
    Count('characters', 'seed', lambda n: d.characters(2, seed=n), 0),
    Count('image_folder', 'size', lambda n: d.image_folder(FOLDER, n)),
    Count('Pictures.describe', 'i', lambda n: LABELLED.describe(n), 0, 1),
    Count('batches', 'batch_size', lambda n: next(d.batches(PLAIN, batch_size=n))),
    Count('batches', 'epoch', lambda n: next(d.batches(PLAIN, n)), 0),
    Count('batches', 'seed', lambda n: next(d.batches(PLAIN, seed=n)), 0),
    Count('linear_schedule', 'T', d.linear_schedule),
    Count('linear_schedule, rescaled', 'T',
          lambda n: d.linear_schedule(n, rescale=True)),
    Count('cosine_schedule', 'T', d.cosine_schedule),
    Count('sigmoid_schedule', 'T', d.sigmoid_schedule),
    Count('Mixture.sample', 'n', MIXTURE.sample),
    Count('time_embedding', 'dim', lambda n: d.time_embedding(STEPS, n), 4),
    Count('UNet', 'blocks', lambda n: d.UNet(blocks=n)),
    Count('UNet', 'size', lambda n: d.UNet(size=n)),
    Count('UNet', 'image_channels', lambda n: d.UNet(image_channels=n)),
    Count('UNet', 'patch', lambda n: d.UNet(patch=n)),
    Count('UNet', 'groups', lambda n: d.UNet(groups=n)),
    Count('ResBlock', 'channels', lambda n: d.ResBlock(n, 8, 8)),
    Count('ResBlock', 'c_time', lambda n: d.ResBlock(8, 8, n)),
    Count('ResBlock', 'groups', lambda n: d.ResBlock(8, 8, 8, n)),
    Count('Attention', 'channels', lambda n: d.Attention(n)),
    Count('Attention', 'groups', lambda n: d.Attention(8, n)),
    Count('ancestral', 'start', lambda n: next(d.ancestral(MODEL, X, start=n)), 1, T),
    Count('ancestral', 'every', lambda n: next(d.ancestral(MODEL, X, every=n))),
    Count('ddim', 'start', lambda n: next(d.ddim(MODEL, X, start=n)), 1, T),
    Count('ddim', 'steps', lambda n: next(d.ddim(MODEL, X, steps=n))),
    Count('dpm_solver', 'start',
          lambda n: next(d.dpm_solver(MODEL, X, start=n)), 1, T),
    Count('dpm_solver', 'steps', lambda n: next(d.dpm_solver(MODEL, X, steps=n))),
    Count('even_steps', 'start', lambda n: d.even_steps(SCHEDULE, n, 1), 1, T),
    Count('even_steps', 'steps', lambda n: d.even_steps(SCHEDULE, 7, n), 1, 7),
    Count('quadratic_steps', 'start',
          lambda n: d.quadratic_steps(SCHEDULE, n, 1), 1, T),
    Count('quadratic_steps', 'steps',
          lambda n: d.quadratic_steps(SCHEDULE, 7, n), 1, 7),
    Count('log_snr_steps', 'start', lambda n: d.log_snr_steps(SCHEDULE, n, 1), 1, T),
    Count('log_snr_steps', 'steps', lambda n: d.log_snr_steps(SCHEDULE, 7, n), 1, 7),
    Count('angle_steps', 'start', lambda n: d.angle_steps(SCHEDULE, n, 1), 1, T),
    Count('angle_steps', 'steps', lambda n: d.angle_steps(SCHEDULE, 7, n), 1, 7),
    Count('sample', 'n', lambda n: d.sample(n, model=MODEL, progress=False)),
    Count('sample', 'batch_size',
          lambda n: d.sample(1, model=MODEL, batch_size=n, progress=False)),
    Count('sample', 'seed',
          lambda n: d.sample(1, model=MODEL, seed=n, progress=False), 0),
    Count('interpolate', 't',
          lambda n: d.interpolate(X[0], X[1], n, model=MODEL), 1, T),
    Count('interpolate', 'n',
          lambda n: d.interpolate(X[0], X[1], 2, n, model=MODEL)),
    Count('interpolate', 'seed',
          lambda n: d.interpolate(X[0], X[1], 2, 1, model=MODEL, seed=n), 0),
    Count('edit', 'n', lambda n: edited(X[0], n=n)),
    Count('edit', 'seed', lambda n: edited(X[0], seed=n), 0),
    Count('inpaint', 'n', lambda n: painted(X[0], n=n)),
    Count('inpaint', 'seed', lambda n: painted(X[0], seed=n), 0),
    Count('back_and_forth', 'turns',
          lambda n: list(d.back_and_forth(MODEL, X, turns=n))),
    Count('bits_per_dim', 'per_t', lambda n: d.bits_per_dim(MODEL, BYTES, n), 2),
    Count('bits_per_dim', 'seed',
          lambda n: d.bits_per_dim(MODEL, BYTES, 2, seed=n), 0),
    Count('noising_panel', 'T', lambda n: d.noising_panel(X[0], n)),
    Count('noising_panel', 'seed', lambda n: d.noising_panel(X[0], 9, n), 0),
    Count('denoising_panel', 'n', lambda n: d.denoising_panel(MODEL, n)),
]


# What a right answer is like.

def same_shape(x):
    return lambda answer: answer.shape == x.shape


def same_bytes(x):
    return lambda answer: torch.equal(answer, x)


def has_nan(answer):
    return bool(answer.isnan().any())


def all_ones(answer):
    return bool((answer == 1).all())


def whole_chain(steps):
    last = steps[-1]
    return len(steps) == T + 1 and last.t == 0 and last.x.abs().max() <= 1


def one_step(schedule):
    return schedule.T == 1 and 0 < schedule.abar[1] < 1


def sine_of_a_million(answer):
    return abs(answer[0, 0].item() - np.sin(10**6)) < 1e-4


def larger_T_advised(said):
    return 'take T above 20' in said


def there(answer):
    return answer is not None


# Rows that several functions share.

def formula_rows(name, argument, call):
    kinds = some(wrong_pictures(X), 'an array of NumPy', 'whole numbers',
                 'truth values', 'complex numbers', 'no pictures', 'on the device meta')
    rows = table(name, argument, call, kinds)
    rows += [
        bad(name, argument, 'bytes', lambda: call(BYTES), 'uint8'),
        good(name, argument, 'a nan', lambda: call(changed(X, NAN)), has_nan),
    ]
    if name != 'prior_kl':
        rows.append(bad(name, argument, 'a picture less than the others',
                        lambda: call(X[:1]), '(1, 3, 32, 32)'))
    return rows


def step_rows(name, call):
    rows = table(name, 't', call, WRONG_STEPS)
    if name not in ('min_snr', 'like_v'):
        rows.append(bad(name, 't', 'three for two pictures',
                        lambda: call(torch.ones(3, dtype=torch.long)), '[1, 1, 1]'))
    return rows


def count_rows(count):
    values = [count.least - 1, -3, count.least + 1.5, 'two']
    if count.most is not None:
        values.append(count.most + 1)
    inputs = [(repr(value), value, repr(value), str(value)) for value in values]
    return table(count.function, count.argument, count.call, inputs)


def model_rows(name, call):
    """What takes a model refuses what is none; who draws reads a path."""
    rows = [bad(name, 'model', 'a U-Net', lambda: call(NETWORK), 'UNet')]
    if name not in ('sample', 'interpolate', 'edit', 'inpaint'):
        rows.append(bad(name, 'model', 'a path', lambda: call('a.safetensors'), 'str'))
    return rows


def start_rows(name, call):
    """Pictures that a sampler starts from."""
    kinds = some(wrong_pictures(X), 'an array of NumPy', 'whole numbers',
                 'no pictures', 'a nan', 'an infinity', 'on the device meta')
    return table(name, 'x', call, kinds + [
        ('bytes', BYTES, 'uint8'),
        ('odd size', torch.zeros(2, 3, 31, 33), '31, 33'),
        ('one channel', X[:, :1], '(2, 1, 32, 32)'),
    ])


def sampler_rows(name):
    sampler = getattr(d, name)
    options = {} if name == 'ancestral' else {'steps': T + 9}
    rows = model_rows(name, lambda model: next(sampler(model, X)))
    rows += start_rows(name, lambda x: list(sampler(MODEL, x, start=2)))
    rows.append(good(name, 'steps', 'more than T',
                     lambda: list(sampler(MODEL, X, **options)), whole_chain))
    return rows


def eta_rows(name):
    sampler = getattr(d, name)
    inputs = [(repr(eta), eta, repr(eta)) for eta in (-.1, 1.1, NAN)]
    return table(name, 'eta', lambda eta: next(sampler(MODEL, X, eta=eta)), inputs)


def distance_rows(name, right):
    """Two sets of points or distances, of 40 members each."""
    function = getattr(d, name)
    rows = table(name, 'a', lambda a: function(a, right), [
        ('a nan', changed(right, NAN), 'nan'),
        ('whole numbers', right.long(), 'int64'),
        ('another dimension', right[None], '(1, 40'),
        ('none', right[:0], '(0'),
        ('on the device meta', right.to('meta'), 'meta'),
    ])
    rows.append(bad(name, 'sets', '39 members',
                    lambda: function(right[:39], right), '39'))
    return rows


def label_rows(name, call):
    return table(name, 'labels', call, [
        ('floats', LABELS.float(), 'float32'),
        ('negative', LABELS - 1, '-1'),
        ('none', LABELS[:0], '(0, 2)'),
        ('one dimension', LABELS[:, 0], '(40,)'),
    ])


def alt_rows(name, call):
    inputs = [(repr(alt), alt, repr(alt)) for alt in ('', ' ', None)]
    return table(name, 'alt', call, inputs)


ROWS = []
for _name, (_argument, _call) in DRAWN.items():
    ROWS += table(_name, _argument, _call, wrong_pictures(X))
ROWS += table('to_pil', 'image', d.to_pil, wrong_pictures(X[0]))
ROWS += table('to_uint8', 'images', d.to_uint8, but(
    wrong_pictures(X), 'a dimension too few', 'no pictures', 'two channels'))
for _name, (_argument, _call) in FORMULAS.items():
    ROWS += formula_rows(_name, _argument, _call)
for _name, _call in WITH_STEPS.items():
    ROWS += step_rows(_name, _call)
for _count in COUNTS:
    ROWS += count_rows(_count)
for _name in ('ancestral', 'back_and_forth', 'ddim', 'dpm_solver'):
    ROWS += sampler_rows(_name)
for _name in ('ddim', 'dpm_solver'):
    ROWS += eta_rows(_name)
ROWS += model_rows('sample', lambda model: d.sample(1, model=model))
ROWS += model_rows('interpolate',
                   lambda model: d.interpolate(X[0], X[1], 2, 2, model=model))
ROWS += model_rows('edit', lambda model: d.edit(X[0], model=model))
ROWS += model_rows('inpaint', lambda model: d.inpaint(X[0], MASK, model=model))
ROWS += model_rows('bits_per_dim', lambda model: d.bits_per_dim(model, BYTES))
ROWS += model_rows('denoising_panel', d.denoising_panel)

# Pictures on a screen and in files.
ROWS += [
    bad('to_float', 'images', 'floats', lambda: d.to_float(X), 'float32'),
    bad('to_float', 'images', 'whole numbers', lambda: d.to_float(X.long()), 'int64'),
    bad('to_float', 'images', 'a list', lambda: d.to_float([1, 2]), 'list'),
    good('to_float', 'images', 'none',
         lambda: d.to_float(BYTES[:0]), same_shape(BYTES[:0])),
    good('to_uint8', 'images', 'none', lambda: d.to_uint8(X[:0]), same_shape(X[:0])),
    good('to_uint8', 'images', 'outside [-1, 1]: noise',
         lambda: d.to_uint8(3 * EPS),
         lambda y: torch.equal(y, d.to_uint8((3 * EPS).clamp(-1, 1)))),
    bad('save_grid', 'path', 'a JPEG',
        lambda: d.save_grid(X, FOLDER / 'a.jpg'), 'a.jpg'),
    bad('animate', 'path', 'a PNG', lambda: d.animate(CHAIN, PNG), 'a.png'),
    bad('animate', 'seconds', '0', lambda: d.animate(CHAIN, GIF, seconds=0), '0'),
    bad('animate', 'seconds', 'nan',
        lambda: d.animate(CHAIN, GIF, seconds=NAN), 'nan'),
    bad('animate', 'chain', 'no steps', lambda: d.animate([], GIF), 'empty'),
    bad('show_chain', 'chain', 'no steps',
        lambda: d.show_chain(iter([]), 'words'), 'empty'),
    bad('load_grid', 'n', 'more than the file has',
        lambda: d.load_grid(d.save_grid(X, FOLDER / 'b.png', 2, 1), 5, 2),
        '66 x 32'),
    good('load_grid', 'n', 'fewer than a row',
         lambda: d.load_grid(d.save_grid(X, FOLDER / 'c.png', 5, 1), 2, 5),
         same_bytes(BYTES)),
    bad('show_images', 'titles', 'one for two',
        lambda: d.show_images(X, 'words', ['a']), '1'),
    bad('show_images', 'images', 'two shapes',
        lambda: d.show_images([X[0], X[0, :, :9]], 'words'), '(3, 9, 32)'),
    bad('plot_curves', 'curves', 'none', lambda: d.plot_curves({}, 'words'), '{}'),
    bad('plot_curves', 'curves', 'two lengths',
        lambda: d.plot_curves({'a': ([1, 2], [1, 2, 3])}, 'words'), '2 places and 3'),
    bad('figure', 'width', '0', lambda: d.figure(width=0), '0'),
    bad('figure', 'height', 'nan', lambda: d.figure(height=NAN), 'nan'),
]
ROWS += alt_rows('show_images', lambda alt: d.show_images(X, alt))
ROWS += alt_rows('show_chain', lambda alt: d.show_chain(CHAIN, alt))
ROWS += alt_rows('plot_curves', lambda alt: d.plot_curves({'a': [1, 2]}, alt))
ROWS += alt_rows('show_figure', lambda alt: d.show_figure(d.figure()[0], alt))

# Data.
ROWS += table('Pictures', 'images', lambda x: d.Pictures(x, LABELS[:2], WORDS), [
    ('floats', X, 'float32'),
    ('none', BYTES[:0], '(0,'),
    ('one picture', BYTES[0], '(3, 32, 32)'),
    ('an array of NumPy', BYTES.numpy(), 'ndarray'),
    ('on the device meta', BYTES.to('meta'), 'meta'),
])
ROWS += table('batches', 'data', lambda x: next(d.batches(x)), [
    ('floats', X, 'Tensor'),
    ('bytes', BYTES, 'Tensor'),
    ('an array of NumPy', BYTES.numpy(), 'ndarray'),
    ('a list', [1], 'list'),
    ('on the device meta', BYTES.to('meta'), 'Tensor'),
])
ROWS += [
    bad('characters', 'style', "'manga'",
        lambda: d.characters(2, style='manga'), "'manga'"),
    bad('characters', 'size', '30', lambda: d.characters(2, 30), '30'),
    bad('Points', 'x', 'whole numbers',
        lambda: d.Points(torch.zeros(2, 3).long()), 'int64'),
    bad('Points', 'x', 'none', lambda: d.Points(torch.zeros(0, 3)), '(0, 3)'),
    bad('Pictures', 'labels', 'a row less',
        lambda: d.Pictures(BYTES, LABELS[:1], WORDS), '(1, 2)'),
    bad('Pictures', 'labels', 'None',
        lambda: d.Pictures(BYTES, None, WORDS), 'NoneType'),
    bad('pictures', 'data', 'none', lambda: d.pictures([]), 'empty'),
    bad('pictures', 'size', '0', lambda: d.pictures(BYTES, size=0), '0'),
    bad('pictures', 'size', '-3', lambda: d.pictures(BYTES, size=-3), '-3'),
    bad('pictures', 'channels', '2', lambda: d.pictures(BYTES, channels=2), '2'),
    bad('pictures', 'data', 'two sizes',
        lambda: d.pictures([BYTES[0], BYTES[0, :, :4]]), '2 sizes'),
    bad('pictures', 'floats', 'another range',
        lambda: d.pictures(2 * X, floats=(0, 1)), 'from -2'),
    bad('pictures', 'floats', 'upside down',
        lambda: d.pictures(X, floats=(1, 0)), 'is 1'),
    bad('pictures', 'floats', 'one number', lambda: d.pictures(X, floats=255), '255'),
    bad('image_folder', 'channels', '2',
        lambda: d.image_folder(FOLDER, channels=2), '2'),
    bad('image_folder', 'layout', 'another word',
        lambda: d.image_folder(FOLDER, layout='deep'), "'deep'"),
    bad('image_folder', 'white', '0', lambda: d.image_folder(FOLDER, white=0), '0'),
    bad('image_folder', 'path', 'a file', lambda: d.image_folder(['a.png']), 'a.png'),
]
ROWS += table('pictures', 'data', d.pictures, [
    ('channels last', BYTES.permute(0, 2, 3, 1), '(2, 32, 32, 3)'),
    ('four channels', BYTES[:, [0, 1, 2, 2]], '(2, 4, 32, 32)'),
    ('two channels', BYTES[:, :2], '(2, 2, 32, 32)'),
    ('one picture', BYTES[0], '(3, 32, 32)'),
    ('one picture, channels last', BYTES[0].permute(1, 2, 0).numpy(), '(32, 32, 3)'),
    ('one grey picture', BYTES[0, 0], '(32,)'),
    ('a list of batches', [BYTES], '(2, 3, 32, 32)'),
    ('whole numbers', BYTES.int(), 'int32, from 0 to 255'),
    ('truth values', BYTES.numpy() > 99, 'bool, from 0 to 1'),
    ('numbers of 16 bits', BYTES.to(torch.uint16), 'uint16, from 0 to 255'),
    ('a nan', changed(X, NAN), 'item 0 of data has numbers that are nan'),
    ('one number', torch.tensor(3.), 'Tensor'),
    ('bytes as floats', BYTES.float(), 'from 0 to 255'),
    ('floats with a fourth channel', np.zeros((2, 8, 8, 4)), '(8, 8, 4)'),
    ('a DataLoader', torch.utils.data.DataLoader(BYTES), 'DataLoader'),
    ('a generator', (x for x in BYTES), 'generator'),
    ('paths', [PNG], 'a.png'),
])

# Schedules and formulas.
ROWS += table('Schedule', 'betas', d.Schedule, [
    ('none', torch.zeros(0), '(0,)'),
    ('nan', torch.tensor([.1, NAN]), 'nan'),
    ('0', torch.tensor([0., .1]), '0'),
    ('1', torch.ones(3), '1'),
    ('two dimensions', torch.full((2, 2), .1), '(2, 2)'),
    ('whole numbers', torch.ones(3, dtype=torch.long), 'int64'),
    ('on the device meta', torch.ones(3, device='meta'), 'meta'),
    ('so many that nothing is left', torch.full((1000,), .5), '9.33e-302'),
])
ROWS += [
    bad('Schedule.at', 'name', "'betta'",
        lambda: SCHEDULE.at('betta', STEPS, X), "'betta'"),
    bad('Schedule.at', 't', 'negative',
        lambda: SCHEDULE.at('beta', -STEPS, X), '[-1, -20]'),
    bad('Schedule.at', 'like', 'bytes',
        lambda: SCHEDULE.at('beta', STEPS, BYTES), 'uint8'),
    good('Schedule.at', 't', '0',
         lambda: SCHEDULE.at('abar', STEPS * 0, X, least=0), all_ones),
    bad('linear_schedule', 'betas', 'start above 1',
        lambda: d.linear_schedule(9, 2.), '2'),
    bad('linear_schedule', 'betas', 'end is nan',
        lambda: d.linear_schedule(9, end=NAN), 'nan'),
    bad('linear_schedule', 'betas', 'rescaled, T = 20',
        lambda: d.linear_schedule(20, rescale=True), '1'),
    bad('cosine_schedule', 's', '0', lambda: d.cosine_schedule(9, 0), '0'),
    bad('cosine_schedule', 's', '-1', lambda: d.cosine_schedule(9, -1), '-1'),
    bad('sigmoid_schedule', 'tau', '0', lambda: d.sigmoid_schedule(9, tau=0), '0'),
    bad('sigmoid_schedule', 'start', 'equal to end',
        lambda: d.sigmoid_schedule(9, 1, 1), '1'),
    bad('sigmoid_schedule', 'end', 'nan',
        lambda: d.sigmoid_schedule(9, end=NAN), 'nan'),
    good('linear_schedule', 'T', '1', lambda: d.linear_schedule(1), one_step),
    good('cosine_schedule', 'T', '1', lambda: d.cosine_schedule(1), one_step),
    good('sigmoid_schedule', 'T', '1', lambda: d.sigmoid_schedule(1), one_step),
    bad('q_sample', 'eps', 'another shape',
        lambda: d.q_sample(X, STEPS, SCHEDULE, EPS[:, :1]), '(2, 1, 32, 32)'),
    bad('q_sample', 'eps', 'on the device meta',
        lambda: d.q_sample(X, STEPS, SCHEDULE, EPS.to('meta')), 'meta'),
    bad('q_sample', 'schedule', 'betas',
        lambda: d.q_sample(X, STEPS, SCHEDULE.betas, EPS), 'tensor'),
    bad('Mixture', 'weights', 'adding up to 2',
        lambda: d.Mixture(torch.zeros(2, 1), torch.ones(2), torch.ones(2)),
        '[1.0, 1.0]'),
    bad('Mixture', 'stds', 'negative',
        lambda: d.Mixture(torch.zeros(1, 1), -ONE, ONE), '[-1.0]'),
    bad('Mixture', 'means', 'one dimension',
        lambda: d.Mixture(torch.zeros(1), ONE, ONE), '(1,)'),
    bad('Mixture', 'means', 'whole numbers',
        lambda: d.Mixture(torch.zeros(1, 1).long(), ONE, ONE), 'int64'),
    bad('Mixture', 'stds', 'nan',
        lambda: d.Mixture(torch.zeros(1, 1), NAN * ONE, ONE), 'nan'),
    bad('Mixture.x0_mean', 'xt', 'another shape',
        lambda: MIXTURE.x0_mean(torch.zeros(2, 3), STEPS, SCHEDULE), '(2, 3)'),
    bad('min_snr', 'predicts', "'noise'",
        lambda: d.min_snr(STEPS, SCHEDULE, 'noise'), "'noise'"),
    bad('min_snr', 'gamma', '0', lambda: d.min_snr(STEPS, SCHEDULE, 'v', 0), '0'),
    bad('like_v', 'most', '-1', lambda: d.like_v(STEPS, SCHEDULE, 'v', -1), '-1'),
    bad('vlb_terms', 'variance', "'small'",
        lambda: d.vlb_terms(MODEL, X, STEPS, EPS, 'small'), "'small'"),
    bad('best_variance', 'errors', 'another length',
        lambda: d.best_variance(SCHEDULE, torch.zeros(3)), 'tensor'),
    bad('ancestral', 'variance', "'small'",
        lambda: next(d.ancestral(MODEL, X, variance='small')), "'small'"),
]


# Models and networks.

def without_patches():
    network = d.UNet(channels=(8, 16), groups=4, patch=1, attention=())
    return d.DDPM(network, SCHEDULE)


ROWS += [
    bad('DDPM', 'predicts', "'noise'",
        lambda: d.DDPM(NETWORK, SCHEDULE, 'noise'), "'noise'"),
    bad('DDPM', 'schedule', 'betas',
        lambda: d.DDPM(NETWORK, SCHEDULE.betas), 'tensor'),
    bad('DDPM', 'network', 'None', lambda: d.DDPM(None, SCHEDULE), 'NoneType'),
    bad('DDPM', 'network', 'returns one channel',
        lambda: d.DDPM(lambda x, t: x[:, :1], SCHEDULE)(X, STEPS), '(2, 1, 32, 32)'),
    bad('DDPM', 'xt', 'bytes', lambda: MODEL(BYTES, STEPS), 'uint8'),
    bad('DDPM', 'xt', 'on the device meta',
        lambda: MODEL(X.to('meta'), STEPS), 'meta'),
    bad('time_embedding', 'dim', 'odd', lambda: d.time_embedding(STEPS, 7), '7'),
    bad('time_embedding', 't', 'two dimensions',
        lambda: d.time_embedding(STEPS[None], 8), '(1, 2)'),
    bad('time_embedding', 'period', '0',
        lambda: d.time_embedding(STEPS, 8, 0), '0'),
    good('time_embedding', 't', 'a million',
         lambda: d.time_embedding(torch.tensor([10**6]), 4), sine_of_a_million),
    bad('UNet', 'size', 'no multiple of 8', lambda: d.UNet(size=28), '28'),
    bad('UNet', 'channels', 'none', lambda: d.UNet(channels=()), '[]'),
    bad('UNet', 'channels', 'odd',
        lambda: d.UNet(channels=(9,), groups=3), '(9,)', '[9]'),
    bad('UNet', 'channels', 'no multiple of groups',
        lambda: d.UNet(channels=(20, 30)), '20'),
    bad('UNet', 'dropout', '2', lambda: d.UNet(dropout=2.), '2'),
    bad('UNet', 'x', 'another size',
        lambda: NETWORK(X[..., :16], STEPS), '(2, 3, 32, 16)'),
    bad('UNet', 't', 'three for two', lambda: NETWORK(X, torch.ones(3)), '(3,)'),
    bad('UNet', 'x', 'on the device meta',
        lambda: NETWORK(X.to('meta'), STEPS), 'meta'),
    bad('ResBlock', 'x', 'other channels',
        lambda: d.ResBlock(8, 8, 8)(X, EPS[0, 0]), '(2, 3, 32, 32)'),
    bad('ResBlock', 'emb', 'another width',
        lambda: d.ResBlock(3, 3, 8, 3)(X, torch.zeros(2, 9)), '(2, 9)'),
    bad('Attention', 'x', 'a dimension too few',
        lambda: d.Attention(8)(X[0]), '(3, 32, 32)'),
    bad('to_diffusers', 'model', 'a network',
        lambda: d.to_diffusers(NETWORK, THEIRS), 'UNet'),
    bad('to_diffusers', 'model', 'with patches',
        lambda: d.to_diffusers(MODEL, THEIRS), 'patch = 2'),
    bad('to_diffusers', 'variance', 'a word',
        lambda: d.to_diffusers(without_patches(), THEIRS, variance='x'), "'x'"),
]


# What is tried first: classes for objects, numbers for lists, modules for functions.
ROWS += table('UNet', 'channels', d.UNet, [
    ('a number', 128, '128'),
    ('a word', '64', "'64'"),
    ('None', None, 'None'),
    ('a float among them', (64, 1.5), '1.5'),
    ('zero among them', (64, 0), '0'),
])
ROWS += table('UNet', 'attention', lambda x: d.UNet(attention=x), [
    ('a resolution that it does not have', (7,), "'7'"),
    ('a number', 8, '8'),
    ('True', True, 'True'),
    ('None', None, 'None'),
])
ROWS += table('denoising', 'loss', d.denoising, [
    ('a module', torch.nn.MSELoss(), 'MSELoss()'),
    ('a module of sums', torch.nn.L1Loss(reduction='none'), 'L1Loss()'),
    ('a class', torch.nn.MSELoss, 'MSELoss'),
    ('a word', 'l1', "'l1'"),
])
ROWS += table('ddpm_loss', 'loss', lambda x: d.ddpm_loss(MODEL, X, STEPS, EPS, x), [
    ('a module', torch.nn.MSELoss(), 'MSELoss()'),
    ('a mean', lambda a, b, reduction: (a - b).square().mean(), 'shape ()'),
])
ROWS += table('Schedule', 'betas', d.Schedule, [
    ('a number', 1000, '1000'),
    ('a word', 'linear', "'linear'"),
    ('None', None, 'None'),
    ('lists of two lengths', [[.1], [.2, .3]], '[[0.1], [0.2, 0.3]]'),
])
for _name in ('linear_schedule', 'cosine_schedule', 'sigmoid_schedule'):
    ROWS += table(_name, 'T', getattr(d, _name), [
        ('more than memory holds', 10**12, '1000000000000'),
        ('a tensor of floats', torch.ones(1), 'tensor'),
    ])
for _name in ('small_variance', 'large_variance', 'Denoiser'):
    ROWS += table(_name, 'schedule', getattr(d, _name), [
        ('a number', 10, '10'),
        ('betas', SCHEDULE.betas, 'tensor'),
    ])
ROWS += table('clip', 'x0', d.clip, [
    ('an array of NumPy', X.numpy(), 'ndarray of float32'),
    ('a list', [1, 2], '[1, 2]'),
])


class Output(NamedTuple):
    sample: Any


def over(function):
    return d.features(X, function)


ASKS = d.Words(['blue', 'hair'])
LISTENS = d.TextUNet(5, channels=(8, 16), groups=4, attention=(), size=8)
ASKED = d.DDPM(LISTENS, SCHEDULE, conditioner=ASKS)


def drawn(prompt, **options):
    return d.sample(2, prompt, model=ASKED, seed=0, progress=False, **options)


ROWS += [
    bad('Words', 'vocabulary', 'a sentence', lambda: d.Words('blue hair'), 'blue hair'),
    bad('Words', 'vocabulary', 'numbers', lambda: d.Words([1, 2]), '[1, 2]'),
    bad('Words', 'longest', 'zero', lambda: d.Words(['a'], 0), '0'),
    bad('Words', 'prompts', 'a sentence', lambda: ASKS('blue'), "'blue'"),
    bad('Words', 'prompts', 'a number', lambda: ASKS([3]), '[3]'),
    bad('captioned', 'silent', 'above 1', lambda: d.captioned(ASKS, silent=2.), '2'),
    bad('captioned', 'words', 'a list', lambda: d.captioned(['blue']), "['blue']"),
    bad('caption', 'labels', 'a picture', lambda: d.caption(X, d.Draws(0, 0)), 'float'),
    bad('caption', 'labels', 'of another set',
        lambda: d.caption(torch.zeros(2, 3).long(), d.Draws(0, 0)), '(2, 3)'),
    bad('caption', 'draws', 'a seed',
        lambda: d.caption(torch.zeros(2, 13).long(), 0), '0'),
    bad('TextUNet', 'width', 'zero', lambda: d.TextUNet(5, width=0), '0'),
    bad('TextUNet', 'tokens', 'the conditioner', lambda: d.TextUNet(ASKS), 'Words'),
    bad('sample', 'prompt', 'a number', lambda: drawn(3), '3'),
    bad('words_panel', 'model', 'one without words',
        lambda: d.words_panel(MODEL), 'without words'),
    bad('words_panel', 'n', 'zero', lambda: d.words_panel(ASKED, n=0), '0'),
    bad('sample', 'prompt', 'too few', lambda: drawn(['blue'] * 3), '3'),
]


CODER = d.Autoencoder((8, 16), size=32)
ROWS += table('Autoencoder', 'channels', d.Autoencoder, [
    ('a number', 64, '64'),
    ('a word', '64', "'64'"),
    ('zero among them', (64, 0), '0'),
])
ROWS += [
    bad('Autoencoder', 'size', 'odd', lambda: d.Autoencoder(size=33), '33'),
    bad('Autoencoder', 'latent', 'zero', lambda: d.Autoencoder(latent=0), '0'),
    bad('Autoencoder', 'pictures', 'one', lambda: CODER.encode(X[0]), '(3, 32, 32)'),
    bad('encoded', 'data', 'a tensor', lambda: d.encoded(CODER, X), 'float32'),
    bad('encoded', 'autoencoder', 'a network',
        lambda: d.encoded(NETWORK, d.Pictures(d.to_uint8(X))), 'UNet'),
    bad('reconstruction', 'weight', 'zero',
        lambda: d.reconstruction(weight=0.), '0'),
]


ROWS += [
    bad('DDPM', 'network', 'a class', lambda: d.DDPM(d.UNet, SCHEDULE), 'class UNet'),
    bad('DDPM', 'network', 'a schedule', lambda: d.DDPM(SCHEDULE, NETWORK), 'Schedule'),
    bad('DDPM', 'network', 'one that returns an object',
        lambda: d.DDPM(lambda x, t: Output(x), SCHEDULE)(X, STEPS), 'Output'),
    bad('DDPM.bound', 'given', 'a network without conditions',
        lambda: MODEL.bound({'label': STEPS}), 'UNet takes none'),
    bad('guided', 'given', 'a network without conditions',
        lambda: d.guided(MODEL, {'label': STEPS}, 2.), 'UNet takes none'),
    bad('guided', 'given', 'a number', lambda: d.guided(MODEL, 3, 2.), '3'),
    bad('Draws', 'seed', 'a word', lambda: d.Draws('0', 0), "'0'"),
    bad('Draws', 'step', 'negative', lambda: d.Draws(0, -1), '-1'),
    bad('Draws', 'share', 'a number', lambda: d.Draws(0, 0, 3), '3'),
    bad('Draws.uniform', 'n', 'negative', lambda: d.Draws(0, 0).uniform(1, -3), '-3'),
    bad('Draws.uniform', 'purpose', 'a word',
        lambda: d.Draws(0, 0).uniform('noise', 3), "'noise'"),
    bad('Draws.whole', 'high', 'below low',
        lambda: d.Draws(0, 0).whole(1, 3, 5, 2), '2'),
    bad('Draws.normal', 'like', 'a list',
        lambda: d.Draws(0, 0).normal(1, [1]), '[1]'),
    bad('Draws.normal', 'like', 'no dimension',
        lambda: d.Draws(0, 0).normal(1, torch.tensor(1.)), 'shape ()'),
    bad('features', 'extractor', 'a word', lambda: over('inception'), 'inception'),
    bad('features', 'extractor', 'a mean', lambda: over(torch.mean), 'shape ()'),
    bad('features', 'extractor', 'a number', lambda: over(lambda x: 1.), 'float'),
    bad('kernel_distance', 'kernel', 'a number',
        lambda: d.kernel_distance(POINTS, POINTS, lambda x, y: 1.), 'float'),
    bad('evaluate', 'samples', 'two pictures',
        lambda: d.evaluate(X, LABELLED, LABELLED), '2 pictures'),
    bad('to_diffusers', 'model', 'a path', lambda: d.to_diffusers('a', MODEL), 'str'),
    bad('from_diffusers', 'path', 'a model', lambda: d.from_diffusers(MODEL), 'DDPM'),
]


def forty(n=40, size=32):
    images = torch.randint(0, 256, (n, 3, size, size), generator=seeded(7))
    return d.Pictures(images.to(torch.uint8), torch.zeros(n, 0), {})


ROWS += [
    bad('evaluate', 'training', 'of another size',
        lambda: d.evaluate(forty().images, forty(size=16), forty()), '(3, 16, 16)'),
    bad('evaluate', 'held_out', 'too few',
        lambda: d.evaluate(forty().images, forty(), forty(39)), '39 pictures'),
]


@pytest.mark.parametrize('rows', [
    lambda: d.evaluate(forty().images, forty(12_000), forty(39)),
    lambda: d.evaluate(forty().images, forty(), forty(size=16)),
    lambda: d.evaluate(forty(12_000).images, forty(39), forty()),
])
def test_evaluate_refuses_before_it_works(monkeypatch, rows):
    def works(*args, **kwargs):
        raise AssertionError('it has begun')

    monkeypatch.setattr('ddpm_teach.evaluation.features', works)
    with pytest.raises(ValueError, match='should have 40 or more'):
        rows()


UNIT = X / 2 + .5


@pytest.mark.parametrize('name, call', [
    ('samples', lambda x: d.evaluate(x.repeat(20, 1, 1, 1), forty(), forty())),
    ('images', lambda x: d.features(x)),
    ('images', lambda x: d.read_labels(x)),
    ('images', lambda x: d.nearest(x, BYTES)),
    ('images', lambda x: d.bits_per_dim(MODEL, x, 2)),
])
def test_pictures_between_0_and_1_are_warned_of_once(name, call):
    for right in (X, BYTES):
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            call(right)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        call(UNIT)
    (said,) = caught
    assert str(said.message).startswith(f'{name} has values from 0')
    assert '`2 * images - 1`' in str(said.message)
    assert said.filename == __file__
    assert torch.allclose(2 * UNIT - 1, X, atol=1e-6)


@pytest.mark.parametrize('kind', [torch.float16, torch.bfloat16, torch.float64])
def test_models_of_other_precision_draw(kind):
    model = d.DDPM(d.UNet(channels=(8, 16), groups=4), SCHEDULE)
    drawn = d.sample(2, model=model, seed=0, progress=False)
    again = d.sample(2, model=model.to(kind), seed=0, progress=False)
    assert model.network.first.weight.dtype == kind
    assert drawn.dtype == again.dtype == torch.float32
    assert (drawn - again).abs().mean() < .02


def test_numbers_of_numpy_make_a_network_that_is_saved(tmp_path):
    network = d.UNet(np.array([8, 16]), size=np.int64(32), groups=np.int32(4))
    assert network.config == d.UNet((8, 16), groups=4).config
    d.save(d.DDPM(network, SCHEDULE), tmp_path / 'a.safetensors')


# Samples.
DEVICES = ['meta', 'quantum', 'cuda:99']
if not torch.cuda.is_available():
    DEVICES.append('cuda')


def sample_on(device):
    return d.sample(1, model=MODEL, device=device, progress=False)


def edited(image, **options):
    return d.edit(image, model=MODEL, progress=False, **options)


def painted(image, mask=MASK, **options):
    return d.inpaint(image, mask, model=MODEL, progress=False, **options)


def mix(a, b=X[1]):
    return d.interpolate(a, b, 2, 2, model=MODEL)


for _name, _call in {'edit': edited, 'inpaint': painted}.items():
    ROWS += table(_name, 'image', _call, some(
        wrong_pictures(X[0]), 'whole numbers', 'a nan', 'bytes as floats'))
    ROWS += table(_name, 'image', _call, [
        ('outside [-1, 1]', 2 * X[0], 'from -2 to 2'), ('bytes', BYTES[0], 'uint8')])
ROWS += [
    bad('edit', 'prompt', 'for a model without conditions',
        lambda: edited(X[0], prompt='blue'), 'without conditions'),
    bad('edit', 'strength', 'above 1', lambda: edited(X[0], strength=1.5), '1.5'),
    bad('inpaint', 'mask', 'false everywhere',
        lambda: painted(X[0], mask=~MASK & MASK), 'false'),
    bad('inpaint', 'mask', 'numbers', lambda: painted(X[0], mask=X[0, 0]), 'float32'),
    bad('inpaint', 'mask', 'of another size',
        lambda: painted(X[0], mask=MASK[:9]), '(9, 32)'),
]
ROWS += table('sample', 'device', sample_on,
              [(repr(device), device, repr(device)) for device in DEVICES])
ROWS += table('interpolate', 'a', mix, some(
    wrong_pictures(X[0]),
    'whole numbers', 'a nan', 'bytes as floats', 'on the device meta'))
ROWS += [
    bad('sample', 'model', 'its network has no shape',
        lambda: d.sample(1, model=d.DDPM(lambda x, t: x, SCHEDULE)), 'function'),
    bad('sample', 'steps', 'a sampler that takes all of them',
        lambda: d.sample(1, model=MODEL, sampler=d.ancestral, steps=2), 'ancestral'),
    bad('steered', 'scale', 'nan', lambda: d.steered(MODEL, MODEL, NAN), 'nan'),
    bad('steered', 'scale', 'inf', lambda: d.steered(MODEL, MODEL, INF), 'inf'),
    bad('steered', 'scale', 'a word', lambda: d.steered(MODEL, MODEL, 'two'), 'two'),
    bad('steered', 'interval[0]', '0',
        lambda: d.steered(MODEL, MODEL, 2., (0, T)), '0'),
    bad('steered', 'interval[1]', 'below its start',
        lambda: d.steered(MODEL, MODEL, 2., (T, T - 1)), str(T - 1)),
    bad('steered', 'away', 'another schedule',
        lambda: d.steered(MODEL, d.DDPM(NETWORK, d.cosine_schedule(9)), 2.), 'T = 9'),
    bad('guided', 'scale', 'nan', lambda: d.guided(MODEL, None, NAN), 'nan'),
    bad('interpolate', 'a', 'outside [-1, 1]', lambda: mix(2 * X[0]), 'from -2 to 2'),
    bad('interpolate', 'b', 'another shape',
        lambda: mix(X[0], X[1, :, :9]), '(3, 9, 32)'),
    bad('interpolate', 'a', 'bytes', lambda: mix(BYTES[0]), 'uint8'),
]

# How good samples are.
ROWS += distance_rows('frechet_distance', POINTS)
ROWS += distance_rows('kernel_distance', POINTS)
ROWS += distance_rows('nearer', POINTS[:, 0])
ROWS += distance_rows('copies', POINTS[:, 0])
ROWS += label_rows('label_coverage', lambda x: d.label_coverage(x, LABELS, WORDS))
ROWS += label_rows('label_variation', lambda x: d.label_variation(x, LABELS))
ROWS += table('bits_per_dim', 'images', lambda x: d.bits_per_dim(MODEL, x), [
    ('whole numbers', X.long(), 'int64'),
    ('a nan', changed(X, NAN), 'nan'),
    ('bytes as floats', BYTES.float(), 'look like bytes'),
    ('outside [-1, 1]', 2 * X, 'from -2 to 2'),
    ('none', BYTES[:0], '(0,'),
    ('on the device meta', X.to('meta'), 'meta'),
])
ROWS += [
    bad('frechet_distance', 'b', 'another number of features',
        lambda: d.frechet_distance(POINTS, POINTS[:, :4]), '(40, 4)'),
    bad('label_coverage', 'labels', 'no such word',
        lambda: d.label_coverage(LABELS + 2, LABELS, WORDS), 'largest is 2'),
    bad('label_coverage', 'truth', 'an attribute too many',
        lambda: d.label_coverage(LABELS, LABELS[:, [0, 1, 1]], WORDS), '(40, 3)'),
    bad('label_variation', 'truth', 'an attribute less',
        lambda: d.label_variation(LABELS, LABELS[:, :1]), '(40, 1)'),
    bad('label_variation', 'sets', '39 labels',
        lambda: d.label_variation(LABELS[:39], LABELS), '39'),
    bad('nearest', 'training', 'floats of another size',
        lambda: d.nearest(X, BYTES[..., :9]), '(2, 3, 32, 9)'),
    bad('nearest', 'training', 'none', lambda: d.nearest(X, BYTES[:0]), '(0,'),
    bad('features', 'images', '31 x 33 pixels',
        lambda: d.features(X[..., :31]), '(2, 3, 32, 31)'),
    bad('read_labels', 'images', 'grey',
        lambda: d.read_labels(X[:, :1]), '(2, 1, 32, 32)'),
    bad('evaluate', 'training', 'a tensor',
        lambda: d.evaluate(X, BYTES, BYTES), 'tensor'),
]


# Panels.

def choose(panel, child, value):
    """The panel, after a control has been moved."""
    panel.children[child].value = value
    return panel


def said_when_rescaled():
    panel = choose(d.noising_panel(X[0], 10), 1, 'linear-rescaled')
    return panel.children[2].value


def panel_of_one_step():
    return d.denoising_panel(d.DDPM(NETWORK, d.cosine_schedule(1)), 1)


ROWS += table('noising_panel', 'image', d.noising_panel, [
    ('bytes', BYTES[0], 'uint8'),
    ('a batch', X, '(2, 3, 32, 32)'),
    ('a nan', changed(X[0], NAN), 'nan'),
    ('outside [-1, 1]', 2 * X[0], 'from -2 to 2'),
])
ROWS += [
    good('noising_panel', 'T', '10, then rescaled',
         said_when_rescaled, larger_T_advised),
    good('denoising_panel', 'model', 'T = 1', panel_of_one_step, there),
]


# Trainings: refused before the first step.

def training(model=None, data=BYTES, epochs=1, **options):
    model = d.DDPM(d.UNet(channels=(8, 16), groups=4), SCHEDULE) if not model else model
    hooks = d.usual(progress=False)
    return d.train(model, data, epochs, **(dict(hooks=hooks) | options))


def frozen():
    model = d.DDPM(d.UNet(channels=(8, 16), groups=4), SCHEDULE)
    model.requires_grad_(False)
    return model


def of_kind(kind):
    return d.DDPM(d.UNet(channels=(8, 16), groups=4), SCHEDULE).to(kind)


def two_steps(trained):
    return len(trained.losses) == 2


NOT_ABOVE_ZERO = [
    ('0', 0, 'lr is 0,'), ('below 0', -.1, '-0.1'), ('a nan', NAN, 'nan'),
    ('an infinity', INF, 'inf'), ('far too large', 100., '100.0'),
    ('none', None, 'None'), ('words', '2e-3', "'2e-3'"),
]
ROWS += table('train', 'lr', lambda x: training(lr=x), NOT_ABOVE_ZERO)
for argument in ('epochs', 'batch_size', 'seed'):
    ROWS += table(
        'train', argument, lambda x, name=argument: training(**{name: x}), [
            ('below 0', -1, '-1'), ('a float', 2.5, '2.5'), ('none', None, 'None'),
        ])
ROWS += table('train', 'model', training, [
    ('words', 'unet', 'str'),
    ('half precision', of_kind(torch.float16), 'float16'),
    ('bfloat16', of_kind(torch.bfloat16), 'bfloat16'),
    ('double precision', of_kind(torch.float64), 'float64'),
    ('on the device meta', of_kind('meta'), 'meta'),
    ('frozen', frozen(), 'no weights to train'),
    ('without weights', d.DDPM(torch.nn.Identity(), SCHEDULE), 'no weights to train'),
])
ROWS += table('train', 'hooks', lambda x: training(hooks=x), [
    ('a function', d.usual, 'function usual'),
    ('one hook', d.Progress(), 'Progress'),
    ('a class', [d.Progress], 'Progress'),
    ('a number', [1], '[1]'),
    ('a folder', 'runs/mine', 'runs/mine'),
])
ROWS += [
    good('train', 'batch_size', 'more than there are',
         lambda: training(epochs=2, batch_size=99), two_steps),
    good('train', 'lr', '1', lambda: training(epochs=2, lr=1), two_steps),
]


@functools.cache
def outcome(row):
    """What a row gets: an answer, or the error's kind and words."""
    try:
        return row.call(), None
    except Exception as error:
        return None, error


def verdict(row):
    """None if a row gets what it should; else what is wrong."""
    answer, error = outcome(row)
    if row.answer is not None:
        if error is None and row.answer(answer):
            return None
        got = answer if error is None else error
        return f'should get a right answer, got {got!r:.200}'
    if error is None:
        return f'was taken in silence: {answer!r:.80}'
    said = str(error)
    if type(error) not in (ValueError, TypeError):
        return f'{type(error).__name__}: {said:.150}'
    found = {
        'the argument': row.argument in said,
        'what it was': any(words in said for words in row.was),
        'what it should be': 'should' in said,
    }
    lacking = [what for what, is_said in found.items() if not is_said]
    return f'{", ".join(lacking)} not said: {said:.200}' if lacking else None


def name_of(row):
    return f'{row.function}-{row.argument}-{row.given}'


@pytest.mark.parametrize('row', ROWS, ids=map(name_of, ROWS))
def test_row(row):
    wrong = verdict(row)
    assert wrong is None, wrong


def test_every_public_function_has_rows():
    with_rows = {row.function.split('.')[0] for row in ROWS}
    # These take no pictures or numbers, or have tests of their own.
    elsewhere = {
        'Averaging', 'Batch', 'Checkpoint', 'Estimate', 'Hook', 'Muon', 'Plan',
        'Precision', 'Preview', 'Progress', 'Step', 'Tracker', 'Trained', 'adamw',
        'copy_exercises', 'diffusers_sampler', 'load', 'plan', 'pretrained', 'results',
        'run_experiment', 'save', 'sayable', 'schedules_panel', 'training_panel',
        'usual',
    }
    without = set(d.__all__) - elsewhere - with_rows
    assert not without, without


def test_table():
    """Prints what each row gets; pytest shows it with -s."""
    for row in ROWS:
        _, error = outcome(row)
        got = 'a right answer'
        if error is not None:
            got = f'{type(error).__name__}: {error}'
        print(f'{row.function:24} {row.argument:10} {row.given:30} {got:.170}')


# Properties: what holds for every input of a kind.

SIZES = st.lists(st.integers(0, 5), max_size=5)
WHOLE_BUT_WRONG = st.integers(-10**6, -1)
FLOATS = st.floats(allow_nan=True, allow_infinity=True)
SIDES = st.integers(1, 9)
RIGHT_SHAPES = st.tuples(st.integers(1, 3), st.sampled_from([1, 3]), SIDES, SIDES)
OUT_OF_RANGE = st.integers(-10**9, 0) | st.integers(T + 1, 10**9)
GRIDS = st.sampled_from(
    ['even_steps', 'quadratic_steps', 'log_snr_steps', 'angle_steps'])
LOOKED_AT = [name for name in DRAWN if name not in ('inception_features', 'evaluate')]


def refused(argument, call):
    """A call gets an error of the right kind that names the argument and says what it
    should be."""
    wrong = verdict(bad('', argument, '', call, ''))
    assert wrong is None, wrong


@pytest.mark.parametrize('name', LOOKED_AT)
@few
@given(SIZES)
def test_shapes_that_no_batch_has(name, sizes):
    argument, call = DRAWN[name]
    if len(sizes) != 4 or 0 in sizes or sizes[1] not in (1, 3):
        refused(argument, lambda: call(torch.zeros(sizes)))
        refused(argument, lambda: call(torch.zeros(sizes, dtype=torch.uint8)))


@pytest.mark.parametrize(
    'argument, call', [(count.argument, count.call) for count in COUNTS],
    ids=[f'{count.function}-{count.argument}' for count in COUNTS])
@few
@given(WHOLE_BUT_WRONG, FLOATS)
def test_numbers_that_are_no_counts(argument, call, negative, number):
    refused(argument, lambda: call(negative))
    # A float is no count, not even 2.0.
    refused(argument, lambda: call(number))


@pytest.mark.parametrize('name', list(WITH_STEPS))
@few
@given(OUT_OF_RANGE, st.booleans())
def test_steps_out_of_range(name, t, first):
    steps = [t, 1] if first else [1, t]
    refused('t', lambda: WITH_STEPS[name](torch.tensor(steps)))


@few
@given(RIGHT_SHAPES, st.integers(1, 5), st.integers(0, 3))
def test_a_grid_of_any_size_keeps_every_pixel(shape, cols, gap):
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=seeded(0))
    grid = d.image_grid(d.to_float(images), cols, gap)
    n, _, h, w = shape
    rows = -(-n // cols)
    assert grid.shape == (3, rows * (h + gap) - gap, cols * (w + gap) - gap)
    for i in range(n):
        top = i // cols * (h + gap)
        left = i % cols * (w + gap)
        found = grid[:, top:top + h, left:left + w]
        assert torch.equal(found, images[i].expand(3, -1, -1))


@few
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20))
def test_any_finite_numbers_become_the_nearest_bytes(numbers):
    x = torch.tensor(numbers, dtype=torch.float32)
    if x.min() >= 0 and x.max() > 1 and (x == x.round()).all():
        return refused('images', lambda: d.to_uint8(x))
    back = d.to_float(d.to_uint8(x)).double()
    error = (back - x.double().clamp(-1, 1)).abs().max()
    assert error <= 1 / 255 + 1e-6


@few
@given(RIGHT_SHAPES, st.integers(1, 60), st.data())
def test_noising_any_shape_and_back(shape, T, data):
    schedule = d.sigmoid_schedule(T)
    rng = seeded(T)
    x0 = torch.rand(shape, generator=rng).double() * 2 - 1
    eps = torch.randn(shape, generator=rng).double()
    one_each = st.lists(st.integers(1, T), min_size=shape[0], max_size=shape[0])
    t = torch.tensor(data.draw(one_each))
    xt = d.q_sample(x0, t, schedule, eps)
    assert xt.shape == x0.shape
    assert torch.allclose(d.x0_from_eps(eps, xt, t, schedule), x0, atol=1e-9)
    assert torch.allclose(d.eps_from_x0(x0, xt, t, schedule), eps, atol=1e-6)
    v = d.v_from_x0(x0, xt, t, schedule)
    assert torch.allclose(d.x0_from_v(v, xt, t, schedule), x0, atol=1e-6)


@few
@given(st.integers(1, 80), st.integers(-3, 100), st.integers(-3, 100), GRIDS)
def test_grids_of_steps(T, start, steps, name):
    schedule = d.cosine_schedule(T)
    grid = getattr(d, name)
    if not 1 <= start <= T:
        return refused('start', lambda: grid(schedule, start, steps))
    if not 1 <= steps <= start:
        return refused('steps', lambda: grid(schedule, start, steps))
    times = grid(schedule, start, steps)
    assert len(times) == steps + 1
    assert times[0] == start
    assert times[-1] == 0
    assert all(a > b for a, b in zip(times, times[1:]))


@few
@given(st.lists(FLOATS, min_size=1, max_size=8))
def test_any_list_of_numbers_is_a_schedule_or_refused(betas):
    least = torch.finfo(torch.float32).tiny
    x = torch.tensor(betas, dtype=torch.float64)
    if all(0 < b < 1 for b in betas) and np.prod(1 - np.array(betas)) >= least:
        abar = d.Schedule(x).abar
        assert len(abar) == len(betas) + 1
        assert abar[0] == 1
        assert (abar.diff() <= 0).all()
        assert abar[-1] > 0
    else:
        refused('betas', lambda: d.Schedule(x))


A_MILLION = """
import itertools
import resource
import time

import torch

import ddpm_teach as d


def memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def clock(name, call):
    start = time.process_time()
    try:
        call()
    except ValueError as error:
        assert 'Remedy' in str(error), error
    took = time.process_time() - start
    assert took < 2, f'{name} took {took:.1f} s'


def first_three(steps):
    return list(itertools.islice(steps, 3))


def rescaled(T):
    return d.linear_schedule(T, rescale=True)


def check_samplers(model, x):
    for sampler in (d.ddim, d.dpm_solver):
        clock(sampler.__name__, lambda: list(sampler(model, x)))
        *_, last = sampler(model, x)
        assert last.t == 0
        assert last.x.isfinite().all()
        assert last.x.abs().max() <= 1
    clock('ancestral', lambda: first_three(d.ancestral(model, x)))


def check_formulas(model, x, t):
    schedule = model.schedule
    clock('loss', lambda: d.ddpm_loss(model, x, t, x))
    assert d.vlb_terms(model, x.clamp(-1, 1), t, x).isfinite().all()
    assert d.prior_kl(x, schedule).isfinite().all()
    assert d.posterior(x, x, t, schedule)[0].isfinite().all()
    assert d.q_sample(x, t, schedule, x).isfinite().all()


before = memory()
T = 10**6
x = torch.randn(1, 3, 8, 8)
# Refused: nothing would be left of the picture.
clock('linear', lambda: d.linear_schedule(T))
for make in (d.cosine_schedule, d.sigmoid_schedule, rescaled):
    clock('schedule', lambda: make(T))
    schedule = make(T)
    assert 0 < schedule.abar[-1] < 1e-3
    assert len(schedule.abar) == T + 1
    for grid in (d.even_steps, d.quadratic_steps, d.log_snr_steps, d.angle_steps):
        clock(grid.__name__, lambda: grid(schedule, T, 1000))
    model = d.DDPM(lambda x, t: torch.tanh(x), schedule)
    check_samplers(model, x)
    check_formulas(model, x, torch.tensor([T]))
grown = memory() - before
assert grown < 700, f'{grown:.0f} MiB'
print(f'{grown:.0f} MiB')
"""


@pytest.mark.skipif(sys.platform == 'win32', reason='counts memory with `resource`')
def test_a_million_steps_take_neither_long_nor_much_memory():
    command = [sys.executable, '-W', 'ignore', '-c', A_MILLION]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    print('T = 10**6:', done.stdout)
