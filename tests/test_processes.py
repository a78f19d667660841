"""Two processes do what one does: the same losses, one set of files, each picture drawn
once."""
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ddpm_teach.plumbing import processes

SCRIPT = """
import sys
from pathlib import Path

import torch

from ddpm_teach import DDPM, UNet, characters, cosine_schedule, sample, train, usual
from ddpm_teach.plumbing.processes import processes

torch.set_num_threads(1)
here = processes()
out = Path(sys.argv[1])
torch.manual_seed(here.process_index)    # other weights in each: the first must count
network = UNet(channels=(8, 16), groups=4, attention=())
model = DDPM(network, cosine_schedule(50), 'x0')
epochs = []

def seen(epoch, *_):
    epochs.append(epoch)

images = characters(512, progress=False).images
hooks = usual(out, bf16=False, progress=False, preview=seen)
trained = train(model, images, 7, hooks=hooks)
pictures = sample(5, model=trained.model, seed=0, progress=False)
found = dict(losses=trained.losses, pictures=pictures, epochs=epochs)
torch.save(found, out / f'seen_by_{here.process_index}.pt')
"""


def run(folder: Path, count: int) -> list[dict]:
    folder.mkdir()
    script = folder.parent / 'script.py'
    script.write_text(SCRIPT)
    launch = [sys.executable]
    if count > 1:
        launch += ['-m', 'torch.distributed.run', '--standalone']
        launch += [f'--nproc-per-node={count}']
    subprocess.run(
        [*launch, str(script), str(folder)], check=True, capture_output=True,
        timeout=300, env=os.environ | {'OMP_NUM_THREADS': '1'})
    return [torch.load(folder / f'seen_by_{i}.pt') for i in range(count)]


@pytest.mark.skipif(
    sys.platform != 'linux', reason='starts processes with gloo; tried on Linux only')
def test_two_processes_do_what_one_does(tmp_path):
    alone, = run(tmp_path / 'one', 1)
    first, second = run(tmp_path / 'two', 2)
    curves = []
    for seen in (alone, first, second):
        curves.append(torch.tensor(seen['losses'], dtype=torch.float64))
    assert len(curves[0]) == 56 and torch.equal(curves[1], curves[2])
    assert (curves[1] / curves[0] - 1)[:50].abs().max() < 1e-4
    assert first['epochs'] == list(range(7)) and second['epochs'] == []
    assert torch.equal(first['pictures'], second['pictures'])
    assert (first['pictures'] - alone['pictures']).abs().max() < 1e-2
    assert len(first['pictures'].flatten(1).unique(dim=0)) == 5
    log = json.loads((tmp_path / 'two/log.json').read_text())
    assert log['loss_of_each_epoch'] and not list(tmp_path.rglob('*.part'))


@pytest.mark.parametrize('count', [1, 2, 3, 5])
def test_each_picture_is_drawn_by_one_process(monkeypatch, count):
    monkeypatch.setattr(processes, 'several', lambda: count > 1)
    shares = []
    for i in range(count):
        here = SimpleNamespace(process_index=i, num_processes=count)
        monkeypatch.setattr(processes, 'processes', lambda here=here: here)
        shares.append([*processes.share(11)])
    assert sum(shares, []) == list(range(11))
    sizes = [len(rows) for rows in shares]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize('batch_size, n, count, fits', [
    (64, 1000, 1, 64), (4096, 5, 1, 5), (1, 1, 1, 1), (8, 100, 4, 8), (4, 4, 4, 4),
    (64, 5, 2, 4), (64, 6, 2, 6), (65, 7, 3, 6),
])
def test_a_batch_fits_data_and_processes(monkeypatch, batch_size, n, count, fits):
    pretend(monkeypatch, count)
    assert processes.fitting(batch_size, n) == fits


@pytest.mark.parametrize('batch_size, n, count, said', [
    (10, 100, 4, 'batch_size is 10, .*multiple of the 4 processes, such as 8'),
    (3, 100, 4, 'batch_size is 3, .*such as 4'),
    (64, 3, 4, 'there are 3 pictures, .*at least as many as the 4 processes'),
])
def test_a_batch_that_does_not_fit_is_refused(monkeypatch, batch_size, n, count, said):
    pretend(monkeypatch, count)
    with pytest.raises(ValueError, match=said):
        processes.fitting(batch_size, n)


def pretend(monkeypatch, count):
    """That there are so many processes."""
    here = SimpleNamespace(process_index=0, num_processes=count)
    monkeypatch.setattr(processes, 'several', lambda: count > 1)
    monkeypatch.setattr(processes, 'processes', lambda: here)
