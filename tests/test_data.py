"""Data sets as training sees them: rows, labels that follow the mirror, points."""
import dataclasses
import io

import numpy as np
import pytest
import torch
from PIL import Image

import ddpm_teach as d
from ddpm_teach.data import Points, as_data
from ddpm_teach.plumbing.draws import MIRROR, Draws

FLIP = ['none', 'horizontal']


@pytest.fixture
def some():
    """Pictures of two attributes, none of them symmetric."""
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (64, 3, 8, 8), dtype=torch.uint8, generator=rng)
    labels = torch.randint(0, 2, (64, 2), generator=rng)
    words = {'hair': ['red', 'blue'], 'flip': FLIP}
    return d.Pictures(images, labels, words, mirror=True)


def test_labels_follow_the_mirror(some):
    index = torch.arange(64)
    draws = Draws(3, 7)
    x0, labels, same = some.rows(index, draws)
    turned = Draws(3, 7).uniform(MIRROR, 64) < .5
    assert 0 < turned.sum() < 64 and torch.equal(same, index)
    original = d.to_float(some.images)
    assert torch.equal(x0[turned], original[turned].flip(-1))
    assert torch.equal(x0[~turned], original[~turned])
    assert torch.equal(labels[:, 0], some.labels[:, 0])
    assert torch.equal(labels[:, 1] != some.labels[:, 1], turned)
    assert labels.dtype == torch.int64


def test_the_set_stays_as_it_was(some):
    before = some.images.clone(), some.labels.clone()
    for step in range(5):
        some.rows(torch.arange(64), Draws(0, step))
    assert torch.equal(some.images, before[0]) and torch.equal(some.labels, before[1])


@pytest.mark.parametrize('mirror, draws', [(True, None), (False, Draws(3, 7))])
def test_nothing_is_mirrored_unasked(some, mirror, draws):
    plain = dataclasses.replace(some, mirror=mirror)
    batch = plain.rows(torch.arange(64), draws)
    assert torch.equal(batch.x0, d.to_float(some.images))
    assert torch.equal(batch.labels, some.labels)


def test_an_attribute_of_another_kind_is_left_alone(some):
    """Only of our own words do we know what they mean in a mirror."""
    words = {'hair': ['red', 'blue'], 'flip': ['burger', 'pancake']}
    other = dataclasses.replace(some, words=words)
    assert torch.equal(other.rows(torch.arange(64), Draws(3, 7)).labels, some.labels)


@pytest.mark.parametrize('processes', [2, 4])
def test_processes_see_together_what_one_sees(some, processes):
    index = torch.randperm(64, generator=torch.Generator().manual_seed(1))[:32]
    alone = some.rows(index, Draws(5, 2))
    for process in range(processes):
        draws = Draws(5, 2, (process, processes))
        mine = some.rows(index[process::processes], draws)
        for part, whole in zip(mine, alone):
            assert torch.equal(part, whole[process::processes])


def test_points_are_as_they_are():
    x = torch.linspace(-9, 9, 12, dtype=torch.float64).reshape(6, 2)
    labels = torch.arange(6, dtype=torch.int16)[:, None]
    batch = Points(x, labels).rows(torch.tensor([4, 0]), Draws(0, 0))
    assert torch.equal(batch.x0, x[[4, 0]]) and batch.labels.tolist() == [[4], [0]]
    assert batch.labels.dtype == torch.int64
    assert Points(x).rows(torch.tensor([4, 0])).labels.shape == (2, 0)


X = torch.zeros(4, 2)


@pytest.mark.parametrize('x, labels, error, said', [
    (X, torch.zeros(3, 1).long(), TypeError, 'labels'),
    (X, torch.zeros(4).long(), TypeError, 'labels'),
    (X, torch.zeros(4, 1), TypeError, 'labels'),
    (X, [0, 1, 2, 3], TypeError, 'labels'),
    (X.long(), None, TypeError, 'x'),
    ([1., 2.], None, TypeError, 'x'),
    (X / 0, None, ValueError, 'x has 8 of 8 values'),
    (X[:0], None, ValueError, 'x'),
])
def test_points_that_do_not_fit_are_refused(x, labels, error, said):
    with pytest.raises(error, match=said):
        Points(x, labels)


@pytest.mark.parametrize('index', [
    [0, 1], slice(0, 2), torch.tensor([True] * 64), torch.tensor([0.]), 3])
def test_rows_are_given_by_number(some, index):
    for data in (some, Points(torch.zeros(64, 2))):
        with pytest.raises(TypeError, match='index'):
            data.rows(index)


def test_what_has_rows_is_a_data_set(some):
    assert as_data(some) is some
    listed = as_data([d.to_pil(picture) for picture in some.images])
    assert torch.equal(listed.images, some.images) and listed.mirror
    assert listed.rows(torch.tensor([0])).labels.shape == (1, 0)


def test_pictures_without_labels_say_what_they_are(some):
    plain = d.Pictures(some.images)
    assert plain.labels.shape == (64, 0) and not plain.mirror
    assert repr(plain) == (
        'Pictures: 64 of 3x8x8; mirrored in training: none; labels: none')
    assert repr(some).endswith('mirrored in training: half of them; labels: hair, flip')
    assert len(repr(d.characters(100, progress=False))) < 300


# Arrays and datasets of others.

BYTES = np.random.default_rng(0).integers(0, 256, (6, 20, 28, 3), np.uint8)
ALPHA = np.concatenate([BYTES, np.full_like(BYTES[..., :1], 255)], axis=3)
WANTED = torch.from_numpy(BYTES).permute(0, 3, 1, 2)
ARRAYS = {
    'channels last': (BYTES, WANTED),
    'channels first': (BYTES.transpose(0, 3, 1, 2), WANTED),
    'an opaque fourth channel': (ALPHA, WANTED),
    'transparent': (ALPHA * np.uint8([1, 1, 1, 0]), torch.full_like(WANTED, 255)),
    'floats up to 1': (BYTES / 255, WANTED),
    'floats up to 1, in half the width': ((BYTES / 255).astype(np.float32), WANTED),
    'floats from -1': (BYTES / 127.5 - 1, WANTED),
    'no axis for channels': (BYTES[..., 0], WANTED[:, :1]),
    'three of them': (BYTES[:3, ..., 0], WANTED[:3, :1]),
    'one channel, last': (BYTES[..., :1], WANTED[:, :1]),
    'one channel, first': (BYTES[:, None, ..., 0], WANTED[:, :1]),
}


@pytest.mark.parametrize('kind', ARRAYS)
@pytest.mark.parametrize('dress', [list, np.array])
def test_arrays(kind, dress):
    given, wanted = ARRAYS[kind]
    assert torch.equal(d.pictures(dress(given)), wanted)


class Broken(torch.utils.data.Dataset):
    """A dataset in which a picture cannot be read."""

    def __init__(self, error=None):
        self.error = error

    def __len__(self):
        return 5

    def __getitem__(self, i):
        file = io.BytesIO()
        Image.fromarray(BYTES[0]).resize((200, 200)).save(file, 'JPEG')
        if i == 3 and self.error:
            raise self.error
        whole = file.getvalue()
        return Image.open(io.BytesIO(whole[:2000] if i == 3 else whole)), 1


@pytest.mark.parametrize('error', [None, OSError('torn'), RuntimeError('torn'),
                                   SyntaxError('torn')])
def test_an_item_that_cannot_be_read_is_named_by_its_number(error):
    with pytest.raises(ValueError, match=r'item 3 of data cannot be read .*Subset'):
        d.pictures(Broken(error))


def test_a_list_of_names_in_a_dataset_is_not_its_pictures():
    """As torchvision's VOCDetection has them."""
    data = torch.utils.data.TensorDataset(WANTED)
    data.images = ['0.jpg'] * 6
    assert torch.equal(d.pictures(data), WANTED)


def test_the_label_may_stand_first():
    assert d.pictures([(3, WANTED[0]), (4, WANTED[1])]).shape == (2, 3, 20, 28)


def test_grey_is_that_of_pillow():
    grey = d.pictures(BYTES, channels=1)
    for found, picture in zip(grey, BYTES):
        assert np.array_equal(found[0], Image.fromarray(picture).convert('L'))
    assert torch.equal(d.pictures(d.pictures(grey, channels=3), channels=1), grey)


def test_drawing_for_the_first_time_says_that_it_takes_long(
        tmp_path, monkeypatch, capsys):
    """Before the bar, and only then."""
    def one_after_another(**options):
        return lambda tasks: (call(*a, **named) for call, a, named in tasks)

    def nothing_drawn(style, size, seed, start, stop):
        n = stop - start
        return np.zeros((n, size, size, 3), np.uint8), np.zeros((n, 13), np.int16)

    monkeypatch.setattr('joblib.Parallel', one_after_another)
    monkeypatch.setattr('ddpm_teach.plumbing.avatars.draw_range', nothing_drawn)
    monkeypatch.setattr('platformdirs.user_cache_path', lambda name: tmp_path)
    d.characters(201, 8)
    said = capsys.readouterr().err
    assert said.startswith('Drawing 201 pictures in the style lorelei, once')
    assert 'takes minutes' in said.splitlines()[1]
    assert max(map(len, said.splitlines()[:2])) <= 88
    d.characters(201, 8)
    d.characters(250, 8, progress=False)
    assert capsys.readouterr().err == ''
