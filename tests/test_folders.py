"""Folders of pictures as people have them: each file gives the right pixels, or is
named in one warning that says why it was skipped."""

import io
import os
import pathlib
import struct
import sys
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

import ddpm_teach as d

RED, GREEN, BLUE, WHITE, BLACK = (
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (255, 255, 255),
    (0, 0, 0),
)
POSIX = pytest.mark.skipif(sys.platform == 'win32', reason='names and links of POSIX')


def flat(color, mode='RGB', size=(40, 40)):
    return Image.new(mode, size, color)


def quarters():
    """Red, green / blue, white: no two ways of turning or mirroring it look alike."""
    image = flat(RED)
    for color, corner in [(GREEN, (20, 0)), (BLUE, (0, 20)), (WHITE, (20, 20))]:
        image.paste(color, corner + (corner[0] + 20, corner[1] + 20))
    return image


def corners(picture):
    """The colours of the four quarters, row by row."""
    return [tuple(picture[:, y, x].tolist()) for y in (6, 26) for x in (6, 26)]


def read(folder):
    """The pictures of a folder and what was warned of."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        found = d.image_folder(folder, progress=False)
    return found, [str(w.message) for w in said]


def alone(folder, save, name='a.png'):
    """The one picture of a folder into which `save` has written it."""
    save(folder / name)
    found, said = read(folder)
    assert len(found) == 1 and said == [], said
    return found.images[0]


def skipped(folder, why):
    """A good picture beside a bad one is read, and the bad one named once, with the
    reason and what to do."""
    quarters().save(folder / 'good.png')
    found, said = read(folder)
    assert len(found) == 1 and corners(found.images[0]) == [RED, GREEN, BLUE, WHITE]
    assert (
        len(said) == 1
        and "'bad." in said[0]
        and why in said[0]
        and 'Replace them' in said[0]
    ), said


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('ending', ['.png', '.jpg', '.tiff', '.webp'])
def test_photographs_come_upright(tmp_path, orientation, ending):
    turn = {
        2: 0,
        3: 3,
        4: 1,
        5: 5,
        6: 2,
        7: 6,
        8: 4,
    }  # what a camera did to it, undone by the note
    stored = (
        quarters()
        if orientation == 1
        else quarters().transpose(Image.Transpose(turn[orientation]))
    )
    note = Image.Exif()
    note[0x0112] = orientation
    picture = alone(
        tmp_path,
        lambda path: stored.save(
            path,
            exif=note,
            **({} if ending in ('.png', '.tiff') else dict(quality=100)),
        ),
        'a' + ending,
    )
    assert (
        np.abs(np.array(corners(picture)) - np.array([RED, GREEN, BLUE, WHITE])).max()
        <= 12
    )


def test_a_broken_note_does_no_harm(tmp_path):
    quarters().save(
        tmp_path / 'a.jpg',
        exif=b'Exif\0\0II*\0\xff\xff\xff\xff' + b'\1' * 40,
        quality=100,
    )
    found, said = read(tmp_path)
    assert (
        np.abs(
            np.array(corners(found.images[0])) - np.array([RED, GREEN, BLUE, WHITE])
        ).max()
        <= 12
    )
    assert len(said) == 1 and "'a.jpg' was read, but" in said[0] and 'EXIF' in said[0]


@pytest.mark.parametrize('ending', ['.png', '.tiff'])
def test_sixteen_bits_are_not_clipped(tmp_path, ending):
    grey = np.zeros((40, 40), np.uint16)
    grey[:20, 20:], grey[20:, :20], grey[20:, 20:] = 257, 32896, 65535
    picture = alone(
        tmp_path, lambda path: Image.fromarray(grey).save(path), 'a' + ending
    )
    assert corners(picture) == [(v,) * 3 for v in (0, 1, 128, 255)]


def chunk(kind: bytes, body: bytes) -> bytes:
    """A part of a PNG file: its length, its kind, and a checksum at its end."""
    checksum = struct.pack('>I', zlib.crc32(kind + body))
    return struct.pack('>I', len(body)) + kind + body + checksum


def test_sixteen_bits_of_colour(tmp_path):
    """A PNG of 16 bits for each colour, made by hand, since Pillow does not write
    one."""
    rows = b''.join(
        b'\0' + struct.pack('>3H', 65535, 32896, 257) * 40 for _ in range(40)
    )
    png = (
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', struct.pack('>IIBBBBB', 40, 40, 16, 2, 0, 0, 0))
        + chunk(b'IDAT', zlib.compress(rows))
        + chunk(b'IEND', b'')
    )
    assert corners(alone(tmp_path, lambda path: path.write_bytes(png)))[0] == (
        255,
        128,
        1,
    )


@pytest.mark.parametrize(
    'name, value', [('a.tiff', np.float32(0.5)), ('a.tiff', np.int32(-5))]
)
def test_grey_without_a_range_is_refused(tmp_path, name, value):
    Image.fromarray(np.full((40, 40), value)).save(tmp_path / 'bad.tiff')
    skipped(tmp_path, 'no range of grey')


def test_cmyk(tmp_path):
    picture = alone(
        tmp_path,
        lambda path: flat((0, 255, 255, 0), 'CMYK').save(path, quality=100),
        'a.jpg',
    )
    assert np.abs(np.array(corners(picture)[0]) - RED).max() <= 3


def test_transparent_ones_lie_on_white(tmp_path):
    half = flat(
        (255, 0, 0, 0), 'RGBA'
    )  # transparent red above, half transparent black below
    half.paste((0, 0, 0, 128), (0, 20, 40, 40))
    (
        (tmp_path / 'rgba').mkdir(),
        (tmp_path / 'palette').mkdir(),
        (tmp_path / 'grey').mkdir(),
        (tmp_path / 'key').mkdir(),
    )
    assert corners(alone(tmp_path / 'rgba', half.save)) == [
        WHITE,
        WHITE,
        (127,) * 3,
        (127,) * 3,
    ]
    palette = flat(0, 'P')
    palette.putpalette([*RED, *BLUE] + [0] * 762)
    palette.paste(1, (0, 20, 40, 40))
    assert corners(
        alone(tmp_path / 'palette', lambda path: palette.save(path, transparency=0))
    ) == [WHITE, WHITE, BLUE, BLUE]
    assert (
        corners(alone(tmp_path / 'grey', lambda path: flat((0, 0), 'LA').save(path)))[0]
        == WHITE
    )
    assert corners(
        alone(tmp_path / 'key', lambda path: quarters().save(path, transparency=RED))
    ) == [WHITE, GREEN, BLUE, WHITE]


@pytest.mark.parametrize('ending', ['.gif', '.png', '.webp', '.tiff'])
def test_the_first_frame_of_an_animation(tmp_path, ending):
    lossless = dict(lossless=True) if ending == '.webp' else {}
    picture = alone(
        tmp_path,
        lambda path: flat(BLUE).save(
            path, save_all=True, append_images=[flat(GREEN), flat(RED)], **lossless
        ),
        'a' + ending,
    )
    assert corners(picture)[0] == BLUE


@pytest.mark.parametrize(
    'mode, color, wanted',
    [('1', 1, WHITE), ('L', 100, (100,) * 3), ('P', 0, BLACK), ('RGB', GREEN, GREEN)],
)
def test_other_modes(tmp_path, mode, color, wanted):
    assert (
        corners(alone(tmp_path, lambda path: flat(color, mode).save(path)))[0] == wanted
    )


@pytest.mark.parametrize('size', [(1, 1), (1, 4000), (4000, 1), (33, 31), (5, 7)])
def test_any_shape(tmp_path, size):
    flat(GREEN, size=size).save(tmp_path / 'a.png')
    found, _ = read(tmp_path)
    assert (found.images[0] == torch.tensor(GREEN)[:, None, None]).all()


@pytest.mark.parametrize('width, warned', [(80, 0), (120, 1), (4000, 1)])
def test_the_middle_is_cut_out(tmp_path, width, warned):
    """Of a long picture, most is lost: that is said."""
    wide = flat(BLACK, size=(width, 40))
    wide.paste(quarters(), (width // 2 - 20, 0))
    wide.save(tmp_path / 'wide.png')
    wide.rotate(90, expand=True).save(tmp_path / 'high.png')
    found, said = read(tmp_path)
    assert corners(found.images[1]) == [RED, GREEN, BLUE, WHITE]
    assert len(said) == warned
    if warned:
        assert '2 of 2 pictures are more than twice as long as wide' in said[0]
        assert f"'high.png' (40 x {width})" in said[0]


def test_the_same_picture_twice(tmp_path):
    for i, picture in enumerate([quarters(), flat(RED), quarters()]):
        picture.save(tmp_path / f'{i}.png')
    _, said = read(tmp_path)
    assert len(said) == 1
    assert '2 of 3 pictures are there more than once' in said[0]
    assert "'0.png'" in said[0]


@pytest.mark.parametrize('ending', ['.png', '.jpg', '.gif', '.webp', '.bmp', '.tiff'])
@pytest.mark.parametrize('share', [0.0, 0.3, 0.7])
def test_cut_off_files(tmp_path, ending, share):
    file = io.BytesIO()
    Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    ).save(file, Image.registered_extensions()[ending])
    (tmp_path / f'bad{ending}').write_bytes(
        file.getvalue()[: int(share * len(file.getvalue()))]
    )
    skipped(tmp_path, 'bad' + ending)


@pytest.mark.parametrize('share', np.linspace(0, 1, 9))
def test_damaged_files_are_read_or_named(tmp_path, share):
    """A byte in the middle is another one: nothing but a picture or a warning comes
    out."""
    for ending in ('.png', '.jpg', '.gif', '.webp', '.tiff', '.bmp'):
        file = io.BytesIO()
        quarters().save(file, Image.registered_extensions()[ending])
        whole = bytearray(file.getvalue())
        whole[int(share * (len(whole) - 1))] ^= 0x55
        (tmp_path / f'bad{ending}').write_bytes(whole)
    quarters().save(tmp_path / 'good.png')
    found, said = read(tmp_path)
    bad = [
        int(words.split('skipped ')[1].split()[0])
        for words in said
        if 'skipped' in words
    ]
    assert len(found) + sum(bad) == 7 and all("'bad." in words for words in said)


def test_no_pictures_and_other_kinds(tmp_path):
    (tmp_path / 'bad.txt').write_text('not a picture')
    skipped(tmp_path, 'not a picture')
    (tmp_path / 'bad.eps').write_text(
        '%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch here) (w) file\n'
    )
    _, said = read(tmp_path)
    assert "'bad.eps' (not a picture of a kind that is read here)" in said[0]


@pytest.mark.parametrize('side', [10_000, 20_000])
def test_bombs(tmp_path, side):
    """A file of few bytes that says it has too many pixels: Pillow only warns of the
    smaller one, and would fill the memory."""
    (tmp_path / 'bad.png').write_bytes(
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', struct.pack('>IIBBBBB', side, side, 8, 0, 0, 0, 0))
        + chunk(b'IDAT', zlib.compress(bytes(9)))
        + chunk(b'IEND', b'')
    )
    skipped(tmp_path, 'decompression bomb')


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    """Whoever runs the tests may be allowed everything: the refusal is simulated."""
    quarters().save(tmp_path / 'bad.png')
    right = Image.open

    def refusing(path, *args, **kwargs):
        if pathlib.Path(path).name == 'bad.png':
            raise PermissionError(13, 'Permission denied', str(path))
        return right(path, *args, **kwargs)

    monkeypatch.setattr(Image, 'open', refusing)
    skipped(tmp_path, 'Permission denied')


def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch):
    (tmp_path / 'one').mkdir(), (tmp_path / 'bad.folder').mkdir()
    quarters().save(tmp_path / 'one' / 'good.png')
    right = pathlib.Path.iterdir

    def refusing(self):
        if self.name == 'bad.folder':
            raise PermissionError(13, 'Permission denied', str(self))
        return right(self)

    monkeypatch.setattr(pathlib.Path, 'iterdir', refusing)
    found, said = read(tmp_path)
    assert (
        len(found) == 1
        and len(said) == 1
        and "bad.folder' is left out (Permission denied)" in said[0]
    )


@POSIX
@pytest.mark.parametrize(
    'name',
    [
        'with spaces.png',
        ' leading.png',
        'ünïcödé 漫画 👩‍🎨.png',
        '-rf.png',
        '--help.png',
        'two\nlines.png',
        'a"quoted\'one.png',
        '%s{0}$HOME.png',
        'x' * 251 + '.png',
        'no-ending',
        'CAPITALS.PNG',
        'wrong.jpg',
    ],
)
def test_unusual_names(tmp_path, name):
    (tmp_path / name[:100]).mkdir()
    quarters().save(tmp_path / name[:100] / name, 'PNG')
    (tmp_path / name[:100] / ('bad' + name[3:])).write_text('not a picture')
    found, said = read(tmp_path)
    assert found.describe(0) == {'class': name[:100]} and corners(found.images[0]) == [
        RED,
        GREEN,
        BLUE,
        WHITE,
    ]
    assert len(said) == 1 and repr('bad' + name[3:]) in said[0] and '\n' not in said[0]


@POSIX
def test_a_name_that_is_no_text(tmp_path):
    try:
        with open(os.fsencode(tmp_path) + b'/bad\xff.png', 'wb') as file:
            file.write(b'not a picture')
    except OSError:
        pytest.skip('this file system takes no such name')
    quarters().save(tmp_path / 'good.png')
    _, said = read(tmp_path)
    assert len(said) == 1 and 'bad\\udcff.png' in said[0] and said[0].encode()


@POSIX
def test_links(tmp_path):
    """Links to files and folders are followed, but not in circles; broken ones are
    named."""
    (tmp_path / 'far').mkdir(), (tmp_path / 'here').mkdir()
    quarters().save(tmp_path / 'far' / 'a.png')
    here = tmp_path / 'here'
    (here / 'one').symlink_to(tmp_path / 'far')
    (here / 'two').mkdir()
    flat(GREEN).save(here / 'two' / 'b.png')
    (here / 'two' / 'c.png').symlink_to('b.png')
    (here / 'two' / 'back').symlink_to('..')  # to a folder above
    (tmp_path / 'far' / 'round').symlink_to(here)  # by way of another folder
    (here / 'two' / 'bad.gone').symlink_to('nowhere.png')
    (here / 'two' / 'bad.self').symlink_to('bad.self')
    found, said = read(here)
    assert found.words['class'] == ['one', 'two']
    labels = found.labels.flatten().tolist()
    assert (
        corners(found.images[labels.index(0)]) == [RED, GREEN, BLUE, WHITE]
        and corners(found.images[-1]) == [GREEN] * 4
        and len(found) < 20
    )
    assert "'bad.gone' (No such file" in said[0] and "'bad.self' (Too many" in said[0]
    assert len(said) == 2 and 'more than once' in said[1]    # by way of the links


@POSIX
def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'pipe.png')
    quarters().save(tmp_path / 'good.png')
    found, said = read(tmp_path)
    assert len(found) == 1 and said == []


def test_many_bad_files_take_one_line(tmp_path):
    for i in range(30):
        (tmp_path / f'bad.{i:02d}').touch()
    skipped(tmp_path, 'skipped 30 of 31 files')
    _, said = read(tmp_path)
    assert 'and 25 more' in said[0] and len(said[0]) < 600


def test_a_folder_with_nothing_but_bad_files_says_why(tmp_path):
    (tmp_path / 'bad.png').touch()
    with pytest.raises(
        ValueError, match=r"none of the 1 files.*put PNG or JPEG.*'bad\.png' \("
    ):
        d.image_folder(tmp_path)


# What is a class.

def noise(n, seed=0):
    rng = np.random.default_rng(seed)
    return [Image.fromarray(x) for x in rng.integers(0, 256, (n, 40, 40, 3), np.uint8)]


def eight(folder):
    """Eight pictures, no two the same."""
    folder.mkdir(exist_ok=True)
    for i, picture in enumerate(noise(8)):
        picture.save(folder / f'{i}.png')
    return folder


def torn(path):
    noise(1)[0].save(path, 'JPEG')
    path.write_bytes(path.read_bytes()[:300])


NO_CLASSES = {
    'texts': lambda folder: (folder / '0.txt').write_text('a label'),
    'a torn picture': lambda folder: torn(folder / 'a.jpg'),
    'nothing': lambda folder: None,
    'a hidden picture': lambda folder: noise(1)[0].save(folder / '._0.png'),
}


@pytest.mark.parametrize('kind', NO_CLASSES)
def test_a_folder_without_pictures_is_no_class(tmp_path, kind):
    (eight(tmp_path / 'mine') / 'labels').mkdir()
    NO_CLASSES[kind](tmp_path / 'mine/labels')
    found, said = read(tmp_path / 'mine')
    assert len(found) == 8 and found.words == {'class': ['mine']}
    assert len(said) == (kind in ('texts', 'a torn picture')), said


def test_a_class_of_torn_pictures_is_none(tmp_path):
    for name in ('one', 'two'):
        (tmp_path / name).mkdir()
    noise(1)[0].save(tmp_path / 'one/a.png')
    torn(tmp_path / 'two/a.jpg')
    torn(tmp_path / 'cover.jpg')
    found, said = read(tmp_path)
    assert found.words == {'class': ['one']} and 'skipped 2 of 3 files' in said[0]


@pytest.fixture
def mixed(tmp_path):
    """Eight pictures, and two more in a subfolder."""
    (eight(tmp_path / 'mine') / 'rejected').mkdir()
    for i, picture in enumerate(noise(2, seed=1)):
        picture.save(tmp_path / f'mine/rejected/{i}.jpg')
    return tmp_path / 'mine'


def test_pictures_beside_subfolders_stop(mixed):
    with pytest.raises(ValueError) as error:
        d.image_folder(mixed)
    said = str(error.value)
    assert "8 beside its subfolders, and 2 in them ('rejected')" in said
    assert "Move 'rejected' elsewhere" in said and 'or move the 8 into' in said


@pytest.mark.parametrize('layout, count, names', [
    ('flat', 8, ['mine']), ('classes', 2, ['rejected']), ('all', 10, ['mine'])])
def test_a_layout_that_is_asked_for(mixed, layout, count, names):
    found = d.image_folder(mixed, layout=layout)
    assert len(found) == count and found.words == {'class': names}


# What the library wrote itself.

def train_in(folder, out='runs/train'):
    """What `train` and `sample` leave in a folder of pictures."""
    torch.manual_seed(0)
    network = d.UNet(channels=(8, 16), groups=4, attention=())
    model = d.DDPM(network, d.cosine_schedule(10))
    hooks = d.usual(folder / out, bf16=False, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        trained = d.train(model, d.image_folder(folder), 2, batch_size=8, hooks=hooks)
    drawn = d.sample(4, model=trained.model, progress=False)
    d.save_grid(drawn, folder / out / 'samples.png')
    d.to_pil(drawn[0]).save(folder / out / 'preview.png')        # not signed
    return trained.losses, drawn


def test_a_training_in_the_folder_of_the_pictures(tmp_path):
    """It can be repeated, and what it wrote is no class and no picture."""
    losses, drawn = train_in(eight(tmp_path / 'mine'))
    again, _ = train_in(tmp_path / 'mine')
    assert again == losses
    d.save_grid(drawn, tmp_path / 'mine/samples.png')
    d.save_grid(drawn, tmp_path / 'mine/more.webp')
    chain = [d.Step(1, drawn, None), d.Step(0, drawn, drawn)]
    d.animate(chain, tmp_path / 'mine/a.gif')
    found, said = read(tmp_path / 'mine')
    assert len(found) == 8 and found.words == {'class': ['mine']}
    assert len(said) == 1 and 'what this library wrote itself' in said[0]
    for name in (os.path.join('runs', 'train'), 'samples.png', 'more.webp', 'a.gif'):
        assert repr(name) in said[0], said


def test_a_training_into_the_folder_of_the_pictures(tmp_path):
    """Then the pictures are read, also beside samples that are not signed."""
    train_in(eight(tmp_path / 'mine'), '.')
    (tmp_path / 'mine/preview.png').unlink()
    noise(1, seed=5)[0].save(tmp_path / 'mine/samples.png')     # of an older version
    found, said = read(tmp_path / 'mine')
    assert len(found) == 8 and len(said) == 1
    assert "'model.safetensors', 'samples.png'" in said[0]


@pytest.mark.parametrize('left', [
    'checkpoint.safetensors', 'model.safetensors', 'log.json'])
def test_one_file_of_a_training_tells(tmp_path, left):
    """A checkpoint that is cut short, too, has a log beside it."""
    train_in(eight(tmp_path / 'mine'))
    for path in (tmp_path / 'mine/runs/train').glob('*.*'):
        if path.name not in (left, 'preview.png'):
            path.unlink()
    found, said = read(tmp_path / 'mine')
    assert len(found) == 8 and repr(os.path.join('runs', 'train')) in said[0]


@pytest.mark.parametrize('inside', ['runs', 'runs/train'])
def test_nothing_but_our_own_is_refused(tmp_path, inside):
    train_in(eight(tmp_path / 'mine'))
    (tmp_path / 'mine/runs/train/preview.png').unlink()
    with pytest.raises(ValueError, match='no pictures of yours.*to learn from'):
        d.image_folder(tmp_path / 'mine' / inside)


@pytest.mark.parametrize('name', ['Thumbs.db', 'desktop.ini', '@eaDir/t.jpg',
                                  '__MACOSX/t.jpg', '.thumbnails/t.jpg', '._0.png'])
def test_what_systems_keep_is_not_looked_at(tmp_path, name):
    path = eight(tmp_path / 'mine') / name
    path.parent.mkdir(exist_ok=True)
    noise(1, seed=1)[0].save(path, 'JPEG')
    found, said = read(tmp_path / 'mine')
    assert len(found) == 8 and said == []


# Which number is white.

def tiff(values, bits, white_is_zero=False):
    """A TIFF of grey, made by hand: Pillow writes neither 12 bits nor black at the
    end."""
    height, width = values.shape
    data = values.astype('<u2').tobytes()
    if bits == 12:
        digits = ''.join(f'{value:03x}' for value in values.flatten())
        data = bytes.fromhex(digits)
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 0 if white_is_zero else 1,
            273: 122, 277: 1, 278: height, 279: len(data)}
    entries = b''.join(struct.pack('<HHII', tag, 4, 1, v) for tag, v in tags.items())
    return b'II*\0' + struct.pack('<IH', 8, 9) + entries + bytes(4) + data


def ramp(white):
    """A grey from black to half of white, in steps."""
    return np.linspace(0, white // 2, 40 * 40).astype(np.uint16).reshape(40, 40)


KNOWN = {
    'a TIFF that says 12 bits': tiff(ramp(4095), 12),
    'a PGM that says 12 bits':
        b'P5 40 40 4095\n' + ramp(4095).astype('>u2').tobytes(),
    'bytes times 257': tiff(ramp(255) * 257, 16),
    'black at the end': tiff(65535 - ramp(65535), 16, white_is_zero=True),
}


@pytest.mark.parametrize('kind', KNOWN)
def test_a_range_that_the_file_tells(tmp_path, kind):
    picture = alone(tmp_path, lambda path: path.write_bytes(KNOWN[kind]), 'a.tif')
    rows = picture[0].float().mean(1)
    wanted = torch.linspace(2, 125.5, 32)
    assert (rows - wanted).abs().max() < 3


DEEP = {
    'bytes in 32 bits': (np.int32, 255, 'from 0 to 255'),
    'a mask in 16 bits': (np.uint16, 1, 'from 0 to 1'),
    'bytes in 16 bits': (np.uint16, 255, 'from 0 to 255'),
    '10 bits in 16': (np.uint16, 1023, 'from 0 to 1023'),
    '12 bits in 16': (np.uint16, 4095, 'from 0 to 4095'),
    'floats up to 1': (np.float32, 1, 'from 0 to 1'),
    'floats up to 255': (np.float32, 255, 'from 0 to 255'),
}


@pytest.mark.parametrize('kind', DEEP)
def test_a_range_that_nobody_knows(tmp_path, kind):
    """Divided by 65535 all of these would be black."""
    dtype, white, words = DEEP[kind]
    values = np.zeros((40, 40), dtype)
    values[:, 20:] = white
    Image.fromarray(values).save(tmp_path / 'bad.tif')
    told = d.image_folder(tmp_path, white=white).images[0]
    assert corners(told) == [BLACK, WHITE] * 2
    with pytest.raises(ValueError, match=f'bad.tif.*{words}.*white=255'):
        d.image_folder(tmp_path)
    with pytest.raises(ValueError, match=f'item 0 of data has mode.*{words}'):
        d.pictures([Image.open(tmp_path / 'bad.tif')])
    skipped(tmp_path, words)


def test_numbers_beyond_white_are_refused(tmp_path):
    Image.fromarray(np.full((40, 40), 4095, np.uint16)).save(tmp_path / 'bad.png')
    with pytest.raises(ValueError, match='should lie between 0 and white = 255'):
        d.image_folder(tmp_path, white=255)


@pytest.mark.parametrize('kind, values', [(2, 3), (6, 4), (4, 2)])
def test_twelve_bits_of_colour(tmp_path, kind, values):
    """Pillow keeps the upper 8 of 16 bits, and they are nearly black."""
    row = b'\0' + struct.pack(f'>{values}H', *[4095] * values) * 40
    bad = (
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', struct.pack('>IIBBBBB', 40, 40, 16, kind, 0, 0, 0))
        + chunk(b'IDAT', zlib.compress(row * 40))
        + chunk(b'IEND', b'')
    )
    (tmp_path / 'bad.png').write_bytes(bad)
    skipped(tmp_path, 'its colours run from 3840 to 4095')


# Grey, mirrors, and paths.

def test_grey_of_coloured_files(tmp_path):
    """Exact where the three colours are equal, else as Pillow has it."""
    grey = noise(3)[0].convert('L').resize((32, 32))
    grey.convert('RGB').save(tmp_path / '0.png')
    quarters().save(tmp_path / '1.png')
    found = d.image_folder(tmp_path, channels=1)
    assert found.images.shape == (2, 1, 32, 32)
    assert np.array_equal(found.images[0, 0], grey)
    assert [tone for tone, in corners(found.images[1])] == [76, 150, 29, 255]
    with pytest.raises(ValueError, match='channels is 2, it should be 1 or 3'):
        d.image_folder(tmp_path, channels=2)


def test_a_network_of_one_channel_learns_from_coloured_files(tmp_path):
    """Both remedies that are named."""
    for i, picture in enumerate(noise(4)):
        picture.convert('L').convert('RGB').save(tmp_path / f'{i}.png')
    for data in (
        d.image_folder(tmp_path, channels=1),
        d.pictures(d.image_folder(tmp_path), size=32, channels=1),
    ):
        network = d.UNet((8, 16), groups=4, attention=(), image_channels=1)
        model = d.DDPM(network, d.cosine_schedule(10))
        assert len(d.train(model, data, 1, hooks=()).losses) == 1


@pytest.mark.parametrize('mirror', [True, False])
def test_letters_are_not_mirrored_if_told(tmp_path, mirror):
    quarters().save(tmp_path / 'a.png')
    data = d.image_folder(tmp_path, mirror=mirror)
    firsts = {next(d.batches(data, epoch)).x0[0, 0, 4, 4].item() for epoch in range(20)}
    assert len(firsts) == 1 + mirror
    assert ('half of them' in repr(data)) == mirror


@pytest.mark.parametrize('names, warned', [
    ('AF', True), ('07', True), (['left', 'Right'], True), ('A', False),
    (['cats', 'dogs'], False), (['leftover', 'right'], False)])
def test_classes_that_a_mirror_would_change(tmp_path, names, warned):
    for name, picture in zip(names, noise(2)):
        (tmp_path / name).mkdir()
        picture.save(tmp_path / name / 'a.png')
    _, said = read(tmp_path)
    assert len(said) == warned and all('say mirror=False' in words for words in said)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        d.image_folder(tmp_path, mirror=False)


def test_long_pictures_of_a_dataset(tmp_path):
    with pytest.warns(UserWarning, match='1 of 3 are more than twice as long as wide'):
        d.pictures([*noise(2), flat(RED, size=(90, 40))], size=32)


@pytest.mark.parametrize('given, said', [
    ('*.png', "the folder alone, without \\*"),
    ('0.png', 'that is a file; give the folder that it is in'),
    ('nowhere', 'give the path of a folder'),
])
def test_a_path_that_is_no_folder(tmp_path, given, said):
    with pytest.raises(FileNotFoundError, match=said):
        d.image_folder(eight(tmp_path) / given)


@pytest.mark.parametrize('path', ['', None, ['a', 'b'], b'a'])
def test_what_is_no_path(path):
    with pytest.raises(TypeError, match='path is .*, it should be one folder'):
        d.image_folder(path)


@POSIX
@pytest.mark.parametrize('as_path', [str, pathlib.Path])
def test_the_home_folder(tmp_path, monkeypatch, as_path):
    monkeypatch.setenv('HOME', str(tmp_path))
    eight(tmp_path / 'mine')
    assert len(d.image_folder(as_path('~/mine'))) == 8
    with pytest.raises(FileNotFoundError, match='~nobody.at.all'):
        d.image_folder(as_path('~nobody.at.all/mine'))


def five(folder, green=0):
    """Five pictures in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(5):
        flat((i, green, 0)).save(folder / f'{i}.png')


def test_captions_from_a_table(tmp_path):
    five(tmp_path)
    table = tmp_path / 'captions.csv'
    lines = ['\ufefffile,caption', '0.png,"a fox,  red"', '', '3.png,füchse']
    lines.append('9.png,lost')
    table.write_bytes('\r\n'.join(lines).encode())
    found, said = read(tmp_path)
    assert found.captions == ['a fox, red', '', '', 'füchse', '']
    assert len(said) == 2 and "'9.png'" in said[0] and '3 of 5' in said[1]
    table.write_text('0.png,a fox, red\n')
    with pytest.raises(ValueError, match='line 1 .* 3 columns'):
        d.image_folder(tmp_path, progress=False)


def test_captions_from_text_files(tmp_path):
    five(tmp_path)
    for i in range(5):
        (tmp_path / f'{i}.txt').write_text(f'number {i}\n')
    found, said = read(tmp_path)
    assert found.captions == [f'number {i}' for i in range(5)] and not said
    (tmp_path / '4.txt').write_bytes(b'\xff\xfe\x00')
    with pytest.raises(ValueError, match='4.txt.* no UTF-8'):
        d.image_folder(tmp_path, progress=False)


def test_captions_from_the_names_of_classes(tmp_path):
    five(tmp_path / 'red_fox', 100)
    five(tmp_path / 'hen')
    found, said = read(tmp_path)
    assert found.captions == ['hen'] * 5 + ['red fox'] * 5 and not said
    assert read(tmp_path / 'hen')[0].captions is None


def test_captions_that_a_mirror_would_make_wrong(tmp_path):
    five(tmp_path)
    rows = [f'{i}.png,a face that looks left\n' for i in range(5)]
    (tmp_path / 'captions.csv').write_text(''.join(rows))
    _, said = read(tmp_path)
    assert len(said) == 1 and 'left or right' in said[0] and 'mirror=False' in said[0]
    d.image_folder(tmp_path, progress=False, mirror=False)


def test_a_first_row_without_its_picture_is_no_heading(tmp_path):
    five(tmp_path)
    (tmp_path / 'captions.csv').write_text('7.png,lost\n1.png,found\n')
    found, said = read(tmp_path)
    assert found.captions[1] == 'found' and "'7.png'" in said[0]


def test_captions_for_pictures_in_memory():
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    assert d.Pictures(images, captions=['a', '']).captions == ['a', '']
    for wrong in ('ab', ['a'], ['a', 3]):
        with pytest.raises((ValueError, TypeError), match='captions'):
            d.Pictures(images, captions=wrong)
