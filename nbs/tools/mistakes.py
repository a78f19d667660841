"""Mistakes that published programs made, each as one change in this package.

The bug museum shows them. `tests/test_mutations.py` puts each in, and asks whether the
check that is named beside it notices.
"""
import ast
from functools import cache
from importlib import import_module, resources
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from patterns import functions, public, replaced


@cache
def texts() -> dict[str, str]:
    """The text of each module of the package: 'schedule', 'plumbing.show'."""
    with resources.as_file(resources.files('ddpm_teach')) as folder:
        root = Path(folder)
        files = {path.relative_to(root): path for path in sorted(root.rglob('*.py'))}
        return {
            '.'.join(name.with_suffix('').parts): path.read_text(encoding='utf-8')
            for name, path in files.items()
        }


@cache
def defined(text: str) -> set[str]:
    """The functions and methods of a module."""
    return {name for name, _ in functions(ast.parse(text))}


def home(function: str, texts: dict[str, str]) -> str:
    """The module of a function. Raises ValueError unless it is in one of them."""
    every = [(module, name) for module, text in texts.items() for name in defined(text)]
    exact = [module for module, name in every if name == function]
    alike = [module for module, name in every if public(name) == public(function)]
    found = exact or alike
    if len(found) != 1:
        where = f' ({", ".join(found)})' if found else ''
        raise ValueError(
            f'{len(found)} modules of ddpm_teach have a function {function}{where}, '
            f'there should be one'
        )
    return found[0]


class Mistake(NamedTuple):
    """One wrong line, and what notices it.

    `right` and `wrong` are patterns, as patterns.py describes them: `...` stands for
    anything. The module is found by the function, so code can move freely.
    """
    name: str   # what went wrong, in words
    where: str  # the function or method that has it
    right: str  # fits one place in that function
    wrong: str  # stands there instead; nothing if the statement is left out
    check: str  # 'notebook: what it asserts', or 'tests/file.py::test'

    @property
    def module(self) -> str:
        """Such as 'schedule' or 'plumbing.show'."""
        return home(self.where, texts())

    def changed(self) -> str:
        """The source of the module with the mistake in it."""
        return self.changed_in(texts()[self.module])

    def changed_in(self, text: str) -> str:
        """The same for a module with this text."""
        try:
            return replaced(text, self.where, self.right, self.wrong)
        except ValueError as error:
            where = f'ddpm_teach.{self.module}'
            raise ValueError(f'{self.name}: in {where}: {error}') from None

    def inject(self) -> ModuleType:
        """The module with the mistake in it, unseen by the rest of the package."""
        module = ModuleType(f'ddpm_teach.{self.module}')
        module.__package__ = module.__name__.rpartition('.')[0]
        code = compile(self.changed(), f'{self.module} with a mistake', 'exec')
        exec(code, module.__dict__)
        _make_it_pass(module)
        return module


def _make_it_pass(module: ModuleType):
    """A Schedule with a mistake must pass for a Schedule, in the sound modules too."""
    sound = import_module(module.__name__)
    for name, kind in list(vars(module).items()):
        own = isinstance(kind, type) and kind.__module__ == module.__name__
        if own and kind.__bases__ == (object,):
            setattr(module, name, type(name, (kind, getattr(sound, name)), {}))


ROOMS = {
    'data': [
        Mistake(
            'data in [0, 1]',
            where='to_float',
            right='images.float() / 127.5 - 1',
            wrong='images.float() / 255',
            check='01_data: epoch.min() == -1',
        ),
        Mistake(
            'truncated to bytes, not rounded',
            where='to_uint8',
            right='(...).round()',
            wrong='(...)',
            check='show: torch.equal(to_uint8(to_float(levels)), levels)',
        ),
        Mistake(
            'what lies outside [-1, 1] wraps around',
            where='to_uint8',
            right='(...).clamp(-1, 1)',
            wrong='(...)',
            check='show: to_uint8(torch.tensor([-1.7, 1.7])).tolist() == [0, 255]',
        ),
        Mistake(
            'the reference set is mirrored too',
            where='Pictures.rows',
            right='self.mirror and draws is not None',
            wrong='draws is not None',
            check='01_data: not (right > 0).any()',
        ),
        Mistake(
            'mirrored top to bottom',
            where='Pictures.rows',
            right='x0.flip(-1)',
            wrong='x0.flip(-2)',
            check='01_data: abs(share - .5) < ...',
        ),
        Mistake(
            'labels do not follow the mirror',
            where='labels_in_mirror',
            right='1 - seen[:, column]',
            wrong='seen[:, column]',
            check='01_data: right < 2 < wrong',
        ),
        Mistake(
            'every epoch in the same order',
            where='batches',
            right='generator(seed, ORDER, ...)',
            wrong='generator(seed, ORDER)',
            check='01_data: not torch.equal(epoch, ...)',
        ),
        Mistake(
            'every step mirrors the same ones',
            where='batches',
            right='Draws(seed, step)',
            wrong='Draws(seed, 0)',
            check='01_data: abs(share - .5) < ...',
        ),
    ],
    'schedule': [
        Mistake(
            'abar starts at the first step, not before it',
            where='Schedule.__init__',
            right='self.alpha.cumprod(0)',
            wrong='torch.cat([self.alpha[1:], self.alpha[-1:]]).cumprod(0)',
            check='02_schedule: torch.allclose(tiny.abar, ...)',
        ),
        Mistake(
            'beta kept while T changes, and nothing said',
            where='warn_of_signal',
            right='warn_caller(...)',
            wrong='',
            check='02_schedule: len(said) == 5',
        ),
        Mistake(
            'beta rescaled the wrong way',
            where='linear_schedule',
            right='1000 / ...',
            wrong='T / 1000',
            check='02_schedule: len(said) == 5',
        ),
        Mistake(
            'linear: in the root of beta',
            where='linear_schedule',
            right='torch.linspace(...)',
            wrong=(
                'torch.linspace((start * scale)**.5, (end * scale)**.5, T, '
                'dtype=torch.float64)**2'
            ),
            check='02_schedule: abs(five.abar[t].item() - float(product)) < 1e-15',
        ),
        Mistake(
            'linear: one step more than T',
            where='linear_schedule',
            right='torch.linspace(...)',
            wrong=(
                'torch.linspace(start * scale, end * scale, T + 1, '
                'dtype=torch.float64)[:-1]'
            ),
            check='02_schedule: abs(five.abar[t].item() - float(product)) < 1e-15',
        ),
        Mistake(
            'cosine: off by an index',
            where='cosine_schedule',
            right='torch.arange(...)',
            wrong='torch.arange(1, T + 2, dtype=torch.float64)',
            check='02_schedule: abs(cosine.abar[t].item() / closed - 1) < 1e-9',
        ),
        Mistake(
            'cosine: the square forgotten',
            where='cosine_schedule',
            right='(...)**2',
            wrong='(...)',
            check='02_schedule: abs(cosine.abar[t].item() / closed - 1) < 1e-9',
        ),
        Mistake(
            'sigmoid: a square too many',
            where='sigmoid_schedule',
            right='(high - ...) / (high - low)',
            wrong='((high - ...) / (high - low))**2',
            check='02_schedule: abs(sigmoid.abar[250] - .5) < 1e-12',
        ),
        Mistake(
            'sigmoid: off by an index',
            where='sigmoid_schedule',
            right='torch.arange(...)',
            wrong='torch.arange(1, T + 2, dtype=torch.float64)',
            check='02_schedule: abs(sigmoid.abar[250] - .5) < 1e-12',
        ),
        Mistake(
            'posterior variance: the two abar exchanged',
            where='Schedule.__init__',
            right='(1 - self.abar[:-1]) / (1 - self.abar[1:])',
            wrong='(1 - self.abar[1:]) / (1 - self.abar[:-1])',
            check='02_schedule: torch.allclose(tiny.posterior_var[1:], ...)',
        ),
    ],
    'forward': [
        Mistake(
            'one step: beta used as a standard deviation',
            where='q_step',
            right='beta.sqrt()',
            wrong='beta',
            check=(
                '03_forward: '
                'torch.allclose(q_sample(zero, ts, schedule, one)**2, var, ...)'
            ),
        ),
        Mistake(
            'one jump: 1 - abar used as a standard deviation',
            where='q_sample',
            right='(1 - abar).sqrt()',
            wrong='(1 - abar)',
            check=(
                '03_forward: '
                'torch.allclose(q_sample(zero, ts, schedule, one)**2, var, ...)'
            ),
        ),
        Mistake(
            'one jump: abar without its root',
            where='q_sample',
            right='abar.sqrt()',
            wrong='abar',
            check=(
                '03_forward: '
                'torch.allclose(q_sample(one, ts, schedule, zero), mean, ...)'
            ),
        ),
        Mistake(
            'one jump: alpha instead of abar',
            where='q_sample',
            right="schedule.at('abar', ...)",
            wrong="schedule.at('alpha', ...)",
            check=(
                '03_forward: '
                'torch.allclose(q_sample(one, ts, schedule, zero), mean, ...)'
            ),
        ),
        Mistake(
            'step back: abar instead of alpha',
            where='posterior',
            right='alpha.sqrt()',
            wrong='abar.sqrt()',
            check='03_forward: torch.allclose(mean, centre, ...)',
        ),
        Mistake(
            'step back: abar of t instead of t - 1',
            where='posterior',
            right='schedule.abar[now - 1]',
            wrong='schedule.abar[now]',
            check='03_forward: torch.allclose(mean, centre, ...)',
        ),
        Mistake(
            'x0 from eps: divided by abar, not by its root',
            where='x0_from_eps',
            right='abar.sqrt()',
            wrong='abar',
            check=(
                '03_forward: '
                'torch.allclose(x0_from_eps(eps, xt, t, schedule), x0, ...)'
            ),
        ),
        Mistake(
            'v with the other sign',
            where='v_from_x0',
            right='abar.sqrt() * xt - x0',
            wrong='x0 - abar.sqrt() * xt',
            check='03_forward: torch.allclose(v_from_x0(x0, xt, t, schedule), v)',
        ),
    ],
    'objective': [
        Mistake(
            'index shifted by one between network and coefficients',
            where='DDPM.forward',
            right='t - 1',
            wrong='t',
            check='07_sampling: error_a(gaussian(m, 1., schedule), ancestral) < 1e-10',
        ),
        Mistake(
            '(B, 1) against (B,) is broadcast',
            where='DDPM.forward',
            right='check_answer(prediction, xt)',
            wrong='',
            check="04_objective: 'should be that of its input' in said",
        ),
        Mistake(
            'min-SNR: the clamp reversed',
            where='min_snr',
            right='(...).clamp(max=gamma)',
            wrong='(...).clamp(min=gamma)',
            check="04_objective: min_snr(every, schedule, 'eps').max() <= 1",
        ),
        Mistake(
            'the weight of v taken for that of eps',
            where='per_x0',
            right='snr + 1',
            wrong='snr',
            check="04_objective: torch.allclose(views['v'], views['x0'], ...)",
        ),
        Mistake(
            'x0_hat not clipped',
            where='Denoiser.x0_hat',
            right='self.limit(x0)',
            wrong='x0',
            check='07_sampling: moved[True] <= 1',
        ),
        Mistake(
            'the loss taken in bfloat16',
            where='ddpm_loss',
            right='loss(prediction.to(target.dtype), target, ...)',
            wrong='loss(prediction, target.to(prediction.dtype), ...)',
            check='hooks: seen == [torch.bfloat16, full, torch.float32, full]',
        ),
        Mistake(
            'the bound: the first term like all others',
            where='vlb_terms',
            right='t == 1',
            wrong='t == 0',
            check='04_objective: torch.allclose(terms, ...)',
        ),
    ],
    'network': [
        Mistake(
            't is ignored',
            where='ResBlock.forward',
            right='self.time(...)',
            wrong='0 * self.time(...)',
            check='05_unet: unused(redraw(UNet())) == []',
        ),
        Mistake(
            'the embedding collapses t',
            where='time_embedding',
            right='t[:, None].float()',
            wrong='t[:, None].float() / 1000',
            check='05_unet: apart > .1 > scaled',
        ),
        Mistake(
            'sines twice, no cosines',
            where='time_embedding',
            right='angle.cos()',
            wrong='angle.sin()',
            check='05_unet: apart > .1 > scaled',
        ),
        Mistake(
            'a layer is built and not used',
            where='UNet.through',
            right='self.middle',
            wrong='self.middle[::2]',
            check='05_unet: unused(redraw(UNet())) == []',
        ),
        Mistake(
            'attention scaled by c, not by its root',
            where='Attention.forward',
            right='math.sqrt(c)',
            wrong='c',
            check='05_unet: torch.allclose(layer(x), ...)',
        ),
        Mistake(
            'skips picked up in the wrong order',
            where='UNet.through',
            right='skips.pop()',
            wrong=(
                'skips.pop(-2 if len(skips) > 1 and skips[-2].shape == '
                'skips[-1].shape else -1)'
            ),
            check='05_unet: order == list(range(5, -1, -1))',
        ),
        Mistake(
            'the kernel of the way up not mirrored',
            where='Up.forward',
            right='(...).flip(2, 3)',
            wrong='(...)',
            check='05_unet: (up(x) - plain).abs().max() < 1e-12',
        ),
    ],
    'training': [
        Mistake(
            't = T sampled but never trained',
            where='uniform_times',
            right='draws.whole(NOISE, n, 1, schedule.T)',
            wrong='draws.whole(NOISE, n, 1, schedule.T - 1)',
            check='06_training: seen.unique().tolist() == ...',
        ),
        Mistake(
            't = 0 trained but never sampled',
            where='uniform_times',
            right='draws.whole(NOISE, n, 1, schedule.T)',
            wrong='draws.whole(NOISE, n, 0, schedule.T)',
            check='06_training: seen.unique().tolist() == ...',
        ),
        Mistake(
            'the average keeps what it should replace',
            where='move_average',
            right='1 - decay(...)',
            wrong='decay(...)',
            check='06_training: abs(ema.module.weight.item() - exact) < 1e-6',
        ),
        Mistake(
            'the average is never updated',
            where='Averaging.after_step',
            right='self.average.update_parameters(...)',
            wrong='',
            check='06_training: all(torch.equal(a, b) for a, b in pairs)',
        ),
        Mistake(
            'the average is kept but not used',
            where='Averaging.begin',
            right='run.result = ...',
            wrong='run.result = run.model',
            check='06_training: any(not torch.equal(a, b) for a, b in pairs)',
        ),
        Mistake(
            'the average is not in the checkpoint',
            where='Averaging.restore',
            right='put_back(...)',
            wrong='',
            check='hooks: all(torch.equal(ours[name], theirs[name]) for name in ours)',
        ),
        Mistake(
            'the optimiser forgets when resuming',
            where='load_checkpoint',
            right='run.optimiser.load_state_dict(...)',
            wrong='',
            check='hooks: straight.losses == resumed.losses',
        ),
        Mistake(
            'resumed with other pictures',
            where='checksum',
            right='zlib.crc32(...)',
            wrong='0',
            check='hooks: all(word in text for word, text in zip(words, said))',
        ),
        Mistake(
            'gradients of all steps add up',
            where='one_step',
            right='run.optimiser.zero_grad()',
            wrong='',
            check='06_training: torch.equal(both, ...)',
        ),
        Mistake(
            'gradients are not clipped',
            where='one_step',
            right='nn.utils.clip_grad_norm_(...)',
            wrong='',
            check='06_training: abs((...).norm() - 1) < 1e-3',
        ),
        Mistake(
            'mixed precision silently off',
            where='Precision.around',
            right='enabled=self.bf16',
            wrong='enabled=False',
            check='hooks: seen == [torch.bfloat16, full, torch.float32, full]',
        ),
    ],
    'sampling': [
        Mistake(
            'sigma^2 used as sigma',
            where='ancestral',
            right='(...).sqrt() * draw()',
            wrong='(...) * draw()',
            check='07_sampling: error_a(gaussian(m, 1., schedule), ancestral) < 1e-10',
        ),
        Mistake(
            'noise added at the last step',
            where='ancestral',
            right='noise and t > 1',
            wrong='noise',
            check='07_sampling: error_a(gaussian(m, 1., schedule), ancestral) < 1e-10',
        ),
        Mistake(
            'the last step skipped',
            where='ancestral',
            right='range(start, 0, -1)',
            wrong='range(start, 1, -1)',
            check='07_sampling: error_a(gaussian(m, 1., schedule), ancestral) < 1e-10',
        ),
        Mistake(
            'the first step skipped',
            where='ancestral',
            right='range(start, 0, -1)',
            wrong='range(start - 1, 0, -1)',
            check='07_sampling: error_a(gaussian(m, 1., schedule), ancestral) < 1e-10',
        ),
        Mistake(
            'without x_t: abar instead of alpha',
            where='step_back',
            right="(...).at('alpha', ...)",
            wrong="(...).at('abar', ...)",
            check='07_sampling: affine(model, t, ancestral, keep_x=False)',
        ),
        Mistake(
            'sampling in training mode',
            where='evaluating',
            right='model.eval()',
            wrong='',
            check='07_sampling: spy.network.asked == list(range(10, 0, -1))',
        ),
        Mistake(
            'gradients kept while sampling',
            where='evaluating',
            right='torch.no_grad()',
            wrong='torch.enable_grad()',
            check='07_sampling: spy.network.asked == list(range(10, 0, -1))',
        ),
        Mistake(
            'the same noise for every picture',
            where='image_noise',
            right='generator(seed, i)',
            wrong='generator(seed)',
            check='draws: not torch.equal(*batch()[:2])',
        ),
        Mistake(
            'interpolation starts one step late',
            where='interpolate',
            right='start=t',
            wrong='start=t - 1',
            check='drawing: first_asked == list(range(30, 0, -1))',
        ),
        Mistake(
            'an export needs a global of its notebook',
            where='first_step',
            right='model.schedule.T',
            wrong='schedule.T',
            check='tests/test_package.py::test_modules_define_the_names_they_use',
        ),
        Mistake(
            'ddim: the root of sigma forgotten',
            where='stride',
            right='eta * math.sqrt(...)',
            wrong='eta * (...)',
            check='09_fast_sampling: (one.x - other.x).abs().max() < 1e-10',
        ),
        Mistake(
            'ddim: fresh noise without taking away old',
            where='stride',
            right='1 - abar_s - sigma**2',
            wrong='1 - abar_s',
            check='09_fast_sampling: (one.x - other.x).abs().max() < 1e-10',
        ),
        Mistake(
            'ddim: alpha of one step in a stride of many',
            where='stride',
            right='1 - abar_t / abar_s',
            wrong='1 - schedule.alpha[t].item()',
            check='09_fast_sampling: abs(end.item()**2 / wanted - 1) < 1e-9',
        ),
        Mistake(
            'dpm_solver: the ratio of steps upside down',
            where='dpm_solver',
            right='(lam[s] - lam[t]) / (lam[t] - lam[u])',
            wrong='(lam[t] - lam[u]) / (lam[s] - lam[t])',
            check='09_fast_sampling: (then.x - expected).abs().max() < 1e-10',
        ),
        Mistake(
            'dpm_solver: corrected twice as much',
            where='dpm_solver',
            right='x0_hat - before',
            wrong='2 * (x0_hat - before)',
            check="09_fast_sampling: abs(fitted['dpm_solver'] + 2) < .2",
        ),
        Mistake(
            'dpm_solver: the corrected belief remembered',
            where='dpm_solver',
            right='before = x0_hat',
            wrong='before = middle',
            check="09_fast_sampling: abs(fitted['dpm_solver'] + 2) < .2",
        ),
        Mistake(
            'a grid that does not start at T',
            where='even_steps',
            right='torch.linspace(start, ...)',
            wrong='torch.linspace(start - start // steps, ...)',
            check='09_fast_sampling: times[0] == 500',
        ),
    ],
    'words': [
        Mistake(
            'guidance: w taken for 1 + w',
            where='Steered.belief',
            right='here + self.scale * (...)',
            wrong='there + self.scale * (...)',
            check='11_guidance: steered(asked, everything, 0.).x0_hat(x, t)',
        ),
        Mistake(
            'guidance on the first three channels only',
            where='Steered.belief',
            right='steer.where(spread(inside, xt), there)',
            wrong='torch.cat([steer[:, :3], there[:, 3:]], dim=1)',
            check='11_guidance: torch.full_like(both, -.75)',
        ),
        Mistake(
            'guidance: a belief limited before the line is drawn',
            where='Steered.belief',
            right='self.away.belief(...)',
            wrong='self.away.x0_hat(...)',
            check='11_guidance: torch.full_like(both, -.75)',
        ),
        Mistake(
            'a label taken for the one that is not said',
            where='some_said',
            right='1 + batch.labels',
            wrong='batch.labels',
            check='11_guidance: some[some > 0] == 1 + batch.labels[some > 0]',
        ),
        Mistake(
            'padding is heard',
            where='shares',
            right='fit.masked_fill(~there[:, None], -torch.inf)',
            wrong='fit',
            check='12_text: (alone[0] - beside[0, :3]).abs().max() < 1e-5',
        ),
        Mistake(
            'padding counts in the mean of the words',
            where='mean_of',
            right='there / there.sum(1, keepdim=True)',
            wrong='torch.ones_like(there) / there.shape[1]',
            check='12_text: (alone - beside).abs().max() < 1e-4',
        ),
        Mistake(
            'words without their places',
            where='TextEncoder.forward',
            right='self.words(tokens) + self.places[:tokens.shape[1]]',
            wrong='self.words(tokens)',
            check='12_text: moved > 1 and ...',
        ),
        Mistake(
            'fits not divided by the root of their width',
            where='shares',
            right='q @ k.transpose(1, 2) / q.shape[-1]**.5',
            wrong='q @ k.transpose(1, 2)',
            check='12_text: torch.allclose(ours, theirs, atol=1e-5)',
        ),
        Mistake(
            'another nothing in training than in sampling',
            where='captioned',
            right="'' if mute else text",
            wrong="'nothing' if mute else text",
            check="12_text: torch.equal(silent['words'], words.nothing(4)['words'])",
        ),
        Mistake(
            'half of the captions left out',
            where='captioned',
            right='silent=.1',
            wrong='silent=.5',
            check='12_text: (usual[:, 1:] == PADDING).all(1)',
        ),
    ],
    'latents': [
        Mistake(
            'latents not divided by their spread',
            where='Autoencoder.encode',
            right='self.latent(pictures)[0] / self.scale',
            wrong='self.latent(pictures)[0]',
            check='13_latents: abs(again_encoded.x.std() - 1) < .05',
        ),
        Mistake(
            'latents decoded without their scale',
            where='Autoencoder.decode',
            right='x * self.scale',
            wrong='x',
            check='13_latents: (after - same).abs().max() < 1e-5',
        ),
        Mistake(
            'the variance of a latent used as its deviation',
            where='reconstruction_loss',
            right='var.sqrt()',
            wrong='var',
            check='13_latents: abs(known.z.mean() - 2) < .05 and ...',
        ),
        Mistake(
            'the cost of a latent per picture, not per number',
            where='reconstruction_loss',
            right='batch.x0.numel()',
            wrong='len(batch.x0)',
            check='13_latents: abs(value - (.5 + .1 * kl / 16)) < 1e-5',
        ),
        Mistake(
            'edges in one direction only',
            where='lines_too',
            right='off.abs().mean() + across + down',
            wrong='off.abs().mean() + down + down',
            check='13_latents: abs(missed - plain - 2 * 2 * 8 / 56) < 1e-6',
        ),
        Mistake(
            'mirrored latents with the labels of the others',
            where='encoded',
            right='labels_in_mirror(labels, data.words)',
            wrong='labels',
            check='13_latents: torch.equal(latents.labels[:16, flip], ...)',
        ),
        Mistake(
            'latents clipped like pictures',
            where='Denoiser.x0_hat',
            right='x0 if self.limit is None else self.limit(x0)',
            wrong='clip(x0)',
            check="13_latents: ends['no limit'] < 1e-4 and ...",
        ),
    ],
}
MISTAKES = [mistake for room in ROOMS.values() for mistake in room]
