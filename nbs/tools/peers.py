"""One measurement of the benchmark, in a process of its own.

`python peers.py "diffusers, float32"` prints a line of JSON. Peers need
`pip install -e ".[bench]"`.
"""
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddpm_teach.data import characters
from ddpm_teach.objective import DDPM
from ddpm_teach.plumbing.optimisers import Muon, adamw
from ddpm_teach.plumbing.show import to_float
from ddpm_teach.schedule import cosine_schedule
from ddpm_teach.training import train, usual
from ddpm_teach.unet import UNet


class OfDiffusers(nn.Module):
    """UNet2DModel of diffusers with its defaults, but for the size."""

    def __init__(self):
        super().__init__()
        from diffusers import UNet2DModel
        self.shape = (3, 32, 32)                            # for `sample`
        self.net = UNet2DModel(
            sample_size=32,
            block_out_channels=(32, 64, 96),
            layers_per_block=2,
            down_block_types=('DownBlock2D', 'AttnDownBlock2D', 'DownBlock2D'),
            up_block_types=('UpBlock2D', 'AttnUpBlock2D', 'UpBlock2D'))

    def forward(self, x, t):
        return self.net(x, t).sample


def of_denoising_diffusion_pytorch():
    from denoising_diffusion_pytorch import Unet
    network = Unet(dim=32, dim_mults=(1, 2, 4))
    network.shape = 3, 32, 32
    return network


NETWORKS = {
    'ddpm_teach': UNet,
    'with AdamW': UNet,
    'two levels': partial(UNet, channels=(64, 64)),
    'patch = 1': partial(UNet, channels=(16, 48, 80, 112), patch=1),
    'diffusers': OfDiffusers,
    'denoising-diffusion-pytorch': of_denoising_diffusion_pytorch,
}


def by_us(
    network, steps: int, bf16: bool, batch_size: int = 64, optimiser: Callable = Muon
) -> list[float]:
    """Seconds of four groups of `steps` steps, by the library's own `train`."""
    images = characters(progress=False).images[:batch_size * steps]
    ends = [time.perf_counter()]

    def note_end(*_):
        ends.append(time.perf_counter())

    train(
        DDPM(network, cosine_schedule(500)), images, 4, optimiser=optimiser,
        batch_size=batch_size,
        hooks=usual(bf16=bf16, progress=False, preview=note_end))
    return [b - a for a, b in zip(ends, ends[1:])]


def by_peer(
    model: nn.Module, loss: Callable[[Tensor], Tensor], steps: int, bf16: bool
) -> list[float]:
    """Seconds of three groups of steps, by the shortest loop for a user of the peer.

    No moving average, no noise drawn for each picture.
    """
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)
    x = to_float(characters(progress=False).images[:64])
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(steps):
            with torch.autocast('cpu', torch.bfloat16, enabled=bf16):
                value = loss(x)
            optimiser.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.)
            optimiser.step()
        seconds.append(time.perf_counter() - start)
    return seconds


def by_denoising_diffusion_pytorch(network, steps: int, bf16: bool) -> list[float]:
    from denoising_diffusion_pytorch import GaussianDiffusion
    diffusion = GaussianDiffusion(network, image_size=32)

    def loss(x):
        return diffusion(x * .5 + .5)

    return by_peer(diffusion, loss, steps, bf16)


def by_diffusers(network, steps: int, bf16: bool) -> list[float]:
    from diffusers import DDPMScheduler
    scheduler = DDPMScheduler()

    def loss(x):
        t = torch.randint(0, 1000, (len(x),))
        eps = torch.randn_like(x)
        return F.mse_loss(network(scheduler.add_noise(x, eps, t), t), eps)

    return by_peer(network, loss, steps, bf16)


TRAIN = {                                        # how, and steps in a group
    'ddpm_teach': (by_us, 10),
    'with AdamW': (partial(by_us, optimiser=adamw), 10),
    'two levels': (by_us, 10),
    'patch = 1': (by_us, 6),
    'diffusers': (by_diffusers, 3),
    'denoising-diffusion-pytorch': (by_denoising_diffusion_pytorch, 3),
}


def measure(name: str, compiled: bool = False, **batch) -> dict:
    """Pictures per second in each group of steps but the first, and the peak memory.

    That is of this process, in MB.

    Args:
        name: who and precision, such as 'diffusers, float32'.
        batch: batch_size, for our own.
    """
    import resource
    who, bits = name.split(', ')
    run, steps = TRAIN[who]
    network = NETWORKS[who]()
    if compiled:
        network.forward = torch.compile(network.forward, dynamic=False)
    seconds = run(network, steps, bits == 'bfloat16', **batch)
    first, *later = seconds or [None]        # of several processes one keeps time
    pictures = batch.get('batch_size', 64) * steps
    rates = [round(pictures / s, 1) for s in later]
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return dict(
        name=name,
        parameters=sum(p.numel() for p in network.parameters()),
        first=first,
        rates=rates,
        median=statistics.median(rates or [0]),
        peak_mb=round(peak_kb / 1024))


def main(name: str, *more: str):
    sizes = [word.removeprefix('batch=') for word in more if word.startswith('batch=')]
    batch = {'batch_size': int(size) for size in sizes}
    found = measure(name, 'compiled' in more, **batch)
    if found['rates']:
        print(json.dumps(found))


if __name__ == '__main__':
    main(*sys.argv[1:])
