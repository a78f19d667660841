"""`pytest --slow` runs the long tests too."""
import pytest


def pytest_addoption(parser):
    parser.addoption('--slow', action='store_true', help='run the long tests too')


def pytest_configure(config):
    config.addinivalue_line('markers', 'slow: takes minutes; runs with --slow')


def pytest_collection_modifyitems(config, items):
    if not config.getoption('--slow'):
        for item in items:
            if 'slow' in item.keywords:
                item.add_marker(pytest.mark.skip(reason='takes minutes: pytest --slow'))
