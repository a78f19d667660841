"""Lessons and the playground where they are used: JupyterLab in a real Chromium.

Screenshots are kept in `runs/screenshots`.
"""
import json
import os
import pathlib
import platform
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from conftest import SHOTS

ROOT = pathlib.Path(__file__).parents[1]
SETTINGS = {
    'notebook-extension/tracker': dict(windowingMode='none'),
    'apputils-extension/notification': dict(fetchNews='false', checkForUpdates=False),
}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        return free.getsockname()[1]


def write_settings(folder):
    """JupyterLab shows whole notebooks, and asks nobody for news."""
    for place, settings in SETTINGS.items():
        file = folder / '@jupyterlab' / f'{place}.jupyterlab-settings'
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(settings))


def set_version(folder):
    """The one entry that differs between machines: the version of Python."""
    entry = r'("pygments_lexer": "ipython3",\s+"version": )"[\d.]+"'
    here = rf'\1"{platform.python_version()}"'
    for path in folder.rglob('*.ipynb'):
        text = path.read_text(encoding='utf-8')
        path.write_text(re.sub(entry, here, text), encoding='utf-8')


def start(folder, port, token):
    """JupyterLab on a port of the loopback address."""
    command = [
        sys.executable, '-m', 'jupyterlab', '--no-browser', '--allow-root',
        '--ip=127.0.0.1', f'--port={port}', '--ServerApp.port_retries=0',
        f'--IdentityProvider.token={token}', f'--ServerApp.root_dir={folder / "nbs"}',
        f'--LabApp.user_settings_dir={folder / "settings"}',
        f'--LabApp.workspaces_dir={folder / "workspaces"}',
        '--LabApp.expose_app_in_browser=True']
    environment = dict(IN_TEST='1', OMP_NUM_THREADS='1', JUPYTER_PLATFORM_DIRS='1')
    log = (folder / 'log').open('w')
    return subprocess.Popen(
        command, stdout=log, stderr=log, env=os.environ | environment)


def wait_for(server, address, log):
    """Until the server answers."""
    for _ in range(120):
        try:
            urllib.request.urlopen(address, timeout=5)
            return
        except OSError:
            assert server.poll() is None, log.read_text()
            time.sleep(.5)


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    """JupyterLab in a copy of the notebooks; yields its address of a notebook."""
    folder = tmp_path_factory.mktemp('lab')
    without = shutil.ignore_patterns('10_paper')
    shutil.copytree(ROOT / 'nbs', folder / 'nbs', ignore=without)
    set_version(folder / 'nbs')
    write_settings(folder / 'settings')
    port = free_port()
    token = secrets.token_hex(16)
    home = f'http://127.0.0.1:{port}'

    def address(notebook):
        name = pathlib.Path(notebook).stem          # a workspace each: no other tabs
        return f'{home}/lab/workspaces/{name}/tree/{notebook}?token={token}'

    server = start(folder, port, token)
    try:
        wait_for(server, f'{home}/api?token={token}', folder / 'log')
        yield address
    finally:
        server.terminate()
        server.wait(20)


IDLE = ("window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status"
        " === 'idle'")
BUSY = ("[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')]"
        ".filter(p => p.textContent.includes('*')).length")
RUN_ALL = "window.jupyterapp.commands.execute('notebook:run-all-cells')"
CLOSE_LEFT = "window.jupyterapp.commands.execute('application:toggle-left-area')"
ERRORS = ('[data-mime-type="application/vnd.jupyter.error"], '
          '[data-mime-type="application/vnd.jupyter.stderr"]')


def open_notebook(page, address: str):
    """Open a notebook, and wait for its kernel."""
    page.goto(address, timeout=120_000)
    page.wait_for_selector('.jp-Notebook .jp-CodeCell', timeout=120_000)
    page.wait_for_function(IDLE, timeout=120_000)


def run_all(page, address: str):
    """Open a notebook, run all its cells, and wait for the last."""
    open_notebook(page, address)
    page.evaluate(RUN_ALL)
    page.wait_for_function(f'{BUSY} === 0', timeout=240_000)
    assert page.locator(ERRORS).all_text_contents() == []


def changes(page, image, press):
    """The seconds until a picture changes after a press."""
    before = image.get_attribute('src')
    start = time.perf_counter()
    press()
    while image.get_attribute('src') == before:
        assert time.perf_counter() - start < 20, 'the picture does not change'
        page.wait_for_timeout(5)
    return time.perf_counter() - start


def shoot(page, name: str):
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f'{name}.png')


def complaints(page) -> list[str]:
    """What the browser's console shows as errors; Lab asks for an icon it has not."""
    return [error for error in page.errors if 'favicon' not in error]


def button(place, name):
    return place.get_by_role('button', name=name)


TOO_WIDE = """() => [...document.querySelectorAll(
    '.jp-Notebook .cm-scroller, .jp-OutputArea-output, .jp-RenderedText pre, '
    + '.jp-MarkdownOutput')].filter(box => box.scrollWidth > box.clientWidth + 1)
    .map(box => box.textContent.slice(0, 88))"""
CHANGED = 'window.jupyterapp.shell.currentWidget.model.dirty'


@pytest.mark.parametrize('name', ['03_forward'])
def test_a_lesson_opens_as_it_is_stored(page, lab, name):
    """Unchanged, its solutions folded, and nothing to be moved sideways."""
    open_notebook(page, lab(f'{name}.ipynb'))
    page.wait_for_selector('.jp-MarkdownOutput mjx-container', timeout=60_000)
    page.wait_for_timeout(2_000)                # a change would come with the kernel
    assert page.evaluate(CHANGED) is False
    assert page.evaluate(TOO_WIDE) == []
    text = (ROOT / 'nbs' / f'{name}.ipynb').read_text(encoding='utf-8')
    folded = text.count('"source_hidden": true')
    assert page.locator('.jp-CodeCell .jp-InputPlaceholder').count() == folded >= 3


@pytest.mark.parametrize('name', ['plumbing/show', '02_schedule'])
def test_a_lesson_runs(page, lab, name):
    run_all(page, lab(f'{name}.ipynb'))
    pictures = page.locator('.jp-OutputArea-output img')
    assert pictures.count() >= 3
    pictures.first.scroll_into_view_if_needed()
    assert complaints(page) == []


def pull_noise(page):
    """Noise on a picture, by the keyboard."""
    noised = page.locator('img[alt^="The picture, noised"]')
    noising = page.locator('.widget-vbox', has=noised).last
    image = noising.locator('img').first
    handle = noising.locator('.noUi-handle').first
    noising.scroll_into_view_if_needed()
    times = []
    for _ in range(9):
        times.append(changes(page, image, lambda: handle.press('ArrowRight')))
    assert 't = 134' in image.get_attribute('alt')
    shoot(page, 'noising')
    print('a key pressed on the slider, until the picture has changed: '
          f'{sorted(times)[4] * 1000:.0f} ms')
    return noising


def ask_for(page):
    """Another prompt, with a word changed."""
    asking = page.locator('.widget-vbox', has=page.get_by_label('prompt')).last
    asking.scroll_into_view_if_needed()
    asking.get_by_label('prompt').fill('red hair, glasses')
    asking.get_by_label('word', exact=True).fill('red')
    asking.get_by_label('instead').fill('green')
    button(asking, 'draw').click()
    both = page.locator('img[alt$="red hair, glasses; green hair, glasses"]')
    both.last.wait_for(timeout=60_000)
    shoot(page, 'asking')


def draw_and_stop(page):
    """Along a chain; a new one, stopped."""
    again = page.get_by_role('button', name='draw again')
    chain = page.locator('.widget-vbox', has=again).last
    chain.scroll_into_view_if_needed()
    handle = chain.locator('.noUi-handle').first
    changes(page, chain.locator('img').first, lambda: handle.press('ArrowLeft'))
    chain.locator('select').select_option('ancestral')
    button(chain, 'draw again').click()
    page.wait_for_function(
        "document.querySelectorAll('button:not([disabled])').length", timeout=5_000)
    button(chain, 'stop').click(timeout=10_000)
    ready = chain.locator('button:has-text("draw again"):not([disabled])')
    ready.wait_for(timeout=20_000)
    shoot(page, 'denoising')


def train_and_stop(page):
    """A training, watched and stopped."""
    started = page.get_by_text('not started')
    training = page.locator('.widget-vbox', has=started).last
    training.scroll_into_view_if_needed()
    button(training, 'train').click()
    drawn = page.locator('img[alt^="Eight pictures"]')
    drawn.last.wait_for(timeout=120_000)
    shoot(page, 'training')
    button(page.locator('.widget-vbox', has=drawn).last, 'stop').click()
    page.get_by_text('stopped').last.wait_for(timeout=120_000)


def test_sliders_and_buttons(page, lab):
    run_all(page, lab('tools/playground.ipynb'))
    ask_for(page)
    noising = pull_noise(page)
    draw_and_stop(page)
    train_and_stop(page)
    page.set_viewport_size({'width': 480, 'height': 900})
    page.evaluate(CLOSE_LEFT)
    noising.scroll_into_view_if_needed()
    shoot(page, 'narrow')
    assert complaints(page) == []
