"""Pictures in files and on the screen: what people hand over first works, or is refused
before any work is done, in one line that says what to do."""
import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from PIL import Image

import ddpm_teach as d
from ddpm_teach.plumbing.files import is_ours
from ddpm_teach.plumbing.show import check_picture_file


@pytest.fixture
def faces():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(4, 3, 8, 8, generator=generator) * 2 - 1


@pytest.fixture
def folder(tmp_path):
    """A folder with another in it, and nothing written at the end."""
    (tmp_path / 'inside.png').mkdir()
    (tmp_path / 'file').touch()
    before = sorted(tmp_path.iterdir())
    yield tmp_path
    assert sorted(tmp_path.iterdir()) == before


BAD = [
    ('', 'folder', 'pictures.png'),
    ('inside.png', 'a folder', 'inside.png/pictures.png'),
    ('faces.jpg', 'should end in .png or .webp', 'faces.png'),
    ('faces.JPEG', 'should end in .png or .webp', 'faces.png'),
    ('faces.gif', 'should end in .png or .webp', 'faces.png'),
    ('faces', 'should end in .png or .webp', 'faces.png'),
    ('faces.v2', 'should end in .png or .webp', 'faces.v2.png'),
    ('absent/faces.png', 'no folder', 'make it first'),
    ('file/faces.png', 'no folder', 'make it first'),
    ('long' * 80 + '.png', 'could not be written', 'another place'),
]


@pytest.mark.parametrize('name, why, remedy', BAD, ids=[row[0][:20] for row in BAD])
def test_where_no_grid_can_be_written(faces, folder, name, why, remedy):
    for write in (check_picture_file, lambda path: d.save_grid(faces, path)):
        with pytest.raises((ValueError, OSError)) as refused:
            write(folder / name)
        said = str(refused.value).replace('\\\\', '/')
        assert why in said and remedy in said and '\n' not in said


def test_what_is_too_large_for_webp_is_known_before_it_is_drawn(folder):
    few = folder / 'faces.webp'
    assert check_picture_file(few, 14_400, (3, 32, 32)) == few     # 120 in a row
    with pytest.raises(ValueError, match=r"--out is .*16383.*'.*faces.png'"):
        check_picture_file(few, 14_641, (3, 32, 32), name='--out')
    with pytest.raises(ValueError, match='16383'):
        check_picture_file(few, 2, (3, 32, 32), cols=2, zoom=300)
    assert check_picture_file(folder / 'faces.png', 14_641, (3, 32, 32))


def test_the_limit_is_that_of_the_file_format(faces, tmp_path):
    """One column of pictures, as long as a WebP file can be, and one pixel longer."""
    tall = torch.zeros(1, 3, 16_383, 1)
    file = d.save_grid(tall, tmp_path / 'tall.webp', zoom=1)
    with Image.open(file) as image:
        assert image.size == (1, 16_383)
    with pytest.raises(ValueError, match='16384 pixels'):
        d.save_grid(torch.zeros(1, 3, 16_384, 1), tmp_path / 'taller.webp', zoom=1)


def test_files_are_signed_and_keep_every_pixel(faces, tmp_path):
    for name in ('a.png', 'a.webp', 'a.WEBP'):
        file = d.save_grid(faces, tmp_path / name, cols=2, zoom=1)
        assert is_ours(file) and is_ours(str(file))
        pixels = d.load_grid(file, 4, 2, 8)
        assert torch.equal(pixels, d.to_uint8(faces))
    chain = d.animate([faces, faces.flip(0)], tmp_path / 'a.gif')
    assert is_ours(chain)
    with Image.open(file) as image:
        image.save(tmp_path / 'plain.webp', lossless=True)
    assert not is_ours(tmp_path / 'plain.webp')
    (tmp_path / 'cut.png').write_bytes((tmp_path / 'a.png').read_bytes()[:20])
    assert not is_ours(tmp_path / 'cut.png')


def test_pictures_alone_can_be_animated(faces, tmp_path):
    steps = [SimpleNamespace(t=1 - t, x=x[None], x0_hat=None)
             for t, x in enumerate(faces[:2])]
    wanted = d.animate(steps, tmp_path / 'steps.gif').read_bytes()
    for pictures in (faces[:2], list(faces[:2]), faces[:2, None], iter(faces[:2])):
        assert d.animate(pictures, tmp_path / 'a.gif').read_bytes() == wanted


def test_what_is_no_chain(faces, tmp_path):
    file = tmp_path / 'a.gif'
    cases = [
        (lambda: d.animate(7, file), 'chain is a int.*a sampler yields'),
        (lambda: d.animate(d.ancestral, file), 'chain is a function'),
        (lambda: d.animate('abc', file), 'chain is a str'),
        (lambda: d.animate(faces[0], file), r'chain has shape \(8, 8\)'),
        (lambda: d.animate([faces, faces[:2]], file), r'chain has the shapes'),
        (lambda: d.show_chain(faces), 'holds a Tensor.*`show_images`'),
        (lambda: d.show_chain(None), 'chain is a NoneType'),
        (lambda: d.plot_curves([3., 2., 1.]), "curves is a list.*{'name': heights}"),
        (lambda: d.plot_curves(faces), 'curves is a Tensor'),
    ]
    for call, words in cases:
        with pytest.raises((TypeError, ValueError), match=words):
            call()
    assert not file.exists()


def warnings_of(call):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        call()
    return [warning for warning in said if warning.category is UserWarning]


def test_pictures_in_0_to_1_are_warned_of_once(faces, tmp_path):
    png = tmp_path / 'a.png'
    calls = {
        'save_grid': lambda x: d.save_grid(x, png),
        'show_images': lambda x: d.show_images(x),
        'animate': lambda x: d.animate(x, tmp_path / 'a.gif'),
    }
    pale = (faces + 1) / 2
    for name, call in calls.items():
        said, = warnings_of(lambda: call(pale))
        assert '2 * images - 1' in str(said.message) and name in str(said.message)
        assert said.filename == __file__
        for right in (faces, 2 * pale - 1, d.to_uint8(faces), torch.zeros(2, 3, 8, 8)):
            assert not warnings_of(lambda: call(right))
    assert not warnings_of(lambda: d.show_images([faces[0], pale[0]]))


SHOWN = [
    (lambda x: d.show_images(x), '4 pictures of 8 x 8 pixels'),
    (lambda x: d.show_images(x, titles='abcd'),
     '4 pictures of 8 x 8 pixels: a, b, c, d'),
    (lambda x: d.show_images(x, 'Faces, quite small'), 'Faces, quite small'),
    (lambda x: d.plot_curves({'loss': [2, 1]}), 'Curves: loss'),
    (lambda x: d.show_chain([d.Step(1, x, None), d.Step(0, x, x)]),
     'A picture on its way from noise, and x0_hat below it: t = 1, 0'),
]


@pytest.mark.parametrize('show, alt', SHOWN, ids=[alt[:18] for _, alt in SHOWN])
def test_pictures_are_shown_with_words(faces, show, alt):
    shell = InteractiveShell.instance()
    with capture_output() as captured:
        show(faces)
    shell.clear_instance()
    output, = captured.outputs
    assert output.metadata == {'image/png': {'alt': alt}}
    assert output.data['image/png'].startswith('iVBOR')
    assert output.data['text/plain'] == alt


def test_outside_of_a_notebook_the_words_are_printed(tmp_path):
    program = 'import ddpm_teach as d, torch; d.show_images(torch.zeros(2, 3, 8, 8))'
    done = subprocess.run(
        [sys.executable, '-c', program], capture_output=True, text=True, check=True)
    assert done.stdout == '2 pictures of 8 x 8 pixels\n'
