"""What guidance does to pictures: trains, draws and judges for notebook 11.

`python guided.py` takes about an hour on two cores and writes
`results/11_guidance/pictures.json` and some pictures. Stopped, it goes on when it is
called again.
"""
import json
import time
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ddpm_teach.data import characters
from ddpm_teach.drawing import sample
from ddpm_teach.evaluation import evaluate, label_coverage, read_labels
from ddpm_teach.guidance import Labels, LabelUNet, Steered, guided, some_said, steered
from ddpm_teach.objective import DDPM, denoising
from ddpm_teach.plumbing.files import stored_file
from ddpm_teach.plumbing.show import save_grid, to_uint8
from ddpm_teach.schedule import cosine_schedule
from ddpm_teach.training import train, usual
from obey import share

ASKED = ('hairColor', 'skinColor', 'backgroundColor', 'eyesColor', 'glasses')
RUNS = Path('../runs/guided')
N = 500

data = characters(progress=False)
held_out = characters(2_000, seed=1, progress=False)
columns = {name: k for k, name in enumerate(data.words)}
conditioner = Labels(data.words)
read_training, _ = read_labels(data.images)


def trained(epochs: int) -> DDPM:
    torch.manual_seed(0)
    model = DDPM(LabelUNet(data.words), cosine_schedule(500), conditioner=conditioner)
    hooks = usual(RUNS / f'{epochs} epochs', progress=False)
    objective = denoising(given=some_said)
    return train(model, data, epochs, objective=objective, hooks=hooks).model


def prompts(n: int = N) -> list[dict]:
    "What some held-out characters look like, in the labels that are asked for."
    every = [held_out.describe(i) for i in range(n)]
    return [{name: one[name] for name in ASKED} for one in every]


def drawn(model, n: int = N) -> Tensor:
    return to_uint8(sample(n, model=model, steps=10, seed=0, progress=False))


def by_batch(make, given: dict, n: int = N) -> Tensor:
    "Pictures of make(rows of the condition), 50 at a time: others draw alike."
    parts = []
    for first in range(0, n, 50):
        rows = {name: value[first:first + 50] for name, value in given.items()}
        images = sample(
            50, model=make(rows), steps=10, seed=first, progress=False)
        parts.append(to_uint8(images))
    return torch.cat(parts)


def right(images: Tensor, asked: Tensor) -> dict[str, Tensor]:
    "For each attribute, which pictures have what was asked for, if it can be seen."
    read, _ = read_labels(images)
    found = {}
    for name in ASKED:
        k = columns[name]
        want = asked[:, k] - 1
        same = read[:, k] == want
        if name == 'glasses':
            same = (read[:, k] > 0) == (want > 0)
        if 'hidden' in data.words[name]:
            same = same | (want == data.words[name].index('hidden'))
        found[name] = same
    return found | {'all of them': torch.stack(list(found.values())).all(0)}


def judged(images: Tensor, asked: Tensor | None = None) -> dict:
    "Obedience, and the measures of notebook 08; variation of what was not asked."
    found = {name: [round(x, 4) for x in estimate]
             for name, estimate in evaluate(images, data, held_out).items()}
    read, _ = read_labels(images)
    rows = label_coverage(read, read_training, data.words)
    unsaid = [row.variation for name, row in rows.items() if name not in ASKED]
    found['unsaid'] = round(sum(unsaid) / len(unsaid), 4)
    if asked is not None:
        found['right'] = {
            name: share(x.tolist()) for name, x in right(images, asked).items()}
    return found


class Limited(Steered):
    "The other way: each belief is limited first, then the line is drawn."

    def belief(self, xt, t):
        there = self.toward.x0_hat(xt, t)
        here = self.away.x0_hat(xt, t)
        return here + self.scale * (there - here)


def limited_first(model: DDPM, rows: dict, scale: float):
    T = model.schedule.T
    return Limited(model.bound(rows), model.bound(None), scale, 1, T)


def leaks(model: DDPM, scale: float, n: int = 250) -> dict:
    "One label changed, same noise: which other labels are read differently?"
    asked = conditioner(prompts(n))
    make = partial(guided, model, scale=scale)
    before, _ = read_labels(by_batch(make, asked, n))
    found = {}
    for name in ASKED:
        k = columns[name]
        count = len(data.words[name]) - ('hidden' in data.words[name])
        rows = asked['labels'].clone()
        rows[:, k] = 1 + rows[:, k] % count            # the next value
        after, _ = read_labels(by_batch(make, {'labels': rows}, n))
        changed = (after != before).double().mean(0)
        changed = [round(share, 4) for share in changed.tolist()]
        found[name] = dict(zip(columns, changed))
    return found


def keep(name: str, make):
    "Add to what is stored, unless it is there."
    path = stored_file('11_guidance/pictures.json')
    path.parent.mkdir(exist_ok=True)
    known = json.loads(path.read_text()) if path.exists() else {}
    if name not in known:
        known[name] = make()
        path.write_text(json.dumps(known, indent=1) + '\n')
        print(time.strftime('%T'), name, known[name], flush=True)


def main():
    model = trained(20)
    bad = trained(2)
    asked = conditioner(prompts())

    def one(label, make):
        def work():
            images = by_batch(make, asked)
            save_grid(images[:16], RUNS / f'{label}.png', cols=16)
            return judged(images, asked['labels'])
        keep(label, work)

    for scale in (0., 1., 1.5, 2., 3., 4.):
        one(f'scale {scale:g}', partial(guided, model, scale=scale))
    one('scale 3, limited first', partial(limited_first, model, scale=3.))
    for low, high in ((1, 150), (151, 300), (301, 500), (151, 500)):
        interval = partial(guided, model, scale=3., interval=(low, high))
        one(f'scale 3, t from {low} to {high}', interval)
    for scale in (1., 1.5, 2., 3.):
        plain = steered(model, bad, scale)
        draw = partial(drawn, plain, 1_000)
        keep(f'away from a bad one, scale {scale:g}', lambda: judged(draw()))
    for scale in (1., 2.):
        keep(f'leaks at scale {scale:g}', partial(leaks, model, scale))


if __name__ == '__main__':
    main()
