"""The trainings of notebook 13: an autoencoder, then a diffusion model on its latents.

`python latent_model.py coder 20` trains the autoencoder on 40,000 characters of 64x64,
`python latent_model.py read` says what can still be read in what it gives back, and
`python latent_model.py model 20` trains a network that is told what to draw on its
latents. Stopped, a training goes on when it is called again. Models, logs and previews
are in `runs/latents/`.
"""
import json
import sys
import time
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from ddpm_teach.captions import caption
from ddpm_teach.data import Pictures, characters
from ddpm_teach.evaluation import read_labels
from ddpm_teach.latents import Autoencoder, encoded, reconstruction, to_one_scale
from ddpm_teach.objective import DDPM, denoising, evaluating
from ddpm_teach.plumbing.draws import Draws
from ddpm_teach.plumbing.files import stored_file
from ddpm_teach.plumbing.optimisers import Muon
from ddpm_teach.plumbing.show import to_float, to_uint8
from ddpm_teach.schedule import cosine_schedule
from ddpm_teach.text import TextUNet, Words, captioned, vocabulary_of
from ddpm_teach.training import train, usual

RUNS = Path('../runs/latents')
FIRM = partial(Muon, decay=.1)


def new_coder() -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(channels=(48, 96))


def large_characters() -> Pictures:
    return characters(40_000, size=64, seed=3)


def train_coder(epochs: int):
    objective = reconstruction()
    hooks = usual(RUNS / 'coder')
    train(new_coder(), large_characters(), epochs, objective=objective, hooks=hooks)


def trained_coder() -> Autoencoder:
    coder = new_coder()
    coder.load_state_dict(load_file(RUNS / 'coder/weights.safetensors'))
    return coder.eval()


def small(pictures: torch.Tensor) -> torch.Tensor:
    "64x64 scaled down to the size that the reader of notebook 08 knows, as bytes."
    return to_uint8(F.avg_pool2d(pictures, 2))


def read_coder(n: int = 2_000):
    "Of held-out characters: what the reader says of them before and after."
    data = characters(n, size=64, seed=1)
    coder = trained_coder()
    real, again, off = [], [], []
    with evaluating(coder):
        for part in to_float(data.images).split(100):
            back = coder.decode(coder.encode(part))
            off.append((back - part).abs().mean().item())
            real.append(small(part))
            again.append(small(back))
    found = {'date': time.strftime('%Y-%m-%d'), 'absolute error': sum(off) / len(off)}
    for name, images in {'real': real, 'again': again}.items():
        read, _ = read_labels(torch.cat(images))
        right = (read == data.labels).double().mean(0)
        found[name] = dict(zip(data.words, (round(x, 4) for x in right.tolist())))
    path = stored_file('13_latents/coder.json')
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + '\n')
    print(json.dumps(found, indent=1))


def train_model(epochs: int):
    data = large_characters()
    coder = trained_coder()
    latents = to_one_scale(coder, encoded(coder, data))
    words = Words(vocabulary_of(caption(data.labels, Draws(0, 0))))
    torch.manual_seed(0)
    network = TextUNet(
        len(words), channels=(96, 128), size=16, image_channels=4, patch=1)
    model = DDPM(
        network, cosine_schedule(500), limit=None, conditioner=words, coder=coder)
    objective = denoising(given=captioned(words))
    hooks = usual(RUNS / 'model')
    train(model, latents, epochs, objective=objective, optimiser=FIRM, hooks=hooks)


if __name__ == '__main__':
    what, *numbers = sys.argv[1:]
    dict(coder=train_coder, read=read_coder, model=train_model)[what](
        *map(int, numbers))
