"""Mistakes that published programs made, each as one change in this package. The bug museum shows them, `tests/test_mutations.py` puts each in and asks whether a check notices."""
from importlib import import_module, resources
from types import ModuleType
from typing import NamedTuple


class Mistake(NamedTuple):
    name: str    # what went wrong, in words
    module: str  # where
    right: str   # the text of the module, which stands there once
    wrong: str   # what stands there instead
    check: str   # what notices: 'notebook#cell', or 'file::test' for pytest

    def changed(self) -> str:
        "The source of the module with the mistake in it."
        source = (resources.files('ddpm_teach') / f'{self.module.replace(".", "/")}.py').read_text(encoding='utf-8')
        if source.count(self.right) != 1:
            raise ValueError(f'{self.name}: the text to change stands {source.count(self.right)} times in {self.module}.py, it should stand there once: {self.right!r}')
        return source.replace(self.right, self.wrong)

    def inject(self) -> ModuleType:
        "The module with the mistake in it, beside the sound one: the rest of the package does not see it."
        module = ModuleType(f'ddpm_teach.{self.module}')
        module.__package__ = module.__name__.rpartition('.')[0]
        exec(compile(self.changed(), f'{self.module}.py with a mistake', 'exec'), module.__dict__)
        sound = import_module(module.__name__)
        for name, kind in list(vars(module).items()):                     # a Schedule with a mistake must pass for a Schedule
            if isinstance(kind, type) and kind.__module__ == module.__name__ and kind.__bases__ == (object,):
                setattr(module, name, type(name, (kind, getattr(sound, name)), {}))
        return module


ROOMS = {'data': ('plumbing.show', 'data'), 'schedule': ('schedule',), 'forward': ('forward',), 'objective': ('objective',), 'network': ('unet',),
         'training': ('training',), 'sampling': ('sampling', 'fast_sampling')}

MISTAKES = [Mistake(*row) for row in [
    # data
    ('data in [0, 1]', 'plumbing.show', 'images.float() / 127.5 - 1', 'images.float() / 255', '01_data#d20d76a0'),
    ('truncated to bytes, not rounded', 'plumbing.show', '* 127.5).round().to(torch.uint8)', '* 127.5).to(torch.uint8)', 'show#0c20e413'),
    ('what lies outside [-1, 1] wraps around', 'plumbing.show', '.float().clamp(-1, 1) + 1)', '.float() + 1)', 'show#0c20e413'),
    ('the reference set is mirrored too', 'data', 'flip: bool = False', 'flip: bool = True', '01_data#d20d76a0'),
    ('mirrored top to bottom', 'data', 'x0.flip(-1)', 'x0.flip(-2)', '01_data#d20d76a0'),
    ('every epoch in the same order', 'data', "generator(seed, ORDER, _check_whole('epoch', epoch, 0))", 'generator(seed, ORDER)', '01_data#d20d76a0'),
    ('every step mirrors the same ones', 'data', 'generator(seed, FLIP, step)', 'generator(seed, FLIP)', '01_data#d20d76a0'),
    # schedule
    ('abar starts at the first step, not before it', 'schedule', 'self.abar = self.alpha.cumprod(0)', 'self.abar = torch.cat([self.alpha[1:], self.alpha[-1:]]).cumprod(0)', '02_schedule#f54b4ad8'),
    ('beta kept while T changes, and nothing said', 'schedule', 'if abar[-1] > 1.001e-3:', 'if False:', '02_schedule#4a48f2c2'),
    ('beta rescaled the wrong way', 'schedule', "1000 / _check_whole('T', T) if rescale", 'T / 1000 if rescale', '02_schedule#4a48f2c2'),
    ('linear: in the root of beta', 'schedule', "torch.linspace(start * scale, end * scale, _check_whole('T', T), dtype=torch.float64)", 'torch.linspace((start * scale)**.5, (end * scale)**.5, T, dtype=torch.float64)**2', '02_schedule#79dd00d5'),
    ('linear: one step more than T', 'schedule', "torch.linspace(start * scale, end * scale, _check_whole('T', T), dtype=torch.float64)", 'torch.linspace(start * scale, end * scale, T + 1, dtype=torch.float64)[:-1]', '02_schedule#79dd00d5'),
    ('cosine: off by an index', 'schedule', "torch.arange(_check_whole('T', T) + 1, dtype=torch.float64) / T + s", 'torch.arange(1, T + 2, dtype=torch.float64) / T + s', '02_schedule#102131d9'),
    ('cosine: the square forgotten', 'schedule', '* math.pi / 2)**2', '* math.pi / 2)', '02_schedule#102131d9'),
    ('sigmoid: a square too many', 'schedule', '(high - (u / tau).sigmoid()) / (high - low))', '((high - (u / tau).sigmoid()) / (high - low))**2)', '02_schedule#28dbe565'),
    ('sigmoid: off by an index', 'schedule', "torch.arange(_check_whole('T', T) + 1, dtype=torch.float64) / T\n", 'torch.arange(1, T + 2, dtype=torch.float64) / T\n', '02_schedule#28dbe565'),
    ('posterior variance: the two abar exchanged', 'schedule', '(1 - self.abar[:-1]) / (1 - self.abar[1:])', '(1 - self.abar[1:]) / (1 - self.abar[:-1])', '02_schedule#f54b4ad8'),
    # forward
    ('one step: beta used as a standard deviation', 'forward', 'beta.sqrt() * eps', 'beta * eps', '03_forward#cc1b5592'),
    ('one jump: 1 - abar used as a standard deviation', 'forward', 'x0 + (1 - abar).sqrt() * eps', 'x0 + (1 - abar) * eps', '03_forward#cc1b5592'),
    ('one jump: abar without its root', 'forward', 'return abar.sqrt() * x0 +', 'return abar * x0 +', '03_forward#cc1b5592'),
    ('one jump: alpha instead of abar', 'forward', "abar = schedule.at('abar', t, like=x0)", "abar = schedule.at('alpha', t, like=x0)", '03_forward#cc1b5592'),
    ('step back: abar instead of alpha', 'forward', 'alpha.sqrt() * (1 - before)', 'abar.sqrt() * (1 - before)', '03_forward#4650d854'),
    ('step back: abar of t instead of t - 1', 'forward', 'schedule.abar[now - 1]', 'schedule.abar[now]', '03_forward#4650d854'),
    ('x0 from eps: divided by abar, not by its root', 'forward', '* eps) / abar.sqrt()', '* eps) / abar', '03_forward#3c99c33f'),
    ('v with the other sign', 'forward', '(abar.sqrt() * xt - x0)', '(x0 - abar.sqrt() * xt)', '03_forward#3c99c33f'),
    # objective
    ('index shifted by one between network and coefficients', 'objective', 'self.network(x, t - 1)', 'self.network(x, t)', '07_sampling#f63d96db'),
    ('(B, 1) against (B,) is broadcast', 'objective', 'if prediction.shape != x.shape:', 'if False:', '04_objective#11ac980b'),
    ('min-SNR: the clamp reversed', 'objective', 'clamp(max=gamma)', 'clamp(min=gamma)', '04_objective#72e973e4'),
    ('the weight of v taken for that of eps', 'objective', "'v': snr + 1}", "'v': snr}", '04_objective#72e973e4'),
    ('x0_hat not clipped', 'objective', 'guess.clamp(-1, 1) if clip else guess', 'guess', '07_sampling#59cb0992'),
    ('the loss taken in bfloat16', 'objective', 'loss(prediction.to(target.dtype), target,', 'loss(prediction, target.to(prediction.dtype),', '06_training#42d8721c'),
    ('the bound: the first term like all others', 'objective', 'last = (t == 1)', 'last = (t == 0)', '04_objective#17707101'),
    # network
    ('t is ignored', 'unet', 'h = h + self.time(F.silu(emb))[:, :, None, None]', 'h = h', '05_unet#c27490bd'),
    ('the embedding collapses t', 'unet', 't[:, None].float() * speed', 't[:, None].float() / 1000 * speed', '05_unet#05be87a1'),
    ('sines twice, no cosines', 'unet', '[angle.sin(), angle.cos()]', '[angle.sin(), angle.sin()]', '05_unet#05be87a1'),
    ('a layer is built and not used', 'unet', 'for layer in self.middle:', 'for layer in self.middle[::2]:', '05_unet#c27490bd'),
    ('attention scaled by c, not by its root', 'unet', '/ math.sqrt(c)', '/ c', '05_unet#1ed0f088'),
    ('skips picked up in the wrong order', 'unet', 'torch.cat([h, skips.pop()], dim=1)', 'torch.cat([h, skips.pop(-2 if len(skips) > 1 and skips[-2].shape == skips[-1].shape else -1)], dim=1)', '05_unet#c1e8b14f'),
    ('the kernel of the way up not mirrored', 'unet', 'sum(moved).flip(2, 3)', 'sum(moved)', '05_unet#18338dea'),
    # training
    ('t = T sampled but never trained', 'training', 'rng.integers(1, T + 1, len(x0))', 'rng.integers(1, T, len(x0))', '06_training#ea10e1da'),
    ('t = 0 trained but never sampled', 'training', 'rng.integers(1, T + 1, len(x0))', 'rng.integers(0, T + 1, len(x0))', '06_training#ea10e1da'),
    ('the average keeps what it should replace', 'training', '1 - ema_decay(int(i))', 'ema_decay(int(i))', '06_training#40dd1591'),
    ('the average is never updated', 'training', '        ema.update_parameters(model)', '        pass', '06_training#410c48ba'),
    ('the average is kept but not used', 'training', 'return Trained(ema.module.eval(), losses)', 'return Trained(model.eval(), losses)', '06_training#410c48ba'),
    ('the average is not in the checkpoint', 'training', "ema.load_state_dict(part('ema.'))", "pass", '06_training#77ef4109'),
    ('the optimiser forgets when resuming', 'training', "optimiser.load_state_dict(optimiser.state_dict() | {'state': state})", 'pass', '06_training#77ef4109'),
    ('resumed with other pictures', 'training', '_of_model(model) | _of_pictures(images) | dict(', '_of_model(model) | dict(pictures=len(images)) | dict(', '06_training#77ef4109'),
    ('gradients of all steps add up', 'training', '    optimiser.zero_grad()\n', '', '06_training#c40a96fe'),
    ('gradients are not clipped', 'training', '    nn.utils.clip_grad_norm_(model.parameters(), 1.)\n', '', '06_training#3c21b45e'),
    ('mixed precision silently off', 'training', 'enabled=bf16', 'enabled=False', '06_training#42d8721c'),
    # sampling
    ('sigma^2 used as sigma', 'sampling', '.sqrt() * draw()', ' * draw()', '07_sampling#f63d96db'),
    ('noise added at the last step', 'sampling', 'if noise and t > 1:', 'if noise:', '07_sampling#f63d96db'),
    ('the last step skipped', 'sampling', 'range(start, 0, -1)', 'range(start, 1, -1)', '07_sampling#f63d96db'),
    ('the first step skipped', 'sampling', 'range(start, 0, -1)', 'range(start - 1, 0, -1)', '07_sampling#f63d96db'),
    ('without x_t: abar instead of alpha', 'sampling', "mean - x / model.schedule.at('alpha', t, like=x).sqrt()", "mean - x / model.schedule.at('abar', t, like=x).sqrt()", '07_sampling#f63d96db'),
    ('sampling in training mode', 'sampling', '    model.eval()\n', '', '07_sampling#1b395af2'),
    ('gradients kept while sampling', 'sampling', 'with torch.no_grad():', 'with torch.enable_grad():', '07_sampling#1b395af2'),
    ('the same noise for every picture', 'sampling', 'generator(seed, i) for i in', 'generator(seed) for i in', '07_sampling#3d95b222'),
    ('interpolation starts one step late', 'sampling', 'draw=draw, start=t)', 'draw=draw, start=t - 1)', '07_sampling#6fd3a01b'),
    ('an export needs a global of its notebook', 'sampling', 'from .data import generator\n', '', 'tests/test_package.py::test_modules_define_the_names_they_use'),
    ('ddim: the root of sigma forgotten', 'fast_sampling', 'eta * math.sqrt((1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s))', 'eta * ((1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s))', '09_fast_sampling#17c5366a'),
    ('ddim: fresh noise without taking away old', 'fast_sampling', '1 - abar_s - sigma**2)', '1 - abar_s)', '09_fast_sampling#17c5366a'),
    ('ddim: alpha of one step in a stride of many', 'fast_sampling', '(1 - abar_t / abar_s))', '(1 - schedule.alpha[t].item()))', '09_fast_sampling#7c7c6cce'),
    ('dpm_solver: the ratio of steps upside down', 'fast_sampling', '((lam[s] - lam[t]) / (lam[t] - lam[u]))', '((lam[t] - lam[u]) / (lam[s] - lam[t]))', '09_fast_sampling#a90e25f4'),
    ('dpm_solver: corrected twice as much', 'fast_sampling', '+ .5 * ((lam', '+ 1. * ((lam', '09_fast_sampling#38cc8d8c'),
    ('dpm_solver: the corrected belief remembered', 'fast_sampling', 'stride(x, middle, t, s), x0_hat', 'stride(x, middle, t, s), middle', '09_fast_sampling#38cc8d8c'),
    ('a grid that does not start at T', 'fast_sampling', 'torch.linspace(start, 0, steps + 1', 'torch.linspace(start - start // steps, 0, steps + 1', '09_fast_sampling#2a99d48b'),
]]
