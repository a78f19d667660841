"""Does a model draw what it is asked for? Prompts, and how they are judged.

`python obey.py MODEL NAME` asks a model, `words` or that of a file, in 1,000 prompts,
at several scales, and writes what the reader of notebook 08 finds into
`results/12_text/NAME.json`. The scale is chosen on other prompts than those that are
scored: the smallest that obeys as well as any. `torchrun --nproc-per-node 2 obey.py
words words` shares the drawing between two processes.
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
from ddpm_teach.drawing import model_of, sample
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


def mildest(by_scale: dict) -> float:
    "The smallest scale that obeys as well as any, within the interval of the best."
    joint = {scale: found['jointly'] for scale, found in by_scale.items()}
    _, low, _ = max(joint.values())
    return min(scale for scale, (value, _, _) in joint.items() if value >= low)


def main(path: str, stored_as: str):
    model = model_of(path)
    result = {'date': time.strftime('%Y-%m-%d'), 'steps': STEPS}
    asked = asked_for(range(1_000, 2_000))
    real = found(held_out.images[1_000:2_000], asked)
    result['ceiling'] = {name: share(answers) for name, answers in real.items()}
    result['by scale'] = {}
    for scale in SCALES:
        result['by scale'][scale] = obedience(model, scale, range(300))
        print(scale, result['by scale'][scale], flush=True)
    best = mildest(result['by scale'])
    result['best'] = best
    result['scored'] = obedience(model, best, range(1_000, 2_000))
    result['please_draw'] = obedience(model, best, range(1_000, 2_000), please_draw)
    result['leaks'] = leaks(model, best, range(2_000, 2_250))
    result['never two'] = combined(model, best)
    result['plain'] = plainly(model)
    stored = stored_file(f'12_text/{stored_as}.json')
    stored.parent.mkdir(exist_ok=True)
    stored.write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main(*sys.argv[1:])
