"""The training of the model that ships, in pieces.

`python words_model.py 1 8` trains on 100,000 characters for 8 epochs;
`python words_model.py 2 8` goes on from what that has stored, for as many again, and so
on. In each piece the rate falls to zero, so that each ends with a model that can be
used. Stopped, a piece goes on when it is called again. Models, logs and previews are in
`runs/words/`.
"""
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from ddpm_teach.captions import caption
from ddpm_teach.data import Pictures, characters
from ddpm_teach.model_files import load
from ddpm_teach.objective import DDPM, denoising
from ddpm_teach.plumbing.draws import Draws
from ddpm_teach.plumbing.optimisers import Muon
from ddpm_teach.schedule import cosine_schedule
from ddpm_teach.text import TextUNet, Words, captioned, vocabulary_of
from ddpm_teach.training import train, usual

NEVER_TWO = dict(hairColor='green', glasses='variant02', hairAccessories='flowers')


def seen() -> Pictures:
    "What it is trained on: of NEVER_TWO each picture has one at most."
    data = characters(100_000, seed=3)
    count = torch.zeros(len(data), dtype=torch.long)
    for attribute, value in NEVER_TWO.items():
        column = data.labels[:, list(data.words).index(attribute)]
        count += column == data.words[attribute].index(value)
    few = count < 2
    return replace(data, images=data.images[few], labels=data.labels[few])


def new_model(data: Pictures) -> DDPM:
    torch.manual_seed(0)
    words = Words(vocabulary_of(caption(data.labels, Draws(0, 0))))
    network = TextUNet(len(words))
    return DDPM(network, cosine_schedule(500), conditioner=words)


def piece(number: int, epochs: int):
    data = seen()
    before = Path(f'../runs/words/{number - 1}')
    model = load(before) if number > 1 else new_model(data)
    objective = denoising(given=captioned(model.conditioner))
    hooks = usual(Path(f'../runs/words/{number}'))
    train(
        model, data, epochs, objective=objective, optimiser=partial(Muon, decay=.1),
        batch_size=128, seed=number, hooks=hooks)


if __name__ == '__main__':
    piece(*map(int, sys.argv[1:]))
