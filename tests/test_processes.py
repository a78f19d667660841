"""Two processes do what one does: the same losses, one set of files, each picture drawn once."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = """
import json, sys, torch
from pathlib import Path
from ddpm_teach import DDPM, UNet, cosine_schedule, characters, sample, train
from ddpm_teach.training import processes
torch.set_num_threads(1)
here, out = processes(), Path(sys.argv[1])
torch.manual_seed(here.process_index)                       # each starts with other weights: those of the first must count
model = DDPM(UNet(channels=(8, 16), groups=4, attention=()), cosine_schedule(50), 'x0')
epochs = []
trained = train(model, characters(512, progress=False).images, 7, bf16=False, progress=False, out=out, on_epoch=lambda epoch, *_: epochs.append(epoch))
pictures = sample(5, trained.model, seed=0, progress=False)
torch.save(dict(losses=trained.losses, pictures=pictures, epochs=epochs), out / f'seen_by_{here.process_index}.pt')
"""


def run(folder: Path, count: int) -> list[dict]:
    folder.mkdir()
    script = folder.parent / 'script.py'
    script.write_text(SCRIPT)
    launch = [sys.executable, '-m', 'torch.distributed.run', '--standalone', f'--nproc-per-node={count}'] if count > 1 else [sys.executable]
    subprocess.run([*launch, str(script), str(folder)], check=True, capture_output=True, timeout=300, env=os.environ | {'OMP_NUM_THREADS': '1'})
    return [torch.load(folder / f'seen_by_{i}.pt') for i in range(count)]


@pytest.mark.skipif(sys.platform != 'linux', reason='starts processes with gloo; tried on Linux only')
def test_two_processes_do_what_one_does(tmp_path):
    (alone,), (first, second) = run(tmp_path / 'one', 1), run(tmp_path / 'two', 2)
    curves = [torch.tensor(seen['losses'], dtype=torch.float64) for seen in (alone, first, second)]
    assert len(curves[0]) == 56 and torch.equal(curves[1], curves[2])
    assert (curves[1] / curves[0] - 1)[:50].abs().max() < 1e-4
    assert first['epochs'] == list(range(7)) and second['epochs'] == []
    assert torch.equal(first['pictures'], second['pictures']) and (first['pictures'] - alone['pictures']).abs().max() < 1e-2
    assert len(first['pictures'].flatten(1).unique(dim=0)) == 5
    assert json.loads((tmp_path / 'two/log.json').read_text())['loss_of_each_epoch'] and not list(tmp_path.rglob('*.part'))


@pytest.mark.parametrize('count', [1, 2, 3, 5])
def test_each_picture_is_drawn_by_one_process(monkeypatch, count):
    from types import SimpleNamespace
    from ddpm_teach import sampling
    monkeypatch.setattr(sampling, 'several', lambda: count > 1)
    shares = []
    for i in range(count):
        monkeypatch.setattr(sampling, 'processes', lambda: SimpleNamespace(process_index=i, num_processes=count))
        shares.append([*sampling._share(11)])
    assert sum(shares, []) == list(range(11)) and max(map(len, shares)) - min(map(len, shares)) <= 1
