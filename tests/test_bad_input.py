"""Bad input to every public function. Each row gets a ValueError or TypeError that says which argument it was, what it was and what it should
be; or a right answer, which is checked. `pytest tests/test_bad_input.py -s -k table` prints the table."""
import functools
import pathlib
import subprocess
import sys
import tempfile
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

import ddpm_teach as d

pytestmark = pytest.mark.filterwarnings('ignore:after all')               # short schedules leave signal
few = settings(derandomize=True, deadline=None, max_examples=12, database=None)
_KEPT = tempfile.TemporaryDirectory()                                     # until this process ends
FOLDER = pathlib.Path(_KEPT.name)
T = 20
SCHEDULE = d.cosine_schedule(T)
MODEL = d.DDPM(d.UNet(channels=(8, 16), groups=4), SCHEDULE)
BYTES = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
X, EPS, STEPS = d.to_float(BYTES), torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)), torch.tensor([1, T])
CHAIN = [d.Step(1, X, None), d.Step(0, X, X)]
POINTS, LABELS = torch.randn(40, 5, generator=torch.Generator().manual_seed(2)), torch.zeros(40, 2, dtype=torch.int16)
PLAIN = d.Pictures(BYTES, torch.zeros(2, 0), {})
WORDS = {'hair': ['red', 'blue'], 'flip': ['no', 'yes']}
MIXTURE = d.Mixture(torch.zeros(1, 1), torch.ones(1), torch.ones(1))
NAN = float('nan')


class Row(NamedTuple):
    function: str
    argument: str
    given: str
    call: Any              # what is called, without arguments
    was: tuple = ()        # the message says one of these: what the argument was
    answer: Any = None     # instead of an error: what the answer must be like


def changed(x, value):
    """The same with one element replaced."""
    x = x.clone()
    x.view(-1)[0] = value
    return x


# What can be wrong with pictures: how to make it from right ones, and what the message says that they were.
KINDS = {
    'an array of NumPy': (lambda x: x.numpy(), ('ndarray',)),
    'whole numbers': (lambda x: x.long(), ('int64',)),
    'truth values': (lambda x: x > 0, ('bool',)),
    'complex numbers': (lambda x: x.to(torch.complex64), ('complex64',)),
    'a dimension too few': (lambda x: x[0], ('(3, 32, 32)', '(32, 32)')),
    'no pictures': (lambda x: x[:0], ('(0, 3, 32, 32)', '[]', 'shape (0, ')),
    'two channels': (lambda x: x[..., :2, :, :], ('(2, 2, 32, 32)', '(2, 32, 32)')),
    'a nan': (lambda x: changed(x, NAN), ('nan',)),
    'an infinity': (lambda x: changed(x, torch.inf), ('infinite',)),
    'bytes as floats': (lambda x: ((x + 1) * 127.5).round(), ('look like bytes',)),
    'on the device meta': (lambda x: x.to('meta'), ('meta',)),
}
DRAWN = {                                                        # pictures that are looked at or judged
    'image_grid': ('images', lambda x: d.image_grid(x)),
    'save_grid': ('images', lambda x: d.save_grid(x, FOLDER / 'a.png')),
    'show_images': ('images', lambda x: d.show_images(x, 'words')),
    'features': ('images', lambda x: d.features(x)),
    'read_labels': ('images', lambda x: d.read_labels(x)),
    'inception_features': ('x', lambda x: d.inception_features(x)),
    'nearest': ('images', lambda x: d.nearest(x, BYTES)),
    'evaluate': ('samples', lambda x: d.evaluate(x, d.Pictures(BYTES, LABELS[:2], WORDS), d.Pictures(BYTES, LABELS[:2], WORDS))),
}
FORMULAS = {                                                     # numbers of any range and shape: a nan stays a nan
    'q_step': ('x', lambda x: d.q_step(x, STEPS, SCHEDULE, EPS)), 'q_sample': ('x0', lambda x: d.q_sample(x, STEPS, SCHEDULE, EPS)),
    'posterior': ('x0', lambda x: d.posterior(x, X, STEPS, SCHEDULE)[0]), 'eps_from_x0': ('x0', lambda x: d.eps_from_x0(x, X, STEPS, SCHEDULE)),
    'x0_from_eps': ('eps', lambda x: d.x0_from_eps(x, X, STEPS, SCHEDULE)), 'v_from_x0': ('x0', lambda x: d.v_from_x0(x, X, STEPS, SCHEDULE)),
    'x0_from_v': ('v', lambda x: d.x0_from_v(x, X, STEPS, SCHEDULE)), 'ddpm_loss': ('x0', lambda x: d.ddpm_loss(MODEL, x, STEPS, EPS)),
    'vlb_terms': ('x0', lambda x: d.vlb_terms(MODEL, x, STEPS, EPS)), 'prior_kl': ('x0', lambda x: d.prior_kl(x, SCHEDULE)),
}
WITH_STEPS = {                                                   # steps t, one for each of two pictures
    'q_step': lambda t: d.q_step(X, t, SCHEDULE, EPS), 'q_sample': lambda t: d.q_sample(X, t, SCHEDULE, EPS),
    'posterior': lambda t: d.posterior(X, X, t, SCHEDULE), 'eps_from_x0': lambda t: d.eps_from_x0(X, X, t, SCHEDULE),
    'x0_from_eps': lambda t: d.x0_from_eps(EPS, X, t, SCHEDULE), 'v_from_x0': lambda t: d.v_from_x0(X, X, t, SCHEDULE),
    'x0_from_v': lambda t: d.x0_from_v(X, X, t, SCHEDULE), 'DDPM': lambda t: MODEL(X, t), 'DDPM.x0_hat': lambda t: MODEL.x0_hat(X, t),
    'ddpm_loss': lambda t: d.ddpm_loss(MODEL, X, t, EPS), 'vlb_terms': lambda t: d.vlb_terms(MODEL, X, t, EPS),
    'min_snr': lambda t: d.min_snr(t, SCHEDULE, 'v'), 'like_v': lambda t: d.like_v(t, SCHEDULE, 'v'),
    'Mixture.log_density': lambda t: MIXTURE.log_density(torch.zeros(2, 1), t, SCHEDULE), 'Mixture.x0_mean': lambda t: MIXTURE.x0_mean(torch.zeros(2, 1), t, SCHEDULE),
}
COUNTS = [                                                       # whole numbers: function, argument, the least and the most that is right
    ('image_grid', 'cols', 1, None, lambda n: d.image_grid(X, n)), ('image_grid', 'gap', 0, None, lambda n: d.image_grid(X, gap=n)),
    ('save_grid', 'zoom', 1, None, lambda n: d.save_grid(X, FOLDER / 'a.png', zoom=n)), ('load_grid', 'n', 1, None, lambda n: d.load_grid(FOLDER / 'a.png', n, 1)),
    ('load_grid', 'cols', 1, None, lambda n: d.load_grid(FOLDER / 'a.png', 2, n)), ('load_grid', 'size', 1, None, lambda n: d.load_grid(FOLDER / 'a.png', 2, 2, n)),
    ('figure', 'cols', 1, None, lambda n: d.figure(n)), ('figure', 'rows', 1, None, lambda n: d.figure(1, n)), ('show_images', 'cols', 1, None, lambda n: d.show_images(X, 'words', cols=n)),
    ('show_chain', 'image', 0, 1, lambda n: d.show_chain(CHAIN, 'words', n)), ('show_chain', 'columns', 1, None, lambda n: d.show_chain(CHAIN, 'words', columns=n)),
    ('animate', 'frames', 1, None, lambda n: d.animate(CHAIN, FOLDER / 'a.gif', n)), ('animate', 'zoom', 1, None, lambda n: d.animate(CHAIN, FOLDER / 'a.gif', zoom=n)),
    ('characters', 'n', 1, None, lambda n: d.characters(n)), ('characters', 'size', 1, None, lambda n: d.characters(2, n)), ('characters', 'seed', 0, None, lambda n: d.characters(2, seed=n)),
    ('image_folder', 'size', 1, None, lambda n: d.image_folder(FOLDER, n)), ('Pictures.describe', 'i', 0, 1, lambda n: d.Pictures(BYTES, LABELS[:2], WORDS).describe(n)),
    ('batches', 'batch_size', 1, None, lambda n: next(d.batches(PLAIN, batch_size=n))), ('batches', 'epoch', 0, None, lambda n: next(d.batches(PLAIN, n))), ('batches', 'seed', 0, None, lambda n: next(d.batches(PLAIN, seed=n))),
    ('linear_schedule', 'T', 1, None, d.linear_schedule), ('linear_schedule, rescaled', 'T', 1, None, lambda n: d.linear_schedule(n, rescale=True)),
    ('cosine_schedule', 'T', 1, None, d.cosine_schedule), ('sigmoid_schedule', 'T', 1, None, d.sigmoid_schedule),
    ('Mixture.sample', 'n', 1, None, MIXTURE.sample), ('time_embedding', 'dim', 4, None, lambda n: d.time_embedding(STEPS, n)),
    *[('UNet', name, 1, None, lambda n, name=name: d.UNet(**{name: n})) for name in ('blocks', 'size', 'image_channels', 'patch', 'groups')],
    ('ResBlock', 'channels', 1, None, lambda n: d.ResBlock(n, 8, 8)), ('ResBlock', 'c_time', 1, None, lambda n: d.ResBlock(8, 8, n)), ('ResBlock', 'groups', 1, None, lambda n: d.ResBlock(8, 8, 8, n)),
    ('Attention', 'channels', 1, None, lambda n: d.Attention(n)), ('Attention', 'groups', 1, None, lambda n: d.Attention(8, n)),
    *[(name, 'start', 1, T, lambda n, name=name: next(getattr(d, name)(MODEL, X, start=n))) for name in ('ancestral', 'ddim', 'dpm_solver')],
    *[(name, 'steps', 1, None, lambda n, name=name: next(getattr(d, name)(MODEL, X, steps=n))) for name in ('ddim', 'dpm_solver')], ('ancestral', 'every', 1, None, lambda n: next(d.ancestral(MODEL, X, every=n))),
    *[(name, 'start', 1, T, lambda n, name=name: getattr(d, name)(SCHEDULE, n, 1)) for name in ('even_steps', 'quadratic_steps', 'log_snr_steps', 'angle_steps')],
    *[(name, 'steps', 1, 7, lambda n, name=name: getattr(d, name)(SCHEDULE, 7, n)) for name in ('even_steps', 'quadratic_steps', 'log_snr_steps', 'angle_steps')],
    ('sample', 'n', 1, None, lambda n: d.sample(n, model=MODEL, progress=False)), ('sample', 'batch_size', 1, None, lambda n: d.sample(1, model=MODEL, batch_size=n, progress=False)), ('sample', 'seed', 0, None, lambda n: d.sample(1, model=MODEL, seed=n, progress=False)),
    ('interpolate', 't', 1, T, lambda n: d.interpolate(X[0], X[1], n, model=MODEL)), ('interpolate', 'n', 1, None, lambda n: d.interpolate(X[0], X[1], 2, n, model=MODEL)), ('interpolate', 'seed', 0, None, lambda n: d.interpolate(X[0], X[1], 2, 1, model=MODEL, seed=n)),
    ('bits_per_dim', 'per_t', 2, None, lambda n: d.bits_per_dim(MODEL, BYTES, n)), ('bits_per_dim', 'seed', 0, None, lambda n: d.bits_per_dim(MODEL, BYTES, 2, seed=n)),
    ('noising_panel', 'T', 1, None, lambda n: d.noising_panel(X[0], n)), ('noising_panel', 'seed', 0, None, lambda n: d.noising_panel(X[0], 9, n)), ('denoising_panel', 'n', 1, None, lambda n: d.denoising_panel(MODEL, n)),
]


def same_shape(x):
    return lambda answer: answer.shape == x.shape


ROWS = [Row(name, argument, given, lambda call=call, make=make: call(make(X)), was) for name, (argument, call) in DRAWN.items() for given, (make, was) in KINDS.items()]
ROWS += [Row('to_pil', 'image', given, lambda make=make: d.to_pil(make(X[0])), was) for given, (make, was) in KINDS.items()]
ROWS += [Row('to_uint8', 'images', given, lambda make=make: d.to_uint8(make(X)), was) for given, (make, was) in KINDS.items() if given not in ('a dimension too few', 'no pictures', 'two channels')]
ROWS += [Row(name, argument, given, lambda call=call, make=KINDS[given][0]: call(make(X)), KINDS[given][1]) for name, (argument, call) in FORMULAS.items()
         for given in ('an array of NumPy', 'whole numbers', 'truth values', 'complex numbers', 'no pictures', 'on the device meta')]
ROWS += [Row(name, argument, 'bytes', lambda call=call: call(BYTES), ('uint8',)) for name, (argument, call) in FORMULAS.items()]
ROWS += [Row(name, argument, 'a picture less than the others', lambda call=call: call(X[:1]), ('(1, 3, 32, 32)',)) for name, (argument, call) in FORMULAS.items() if name != 'prior_kl']
ROWS += [Row(name, argument, 'a nan', lambda call=call: call(changed(X, NAN)), answer=lambda y: bool(y.isnan().any())) for name, (argument, call) in FORMULAS.items()]
ROWS += [Row(name, 't', given, lambda call=call, t=t: call(t), was) for name, call in WITH_STEPS.items() for given, t, was in [
    ('0', torch.tensor([0, 1]), ('[0, 1]',)), ('negative', torch.tensor([1, -1]), ('[1, -1]',)), ('above T', torch.tensor([1, T + 1]), ('[1, 21]',)), ('floats', torch.tensor([1., 2.]), ('float32',)),
    ('a list', [1, 2], ('list',)), ('two dimensions', torch.ones(2, 1, dtype=torch.long), ('[[1], [1]]', '(2, 1)')), ('a single number', torch.tensor(3), ('3',)), ('none', torch.ones(0, dtype=torch.long), ('[]', '(0,)')),
    ('truth values', torch.tensor([True, True]), ('bool',)), ('on the device meta', STEPS.to('meta'), ('meta',))]]
ROWS += [Row(name, 't', 'three for two pictures', lambda call=call: call(torch.ones(3, dtype=torch.long)), ('[1, 1, 1]',)) for name, call in WITH_STEPS.items() if name not in ('min_snr', 'like_v')]
ROWS += [Row(name, argument, repr(value), lambda call=call, value=value: call(value), (repr(value), str(value))) for name, argument, least, most, call in COUNTS
         for value in (least - 1, -3, least + 1.5, 'two', *([] if most is None else [most + 1]))]


def model_rows(name, call):
    """What takes a model refuses what is none."""
    return [Row(name, 'model', 'a U-Net', lambda: call(MODEL.network), ('UNet',)), Row(name, 'model', 'a path', lambda: call('model.safetensors'), ('str',))]


def image_rows(name, call):
    """Pictures that a sampler starts from."""
    return [Row(name, 'x', given, lambda make=KINDS[given][0]: call(make(X)), KINDS[given][1])
            for given in ('an array of NumPy', 'whole numbers', 'no pictures', 'a nan', 'an infinity', 'on the device meta')] + [
        Row(name, 'x', 'bytes', lambda: call(BYTES), ('uint8',)), Row(name, 'x', 'odd size', lambda: call(torch.zeros(2, 3, 31, 33)), ('31, 33',)), Row(name, 'x', 'one channel', lambda: call(X[:, :1]), ('(2, 1, 32, 32)',))]


for _name in ('ancestral', 'ddim', 'dpm_solver'):
    _sampler = getattr(d, _name)
    ROWS += model_rows(_name, lambda m, s=_sampler: next(s(m, X))) + image_rows(_name, lambda x, s=_sampler: list(s(MODEL, x, start=2)))
    ROWS += [Row(_name, 'steps', 'more than T', lambda s=_sampler: list(s(MODEL, X, **({} if s is d.ancestral else dict(steps=T + 9)))), answer=lambda steps: len(steps) == T + 1 and steps[-1].t == 0 and steps[-1].x.abs().max() <= 1)]
for _name in ('ddim', 'dpm_solver'):
    ROWS += [Row(_name, 'eta', repr(eta), lambda s=getattr(d, _name), eta=eta: next(s(MODEL, X, eta=eta)), (repr(eta),)) for eta in (-.1, 1.1, NAN)]
ROWS += model_rows('sample', lambda m: d.sample(1, model=m)) + model_rows('interpolate', lambda m: d.interpolate(X[0], X[1], 2, 2, model=m)) + model_rows('bits_per_dim', lambda m: d.bits_per_dim(m, BYTES)) + model_rows('denoising_panel', d.denoising_panel)
ROWS += [
    Row('to_float', 'images', 'floats', lambda: d.to_float(X), ('float32',)), Row('to_float', 'images', 'whole numbers', lambda: d.to_float(X.long()), ('int64',)), Row('to_float', 'images', 'a list', lambda: d.to_float([1, 2]), ('list',)),
    Row('to_float', 'images', 'none', lambda: d.to_float(BYTES[:0]), answer=same_shape(BYTES[:0])), Row('to_uint8', 'images', 'none', lambda: d.to_uint8(X[:0]), answer=same_shape(X[:0])),
    Row('to_uint8', 'images', 'outside [-1, 1]: noise', lambda: d.to_uint8(3 * EPS), answer=lambda y: torch.equal(y, d.to_uint8((3 * EPS).clamp(-1, 1)))),
    Row('save_grid', 'path', 'a JPEG', lambda: d.save_grid(X, FOLDER / 'a.jpg'), ('a.jpg',)), Row('animate', 'path', 'a PNG', lambda: d.animate(CHAIN, FOLDER / 'a.png'), ('a.png',)),
    Row('animate', 'seconds', '0', lambda: d.animate(CHAIN, FOLDER / 'a.gif', seconds=0), ('0',)), Row('animate', 'seconds', 'nan', lambda: d.animate(CHAIN, FOLDER / 'a.gif', seconds=NAN), ('nan',)),
    Row('animate', 'chain', 'no steps', lambda: d.animate([], FOLDER / 'a.gif'), ('empty',)), Row('show_chain', 'chain', 'no steps', lambda: d.show_chain(iter([]), 'words'), ('empty',)),
    Row('load_grid', 'n', 'more than the file has', lambda: d.load_grid(d.save_grid(X, FOLDER / 'b.png', 2, 1), 5, 2), ('66 x 32',)),
    Row('load_grid', 'n', 'fewer than a row', lambda: d.load_grid(d.save_grid(X, FOLDER / 'c.png', 5, 1), 2, 5), answer=lambda y: torch.equal(y, BYTES)),
    Row('show_images', 'titles', 'one for two', lambda: d.show_images(X, 'words', ['a']), ('1',)), Row('show_images', 'images', 'two shapes', lambda: d.show_images([X[0], X[0, :, :9]], 'words'), ('(3, 9, 32)',)),
    *[Row(name, 'alt', repr(alt), lambda call=call, alt=alt: call(alt), (repr(alt),)) for name, call in dict(show_images=lambda alt: d.show_images(X, alt), show_chain=lambda alt: d.show_chain(CHAIN, alt),
      plot_curves=lambda alt: d.plot_curves({'a': [1, 2]}, alt), show_figure=lambda alt: d.show_figure(d.figure()[0], alt)).items() for alt in ('', ' ', None)],
    Row('plot_curves', 'curves', 'none', lambda: d.plot_curves({}, 'words'), ('{}',)), Row('plot_curves', 'curves', 'two lengths', lambda: d.plot_curves({'a': ([1, 2], [1, 2, 3])}, 'words'), ('2 places and 3',)),
    Row('figure', 'width', '0', lambda: d.figure(width=0), ('0',)), Row('figure', 'height', 'nan', lambda: d.figure(height=NAN), ('nan',)),
    Row('characters', 'style', "'manga'", lambda: d.characters(2, style='manga'), ("'manga'",)), Row('characters', 'size', '30', lambda: d.characters(2, 30), ('30',)),
    *[Row(name, 'images', given, lambda call=call, x=x: call(x), was) for name, call in dict(Pictures=lambda x: d.Pictures(x, LABELS[:2], WORDS)).items() for given, x, was in
      [('floats', X, ('float32',)), ('none', BYTES[:0], ('(0,',)), ('one picture', BYTES[0], ('(3, 32, 32)',)), ('an array of NumPy', BYTES.numpy(), ('ndarray',)), ('on the device meta', BYTES.to('meta'), ('meta',))]],
    *[Row('batches', 'data', given, lambda x=x: next(d.batches(x)), was) for given, x, was in [('floats', X, ('Tensor',)), ('bytes', BYTES, ('Tensor',)), ('an array of NumPy', BYTES.numpy(), ('ndarray',)), ('a list', [1], ('list',)), ('on the device meta', BYTES.to('meta'), ('Tensor',))]],
    Row('Points', 'x', 'whole numbers', lambda: d.Points(torch.zeros(2, 3).long()), ('int64',)), Row('Points', 'x', 'none', lambda: d.Points(torch.zeros(0, 3)), ('(0, 3)',)),
    Row('Pictures', 'labels', 'a row less', lambda: d.Pictures(BYTES, LABELS[:1], WORDS), ('(1, 2)',)), Row('Pictures', 'labels', 'None', lambda: d.Pictures(BYTES, None, WORDS), ('NoneType',)),
    *[Row('Schedule', 'betas', given, lambda b=b: d.Schedule(b), was) for given, b, was in [('none', torch.zeros(0), ('(0,)',)), ('nan', torch.tensor([.1, NAN]), ('nan',)), ('0', torch.tensor([0., .1]), ('0',)), ('1', torch.ones(3), ('1',)),
      ('two dimensions', torch.full((2, 2), .1), ('(2, 2)',)), ('whole numbers', torch.ones(3, dtype=torch.long), ('int64',)), ('on the device meta', torch.ones(3, device='meta'), ('meta',)), ('so many that nothing is left', torch.full((1000,), .5), ('9.33e-302',))]],
    Row('Schedule.at', 'name', "'betta'", lambda: SCHEDULE.at('betta', STEPS, X), ("'betta'",)), Row('Schedule.at', 't', 'negative', lambda: SCHEDULE.at('beta', -STEPS, X), ('[-1, -20]',)), Row('Schedule.at', 'like', 'bytes', lambda: SCHEDULE.at('beta', STEPS, BYTES), ('uint8',)),
    Row('Schedule.at', 't', '0', lambda: SCHEDULE.at('abar', STEPS * 0, X, least=0), answer=lambda y: bool((y == 1).all())),
    Row('linear_schedule', 'betas', 'start above 1', lambda: d.linear_schedule(9, 2.), ('2',)), Row('linear_schedule', 'betas', 'end is nan', lambda: d.linear_schedule(9, end=NAN), ('nan',)), Row('linear_schedule', 'betas', 'rescaled, T = 20', lambda: d.linear_schedule(20, rescale=True), ('1',)),
    Row('cosine_schedule', 's', '0', lambda: d.cosine_schedule(9, 0), ('0',)), Row('cosine_schedule', 's', '-1', lambda: d.cosine_schedule(9, -1), ('-1',)), Row('sigmoid_schedule', 'tau', '0', lambda: d.sigmoid_schedule(9, tau=0), ('0',)),
    Row('sigmoid_schedule', 'start', 'equal to end', lambda: d.sigmoid_schedule(9, 1, 1), ('1',)), Row('sigmoid_schedule', 'end', 'nan', lambda: d.sigmoid_schedule(9, end=NAN), ('nan',)),
    *[Row(f.__name__, 'T', '1', lambda f=f: f(1), answer=lambda s: s.T == 1 and 0 < s.abar[1] < 1) for f in (d.linear_schedule, d.cosine_schedule, d.sigmoid_schedule)],
    Row('q_sample', 'eps', 'another shape', lambda: d.q_sample(X, STEPS, SCHEDULE, EPS[:, :1]), ('(2, 1, 32, 32)',)), Row('q_sample', 'eps', 'on the device meta', lambda: d.q_sample(X, STEPS, SCHEDULE, EPS.to('meta')), ('meta',)), Row('q_sample', 'schedule', 'betas', lambda: d.q_sample(X, STEPS, SCHEDULE.betas, EPS), ('tensor',)),
    Row('Mixture', 'weights', 'adding up to 2', lambda: d.Mixture(torch.zeros(2, 1), torch.ones(2), torch.ones(2)), ('[1.0, 1.0]',)), Row('Mixture', 'stds', 'negative', lambda: d.Mixture(torch.zeros(1, 1), -torch.ones(1), torch.ones(1)), ('[-1.0]',)),
    Row('Mixture', 'means', 'one dimension', lambda: d.Mixture(torch.zeros(1), torch.ones(1), torch.ones(1)), ('(1,)',)), Row('Mixture', 'means', 'whole numbers', lambda: d.Mixture(torch.zeros(1, 1).long(), torch.ones(1), torch.ones(1)), ('int64',)),
    Row('Mixture', 'stds', 'nan', lambda: d.Mixture(torch.zeros(1, 1), torch.full((1,), NAN), torch.ones(1)), ('nan',)), Row('Mixture.x0_mean', 'xt', 'another shape', lambda: MIXTURE.x0_mean(torch.zeros(2, 3), STEPS, SCHEDULE), ('(2, 3)',)),
    Row('DDPM', 'predicts', "'noise'", lambda: d.DDPM(MODEL.network, SCHEDULE, 'noise'), ("'noise'",)), Row('DDPM', 'schedule', 'betas', lambda: d.DDPM(MODEL.network, SCHEDULE.betas), ('tensor',)), Row('DDPM', 'network', 'None', lambda: d.DDPM(None, SCHEDULE), ('NoneType',)),
    Row('DDPM', 'network', 'returns one channel', lambda: d.DDPM(lambda x, t: x[:, :1], SCHEDULE)(X, STEPS), ('(2, 1, 32, 32)',)), Row('DDPM', 'xt', 'bytes', lambda: MODEL(BYTES, STEPS), ('uint8',)), Row('DDPM', 'xt', 'on the device meta', lambda: MODEL(X.to('meta'), STEPS), ('meta',)),
    Row('min_snr', 'predicts', "'noise'", lambda: d.min_snr(STEPS, SCHEDULE, 'noise'), ("'noise'",)), Row('min_snr', 'gamma', '0', lambda: d.min_snr(STEPS, SCHEDULE, 'v', 0), ('0',)), Row('like_v', 'most', '-1', lambda: d.like_v(STEPS, SCHEDULE, 'v', -1), ('-1',)),
    *[Row(name, 'variance', "'small'", call, ("'small'",)) for name, call in dict(vlb_terms=lambda: d.vlb_terms(MODEL, X, STEPS, EPS, 'small'), ancestral=lambda: next(d.ancestral(MODEL, X, variance='small'))).items()],
    Row('time_embedding', 'dim', 'odd', lambda: d.time_embedding(STEPS, 7), ('7',)), Row('time_embedding', 't', 'two dimensions', lambda: d.time_embedding(STEPS[None], 8), ('(1, 2)',)), Row('time_embedding', 'period', '0', lambda: d.time_embedding(STEPS, 8, 0), ('0',)),
    Row('time_embedding', 't', 'a million', lambda: d.time_embedding(torch.tensor([10**6]), 4), answer=lambda y: abs(y[0, 0].item() - np.sin(10**6)) < 1e-4),
    Row('UNet', 'size', 'no multiple of 8', lambda: d.UNet(size=28), ('28',)), Row('UNet', 'channels', 'none', lambda: d.UNet(channels=()), ('[]',)), Row('UNet', 'channels', 'odd', lambda: d.UNet(channels=(9,), groups=3), ('(9,)', '[9]')),
    Row('UNet', 'channels', 'no multiple of groups', lambda: d.UNet(channels=(20, 30)), ('20',)), Row('UNet', 'dropout', '2', lambda: d.UNet(dropout=2.), ('2',)),
    Row('UNet', 'x', 'another size', lambda: MODEL.network(X[..., :16], STEPS), ('(2, 3, 32, 16)',)), Row('UNet', 't', 'three for two', lambda: MODEL.network(X, torch.ones(3)), ('(3,)',)), Row('UNet', 'x', 'on the device meta', lambda: MODEL.network(X.to('meta'), STEPS), ('meta',)),
    Row('ResBlock', 'x', 'other channels', lambda: d.ResBlock(8, 8, 8)(X, EPS[0, 0]), ('(2, 3, 32, 32)',)), Row('ResBlock', 'emb', 'another width', lambda: d.ResBlock(3, 3, 8, 3)(X, torch.zeros(2, 9)), ('(2, 9)',)), Row('Attention', 'x', 'a dimension too few', lambda: d.Attention(8)(X[0]), ('(3, 32, 32)',)),
    *[Row('sample', 'device', repr(device), lambda device=device: d.sample(1, model=MODEL, device=device, progress=False), (repr(device),)) for device in ('meta', 'quantum', *([] if torch.cuda.is_available() else ['cuda']), 'cuda:99')],
    Row('sample', 'model', 'its network has no shape', lambda: d.sample(1, model=d.DDPM(lambda x, t: x, SCHEDULE)), ('function',)),
    *[Row('interpolate', 'a', given, lambda make=KINDS[given][0]: d.interpolate(make(X[0]), X[1], 2, 2, model=MODEL), KINDS[given][1]) for given in ('whole numbers', 'a nan', 'bytes as floats', 'on the device meta')],
    Row('interpolate', 'a', 'outside [-1, 1]', lambda: d.interpolate(2 * X[0], X[1], 2, 2, model=MODEL), ('from -2 to 2',)), Row('interpolate', 'b', 'another shape', lambda: d.interpolate(X[0], X[1, :, :9], 2, 2, model=MODEL), ('(3, 9, 32)',)), Row('interpolate', 'a', 'bytes', lambda: d.interpolate(BYTES[0], X[1], 2, 2, model=MODEL), ('uint8',)),
    *[Row(name, 'a', given, lambda f=getattr(d, name), a=a, b=b: f(a, b), was) for name, right in dict(frechet_distance=POINTS, kernel_distance=POINTS, nearer=POINTS[:, 0], copies=POINTS[:, 0]).items() for given, a, b, was in
      [('a nan', changed(right, NAN), right, ('nan',)), ('whole numbers', right.long(), right, ('int64',)), ('another dimension', right[None], right, ('(1, 40',)), ('none', right[:0], right, ('(0',)), ('39 members', right[:39], right, ('39',)), ('on the device meta', right.to('meta'), right, ('meta',))] if given != '39 members'],
    *[Row(name, 'sets', '39 members', lambda f=getattr(d, name), a=a: f(a[:39], a), ('39',)) for name, a in dict(frechet_distance=POINTS, kernel_distance=POINTS, nearer=POINTS[:, 0], copies=POINTS[:, 0]).items()],
    Row('frechet_distance', 'b', 'another number of features', lambda: d.frechet_distance(POINTS, POINTS[:, :4]), ('(40, 4)',)),
    *[Row(name, 'labels', given, lambda call=call, x=x: call(x), was) for name, call in dict(label_coverage=lambda x: d.label_coverage(x, LABELS, WORDS), label_variation=lambda x: d.label_variation(x, LABELS)).items() for given, x, was in
      [('floats', LABELS.float(), ('float32',)), ('negative', LABELS - 1, ('-1',)), ('none', LABELS[:0], ('(0, 2)',)), ('one dimension', LABELS[:, 0], ('(40,)',))]],
    Row('label_coverage', 'labels', 'no such word', lambda: d.label_coverage(LABELS + 2, LABELS, WORDS), ('largest is 2',)), Row('label_coverage', 'truth', 'an attribute too many', lambda: d.label_coverage(LABELS, LABELS[:, [0, 1, 1]], WORDS), ('(40, 3)',)),
    Row('label_variation', 'truth', 'an attribute less', lambda: d.label_variation(LABELS, LABELS[:, :1]), ('(40, 1)',)), Row('label_variation', 'sets', '39 labels', lambda: d.label_variation(LABELS[:39], LABELS), ('39',)),
    Row('nearest', 'training', 'floats of another size', lambda: d.nearest(X, BYTES[..., :9]), ('(2, 3, 32, 9)',)), Row('nearest', 'training', 'none', lambda: d.nearest(X, BYTES[:0]), ('(0,',)), Row('features', 'images', '31 x 33 pixels', lambda: d.features(X[..., :31]), ('(2, 3, 32, 31)',)), Row('read_labels', 'images', 'grey', lambda: d.read_labels(X[:, :1]), ('(2, 1, 32, 32)',)),
    *[Row('bits_per_dim', 'images', given, lambda x=x: d.bits_per_dim(MODEL, x), was) for given, x, was in [('whole numbers', X.long(), ('int64',)), ('a nan', changed(X, NAN), ('nan',)), ('bytes as floats', BYTES.float(), ('look like bytes',)), ('outside [-1, 1]', 2 * X, ('from -2 to 2',)), ('none', BYTES[:0], ('(0,',)), ('on the device meta', X.to('meta'), ('meta',))]],
    Row('pictures', 'data', 'none', lambda: d.pictures([]), ('empty',)), Row('pictures', 'size', '0', lambda: d.pictures(BYTES, size=0), ('0',)), Row('pictures', 'size', '-3', lambda: d.pictures(BYTES, size=-3), ('-3',)),
    Row('pictures', 'channels', '2', lambda: d.pictures(BYTES, channels=2), ('2',)), Row('pictures', 'data', 'two sizes', lambda: d.pictures([BYTES[0], BYTES[0, :, :4]]), ('2 sizes',)), Row('pictures', 'floats', 'another range', lambda: d.pictures(2 * X, floats=(0, 1)), ('from -2',)),
    Row('to_diffusers', 'model', 'a network', lambda: d.to_diffusers(MODEL.network, FOLDER / 'theirs'), ('UNet',)), Row('to_diffusers', 'model', 'with patches', lambda: d.to_diffusers(MODEL, FOLDER / 'theirs'), ('patch = 2',)),
    Row('to_diffusers', 'variance', 'a word', lambda: d.to_diffusers(d.DDPM(d.UNet(channels=(8, 16), groups=4, patch=1, attention=()), SCHEDULE), FOLDER / 'theirs', variance='x'), ("'x'",)),
    Row('evaluate', 'training', 'a tensor', lambda: d.evaluate(X, BYTES, BYTES), ('tensor',)),
    *[Row('noising_panel', 'image', given, lambda x=x: d.noising_panel(x), was) for given, x, was in [('bytes', BYTES[0], ('uint8',)), ('a batch', X, ('(2, 3, 32, 32)',)), ('a nan', changed(X[0], NAN), ('nan',)), ('outside [-1, 1]', 2 * X[0], ('from -2 to 2',))]],
    Row('noising_panel', 'T', '10, then rescaled', lambda: choose(d.noising_panel(X[0], 10), 1, 'linear-rescaled').children[2].value, answer=lambda said: 'take T above 20' in said),
    Row('denoising_panel', 'model', 'T = 1', lambda: d.denoising_panel(d.DDPM(MODEL.network, d.cosine_schedule(1)), 1), answer=lambda panel: panel is not None),
]


def choose(panel, child, value):
    """The panel, after a control has been moved."""
    panel.children[child].value = value
    return panel


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
        return None if error is None and row.answer(answer) else f'should get a right answer, got {answer if error is None else error!r:.200}'
    if error is None:
        return f'was taken in silence: {answer!r:.80}'
    said = str(error)
    if type(error) not in (ValueError, TypeError):
        return f'{type(error).__name__}: {said:.150}'
    lacking = [what for what, there in [('the argument', row.argument in said), ('what it was', any(w in said for w in row.was)), ('what it should be', 'should' in said)] if not there]
    return f'{", ".join(lacking)} not said: {said:.200}' if lacking else None


@pytest.mark.parametrize('row', ROWS, ids=[f'{row.function}-{row.argument}-{row.given}' for row in ROWS])
def test_row(row):
    assert (wrong := verdict(row)) is None, wrong


def test_every_public_function_has_rows():
    with_rows = {row.function.split('.')[0] for row in ROWS}
    elsewhere = {                  # take no pictures or numbers, or have tests of their own
        'Averaging', 'Batch', 'Checkpoint', 'Denoiser', 'Draws', 'Estimate', 'Hook',
        'Precision', 'Preview', 'Progress', 'Step', 'Tracker', 'Trained', 'clip',
        'copy_exercises', 'denoising', 'diffusers_sampler', 'from_diffusers', 'guided',
        'large_variance', 'load', 'pretrained', 'results', 'run_experiment', 'save',
        'schedules_panel', 'small_variance', 'steered', 'train', 'training_panel', 'usual'}
    assert set(d.__all__) - elsewhere <= with_rows, set(d.__all__) - elsewhere - with_rows


def test_table():
    """Prints what each row gets; pytest shows it with -s."""
    for row in ROWS:
        answer, error = outcome(row)
        print(f'{row.function:24} {row.argument:10} {row.given:30} ' + ('a right answer' if error is None else f'{type(error).__name__}: {error}')[:170])


# Properties: what holds for every input of a kind.

SIZES = st.lists(st.integers(0, 5), max_size=5)
WHOLE_BUT_WRONG = st.integers(-10**6, -1)
FLOATS = st.floats(allow_nan=True, allow_infinity=True)
RIGHT_SHAPES = st.tuples(st.integers(1, 3), st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9))


def refused(argument, call):
    """Whether a call gets an error of the right kind that names the argument and says what it should be."""
    wrong = verdict(Row('', argument, '', call, ('',)))
    assert wrong is None, wrong


@pytest.mark.parametrize('name', [n for n in DRAWN if n not in ('inception_features', 'evaluate')])
@few
@given(SIZES)
def test_shapes_that_no_batch_has(name, sizes):
    argument, call = DRAWN[name]
    if len(sizes) != 4 or 0 in sizes or sizes[1] not in (1, 3):
        refused(argument, lambda: call(torch.zeros(sizes)))
        refused(argument, lambda: call(torch.zeros(sizes, dtype=torch.uint8)))


@pytest.mark.parametrize('argument, call', [row[1::3] for row in COUNTS], ids=[f'{row[0]}-{row[1]}' for row in COUNTS])
@few
@given(WHOLE_BUT_WRONG, FLOATS)
def test_numbers_that_are_no_counts(argument, call, negative, number):
    refused(argument, lambda: call(negative))
    refused(argument, lambda: call(number))                                # a float is no count, not even 2.0


@pytest.mark.parametrize('name', list(WITH_STEPS))
@few
@given(st.integers(-10**9, 0) | st.integers(T + 1, 10**9), st.booleans())
def test_steps_out_of_range(name, t, first):
    refused('t', lambda: WITH_STEPS[name](torch.tensor([t, 1] if first else [1, t])))


@few
@given(RIGHT_SHAPES, st.integers(1, 5), st.integers(0, 3))
def test_a_grid_of_any_size_keeps_every_pixel(shape, cols, gap):
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    grid, (n, c, h, w) = d.image_grid(d.to_float(images), cols, gap), shape
    assert grid.shape == (3, -(-n // cols) * (h + gap) - gap, cols * (w + gap) - gap)
    for i in range(n):
        top, left = i // cols * (h + gap), i % cols * (w + gap)
        assert torch.equal(grid[:, top:top + h, left:left + w], images[i].expand(3, -1, -1))


@few
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20))
def test_any_finite_numbers_become_the_nearest_bytes(numbers):
    x = torch.tensor(numbers, dtype=torch.float32)
    if x.min() >= 0 and x.max() > 1 and (x == x.round()).all():
        return refused('images', lambda: d.to_uint8(x))
    error = (d.to_float(d.to_uint8(x)).double() - x.double().clamp(-1, 1)).abs().max()
    assert error <= 1 / 255 + 1e-6


@few
@given(RIGHT_SHAPES, st.integers(1, 60), st.data())
def test_noising_any_shape_and_back(shape, T, data):
    schedule, rng = d.sigmoid_schedule(T), torch.Generator().manual_seed(T)
    x0, eps = torch.rand(shape, generator=rng).double() * 2 - 1, torch.randn(shape, generator=rng).double()
    t = torch.tensor(data.draw(st.lists(st.integers(1, T), min_size=shape[0], max_size=shape[0])))
    xt = d.q_sample(x0, t, schedule, eps)
    assert xt.shape == x0.shape and torch.allclose(d.x0_from_eps(eps, xt, t, schedule), x0, atol=1e-9) and torch.allclose(d.eps_from_x0(x0, xt, t, schedule), eps, atol=1e-6)
    assert torch.allclose(d.x0_from_v(d.v_from_x0(x0, xt, t, schedule), xt, t, schedule), x0, atol=1e-6)


@few
@given(st.integers(1, 80), st.integers(-3, 100), st.integers(-3, 100), st.sampled_from(['even_steps', 'quadratic_steps', 'log_snr_steps', 'angle_steps']))
def test_grids_of_steps(T, start, steps, name):
    schedule, grid = d.cosine_schedule(T), getattr(d, name)
    if not 1 <= start <= T:
        return refused('start', lambda: grid(schedule, start, steps))
    if not 1 <= steps <= start:
        return refused('steps', lambda: grid(schedule, start, steps))
    times = grid(schedule, start, steps)
    assert len(times) == steps + 1 and times[0] == start and times[-1] == 0 and all(a > b for a, b in zip(times, times[1:]))


@few
@given(st.lists(FLOATS, min_size=1, max_size=8))
def test_any_list_of_numbers_is_a_schedule_or_refused(betas):
    if all(0 < b < 1 for b in betas) and np.prod(1 - np.array(betas)) >= torch.finfo(torch.float32).tiny:
        abar = d.Schedule(torch.tensor(betas, dtype=torch.float64)).abar
        assert len(abar) == len(betas) + 1 and abar[0] == 1 and (abar.diff() <= 0).all() and abar[-1] > 0
    else:
        refused('betas', lambda: d.Schedule(torch.tensor(betas, dtype=torch.float64)))


A_MILLION = """
import resource, time, warnings
import torch
import ddpm_teach as d
network = lambda x, t: torch.tanh(x)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
def clock(name, call):
    start = time.process_time()
    try: call()
    except ValueError as error: assert 'Remedy' in str(error), error
    took = time.process_time() - start
    assert took < 2, f'{name} took {took:.1f} s'
T, x = 10**6, torch.randn(1, 3, 8, 8)
clock('linear', lambda: d.linear_schedule(T))                                    # refused: nothing would be left of the picture
for make in (d.cosine_schedule, d.sigmoid_schedule, lambda T: d.linear_schedule(T, rescale=True)):
    clock('schedule', lambda: make(T))
    schedule = make(T)
    model, t = d.DDPM(network, schedule), torch.tensor([T])
    assert 0 < schedule.abar[-1] < 1e-3 and len(schedule.abar) == T + 1
    for grid in (d.even_steps, d.quadratic_steps, d.log_snr_steps, d.angle_steps):
        clock(grid.__name__, lambda: grid(schedule, T, 1000))
    for sampler in (d.ddim, d.dpm_solver):
        clock(sampler.__name__, lambda: list(sampler(model, x)))
        *_, last = sampler(model, x)
        assert last.t == 0 and last.x.isfinite().all() and last.x.abs().max() <= 1
    clock('ancestral', lambda: [next(steps) for steps in [d.ancestral(model, x)] for _ in range(3)])
    clock('loss', lambda: d.ddpm_loss(model, x, t, x))
    assert d.vlb_terms(model, x.clamp(-1, 1), t, x).isfinite().all() and d.prior_kl(x, schedule).isfinite().all()
    assert d.posterior(x, x, t, schedule)[0].isfinite().all() and d.q_sample(x, t, schedule, x).isfinite().all()
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10
assert grown < 700, f'{grown:.0f} MiB'
print(f'{grown:.0f} MiB')
"""


@pytest.mark.skipif(sys.platform == 'win32', reason='counts memory with `resource`')
def test_a_million_steps_take_neither_long_nor_much_memory():
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', A_MILLION], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    print('T = 10**6:', done.stdout)
