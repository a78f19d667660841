"""The map of the course on the front page: `python nbs/images/draw_map.py`."""
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from ddpm_teach import ancestral, characters, cosine_schedule, pretrained, q_sample
from ddpm_teach import to_float, to_pil

TIMES = (0, 100, 200, 300, 500)
FORWARD, BACK = '#2166ac', '#b2452c'
WIDTH = 1.1                                        # of a picture


def noised() -> list:
    "One character at TIMES."
    x0 = to_float(characters(40, progress=False).images[3:4])
    schedule = cosine_schedule(500)
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    found = [x0]
    for t in TIMES[1:]:
        found.append(q_sample(x0, torch.tensor([t]), schedule, eps))
    return [to_pil(x[0]) for x in found]


def denoised() -> list:
    "A chain of the model that ships at the same times."
    rng = torch.Generator().manual_seed(4)

    def draw():
        return torch.randn(1, 3, 32, 32, generator=rng)

    chain = ancestral(pretrained(), draw(), draw=draw)
    seen = {step.t: step.x[0] for step in chain}
    return [to_pil(seen[t]) for t in TIMES]


def put(ax, picture, x: float, y: float):
    corners = (x, x + WIDTH, y, y + WIDTH)
    ax.imshow(picture, extent=corners, interpolation='nearest', zorder=2)


def arrow(ax, start, end, color: str, bend: float = 0.):
    look = dict(
        arrowstyle='-|>', color=color, lw=1.6, shrinkA=1, shrinkB=1,
        connectionstyle=f'arc3,rad={bend}')
    ax.annotate('', end, start, arrowprops=look, zorder=1)


def main():
    fig, ax = plt.subplots(figsize=(9, 5.2))
    places = [2 * k for k in range(len(TIMES))]
    top, bottom = 3.6, .4
    rows = zip(places, TIMES, noised(), denoised())
    for x, t, above, below in rows:
        put(ax, above, x, top)
        put(ax, below, x, bottom)
        for y in (top - .28, bottom - .28):
            ax.text(x + WIDTH / 2, y, f't = {t}', ha='center', fontsize=8, color='.3')
    for a, b in zip(places, places[1:]):
        middle = WIDTH / 2
        arrow(ax, (a + WIDTH, top + middle), (b, top + middle), FORWARD)
        arrow(ax, (b, bottom + middle), (a + WIDTH, bottom + middle), BACK)
    last = places[-1]
    arrow(ax, (.55, top + WIDTH), (last - 1.45, top + WIDTH), FORWARD, -.22)
    arrow(ax, (last + .55, bottom - .38), (2.55, bottom - .38), BACK, -.16)
    words = dict(fontsize=9.5, ha='center', va='center')
    ax.text(-.9, top + .55, '01\ncharacters', color=FORWARD, **words)
    ax.text(8.1, top + 1.38, '02 how much noise, and when?', color=FORWARD, **words)
    ax.text(3.3, top + 2.05, '03 to any t in one jump', color=FORWARD, **words)
    box = dict(boxstyle='round,pad=.6', facecolor='#f3f0e8', edgecolor='.4')
    ax.text(
        4.55, 2.55, '05 the network: which picture is behind this noise?\n'
        '04 what to minimise   06 training', bbox=box, **words)
    ax.text(9.75, 2.55, '11, 12\nasked in words', **words)
    arrow(ax, (8.7, 2.55), (7.8, 2.55), '.3')
    arrow(ax, (4.55, top - .32), (4.55, 3.02), FORWARD)
    arrow(ax, (4.55, 2.08), (4.55, bottom + WIDTH + .05), BACK)
    ax.text(6.55, bottom + 1.28, '07 back, step by step', color=BACK, **words)
    ax.text(5.5, bottom - 1.2, '09 in large strides', color=BACK, **words)
    ax.text(-.9, bottom + .55, '08\nis it\nany good?', color=BACK, **words)
    arrow(ax, (.55, bottom + WIDTH + .05), (.55, top - .32), '.3')
    ax.text(.5, 2.55, 'as real?', fontsize=8, ha='right', color='.3')
    ax.set(xlim=(-1.7, 10.8), ylim=(-1.2, 6))
    ax.axis('off')
    fig.savefig(
        Path(__file__).parent / 'map.png', dpi=130, bbox_inches='tight',
        facecolor='white')


if __name__ == '__main__':
    main()
