"""Lessons and the playground where they are used: JupyterLab in a real Chromium. Screenshots are kept in `runs/screenshots`."""
import os
import pathlib
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


@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    """JupyterLab on a free port of the loopback address, in a copy of the notebooks; yields its address with a token."""
    folder = tmp_path_factory.mktemp('lab')
    shutil.copytree(ROOT / 'nbs', folder / 'nbs', ignore=shutil.ignore_patterns('10_paper'))
    settings = folder / 'settings' / '@jupyterlab'
    for extension, plugin, text in [('notebook-extension', 'tracker', '{"windowingMode": "none"}'), ('apputils-extension', 'notification', '{"fetchNews": "false", "checkForUpdates": false}')]:
        (settings / extension).mkdir(parents=True)
        (settings / extension / f'{plugin}.jupyterlab-settings').write_text(text)
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    token, log = secrets.token_hex(16), (folder / 'log').open('w')
    server = subprocess.Popen([sys.executable, '-m', 'jupyterlab', '--no-browser', '--allow-root', '--ip=127.0.0.1', f'--port={port}', '--ServerApp.port_retries=0', f'--IdentityProvider.token={token}',
                               f'--ServerApp.root_dir={folder / "nbs"}', f'--LabApp.user_settings_dir={folder / "settings"}', f'--LabApp.workspaces_dir={folder / "workspaces"}', '--LabApp.expose_app_in_browser=True'],
                              stdout=log, stderr=log, env=os.environ | {'IN_TEST': '1', 'OMP_NUM_THREADS': '1', 'JUPYTER_PLATFORM_DIRS': '1'})
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f'http://127.0.0.1:{port}/api?token={token}', timeout=5)
                break
            except OSError:
                assert server.poll() is None, (folder / 'log').read_text()
                time.sleep(.5)
        yield lambda notebook: f'http://127.0.0.1:{port}/lab/workspaces/{pathlib.Path(notebook).stem}/tree/{notebook}?token={token}'      # a workspace each: no tabs of the others
    finally:
        server.terminate()
        server.wait(20)


def run_all(page, address: str):
    """Open a notebook, run all its cells, and wait for the last."""
    page.goto(address, timeout=120_000)
    page.wait_for_selector('.jp-Notebook .jp-CodeCell', timeout=120_000)
    page.wait_for_function("window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'", timeout=120_000)
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    busy = "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].filter(p => p.textContent.includes('*')).length"
    page.wait_for_function(f'{busy} === 0', timeout=240_000)
    assert page.locator('[data-mime-type="application/vnd.jupyter.error"], [data-mime-type="application/vnd.jupyter.stderr"]').all_text_contents() == []


def changes(page, image, press):
    """The seconds until a picture changes after a press."""
    before, start = image.get_attribute('src'), time.perf_counter()
    press()
    while image.get_attribute('src') == before:
        assert time.perf_counter() - start < 20, 'the picture does not change'
        page.wait_for_timeout(5)
    return time.perf_counter() - start


def shoot(page, name: str):
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f'{name}.png')


def complaints(page) -> list[str]:
    """What the browser's console shows as errors; JupyterLab asks for an icon that it does not have."""
    return [error for error in page.errors if 'favicon' not in error]


@pytest.mark.parametrize('name', ['00_show', '02_schedule'])
def test_a_lesson_runs(page, lab, name):
    run_all(page, lab(f'{name}.ipynb'))
    assert page.locator('.jp-OutputArea-output img').count() >= 3
    page.locator('.jp-OutputArea-output img').first.scroll_into_view_if_needed()
    assert complaints(page) == []


def test_sliders_and_buttons(page, lab):
    run_all(page, lab('tools/playground.ipynb'))
    noising = page.locator('.widget-vbox', has=page.locator('img[alt^="The picture, noised"]')).last
    image, handle = noising.locator('img').first, noising.locator('.noUi-handle').first
    noising.scroll_into_view_if_needed()
    times = [changes(page, image, lambda: handle.press('ArrowRight')) for _ in range(9)]
    assert 't = 134' in image.get_attribute('alt')
    shoot(page, 'noising')
    print(f'a key pressed on the slider, until the picture has changed: {sorted(times)[4] * 1000:.0f} ms')

    chain = page.locator('.widget-vbox', has=page.get_by_role('button', name='draw again')).last
    chain.scroll_into_view_if_needed()
    changes(page, chain.locator('img').first, lambda: chain.locator('.noUi-handle').first.press('ArrowLeft'))
    chain.locator('select').select_option('ancestral')
    chain.get_by_role('button', name='draw again').click()
    page.wait_for_function("document.querySelectorAll('button:not([disabled])').length", timeout=5_000)
    chain.get_by_role('button', name='stop').click(timeout=10_000)
    chain.locator('button:has-text("draw again"):not([disabled])').wait_for(timeout=20_000)
    shoot(page, 'denoising')

    training = page.locator('.widget-vbox', has=page.get_by_text('not started')).last
    training.scroll_into_view_if_needed()
    training.get_by_role('button', name='train').click()
    page.locator('img[alt^="Eight pictures"]').last.wait_for(timeout=120_000)
    shoot(page, 'training')
    page.locator('.widget-vbox', has=page.locator('img[alt^="Eight pictures"]')).last.get_by_role('button', name='stop').click()
    page.get_by_text('stopped').last.wait_for(timeout=120_000)

    page.set_viewport_size({'width': 480, 'height': 900})
    page.evaluate("window.jupyterapp.commands.execute('application:toggle-left-area')")
    noising.scroll_into_view_if_needed()
    shoot(page, 'narrow')
    assert complaints(page) == []
