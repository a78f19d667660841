"""A browser for the tests that need one; long tests only with --slow."""

import pathlib
import shutil
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent / 'tools'))
CHROMIUM = next(
    (
        path
        for name in (
            'chromium',
            'chromium-browser',
            'google-chrome',
            'google-chrome-stable',
        )
        if (path := shutil.which(name))
    ),
    None,
)
SHOTS = pathlib.Path(__file__).parents[1] / 'runs' / 'screenshots'
QUIET = [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
]


@pytest.fixture
def page(request):
    """A page of a fresh headless Chromium; the errors that its console shows are kept
    in `page.errors`."""
    if CHROMIUM is None:
        pytest.skip(
            'Chromium is missing: install it (Debian: apt-get install chromium; '
            'elsewhere Google Chrome)'
        )
    sync_api = pytest.importorskip(
        'playwright.sync_api', reason='playwright is missing: pip install -e ".[dev]"'
    )
    with sync_api.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={'width': 1280, 'height': 900})
        page.errors = []
        page.on(
            'console',
            lambda message: (
                page.errors.append(message.text) if message.type == 'error' else None
            ),
        )
        page.on('pageerror', lambda error: page.errors.append(str(error)))
        yield page
        SHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SHOTS / f'{request.node.name}.png')  # also after a failure
        browser.close()


def pytest_addoption(parser):
    parser.addoption('--slow', action='store_true', help='run the long tests too')


def pytest_configure(config):
    config.addinivalue_line('markers', 'slow: takes minutes; run with --slow')


def pytest_collection_modifyitems(config, items):
    if not config.getoption('--slow'):
        for item in items:
            if 'slow' in item.keywords:
                item.add_marker(pytest.mark.skip(reason='long: run with --slow'))
