"""Datasets and trackers of other libraries, as people hand them over."""
import numpy as np
import pytest
import torch
from PIL import Image

import ddpm_teach as d


@pytest.fixture
def some():
    return torch.randint(0, 256, (16, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def model(**given):
    torch.manual_seed(0)
    return d.DDPM(d.UNet(**{'channels': (8, 16), 'groups': 4, 'attention': (), **given}), d.cosine_schedule(20))


def trained_on(data, **given):
    return d.train(model(**given), data, 1, batch_size=8, bf16=False, progress=False).losses


class Items(torch.utils.data.Dataset):
    """What `torch.utils.data` calls map-style; asked beyond its end it answers all the same."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i % len(self.items)]


@pytest.mark.parametrize('dress', [
    lambda x: x, lambda x: d.to_pil(x), lambda x: (d.to_pil(x), 3), lambda x: dict(img=d.to_pil(x), label=3), lambda x: dict(label=torch.tensor(3), image=x), lambda x: (x / 255, 3), lambda x: x / 127.5 - 1,
    lambda x: (x.double() / 255 - .5) / .5, lambda x: np.asarray(d.to_pil(x)), lambda x: d.to_pil(x).convert('RGBA')])
def test_datasets_of_torch(some, dress):
    data = Items([dress(x) for x in some])
    assert torch.equal(d.pictures(data), some)
    assert trained_on(data) == trained_on(some)


def test_torchvision(tmp_path, some):
    torchvision = pytest.importorskip('torchvision')
    from torchvision.transforms import v2
    (tmp_path / 'one').mkdir()
    for i, x in enumerate(some):
        d.to_pil(x).save(tmp_path / f'one/{i:02d}.png')
    to_float = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    for transform in (None, v2.PILToTensor(), to_float, v2.Compose([to_float, v2.Normalize([.5] * 3, [.5] * 3)])):
        data = torchvision.datasets.ImageFolder(tmp_path, transform)
        assert torch.equal(d.pictures(data), some)
    data = torchvision.datasets.ImageFolder(tmp_path, v2.Compose([to_float, v2.Normalize([.485, .456, .406], [.229, .224, .225])]))
    with pytest.raises(ValueError, match='cannot be known'):
        d.pictures(data)
    with pytest.raises(ValueError, match='should lie in'):
        d.pictures(data, floats=(0, 1))


def test_the_real_datasets(some):
    datasets = pytest.importorskip('datasets')
    features = datasets.Features(dict(image=datasets.Image(), label=datasets.ClassLabel(names=['a', 'b'])))
    data = datasets.Dataset.from_dict(dict(image=[d.to_pil(x) for x in some], label=[0, 1] * 8), features)
    assert torch.equal(d.pictures(data), some) and trained_on(data) == trained_on(some)
    for kind in ('torch', 'numpy'):
        assert torch.equal(d.pictures(data.with_format(kind)), some), kind
    assert torch.equal(d.pictures(data.with_transform(lambda rows: dict(pixels=[torch.from_numpy(np.array(i)).permute(2, 0, 1) / 255 for i in rows['image']]))), some)
    assert torch.equal(d.pictures(data.select(range(4))), some[:4])
    with pytest.raises(ValueError, match=r"data\['train'\]"):
        d.pictures(datasets.DatasetDict(train=data))
    with pytest.raises(ValueError, match='itertools.islice'):
        d.pictures(data.to_iterable_dataset())
    with pytest.raises(ValueError, match='0 pictures'):
        d.pictures(data.cast_column('image', datasets.Image(decode=False)))
    with pytest.raises(ValueError, match='2 pictures'):
        d.pictures(datasets.Dataset.from_dict(dict(a=[d.to_pil(some[0])], b=[d.to_pil(some[1])]), datasets.Features(dict(a=datasets.Image(), b=datasets.Image()))))


def test_odd_pictures():
    grey, colour = Image.new('L', (32, 32), 77), Image.new('RGB', (32, 32), (10, 20, 30))
    palette = Image.new('P', (32, 32), 1)                                   # of two colours, the first transparent
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.info['transparency'] = 0
    palette.putpixel((0, 0), 0)
    half = Image.new('RGBA', (32, 32), (0, 0, 0, 127))
    assert d.pictures([grey]).unique().tolist() == [77] and d.pictures([grey]).shape == (1, 1, 32, 32)
    assert d.pictures([grey, colour])[0].unique().tolist() == [77] and d.pictures([grey], channels=3).shape == (1, 3, 32, 32)
    assert d.pictures([palette])[0, :, 0].T[:2].tolist() == [[255] * 3, [10, 20, 30]] and d.pictures([colour.convert('CMYK')]).shape == (1, 3, 32, 32)
    assert d.pictures([half]).unique().tolist() == [128]
    assert d.pictures([Image.new('1', (32, 32), 1)]).unique().tolist() == [255] and d.pictures([Image.new('LA', (32, 32), (5, 255))]).unique().tolist() == [5]
    assert d.pictures(torch.full((2, 32, 32), 9, dtype=torch.uint8)).shape == (2, 1, 32, 32)
    turned = Image.new('RGB', (40, 24), 'white')
    turned.getexif()[0x0112] = 6                                            # a camera held upright
    turned.putpixel((0, 0), (0, 0, 0))
    import io
    file = io.BytesIO()
    turned.save(file, 'PNG', exif=turned.getexif())
    image = d.pictures([Image.open(file)])
    assert image.shape == (1, 3, 40, 24) and image[0, 0, 0, -1] == 0
    wide = Image.new('RGB', (96, 32), (0, 0, 255))
    wide.paste((255, 0, 0), (32, 0, 64, 32))                                # only the middle is red
    assert d.pictures([wide, colour], size=32)[0, :, 16, 16].tolist() == [255, 0, 0] and (d.pictures([wide], size=32)[0, 2] == 0).all()


@pytest.mark.parametrize('bad, word', [
    (torch.rand(4, 3, 8, 8), 'cannot be known'), (torch.full((4, 3, 8, 8), 145 / 255), 'cannot be known'), (torch.rand(4, 3, 8, 8) * 255, 'cannot be known'), (torch.full((4, 3, 8, 8), torch.nan), 'cannot be known'),
    (torch.zeros(4, 3, 8, 8, dtype=torch.int64), 'dtype torch.int64'), (torch.zeros(4, 8, 8, 3), r'shape \(8, 8, 3\)'), (torch.zeros(4, 4, 8, 8), r'shape \(4, 8, 8\)'), ([], 'empty'), ([3], 'is a int'),
    ([Image.new('L', (8, 8)), Image.new('L', (8, 9))], '2 sizes'), ([Image.new('I;16', (8, 8))], "mode 'I;16'"), ([np.zeros((8, 8, 3))], 'array of bytes'), ([(1, Image.new('L', (8, 8)))], 'is a int')])
def test_what_is_no_picture_is_refused(bad, word):
    with pytest.raises(ValueError, match=f'pictures: .*{word}'):
        d.pictures(bad)


def test_wrong_size_or_channels_for_the_network(some):
    with pytest.raises(ValueError, match=r'pictures\(data, size=16, channels=1\)'):
        trained_on(some, size=16, image_channels=1)
    with pytest.raises(ValueError, match='size is 30'):
        d.pictures(some, size=30)
    with pytest.raises(ValueError, match='would be lost'):
        d.pictures(some, channels=1)
    assert len(trained_on(d.pictures(some, size=16), size=16)) == 2


def test_tensorboard(tmp_path, some):
    pytest.importorskip('tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    losses = d.train(model(), some, 2, batch_size=8, bf16=False, progress=False, out=tmp_path, log_with='tensorboard').losses
    seen = EventAccumulator(str(tmp_path / 'ddpm_teach')).Reload()
    assert {'loss', 'learning rate', 'pictures per second'} <= set(seen.Tags()['scalars'])
    assert [e.step for e in seen.Scalars('loss')] == [0, 1, 2, 3] and [e.value for e in seen.Scalars('loss')] == pytest.approx(losses)
    with pytest.raises(ValueError, match='log_with is .tensorboard. and out None'):
        d.train(model(), some, 1, progress=False, log_with='tensorboard')


def test_a_tracker_that_is_not_there(some, tmp_path):
    with pytest.raises(ValueError, match="log_with is 'no such thing'"):
        d.train(model(), some, 1, progress=False, log_with='no such thing')
    from accelerate.tracking import LoggerType, get_available_trackers
    absent = next(str(t) for t in LoggerType if t != LoggerType.ALL and t not in get_available_trackers())
    with pytest.warns(UserWarning), pytest.raises(ValueError, match='is not installed'):
        d.train(model(), some, 1, progress=False, out=tmp_path, log_with=absent)


def test_a_tracker_of_ones_own(some, tmp_path):
    from accelerate.tracking import GeneralTracker

    class Kept(GeneralTracker):
        name, requires_logging_directory, tracker = 'kept', False, None

        def __init__(self):
            super().__init__()
            self.heard, self.closed = [], 0

        def log(self, values, step=None, **kwargs):
            self.heard.append((step, values))

        def finish(self):
            self.closed += 1

    def stop(epoch, *_):
        if epoch == 0:
            raise KeyboardInterrupt
    straight = d.train(model(), some, 3, batch_size=8, bf16=False, progress=False, log_with=(kept := Kept())).losses
    first, rest = Kept(), Kept()
    with pytest.raises(KeyboardInterrupt):
        d.train(model(), some, 3, batch_size=8, bf16=False, progress=False, out=tmp_path, on_epoch=stop, log_with=first)
    d.train(model(), some, 3, batch_size=8, bf16=False, progress=False, out=tmp_path, log_with=rest)
    assert (kept.closed, first.closed, rest.closed) == (1, 1, 1)
    assert [v['loss'] for _, v in kept.heard] == straight == [v['loss'] for _, v in first.heard + rest.heard]
    assert [step for step, _ in first.heard + rest.heard] == list(range(6)) and all(v['pictures per second'] > 0 and 0 < v['learning rate'] <= 2e-3 for _, v in kept.heard)
    assert trained_on(some) and not list(tmp_path.glob('ddpm_teach'))                     # off by default
