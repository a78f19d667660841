"""In Colab and in a plain Jupyter: the first cell installs what is missing, pictures
have their words, and Interrupt Kernel stops a panel. `tests/tools/colab.py` runs this
against the lowest versions that Colab has."""
import ast
import json
import os
import re
import sys
import time
from importlib.metadata import version
from types import SimpleNamespace

import pytest

from badges import INSTALL, install, settings
from places import LESSONS, ROOMS, ROOT, notebook

pytest.importorskip('ipykernel')
jupyter_client = pytest.importorskip('jupyter_client')


def first_code(path):
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    return next(cell for cell in cells if cell['cell_type'] == 'code')


@pytest.mark.parametrize('path', LESSONS + ROOMS, ids=lambda path: path.stem)
def test_the_first_code_cell_installs(path):
    assert first_code(path) == install(), 'run: python tests/tools/prepare.py'


def run_install(monkeypatch, has_library):
    """What the cell asks pip for."""
    asked = []
    monkeypatch.setattr(
        'importlib.util.find_spec',
        lambda name: object() if has_library or name != 'ddpm_teach' else None)
    shell = SimpleNamespace(run_line_magic=lambda *line: asked.append(line))
    exec(''.join(install()['source']), {'get_ipython': lambda: shell})
    return asked


def test_it_installs_only_what_is_missing(monkeypatch):
    assert run_install(monkeypatch, True) == []
    (magic, line), = run_install(monkeypatch, False)
    assert magic == 'pip'
    extra, address = re.search(r'"ddpm_teach\[(\w+)\] @ git\+(\S+)"$', line).groups()
    assert address == settings()['git_url']
    assert 'jupyterlab' not in settings()[f'{extra}_requirements']


def test_it_is_no_noise_on_the_site_and_stays_in_exercises(tmp_path):
    from ddpm_teach.exercises import copy_exercises
    assert install()['source'][0] == '#| hide\n'
    copies = copy_exercises(tmp_path / 'mine')
    for name in ('02_schedule', 'tools/playground'):
        assert first_code(copies / f'{name}.ipynb')['id'] == INSTALL


def test_panels_come_first_in_the_playground():
    sources = [
        ''.join(cell['source'])
        for cell in json.loads(notebook('playground').read_text('utf-8'))['cells']]
    panels = [i for i, source in enumerate(sources)
              if re.fullmatch(r'\w+_panel\(\)', source)]
    code = [i for i, source in enumerate(sources) if source.startswith('#| export')]
    assert len(panels) == 5 and max(panels) < min(code)


SEEN = ('stream', 'display_data', 'execute_result')


@pytest.fixture(scope='module')
def kernel():
    """A kernel of this Python, as Jupyter starts it; yields what runs a cell in it."""
    manager = jupyter_client.KernelManager()
    command = [sys.executable, '-m', 'ipykernel_launcher', '-f', '{connection_file}']
    manager.kernel_spec.argv[:] = command
    paths = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    manager.start_kernel(env=os.environ | dict(PYTHONPATH=paths, OMP_NUM_THREADS='1'))
    client = manager.blocking_client()
    client.start_channels()
    client.wait_for_ready(60)

    def run(code):
        outputs = []
        client.execute_interactive(code, timeout=60, output_hook=outputs.append)
        for output in outputs:
            assert output['msg_type'] != 'error', output['content']
        return [each['content'] for each in outputs if each['msg_type'] in SEEN]

    run.interrupt = manager.interrupt_kernel
    try:
        yield run
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def value(kernel, expression):
    """What an expression is in the kernel."""
    outputs = kernel(f'print(repr({expression}))')
    said = [each['text'] for each in outputs if each.get('name') == 'stdout']
    return ast.literal_eval(''.join(said).strip())


def test_a_picture_has_its_words(kernel):
    print('ipython', version('ipython'), 'ipykernel', version('ipykernel'))
    *_, shown = kernel(
        'import torch\n'
        'from ddpm_teach import show_images\n'
        'show_images(torch.zeros(2, 3, 8, 8), alt="Two grey squares")')
    assert shown['metadata'] == {'image/png': {'alt': 'Two grey squares'}}
    assert shown['data']['image/png'].startswith('iVBOR')
    assert shown['data']['text/plain'] == 'Two grey squares'


NO_WIDGETS = 'ipywidgets is missing: pip install -e ".[notebooks]"'
SETUP = """
import torch
torch.set_num_threads(1)
from ddpm_teach import *
from ddpm_teach.playground import *
small = DDPM(UNet(channels=(8, 16), groups=4, attention=()), cosine_schedule(500))
"""


def wait_until(kernel, expression, seconds=30):
    end = time.monotonic() + seconds
    while not value(kernel, expression):
        assert time.monotonic() < end, expression
        time.sleep(.1)


@pytest.fixture
def panels(kernel):
    pytest.importorskip('ipywidgets', reason=NO_WIDGETS)
    kernel(SETUP)
    return kernel


def test_panels_show_with_words(panels):
    for name in ('noising_panel()', 'schedules_panel()', 'denoising_panel(small, 1)'):
        *_, shown = panels(name)
        assert 'application/vnd.jupyter.widget-view+json' in shown['data']
    assert 'alt="The picture, noised' in value(panels, 'noising_panel().picture.value')
    control, = {value(panels, 'getattr(noising_panel().t, "tooltip", None) or '
                              'noising_panel().t.description_tooltip')}
    assert control == 'how many steps of noise'


def test_interrupt_kernel_stops_a_training(panels):
    panels('data = torch.zeros(4096, 3, 32, 32, dtype=torch.uint8)\n'
           'panel = training_panel(small, data, 500, bf16=False)\n'
           'start = small.network.first.weight.clone()')
    assert value(panels, 'panel.numbers.value') == 'not started'
    panels('panel.buttons.go.click()')
    assert value(panels, 'panel.numbers.value') != 'not started'
    wait_until(panels, '"epoch 1" in panel.numbers.value')
    assert value(panels, 'panel.buttons.go.disabled')
    time.sleep(1)                                   # no cell runs
    panels.interrupt()
    wait_until(panels, 'not panel.buttons.go.disabled', 10)
    assert 'stopped after step' in value(panels, 'panel.numbers.value')
    assert not value(panels, 'torch.equal(panel.model.network.first.weight, start)')


def test_interrupt_kernel_stops_a_cell_and_not_the_kernel(panels):
    with pytest.raises(AssertionError, match='KeyboardInterrupt'):
        panels('import _thread, time\n'
               '_thread.interrupt_main()\n'
               'time.sleep(5)')
    assert value(panels, '1 + 1') == 2


def test_a_long_chain_is_seen_and_only_what_works_can_be_moved(panels):
    panels('chain = denoising_panel(small, 1)\n'
           'chain.controls["sampler"].value = "ancestral"')
    active = ('[name for name, each in chain.controls.items() if not each.disabled]')
    assert value(panels, active) == ['seed', 'sampler', 'noise']
    panels('seen = set()\n'
           'chain.picture.observe(lambda _: seen.add(chain.numbers.value), "value")\n'
           'chain.buttons.go.click()')
    wait_until(panels, 'len(seen) > 2 and not chain.buttons.stop.disabled')
    panels.interrupt()
    wait_until(panels, 'not chain.buttons.go.disabled', 10)
    assert 0 < value(panels, 'chain.place.max') < 500
    panels('chain.controls["sampler"].value = "ddim"')
    assert value(panels, active) == ['seed', 'sampler', 'steps', 'eta']
