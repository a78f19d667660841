"""Does a model draw what it is asked for? Prompts, and how they are judged.

`python obey.py MODEL NAME` asks a model, `words` or that of a file, in 1,000 prompts,
and writes what the reader of notebook 08 finds into `results/12_text/NAME.json`. Each
scale is tried on 300 other prompts. Stopped, it goes on when it is called again.
`torchrun --nproc-per-node 2 obey.py words words` shares the drawing between processes.
"""
import json
import random
import sys
import time
from collections.abc import Callable
from itertools import combinations

import torch
from torch import Tensor

from ddpm_teach.captions import (
    HAIR_COLORS, listed, phrases_for, please_draw, values_of
)
from ddpm_teach.data import Pictures, characters
from ddpm_teach.drawing import USUAL_GUIDANCE, model_of, sample
from ddpm_teach.evaluation import Estimate, evaluate, read_labels
from ddpm_teach.plumbing.files import stored_file
from ddpm_teach.plumbing.show import to_uint8

SCALES = (1., 1.5, 2., 3., 4.)
STEPS = 12
JOINTLY = ('hairColor', 'backgroundColor', 'glasses', 'mouth')
NEW = ('green hair', 'sunglasses', 'flowers in the hair')      # never two in training
KNOWN = ('blue hair', 'round glasses', 'flowers in the hair')
NAMED = (*JOINTLY, 'skinColor', 'eyesColor')
held_out = characters(3_000, seed=1, progress=False)


def asked_of(i: int, choose: random.Random) -> dict[str, str]:
    "What is said of held-out character i: a phrase for each attribute that is named."
    phrases = phrases_for(held_out.describe(i))
    phrases['hair'] = [p for p in phrases['hair'] if HAIR_COLORS.keys() & p.split()]
    named = [a for a in ('hair', *NAMED) if a in phrases]
    return {attribute: choose.choice(phrases[attribute]) for attribute in named}


def asked_for(rows: range, seed: int = 0) -> list[dict[str, str]]:
    choose = random.Random(seed)
    return [asked_of(i, choose) for i in rows]


def found(images: Tensor, asked: list[dict[str, str]]) -> dict[str, list[bool]]:
    "For each attribute: of the pictures that were asked for it, which have it."
    read, _ = read_labels(images)
    seen = Pictures(images, read, held_out.words)
    right = {}
    for i, phrases in enumerate(asked):
        values = seen.describe(i)
        has = {}
        for phrase in phrases.values():
            for attribute, true in values_of(phrase).items():
                has[attribute] = values[attribute] in true
        for attribute, answer in has.items():
            right.setdefault(attribute, []).append(answer)
        right.setdefault('jointly', []).append(all(has[a] for a in JOINTLY))
    return right


def share(answers: list[bool]) -> list[float]:
    "A share with its 95% interval (Wilson 1927)."
    n = len(answers)
    p = sum(answers) / n
    z = 1.96
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (p * (1 - p) / n + z**2 / (4 * n**2))**.5
    return [round(x, 4) for x in (p, max(0., middle - half), min(1., middle + half))]


def draw(model, texts: list[str], scale: float, seed: int) -> Tensor:
    images = sample(
        len(texts), texts, model=model, steps=STEPS, guidance=scale, seed=seed,
        progress=False)
    return to_uint8(images)


def obedience(
    model, scale: float, rows: range, template: Callable = listed, seed: int = 0
) -> dict:
    asked = asked_for(rows, seed)
    images = draw(model, [template(said) for said in asked], scale, seed)
    return {name: share(answers) for name, answers in found(images, asked).items()}


def ceiling(rows: range) -> dict:
    "What the reader says of the real pictures that are described."
    real = found(held_out.images[rows.start:rows.stop], asked_for(rows))
    return {name: share(answers) for name, answers in real.items()}


def leaks(model, scale: float, rows: range) -> dict:
    "One phrase changed, same noise: what else that was named is read differently?"
    asked = asked_for(rows)
    texts = [listed(said) for said in asked]
    before, _ = read_labels(draw(model, texts, scale, 0))
    columns = {name: k for k, name in enumerate(held_out.words)}
    result = {}
    for attribute in ('hair', 'backgroundColor', 'glasses', 'mouth', 'skinColor'):
        others = asked_for(range(rows.start + 1, rows.stop + 1), seed=1)
        changed = [listed(said | {attribute: other[attribute]})
                   for said, other in zip(asked, others)]
        after, _ = read_labels(draw(model, changed, scale, 0))
        own = {'hair': {'hair', 'hairColor'}}.get(attribute, {attribute})
        result[attribute] = {}
        for name in NAMED:
            k = columns[name]
            group = grouped(name)
            if name not in own:
                moved = (group(before[:, k]) != group(after[:, k])).tolist()
                result[attribute][name] = share(moved)
    return result


def together(model, scale: float, phrases: tuple[str, ...], n: int = 100) -> list:
    "The share of pictures that have all that some phrases say."
    read, _ = read_labels(draw(model, [', '.join(phrases)] * n, scale, 0))
    wanted = {}
    for phrase in phrases:
        wanted |= values_of(phrase)
    has = torch.ones(n, dtype=torch.bool)
    for attribute, true in wanted.items():
        every = held_out.words[attribute]
        right = torch.tensor([value in true for value in every])
        has &= right[read[:, list(held_out.words).index(attribute)].long()]
    return share(has.tolist())


def combined(model, scale: float) -> dict:
    "Of what was never seen together: one, two and three at a time, beside what was."
    found = {}
    for phrases in (NEW, KNOWN):
        for count in (1, 2, 3):
            for chosen in combinations(phrases, count):
                found[', '.join(chosen)] = together(model, scale, chosen)
    return found


def grouped(name: str) -> Callable:
    "What counts as another value: with or without glasses, the mood of a mouth."
    values = held_out.words[name]
    if name == 'glasses':
        return lambda column: column > 0
    if name == 'mouth':
        happy = torch.tensor([value.startswith('happy') for value in values])
        return lambda column: happy[column.long()]
    return lambda column: column


def plainly(model, n: int = 2_000) -> dict:
    "Nothing said: the measures of notebook 08."
    images = to_uint8(
        sample(n, model=model, steps=STEPS, seed=0, progress=False))
    measures: dict[str, Estimate] = evaluate(
        images, characters(progress=False), characters(2_000, seed=1, progress=False))
    return {name: [round(x, 5) for x in e] for name, e in measures.items()}


def main(path: str, stored_as: str):
    model = model_of(path)
    stored = stored_file(f'12_text/{stored_as}.json')
    stored.parent.mkdir(exist_ok=True)
    known = json.loads(stored.read_text()) if stored.exists() else {'steps': STEPS}

    def keep(name: str, make: Callable, *arguments):
        "Add to what is stored, unless it is there."
        if name not in known:
            known[name] = make(*arguments)
            stored.write_text(json.dumps(known, indent=1) + '\n')
            print(time.strftime('%T'), name, known[name], flush=True)

    keep('date', time.strftime, '%Y-%m-%d')
    for scale in SCALES:
        keep(f'scale {scale:g}', obedience, model, scale, range(300))
    keep('ceiling', ceiling, range(1_000, 2_000))
    usual = USUAL_GUIDANCE
    keep('scored', obedience, model, usual, range(1_000, 2_000))
    keep('please_draw', obedience, model, usual, range(1_000, 2_000), please_draw)
    keep('plain', plainly, model)
    keep('never two', combined, model, usual)
    keep('leaks', leaks, model, usual, range(2_000, 2_250))


if __name__ == '__main__':
    main(*sys.argv[1:])
