"""One experiment of the search for a recipe, in a process of its own.

`python search.py muon 0` trains by the recipe `muon` with seed 0, draws 1,000 pictures
in ten steps, and writes `results/benchmark/search/muon-0.json`. Stopped, it goes on
when it is called again. The peer needs `pip install -e ".[bench]"`.
"""
import json
import math
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddpm_teach import training
from ddpm_teach.data import characters
from ddpm_teach.drawing import sample
from ddpm_teach.evaluation import evaluate, features, kernel_distance
from ddpm_teach.forward import q_sample
from ddpm_teach.objective import DDPM, denoising, evaluating, like_v
from ddpm_teach.plumbing.draws import NOISE
from ddpm_teach.plumbing.files import stored_file
from ddpm_teach.plumbing.optimisers import Muon, adamw
from ddpm_teach.plumbing.show import save_grid, to_float
from ddpm_teach.schedule import cosine_schedule
from ddpm_teach.training import learning_rate, train, usual
from ddpm_teach.unet import ResBlock, UNet, time_embedding
from peers import of_denoising_diffusion_pytorch

LEVELS = (2, 10, 40, 100, 200, 300, 400, 480)     # where held-out errors are measured


# The rate.

def half_a_cosine(step: int, steps: int, highest: float) -> float:
    "Up in a line, down along half a cosine to 2%: the rule before."
    up = min(1., (step + 1) / min(200, max(1, steps // 10)))
    return highest * up * (.02 + .98 * .5 * (1 + math.cos(math.pi * step / steps)))


def constant(step: int, steps: int, highest: float) -> float:
    "Up in a line, and no way down."
    return highest * min(1., (step + 1) / min(200, max(1, steps // 10)))


# What is asked: which noise levels, and how an error counts.

def log_normal_times(n: int, schedule, draws) -> Tensor:
    "Log-SNR of a normal distribution: mostly the middle (Karras et al. 2022)."
    wanted = 2.4 * draws.normal(NOISE, torch.empty(n))
    log_snr = schedule.snr[1:].log().float()
    return 1 + (log_snr[None] - wanted[:, None]).abs().argmin(1)


def stratified_times(n: int, schedule, draws) -> Tensor:
    "One step from each n-th part of 1..T (Kingma et al. 2021, appendix I.1)."
    places = (torch.arange(n) + draws.uniform(NOISE, n)) / n
    return 1 + (places * schedule.T).long()


def early_times(n: int, schedule, draws) -> Tensor:
    "Small noise more often: half of the draws in the first quarter of 1..T."
    return 1 + (draws.uniform(NOISE, n).square() * schedule.T).long()


# Networks: the default, changed in one place.

def quiet() -> UNet:
    "Every block, and the whole, begins as nothing (Ho et al. 2020, their code)."
    network = UNet()
    for module in network.modules():
        if isinstance(module, ResBlock):
            nn.init.zeros_(module.conv2.weight)
    nn.init.zeros_(network.last[-1].weight)
    return network


class ScaledBlock(ResBlock):
    "The time scales and shifts (Dhariwal and Nichol 2021, section 3)."

    def forward(self, x, emb):
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.time(F.silu(emb))[:, :, None, None].chunk(2, dim=1)
        h = self.norm2(h) * (1 + scale) + shift
        return self.bypass(x) + self.conv2(self.dropout(F.silu(h)))


def scaled() -> UNet:
    network = UNet()
    for module in network.modules():
        if isinstance(module, ResBlock):
            module.__class__ = ScaledBlock
            c_time, c_out = module.time.in_features, module.time.out_features
            module.time = nn.Linear(c_time, 2 * c_out)
    return network


class Timeless(UNet):
    "Told nothing of the time."

    def told(self, t):
        return torch.zeros_like(super().told(t))


class TimedHead(nn.Module):
    """A thin network at full resolution goes over what the network on patches says.

    Args:
        sees: channels: 6, what that says and the noisy picture; 3, only the first.
    """

    def __init__(self, width: int = 32, sees: int = 6):
        super().__init__()
        self.coarse = UNet()
        self.shape = self.coarse.shape
        self.time = nn.Sequential(
            nn.Linear(64, 128), nn.SiLU(), nn.Linear(128, 4 * width))
        self.first = nn.Conv2d(sees, width, 3, padding=1)
        self.middle = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, 3, 3, padding=1)
        nn.init.zeros_(self.last.weight)

    def forward(self, x, t):
        x0 = self.coarse(x, t)
        told = self.time(time_embedding(t, 64).to(x0.device))[:, :, None, None]
        a, b, c, d = told.chunk(4, dim=1)
        seen = torch.cat([x0, x], dim=1)[:, :self.first.in_channels]
        h = F.silu(self.first(seen) * (1 + a) + b)
        h = F.silu(self.middle(h) * (1 + c) + d)
        return x0 + self.last(h)


class Recipe(NamedTuple):
    "What a training does; each experiment says what it does otherwise."
    network: Callable = UNet
    optimiser: Callable = Muon
    rate: Callable = learning_rate
    objective: Callable = denoising()
    lr: float = 2e-3
    batch_size: int = 64
    epochs: int = 5
    predicts: str = 'x0'


BEFORE = Recipe(optimiser=adamw, rate=half_a_cosine)         # the default before
MUON = Recipe()
PEER = Recipe(of_denoising_diffusion_pytorch, adamw)
FIRM = partial(Muon, decay=.1)
WIDE = partial(UNet, channels=(80, 80))
TWO = partial(UNet, channels=(64, 64))
DEEP = partial(UNet, channels=(48, 96, 128))
RECIPES = {
    'before': BEFORE,
    'before, 36 epochs': BEFORE._replace(epochs=36),
    'adamw, to zero': Recipe(optimiser=adamw),
    'muon, cosine': Recipe(rate=half_a_cosine),
    'muon, constant': Recipe(rate=constant),
    'muon': MUON,
    'muon, 20 epochs': MUON._replace(epochs=20),
    'decay .1': Recipe(optimiser=FIRM),
    'decay .1, 20 epochs': Recipe(optimiser=FIRM, epochs=20),
    'rate 1e-3': Recipe(lr=1e-3),
    'rate 4e-3': Recipe(lr=4e-3),
    'batch 32': Recipe(batch_size=32),
    'batch 128': Recipe(batch_size=128),
    'batch 128, rate 4e-3': Recipe(batch_size=128, lr=4e-3),
    'channels 80, 80': Recipe(WIDE),
    'channels 64, 64': Recipe(TWO),
    'channels 64, 64, 20 epochs': Recipe(TWO, epochs=20),
    'channels 64, 96': Recipe(partial(UNet, channels=(64, 96))),
    'channels 64, 64, batch 128': Recipe(TWO, batch_size=128),
    'channels 64, 64, rate 4e-3': Recipe(TWO, lr=4e-3),
    'channels 48, 96, 128': Recipe(DEEP),
    'attention at 16': Recipe(partial(UNet, channels=(64, 64), attention=(16, 8))),
    'timed head': Recipe(TimedHead),
    'blind head': Recipe(partial(TimedHead, sees=3)),
    'quiet start': Recipe(quiet),
    'scale and shift': Recipe(scaled),
    'without t': Recipe(Timeless),
    'most 5': Recipe(objective=denoising(weight=partial(like_v, most=5.))),
    'huber': Recipe(objective=denoising(loss=F.huber_loss)),
    'log-normal': Recipe(objective=denoising(times=log_normal_times)),
    'stratified': Recipe(objective=denoising(times=stratified_times)),
    'early': Recipe(objective=denoising(times=early_times)),
    'predicts v': Recipe(predicts='v'),
    'peer, rate 1e-3': PEER._replace(lr=1e-3),
    'peer, rate 2e-3': PEER,
    'peer, rate 4e-3': PEER._replace(lr=4e-3),
    'peer, 20 epochs': PEER._replace(epochs=20),
}


@torch.no_grad()
def held_out_errors(model: DDPM, n: int = 512) -> list[float]:
    "Root mean square error of x0_hat at LEVELS, the same noise for all models."
    x0 = to_float(characters(n, seed=1, progress=False).images)
    found = []
    for t in LEVELS:
        noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(t))
        squares = []
        for part, eps in zip(x0.split(64), noise.split(64)):
            times = torch.full((len(part),), t)
            with evaluating(model):
                guess = model.x0_hat(q_sample(part, times, model.schedule, eps), times)
            squares.append((guess - part).square().mean(0))
        found.append(round(torch.stack(squares).mean().sqrt().item(), 5))
    return found


def drawn_by(model: DDPM, seed: int) -> Tensor:
    "1,000 pictures, in ten steps of `dpm_solver`."
    return sample(1_000, model=model, steps=10, seed=seed, progress=False)


def roughness(images: Tensor) -> list[float]:
    """Standard deviation in the upper left corner, which is of one colour in most.

    The median over pictures; the interval is that of its rank.
    """
    corner = images[:, :, :5, :5]
    off = (corner - corner.mean((2, 3), keepdim=True)).square().mean((1, 2, 3)).sqrt()
    off = off.sort().values.tolist()
    n = len(off)
    reach = .98 * n**.5
    return [off[n // 2], off[int(n / 2 - reach)], off[int(n / 2 + reach)]]


def judged(drawn: Tensor, data) -> dict:
    "Estimates of the measures of notebook 08, as lists."
    real = characters(2_000, seed=1, progress=False)
    found = evaluate(drawn, data, real)
    fine = [features(images)[:, 6:12] for images in (drawn, real.images)]
    found['fine_detail'] = kernel_distance(*fine)
    found['roughness'] = roughness(drawn)
    return {name: [round(x, 5) for x in estimate] for name, estimate in found.items()}


def cpu() -> str:
    lines = Path('/proc/cpuinfo').read_text().splitlines()
    return next((x.split(': ')[1] for x in lines if x[:10] == 'model name'),
                platform.processor())


def experiment(name: str, seed: int) -> dict:
    "Train, draw and judge."
    recipe = RECIPES[name]
    folder = Path(f'../runs/search/{name}-{seed}')
    training.learning_rate = recipe.rate
    data = characters(progress=False)
    torch.manual_seed(seed)
    raw = DDPM(recipe.network(), cosine_schedule(500), recipe.predicts)
    size = sum(weight.numel() for weight in raw.parameters())
    model = train(
        raw, data, recipe.epochs, objective=recipe.objective,
        optimiser=recipe.optimiser, lr=recipe.lr, batch_size=recipe.batch_size,
        seed=seed, hooks=usual(folder, progress=False)).model
    drawn = drawn_by(model, seed)
    save_grid(drawn[:64], folder / 'drawn.png', cols=16)
    steps = len(data.images) // recipe.batch_size * recipe.epochs
    others = {}
    if recipe.rate is constant:                # how would it be without the average?
        others['raw'] = judged(drawn_by(raw, seed), data)
    return dict(
        name=name, seed=seed, parameters=size, pictures=steps * recipe.batch_size,
        errors=held_out_errors(model),
        errors_raw=held_out_errors(raw), **judged(drawn, data), **others,
        machine=f'{cpu()}, {torch.get_num_threads()} threads',
        date=time.strftime('%Y-%m-%d'))


def main(name: str, seed: str):
    path = stored_file(f'benchmark/search/{name}-{seed}.json')
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(experiment(name, int(seed))) + '\n')


if __name__ == '__main__':
    main(*sys.argv[1:])
