"""The notebooks as a site, built by the README's command: whole, offline, described in
words, and not built at all with a broken link."""

import importlib.util
import inspect
import json
import pathlib
import re
import shutil
import subprocess
import sys
from urllib.parse import unquote

import pytest

import ddpm_teach
from conftest import SHOTS
from places import NOTEBOOKS, name_of

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [name_of(path) for path in NOTEBOOKS]
MISSING = [
    name
    for name in ('sphinx', 'myst_nb', 'furo', 'mathjax')
    if importlib.util.find_spec(name) is None
]
pytestmark = pytest.mark.skipif(
    bool(MISSING),
    reason=f'no {", ".join(MISSING)}: the site is built after pip install -e ".[docs]"',
)


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """A copy of the notebooks, which a test may damage, with what stands beside
    them."""
    folder = tmp_path_factory.mktemp('source')
    shutil.copytree(ROOT / 'nbs', folder / 'nbs', ignore=shutil.ignore_patterns('runs'))
    for name in ('settings.ini', 'LICENSE'):
        shutil.copy(ROOT / name, folder)
    return folder


def build(source):
    """The README's command."""
    command = (
        re
        .search(r'sphinx-build (.*)', (ROOT / 'README.md').read_text(encoding='utf-8'))
        .group(1)
        .split()
    )
    return subprocess.run(
        [sys.executable, '-m', 'sphinx', *command],
        cwd=source,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope='module')
def site(source):
    done = build(source)
    assert done.returncode == 0, done.stderr
    return source / '_docs' / 'site'


@pytest.fixture(scope='module')
def pages(site):
    from bs4 import BeautifulSoup

    return {
        path.relative_to(site).as_posix(): BeautifulSoup(
            path.read_text(encoding='utf-8'), 'html.parser'
        )
        for path in site.rglob('*.html')
    }


def test_every_notebook_has_a_page_in_order(pages):
    assert {f'{name}.html' for name in PAGES} <= set(pages)
    order = [link['href'] for link in pages['index.html'].select('.sidebar-tree a')]
    floors = [
        [f'{name}.html' for name in PAGES if pattern.match(name)]
        for pattern in map(re.compile, (r'\d', 'tools/', 'plumbing/'))
    ]
    assert order == floors[0] + floors[1] + ['api.html'] + floors[2]
    assert pages['07_sampling.html'].h1.text.startswith('07 Sampling')


def test_nothing_comes_from_the_network(site, pages):
    for name, page in pages.items():
        for tag in page.select(
            'script, link, img, iframe, source, video, object, embed'
        ):
            for address in (
                tag.get('src'),
                tag.get('href'),
                tag.get('data'),
                tag.get('srcset'),
            ):
                assert not re.match(r'(\w+:)?//', address or ''), f'{name}: {address}'
    for path in site.rglob('*.css'):
        assert not re.search(
            r'(url\(|@import)\s*["\']?(\w+:)?//', path.read_text(encoding='utf-8')
        ), path


def test_links_lead_somewhere(site, pages):
    anchors = {
        name: {tag['id'] for tag in page.select('[id]')} for name, page in pages.items()
    }
    for name, page in pages.items():
        for tag in page.select('[href], [src]'):
            target = tag.get('href') or tag.get('src')
            if re.match(r'\w+:', target):
                continue
            path, _, anchor = target.partition('#')
            path = unquote(path.partition('?')[0]) or name
            file = (site / name).parent / path if path != name else site / name
            assert file.is_file(), f'{name}: {target}'
            if anchor and path.endswith('.html'):
                assert (
                    unquote(anchor)
                    in anchors[file.resolve().relative_to(site.resolve()).as_posix()]
                ), f'{name}: {target}'


def test_pictures_are_all_there_with_their_words(pages):
    for name in PAGES:
        words = []
        for cell in json.loads(
            (ROOT / 'nbs' / f'{name}.ipynb').read_text(encoding='utf-8')
        )['cells']:
            if cell['cell_type'] == 'markdown':
                words += re.findall(r'!\[(.*?)\]\(', ''.join(cell['source']))
            else:                             # also of cells whose code is hidden
                metadata = [
                    output['metadata']
                    for output in cell['outputs']
                    if 'image/png' in output.get('data', {})
                ]
                words += [
                    each.get('alt') or each['image/png']['alt'] for each in metadata
                ]
        assert [
            img['alt'] for img in pages[f'{name}.html'].select('article img')
        ] == words


def test_as_many_pictures_as_the_notebooks_hold(pages):
    stored = 0
    for path in NOTEBOOKS:
        stored += path.read_text(encoding='utf-8').count('"image/png": "')
    shown = sum(len(pages[f'{name}.html'].select('.cell_output img')) for name in PAGES)
    assert shown == stored > 60


def solutions_of(path):
    """The cells of a notebook that are marked as solutions."""
    notebook = json.loads(path.read_text(encoding='utf-8'))
    tags = [cell['metadata'].get('tags', []) for cell in notebook['cells']]
    cells = [c for c, t in zip(notebook['cells'], tags) if 'solution' in t]
    texts = [''.join(cell['source']) for cell in cells]
    others = ('Under each check', '#| hide')     # what is said of them, and their tests
    return [c for c, text in zip(cells, texts) if not text.startswith(others)]


def test_solutions_are_folded_as_the_pages_say(pages):
    count = 0
    for path in NOTEBOOKS:
        solutions = solutions_of(path)
        page = pages[f'{name_of(path)}.html']
        code = [cell for cell in solutions if cell['cell_type'] == 'code']
        assert all(cell['metadata']['jupyter']['source_hidden'] for cell in code)
        folds = page.select('article details')
        assert len(folds) == len(solutions), path.stem
        assert not any(fold.has_attr('open') for fold in folds), path.stem
        said = {next(fold.summary.stripped_strings) for fold in folds}
        assert said <= {'Solution', 'An answer'}, said
        folded = page.select('article details .cell_input')
        assert len(folded) == len(code), path.stem
        open_to_see = [
            pre.text
            for pre in page.select('.cell_input pre')
            if not pre.find_parent('details') and '_solution(' in pre.text
        ]
        if path.stem != 'exercises':       # which speaks of them
            assert open_to_see == [], path.stem
        count += len(solutions)
    assert count > 40


def test_hidden_cells_and_directives_are_not_shown(pages):
    shown = [
        code.text
        for name in PAGES
        for code in pages[f'{name}.html'].select('.cell_input pre')
    ]
    assert len(shown) > 200 and not any(
        re.search(r'^#\|', text, flags=re.M) for text in shown
    )


def test_search_knows_words_and_names(site):
    index = json.loads(
        re.fullmatch(
            r'Search\.setIndex\((.*)\)',
            (site / 'searchindex.js').read_text(encoding='utf-8').strip(),
            flags=re.S,
        ).group(1)
    )
    found = index['terms']['posterior']
    assert '03_forward' in [
        index['docnames'][i] for i in (found if isinstance(found, list) else [found])
    ]
    assert 'sample' in [name for *_, name in index['objects']['ddpm_teach']]


def test_every_public_name_is_described(pages):
    entries = {tag['id']: tag for tag in pages['api.html'].select('dt[id]')}
    for name in ddpm_teach.__all__:
        entry = entries[f'ddpm_teach.{name}']
        first = (
            inspect.getdoc(getattr(ddpm_teach, name)).splitlines()[0].replace('`', '')
        )
        assert ' '.join(first.split()) in ' '.join(
            entry.find_next_sibling('dd').text.split()
        ), name


WAIT_FOR_FORMULAS = """document.querySelectorAll('.math').length
    === document.querySelectorAll('.math mjx-container').length"""
TOO_WIDE = """() => [...document.querySelectorAll('article pre, article div.math')]
    .filter(box => box.scrollWidth > box.clientWidth + 1)
    .map(box => box.textContent.trim().slice(0, 88))"""
UNFOLD = "document.querySelectorAll('details').forEach(fold => fold.open = true)"
LOW_FIGURES = """() => [...document.querySelectorAll('article .wide-figure img')]
    .filter(image => image.clientHeight < Math.min(190, image.naturalHeight - 1))
    .map(image => [image.clientHeight, image.naturalHeight, image.alt])"""


@pytest.mark.parametrize(
    'floor', [r'\d', 'tools/', 'plumbing/', 'index'],
    ids=['lessons', 'tools', 'plumbing', 'index']
)
def test_code_outputs_and_formulas_fit(site, page, floor):
    """At the width of a small desk nothing has to be moved sideways."""
    wide = {}
    for name in [name for name in PAGES if re.match(floor, name)]:
        page.goto((site / f'{name}.html').as_uri())
        page.wait_for_function(WAIT_FOR_FORMULAS)
        page.evaluate(UNFOLD)
        wide[name] = page.evaluate(TOO_WIDE)
    assert wide and not any(wide.values()), wide


@pytest.mark.parametrize('colours', ['light', 'dark'])
@pytest.mark.parametrize('width', [1280, 700, 400])
def test_figures_can_be_read_at_any_width(site, page, width, colours):
    """A narrow screen moves over a wide figure, and the page itself stands still."""
    page.emulate_media(color_scheme=colours)
    page.set_viewport_size({'width': width, 'height': 900})
    SHOTS.mkdir(parents=True, exist_ok=True)
    for name in ('02_schedule', '04_objective', '07_sampling'):
        page.goto((site / f'{name}.html').as_uri())
        page.wait_for_function(WAIT_FOR_FORMULAS)
        assert page.locator('.wide-figure img').count() >= 3
        assert page.evaluate(LOW_FIGURES) == []
        assert page.evaluate('document.documentElement.scrollWidth') <= width
        assert page.locator('details .cell_input:visible').count() == 0
        page.locator('article details summary').first.click()
        assert page.locator('details .cell_input:visible').count() == 1
        page.screenshot(path=SHOTS / f'site_{name}_{width}_{colours}.png')
    assert page.errors == []


@pytest.mark.parametrize('query', ['posterior variance', 'sampling', 'image_folder'])
def test_search_shows_where_in_the_page(site, page, query):
    """Opened from a disk: below each title the words around what was asked for."""
    page.context.set_offline(True)
    page.goto((site / 'search.html').as_uri() + '?q=' + query.replace(' ', '+'))
    page.locator('#search-results .excerpt').first.wait_for(timeout=20_000)
    page.wait_for_function(
        'document.querySelector("#search-results .search-summary").textContent'
        '.includes("finished")'
    )
    found = page.locator('#search-results li')
    excerpts = page.locator('#search-results li .excerpt')
    assert found.count() >= excerpts.count() >= .8 * found.count()
    assert found.count() > 4
    stem = query[:5].lower()                   # the search looks for stems: sampl
    marked = page.locator('.excerpt mark').all_text_contents()
    assert sum(stem in word.lower() for word in marked) >= found.count() / 2
    assert page.locator('.excerpt', has_text='_solution(').count() == 0
    assert page.errors == []


def test_formulas_and_search_without_a_network(site, page):
    """What a reader sees who opens the files from a disk, at the width of a desk and of
    a telephone."""
    page.context.set_offline(True)
    asked = []
    page.on('request', lambda request: asked.append(request.url))
    SHOTS.mkdir(parents=True, exist_ok=True)
    for width in (1280, 390):
        page.set_viewport_size({'width': width, 'height': 900})
        page.goto((site / '03_forward.html').as_uri())
        formulas = page.locator('.math').count()
        page.wait_for_function(
            "document.querySelectorAll('.math mjx-container svg path')"
            f'.length > {formulas}'
        )
        assert formulas > 50 and page.locator('.math mjx-container').count() == formulas
        assert page.locator('[data-mml-node="merror"]').count() == 0
        assert page.evaluate('document.documentElement.scrollWidth') <= width
        page.screenshot(path=SHOTS / f'site_{width}.png')
    page.goto((site / 'search.html').as_uri() + '?q=posterior')
    page.locator('#search-results a', has_text='03 The forward process').first.wait_for(
        timeout=20_000
    )
    assert page.errors == [] and not [
        url for url in asked if not url.startswith(('file:', 'data:'))
    ]


def test_broken_links_break_the_build(source, site):
    """Each of them is a warning, and the command makes an error of any warning."""
    assert (
        '-W'
        in re
        .search(r'sphinx-build (.*)', (ROOT / 'README.md').read_text(encoding='utf-8'))
        .group(1)
        .split()
    )
    path = source / 'nbs/tools/command_line.ipynb'
    whole = path.read_text(encoding='utf-8')
    notebook = json.loads(whole)
    targets = [
        '99_notebook.ipynb',
        '../02_schedule.ipynb#elsewhere',
        '#nowhere',
        'missing.txt',
        'images/missing.png',
    ]
    notebook['cells'][0]['source'] += [
        f'\n\n{"!" * target.endswith("png")}[gone]({target})' for target in targets
    ]
    try:
        path.write_text(json.dumps(notebook), encoding='utf-8')
        done = build(source)
        warnings = [line for line in done.stderr.splitlines() if 'WARNING' in line]
        assert done.returncode != 0 and len(warnings) == len(targets), done.stderr
        assert all(
            any(target.split('#')[-1] in line for line in warnings)
            for target in targets
        ), warnings
    finally:
        path.write_text(whole, encoding='utf-8')
