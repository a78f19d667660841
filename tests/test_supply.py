"""What the package is built on: bounds on both sides, and licences as the index
says."""

import re
from importlib import metadata
from pathlib import Path

import pytest

from lowest import lowest, requirements

ROOT = Path(__file__).parents[1]
EXTRAS = ('inception', 'bench', 'notebooks', 'course', 'dev')


def numbers(version):
    return [int(n) for n in re.findall(r'\d+', version)[:3]]


@pytest.mark.parametrize(
    'name, bounds',
    [
        (n, b)
        for n, b in requirements(*EXTRAS).items()
        if not n.startswith('ddpm_teach')
    ],
)
def test_every_requirement_has_an_upper_bound(name, bounds):
    assert '<' in bounds or '==' in bounds, f'{name}{bounds}'


@pytest.mark.parametrize('name, bounds', requirements().items())
def test_what_is_installed_lies_within_the_bounds(name, bounds):
    assert numbers(lowest(bounds)) <= numbers(metadata.version(name)), name
    upper = re.search(r'<([\d.]+)', bounds)[1]
    assert numbers(metadata.version(name)) < numbers(upper), name


def said_by_the_package(name):
    """Everything that an installed package says of its licence: its metadata, and the
    first lines of its licence files."""
    about = metadata.metadata(name)
    words = [
        about.get('License-Expression') or '',
        (about.get('License') or '')[:200],
        *[c for c in about.get_all('Classifier') or [] if c.startswith('License')],
    ]
    files = [
        f
        for f in metadata.files(name) or []
        if re.search(r'licen[cs]e', f.name, re.I) and f.suffix in ('', '.md', '.txt')
    ]
    return ' '.join(
        words
        + [
            f.locate().read_text(encoding='utf-8', errors='replace')[:30_000]
            for f in files
        ]
    )


SIGNS = {
    'BSD-3-Clause': r'BSD',
    'Apache-2.0': r'Apache',
    'MIT': r'\bMIT\b|Permission is hereby granted, free of charge',
    'Unlicense': r'Unlicense',
    'MIT-CMU': r'MIT-CMU|HPND|Historical Permission',
    'MPL-2.0': r'MPL|Mozilla Public',
    'PSF': r'Python Software Foundation|PSF',
}


def table():
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    rows = re.findall(
        r'^\| ([^|]+) \| ([^|]+) \|$', text[text.index('## Licences') :], flags=re.M
    )[1:]
    return {name: licence for names, licence in rows for name in names.split(', ')}


def test_every_direct_requirement_is_in_the_table():
    assert table().keys() == requirements().keys()


@pytest.mark.parametrize('name, licence', table().items())
def test_the_table_says_what_the_packages_say(name, licence):
    try:
        said = said_by_the_package(name)
    except metadata.PackageNotFoundError:
        pytest.skip(f'{name} is not installed')
    older = re.search(r'\((\w+) before version ([\d.]+)\)', licence)
    if older and numbers(metadata.version(name)) < numbers(older[2]):
        licence = older[1]
    for part in re.split(r' AND ', re.split(r'[;,(]', licence)[0].strip()):
        assert re.search(SIGNS[part], said), (
            f'{name}: {part} is not what it says: {said[:200]}'
        )
