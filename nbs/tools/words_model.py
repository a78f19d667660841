"""The training of the model that ships, in pieces.

`python words_model.py begin` trains on 100,000 characters for three epochs at a rate
that stays where it is, and stores the average of the weights;
`python words_model.py finish` goes on from there, with a rate that falls to zero.
Stopped, each goes on when it is called again. Models, logs and previews are in
`runs/words/`.
"""
import sys
from dataclasses import replace
from pathlib import Path

import torch

from ddpm_teach import training
from ddpm_teach.captions import caption
from ddpm_teach.data import Pictures, characters
from ddpm_teach.model_files import load, save
from ddpm_teach.objective import DDPM, denoising
from ddpm_teach.plumbing.draws import Draws
from ddpm_teach.plumbing.files import stored_file
from ddpm_teach.schedule import cosine_schedule
from ddpm_teach.text import TextUNet, Words, captioned, vocabulary_of
from ddpm_teach.training import train, usual
from search import constant

NEVER_TWO = dict(hairColor='green', glasses='variant02', hairAccessories='flowers')
BEGUN = stored_file('12_text/begun.safetensors')


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


def taught(model: DDPM, data: Pictures, epochs: int, seed: int) -> DDPM:
    objective = denoising(given=captioned(model.conditioner))
    hooks = usual(Path('../runs/words') / str(seed))
    return train(
        model, data, epochs, objective=objective, seed=seed, hooks=hooks).model


def begin(epochs: int = 3):
    training.learning_rate = constant
    data = seen()
    BEGUN.parent.mkdir(exist_ok=True)
    save(taught(new_model(data), data, epochs, seed=0), BEGUN, half=True)


def finish(epochs: int = 9):
    taught(load(BEGUN), seen(), epochs, seed=1)


if __name__ == '__main__':
    {'begin': begin, 'finish': finish}[sys.argv[1]](*map(int, sys.argv[2:]))
