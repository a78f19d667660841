"""Datasets and trackers of other libraries, as people hand them over."""
import io

import numpy as np
import pytest
import torch
from accelerate.tracking import GeneralTracker, LoggerType, get_available_trackers
from PIL import Image

import ddpm_teach as d


@pytest.fixture
def some():
    g = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (16, 3, 32, 32), generator=g, dtype=torch.uint8)


def model(**given):
    torch.manual_seed(0)
    settings = dict(channels=(8, 16), groups=4, attention=()) | given
    return d.DDPM(d.UNet(**settings), d.cosine_schedule(20))


def train(data, epochs=1, folder=None, given=None, **options):
    """A short training, and nothing said of it."""
    hooks = d.usual(folder, bf16=False, progress=False, **options)
    network = model(**(given or {}))
    return d.train(network, data, epochs, batch_size=8, hooks=hooks)


def losses_on(data, **given):
    return train(data, given=given).losses


class Items(torch.utils.data.Dataset):
    """What `torch.utils.data` calls map-style; beyond its end it answers still."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i % len(self.items)]


DRESSES = {
    'bytes': lambda x: x,
    'an image': lambda x: d.to_pil(x),
    'an image and a label': lambda x: (d.to_pil(x), 3),
    'a dict': lambda x: dict(img=d.to_pil(x), label=3),
    'a dict, the label first': lambda x: dict(label=torch.tensor(3), image=x),
    'in [0, 1]': lambda x: (x / 255, 3),
    'in [-1, 1]': lambda x: x / 127.5 - 1,
    'in [-1, 1], float64': lambda x: (x.double() / 255 - .5) / .5,
    'an array': lambda x: np.asarray(d.to_pil(x)),
    'with an alpha channel': lambda x: d.to_pil(x).convert('RGBA'),
}


@pytest.mark.parametrize('dress', DRESSES)
def test_datasets_of_torch(some, dress):
    data = Items([DRESSES[dress](x) for x in some])
    assert torch.equal(d.pictures(data), some)
    assert losses_on(data) == losses_on(some)


def test_torchvision(tmp_path, some):
    torchvision = pytest.importorskip('torchvision')
    from torchvision.transforms import v2
    (tmp_path / 'one').mkdir()
    for i, x in enumerate(some):
        d.to_pil(x).save(tmp_path / f'one/{i:02d}.png')
    to_float = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    centred = v2.Compose([to_float, v2.Normalize([.5] * 3, [.5] * 3)])
    for transform in (None, v2.PILToTensor(), to_float, centred):
        data = torchvision.datasets.ImageFolder(tmp_path, transform)
        assert torch.equal(d.pictures(data), some)
    imagenet = v2.Normalize([.485, .456, .406], [.229, .224, .225])
    data = torchvision.datasets.ImageFolder(tmp_path, v2.Compose([to_float, imagenet]))
    with pytest.raises(ValueError, match='cannot be known'):
        d.pictures(data)
    with pytest.raises(ValueError, match='should lie in'):
        d.pictures(data, floats=(0, 1))


def as_pixels(rows):
    """A transform of `datasets`."""
    arrays = [torch.from_numpy(np.array(image)) for image in rows['image']]
    return dict(pixels=[array.permute(2, 0, 1) / 255 for array in arrays])


def dataset_of(some):
    """A dataset of `datasets`, its images and labels."""
    datasets = pytest.importorskip('datasets')
    kinds = dict(image=datasets.Image(), label=datasets.ClassLabel(names=['a', 'b']))
    rows = dict(image=[d.to_pil(x) for x in some], label=[0, 1] * 8)
    return datasets.Dataset.from_dict(rows, datasets.Features(kinds))


def test_the_real_datasets(some):
    data = dataset_of(some)
    assert torch.equal(d.pictures(data), some)
    assert losses_on(data) == losses_on(some)
    for kind in ('torch', 'numpy'):
        assert torch.equal(d.pictures(data.with_format(kind)), some), kind
    assert torch.equal(d.pictures(data.with_transform(as_pixels)), some)
    assert torch.equal(d.pictures(data.select(range(4))), some[:4])


def test_real_datasets_that_are_refused(some):
    datasets = pytest.importorskip('datasets')
    data = dataset_of(some)
    image = d.to_pil(some[0])
    two = datasets.Features(dict(a=datasets.Image(), b=datasets.Image()))
    undecoded = data.cast_column('image', datasets.Image(decode=False))
    refused = [
        (datasets.DatasetDict(train=data), r"data\['train'\]"),
        (data.to_iterable_dataset(), 'itertools.islice'),
        (undecoded, '0 pictures'),
        (datasets.Dataset.from_dict(dict(a=[image], b=[image]), two), '2 pictures'),
    ]
    for bad, word in refused:
        with pytest.raises(ValueError, match=word):
            d.pictures(bad)


def test_grey_and_colour():
    grey = Image.new('L', (32, 32), 77)
    colour = Image.new('RGB', (32, 32), (10, 20, 30))
    assert d.pictures([grey]).unique().tolist() == [77]
    assert d.pictures([grey]).shape == (1, 1, 32, 32)
    assert d.pictures([grey, colour])[0].unique().tolist() == [77]
    assert d.pictures([grey], channels=3).shape == (1, 3, 32, 32)
    assert d.pictures([colour.convert('CMYK')]).shape == (1, 3, 32, 32)
    for mode, value, seen in [('1', 1, 255), ('LA', (5, 255), 5)]:
        image = Image.new(mode, (32, 32), value)
        assert d.pictures([image]).unique().tolist() == [seen]
    plain = torch.full((2, 32, 32), 9, dtype=torch.uint8)
    assert d.pictures(plain).shape == (2, 1, 32, 32)


def test_transparent_ones():
    palette = Image.new('P', (32, 32), 1)       # of two colours, the first transparent
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.info['transparency'] = 0
    palette.putpixel((0, 0), 0)
    first = d.pictures([palette])[0, :, 0].T[:2]
    assert first.tolist() == [[255] * 3, [10, 20, 30]]
    half = Image.new('RGBA', (32, 32), (0, 0, 0, 127))
    assert d.pictures([half]).unique().tolist() == [128]


def test_turned_and_wide_ones():
    turned = Image.new('RGB', (40, 24), 'white')
    turned.getexif()[0x0112] = 6                              # a camera held upright
    turned.putpixel((0, 0), (0, 0, 0))
    file = io.BytesIO()
    turned.save(file, 'PNG', exif=turned.getexif())
    image = d.pictures([Image.open(file)])
    assert image.shape == (1, 3, 40, 24) and image[0, 0, 0, -1] == 0
    wide = Image.new('RGB', (96, 32), (0, 0, 255))
    wide.paste((255, 0, 0), (32, 0, 64, 32))                  # only the middle is red
    colour = Image.new('RGB', (32, 32), (10, 20, 30))
    both = d.pictures([wide, colour], size=32)
    assert both[0, :, 16, 16].tolist() == [255, 0, 0]
    assert (d.pictures([wide], size=32)[0, 2] == 0).all()


UNCERTAIN = torch.full((4, 3, 8, 8), 145 / 255)
TWO_SIZES = [Image.new('L', (8, 8)), Image.new('L', (8, 9))]
NO_PICTURES = [
    (torch.rand(4, 3, 8, 8), 'cannot be known'),
    (UNCERTAIN, 'cannot be known'),
    (torch.rand(4, 3, 8, 8) * 255, 'cannot be known'),
    (torch.full((4, 3, 8, 8), torch.nan), 'nan or infinite'),
    (torch.zeros(4, 3, 8, 8, dtype=torch.int64), 'dtype torch.int64'),
    (torch.zeros(4, 8, 8, 3), r'shape \(4, 8, 8, 3\)'),
    (torch.zeros(4, 4, 8, 8), r'shape \(4, 4, 8, 8\)'),
    ([], 'empty'),
    ([3], 'is a int'),
    (TWO_SIZES, '2 sizes'),
    ([Image.new('I;16', (8, 8), 300)], "mode 'I;16'"),
    ([np.full((8, 8, 3), .5)], 'cannot be known'),
    ([(1, 2)], 'is a int'),
]


@pytest.mark.parametrize('bad, word', NO_PICTURES)
def test_what_is_no_picture_is_refused(bad, word):
    with pytest.raises(ValueError, match=f'pictures: .*{word}'):
        d.pictures(bad)


def test_wrong_size_or_channels_for_the_network(some):
    with pytest.raises(ValueError, match=r'pictures\(data, size=16, channels=1\)'):
        losses_on(some, size=16, image_channels=1)
    with pytest.raises(ValueError, match='size is 30'):
        d.pictures(some, size=30)
    assert d.pictures(some, channels=1).shape[1] == 1
    assert len(losses_on(d.pictures(some, size=16), size=16)) == 2


def test_tensorboard(tmp_path, some):
    pytest.importorskip('tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    losses = train(some, 2, tmp_path, log_with='tensorboard').losses
    seen = EventAccumulator(str(tmp_path / 'ddpm_teach')).Reload()
    wanted = {'loss', 'learning rate', 'pictures per second'}
    assert wanted <= set(seen.Tags()['scalars'])
    events = seen.Scalars('loss')
    assert [e.step for e in events] == [0, 1, 2, 3]
    assert [e.value for e in events] == pytest.approx(losses)
    with pytest.raises(ValueError, match='log_with is .tensorboard. and .*None'):
        train(some, log_with='tensorboard')


def test_a_tracker_that_is_not_there(some, tmp_path):
    with pytest.raises(ValueError, match="log_with is 'no such thing'"):
        train(some, log_with='no such thing')
    kinds = set(LoggerType) - {LoggerType.ALL, *get_available_trackers()}
    absent = sorted(str(kind) for kind in kinds)[0]
    with pytest.warns(UserWarning):
        with pytest.raises(ValueError, match='is not installed'):
            train(some, folder=tmp_path, log_with=absent)


class Kept(GeneralTracker):
    """A tracker that keeps what it hears."""
    name = 'kept'
    requires_logging_directory = False
    tracker = None

    def __init__(self):
        super().__init__()
        self.heard = []
        self.closed = 0

    def log(self, values, step=None, **kwargs):
        self.heard.append((step, values))

    def finish(self):
        self.closed += 1


def stop_at_once(epoch, *_):
    if epoch == 0:
        raise KeyboardInterrupt


def test_a_tracker_of_ones_own(some, tmp_path):
    kept = Kept()
    first = Kept()
    rest = Kept()
    straight = train(some, 3, log_with=kept).losses
    with pytest.raises(KeyboardInterrupt):
        train(some, 3, tmp_path, log_with=first, preview=stop_at_once)
    train(some, 3, tmp_path, log_with=rest)
    assert (kept.closed, first.closed, rest.closed) == (1, 1, 1)
    resumed = first.heard + rest.heard
    assert [values['loss'] for _, values in kept.heard] == straight
    assert [values['loss'] for _, values in resumed] == straight
    assert [step for step, _ in resumed] == list(range(6))
    for _, values in kept.heard:
        assert values['pictures per second'] > 0
        assert 0 < values['learning rate'] <= 2e-3


def test_no_tracker_by_default(some, tmp_path):
    assert train(some, folder=tmp_path).losses
    assert not list(tmp_path.glob('ddpm_teach'))
