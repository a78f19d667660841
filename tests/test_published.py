"""Networks in the form of diffusers: the same weights, noise and pictures on both
sides, in both directions; what cannot be the same is refused."""
import json
import re
import socket
from typing import NamedTuple

import pytest
import safetensors.torch
import torch
from safetensors.torch import load_file, save_file

import ddpm_teach as d
from ddpm_teach.published import their_names
from test_package import run

diffusers = pytest.importorskip('diffusers')
diffusers.utils.logging.disable_progress_bar()
PUBLISHED = dict(
    norm_eps=1e-6, freq_shift=1, flip_sin_to_cos=False, downsample_padding=0,
    attention_head_dim=None)
WEIGHTS = 'unet/diffusion_pytorch_model.safetensors'
SCHEDULER = 'scheduler/scheduler_config.json'


def theirs(channels, attention, blocks, **given):
    down = tuple('AttnDownBlock2D' if a else 'DownBlock2D' for a in attention)
    up = tuple('AttnUpBlock2D' if a else 'UpBlock2D' for a in reversed(attention))
    network = diffusers.UNet2DModel(
        block_out_channels=channels, layers_per_block=blocks, down_block_types=down,
        up_block_types=up, **{'sample_size': 32, **PUBLISHED, **given})
    return network.eval()


def randomise(network, seed=0):
    """Random everywhere, also where both sides start from zero or one."""
    g = torch.Generator().manual_seed(seed)
    for p in network.parameters():
        p.data = torch.randn(p.shape, generator=g) / max(p[0].numel(), 4)**.5
    return network


def tiny(limit=d.clip, **given):
    settings = dict(channels=(8, 16), groups=4, attention=(16,), patch=1) | given
    network = randomise(d.UNet(**settings))
    return d.DDPM(network, d.cosine_schedule(10), 'v', limit).eval()


def read(path):
    return diffusers.DDPMPipeline.from_pretrained(path, local_files_only=True)


class Case(NamedTuple):
    """The network in both forms, and the scheduler of theirs."""
    ours: dict
    theirs: dict
    scheduler: dict
    steps: int              # to walk from the top, and from the bottom


CASES = {
    'CIFAR-10, eps, fixed_large': Case(
        dict(channels=(128, 256, 256, 256), attention=(16,), blocks=2, groups=32,
             dropout=.1),
        dict(channels=(128, 256, 256, 256), attention=(False, True, False, False),
             blocks=2, dropout=.1),
        dict(num_train_timesteps=1000, variance_type='fixed_large'),
        steps=2),
    'v, cosine, fixed_small': Case(
        dict(channels=(16, 32, 48), attention=(8, 16), blocks=1, groups=8),
        dict(channels=(16, 32, 48), attention=(False, True, True), blocks=1,
             norm_num_groups=8),
        dict(num_train_timesteps=40, beta_schedule='squaredcos_cap_v2',
             prediction_type='v_prediction'),
        steps=40),
    'x0, grey, not clipped': Case(
        dict(channels=(8, 8), attention=(), blocks=3, groups=4, size=16,
             image_channels=1),
        dict(channels=(8, 8), attention=(False, False), blocks=3, norm_num_groups=4,
             sample_size=16, in_channels=1, out_channels=1),
        dict(num_train_timesteps=40, beta_schedule='scaled_linear', beta_start=.01,
             beta_end=.6, prediction_type='sample', clip_sample=False,
             variance_type='fixed_small_log'),
        steps=40),
    'trained_betas, eps': Case(
        dict(channels=(12, 24), attention=(32, 16), blocks=2, groups=4),
        dict(channels=(12, 24), attention=(True, True), blocks=2, norm_num_groups=4),
        dict(num_train_timesteps=25,
             trained_betas=d.linear_schedule(25, .01, .6).betas.tolist()),
        steps=25),
}


def in_dtype(model, dtype):
    """The model, whose network alone computes in float32."""
    def network(x, i):
        return model.network(x.float(), i).to(dtype)
    return d.DDPM(network, model.schedule, model.predicts, model.limit)


def start_of(shape, dtype, at_the_top):
    """Where a chain begins: near the end it is near a picture."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(4)).to(dtype)
    return x if at_the_top else x.clamp(-1, 1)


def compare(model, sampler, pipeline, start, steps, dtype):
    """The largest difference while both walk `steps` steps down, with the same noise.

    In pixels of [0, 1] and in x0_hat. In float32 a linear schedule leaves four digits
    of 1 - abar near t = 0, on both sides. In float64 only the networks round, which
    stay in float32.
    """
    scheduler = diffusers.DDPMScheduler.from_config(pipeline.scheduler.config)
    schedule = model.schedule
    if dtype == torch.float64:
        scheduler.alphas_cumprod = schedule.abar[1:]
    shape = (2, *model.shape)
    ours_draws = torch.Generator().manual_seed(3)
    their_draws = torch.Generator().manual_seed(3)

    def draw():
        return torch.randn(shape, generator=ours_draws, dtype=dtype)

    x = start_of(shape, dtype, start == schedule.T)
    ours = sampler(in_dtype(model, dtype), x, draw=draw, start=start)
    next(ours)
    worst = 0.
    for i, step in zip(range(start - 1, start - 1 - steps, -1), ours):
        with torch.no_grad():
            prediction = pipeline.unet(x.float(), torch.tensor(i)).sample.to(dtype)
            out = scheduler.step(prediction, i, x, generator=their_draws)
        x = out.prev_sample
        assert step.t == i and step.x.dtype == x.dtype == dtype
        grows = 1.                            # what an error of 1 in eps is in x0_hat
        if model.predicts == 'eps':
            grows = max(1., schedule.snr[i + 1].item()**-.5)
        in_x0_hat = (step.x0_hat - out.pred_original_sample).abs().max().item() / grows
        worst = max(worst, (step.x - x).abs().max().item() / 2, in_x0_hat / 2)
    assert (x.abs() < .999).double().mean() > .2           # else anything would agree
    assert (x[0] - x[1]).abs().max() > .01
    return worst


def settings_of(network):
    return {name: v for name, v in network.config.items() if name != 'attention'}


def write_theirs(case, path):
    """A pipeline of theirs with random weights."""
    network = randomise(theirs(**case.theirs), 1)
    scheduler = diffusers.DDPMScheduler(**case.scheduler)
    diffusers.DDPMPipeline(network, scheduler).save_pretrained(path)
    return path


@pytest.mark.parametrize('name', CASES)
def test_their_pictures_in_ours(name, tmp_path):
    case = CASES[name]
    torch.manual_seed(0)
    path = write_theirs(case, tmp_path / 'theirs')
    model = d.from_diffusers(path, 'cpu')
    sampler = d.diffusers_sampler(path)
    pipeline = read(path)
    assert settings_of(model.network) == settings_of(d.UNet(patch=1, **case.ours))
    if name.startswith('CIFAR'):
        for network in (model, pipeline.unet):
            assert sum(p.numel() for p in network.parameters()) == 35_746_307
    T = model.schedule.T
    x = torch.randn(3, *model.shape)
    t = torch.tensor([0, min(7, T - 1), T - 1])
    with torch.no_grad():
        assert (pipeline.unet(x, t).sample - model.network(x, t)).abs().max() < 1e-4
    for start in {T, case.steps}:
        apart = compare(model, sampler, pipeline, start, case.steps, torch.float32)
        assert apart < (2e-4 if start < T else 1e-4)           # the four digits, twice
        apart = compare(model, sampler, pipeline, start, case.steps, torch.float64)
        assert apart < 1e-5


@pytest.mark.parametrize('name', CASES)
def test_our_pictures_in_theirs_and_back(name, tmp_path):
    case = CASES[name]
    torch.manual_seed(0)
    write_theirs(case, tmp_path / 'theirs')
    read_in = d.from_diffusers(tmp_path / 'theirs', 'cpu')
    sampler = d.diffusers_sampler(tmp_path / 'theirs')
    network = randomise(d.UNet(patch=1, **case.ours), 2).eval()
    mine = d.DDPM(network, read_in.schedule, read_in.predicts, read_in.limit)
    path = d.to_diffusers(mine, tmp_path / 'ours', **sampler.keywords)
    for start in {mine.schedule.T, case.steps}:
        apart = compare(mine, sampler, read(path), start, case.steps, torch.float64)
        assert apart < 1e-5
    again = d.from_diffusers(path, 'cpu')                    # and back: the same bits
    for a, b in zip(again.state_dict().values(), mine.state_dict().values()):
        assert torch.equal(a, b)
    assert torch.equal(again.schedule.betas, mine.schedule.betas)
    assert again.predicts == mine.predicts and again.limit is mine.limit
    assert d.diffusers_sampler(path).keywords == sampler.keywords


@pytest.mark.parametrize('name, variance, limit', [
    ('CIFAR-10, eps, fixed_large', d.large_variance, d.clip),
    ('v, cosine, fixed_small', d.small_variance, d.clip),
    ('x0, grey, not clipped', d.small_variance, None),
    ('trained_betas, eps', d.small_variance, d.clip),
])
def test_variance_and_limit_follow_the_scheduler(name, variance, limit, tmp_path):
    path = d.to_diffusers(tiny(), tmp_path / 'a')
    change(path / SCHEDULER, **dict(clip_sample=True) | without_steps(CASES[name]))
    assert d.diffusers_sampler(path).keywords == dict(variance=variance)
    assert d.from_diffusers(path, 'cpu').limit is limit


def without_steps(case):
    """What a scheduler says of how to draw."""
    names = ('variance_type', 'clip_sample')
    return {name: case.scheduler[name] for name in names if name in case.scheduler}


def change(file, **settings):
    """Put settings into a file; `...` takes one out."""
    config = json.loads(file.read_text()) | settings
    config = {name: value for name, value in config.items() if value is not ...}
    file.write_text(json.dumps(config))


def test_whole_pipeline(tmp_path):
    """Their own call, from noise to pictures in [0, 1], without a connection."""
    model = tiny()
    pipeline = read(d.to_diffusers(model, tmp_path / 'a'))
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(2, torch.Generator().manual_seed(0), 10, output_type='np').images
    images = torch.from_numpy(theirs).permute(0, 3, 1, 2)
    g = torch.Generator().manual_seed(0)

    def draw():
        return torch.randn(2, 3, 32, 32, generator=g)

    *_, last = d.ancestral(model, draw(), draw=draw)
    assert (images - (last.x / 2 + .5).clamp(0, 1)).abs().max() < 1e-4


def in_old_layout(new, old):
    """As in google/ddpm-cifar10-32: all files in one place, old names of the attention,
    few settings, and a pickle beside the safetensors."""
    weights = load_file(new / WEIGHTS)
    names = dict(query='to_q', key='to_k', value='to_v', proj_attn='to_out.0')
    for before, after in names.items():
        weights = {
            name.replace(f'.{after}.', f'.{before}.'): w for name, w in weights.items()}
    old.mkdir()
    weights = {name: w.contiguous() for name, w in weights.items()}
    file = old / 'diffusion_pytorch_model.safetensors'
    save_file(weights, file, {'format': 'pt'})
    file.with_suffix('.bin').write_bytes(b'a pickle: never read')
    config = json.loads((new / 'unet/config.json').read_text())
    config['_diffusers_version'] = '0.0.4'
    (old / 'config.json').write_text(json.dumps(config))
    scheduler = dict(
        _class_name='DDPMScheduler', _diffusers_version='0.1.1', beta_end=.02,
        beta_schedule='linear', beta_start=1e-4, clip_sample=True,
        num_train_timesteps=1000, trained_betas=None, variance_type='fixed_large')
    (old / 'scheduler_config.json').write_text(json.dumps(scheduler))


def test_the_published_layout(tmp_path):
    new = d.to_diffusers(tiny(), tmp_path / 'new')
    old = tmp_path / 'old'
    in_old_layout(new, old)
    model = d.from_diffusers(old, 'cpu')
    network = diffusers.UNet2DModel.from_pretrained(old, local_files_only=True).eval()
    x = torch.randn(2, 3, 32, 32)
    t = torch.tensor([0, 999])
    with torch.no_grad():
        assert (network(x, t).sample - model.network(x, t)).abs().max() < 1e-4
    assert model.predicts == 'eps' and model.limit is d.clip
    assert torch.equal(model.schedule.betas, d.linear_schedule(1000).betas)
    assert d.diffusers_sampler(old).keywords == dict(variance=d.large_variance)


NOT_OURS = [
    ('unet/config.json', 'norm_eps', 1e-5, 'norm_eps = 1e-05'),
    ('unet/config.json', 'norm_eps', ..., 'no norm_eps, which means 1e-05'),
    ('unet/config.json', 'flip_sin_to_cos', True, 'flip_sin_to_cos = true'),
    ('unet/config.json', 'freq_shift', ..., 'no freq_shift, which means 0'),
    ('unet/config.json', 'downsample_padding', 1, 'downsample_padding = 1'),
    ('unet/config.json', 'attention_head_dim', 8, 'attention_head_dim = 8'),
    ('unet/config.json', 'out_channels', 6, 'out_channels = 6'),
    ('unet/config.json', 'resnet_time_scale_shift', 'scale_shift', 'scale_shift'),
    ('unet/config.json', 'num_class_embeds', 10, 'num_class_embeds = 10'),
    ('unet/config.json', 'sample_size', [32, 16], 'square'),
    ('unet/config.json', 'down_block_types', ['DownBlock2D', 'ResnetDownsampleBlock2D'],
     'ResnetDownsampleBlock2D'),
    ('unet/config.json', 'up_block_types', ['AttnUpBlock2D', 'AttnUpBlock2D'],
     'in reverse'),
    ('unet/config.json', '_class_name', 'UNet2DConditionModel', 'UNet2DConditionModel'),
    ('unet/config.json', 'layers_per_block', 2, 'lacks'),
    ('unet/config.json', 'block_out_channels', [8, 32], 'other shapes'),
    (SCHEDULER, 'num_train_timesteps', 11, 'as many betas'),
    (SCHEDULER, 'rescale_betas_zero_snr', True, 'rescale'),
    (SCHEDULER, 'prediction_type', 'flow', 'flow'),
    (SCHEDULER, 'thresholding', True, 'thresholding = true'),
    (SCHEDULER, 'clip_sample_range', 2., '2.0'),
]


@pytest.mark.parametrize('file, name, value, word', NOT_OURS)
def test_what_is_not_ours_is_refused(tmp_path, file, name, value, word):
    folder = d.to_diffusers(tiny(), tmp_path / 'a')
    d.from_diffusers(folder)
    change(folder / file, **{name: value})
    with pytest.raises(ValueError, match=re.escape(word)):
        d.from_diffusers(folder)


@pytest.mark.parametrize('settings, word', [
    (dict(variance_type='learned'), 'learned'),
    (dict(thresholding=True), 'thresholding = true'),
    (dict(clip_sample_range=2.), '2.0'),
    (dict(made_up=1), 'made_up'),
])
def test_drawing_that_is_not_ours_is_refused(tmp_path, settings, word):
    folder = d.to_diffusers(tiny(), tmp_path / 'a')
    change(folder / SCHEDULER, **settings)
    with pytest.raises(ValueError, match=word):
        d.diffusers_sampler(folder)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match='give the folder'):
        d.from_diffusers(tmp_path / 'none')
    with pytest.raises(ValueError, match='neither unet/config.json'):
        d.from_diffusers(tmp_path)
    weights = d.to_diffusers(tiny(), tmp_path / 'a') / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match='not a whole safetensors file'):
        d.from_diffusers(tmp_path / 'a')
    weights.rename(weights.with_suffix('.bin'))
    with pytest.raises(ValueError, match='pickle'):
        d.from_diffusers(tmp_path / 'a')


# Folders from anywhere: one entry at a time is anything.

ANYTHING = [
    ..., None, [], {}, '', 'x', '8', True, -1, 0, 1.5, 10**9, 10**400, float('nan'),
    float('inf'), [None], ['x'], [[8]], [8, 8, 8], [0, 0], [10**9, 10**9],
    ['DownBlock2D'] * 3, {'a': 1}, [.5] * 3, ['8', 16],
]
CONFIG = 'unet/config.json'
WHOLE = {                              # all that diffusers says, and what it means
    CONFIG: dict(
        act_fn='silu', add_attention=True, center_input_sample=False,
        downsample_type='conv', upsample_type='conv', mid_block_scale_factor=1,
        resnet_time_scale_shift='default', time_embedding_type='positional',
        mid_block_type='UNetMidBlock2D', num_class_embeds=None,
        attn_norm_num_groups=None),
    SCHEDULER: dict(
        prediction_type='epsilon', trained_betas=None, beta_schedule='linear',
        beta_start=.1, beta_end=.9,
        clip_sample_range=1., thresholding=False, rescale_betas_zero_snr=False,
        variance_type='fixed_small'),
}


@pytest.fixture(scope='module')
def good(tmp_path_factory):
    """A folder with every entry, and what it is read as."""
    folder = d.to_diffusers(tiny(), tmp_path_factory.mktemp('good') / 'a')
    for file, entries in WHOLE.items():
        change(folder / file, **entries)
    return folder, read_as(folder)


def read_as(folder):
    """All that a folder says, in a form that can be compared."""
    model = d.from_diffusers(folder, 'cpu')
    sampler = d.diffusers_sampler(folder)
    weights = [w.sum().item() for w in model.state_dict().values()]
    return (model.network.config, model.schedule.betas.tolist(), model.predicts,
            model.limit, sampler.keywords, weights)


def entries_of(file):
    """The entries of a folder of ours with every entry."""
    written = {
        CONFIG: ['_class_name', 'sample_size', 'in_channels', 'out_channels',
                 'block_out_channels', 'layers_per_block', 'norm_num_groups', 'dropout',
                 'attention_head_dim', 'down_block_types', 'up_block_types',
                 'norm_eps', 'flip_sin_to_cos', 'freq_shift', 'downsample_padding'],
        SCHEDULER: ['_class_name', 'num_train_timesteps', 'prediction_type',
                    'clip_sample'],
    }
    return [(file, name) for name in dict.fromkeys(written[file] + [*WHOLE[file]])]


# What may be another number, or be missing, and still be a model.
OPEN = {'beta_start', 'beta_end', 'clip_sample', 'trained_betas', 'sample_size',
        'dropout', 'beta_schedule', 'norm_num_groups', 'num_train_timesteps'}


@pytest.mark.filterwarnings('ignore:after all')
@pytest.mark.parametrize('file, name', entries_of(CONFIG) + entries_of(SCHEDULER))
def test_any_entry_may_be_anything(good, file, name):
    folder, right = good
    before = (folder / file).read_text()
    assert name in json.loads(before)
    taken = 0
    for value in ANYTHING:
        change(folder / file, **{name: value})
        try:
            found = read_as(folder)
        except (ValueError, TypeError) as error:
            assert type(error) in (ValueError, TypeError), value
            said = str(error)
            assert (folder / file).name in said and name in said, (value, said)
            assert 'should' in said or 'lacks' in said, (value, said)
            assert len(said) < 1500, (value, said)
        else:
            taken += 1
            assert found == right or name in OPEN, (value, found)
        finally:
            (folder / file).write_text(before)
    assert taken < len(ANYTHING) / 3
    assert read_as(folder) == right


@pytest.mark.parametrize('file', [CONFIG, SCHEDULER])
@pytest.mark.parametrize('text', [
    b'', b'{', b'[]', b'null', b'3', b'"x"', b'{}', b'{"a": 1} 2', b'\xff\xfe{}',
    b'[' * 10**5, b'{"a": ' + b'1' * 10**4 + b'}',
])
def test_settings_that_are_no_settings(good, file, text):
    folder, right = good
    before = (folder / file).read_bytes()
    for broken in (text, before[:len(before) // 2], before[:-2]):
        (folder / file).write_bytes(broken)
        try:
            with pytest.raises(ValueError) as caught:
                d.from_diffusers(folder)
        finally:
            (folder / file).write_bytes(before)
        assert (folder / file).name in str(caught.value)
        assert 'should' in str(caught.value)


@pytest.mark.parametrize('length', [0, 1, 7, 8, 9, 100, 1000, -1])
def test_weights_that_are_cut_short(good, length):
    folder, _ = good
    before = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(before[:length])
    try:
        with pytest.raises(ValueError, match='diffusion_pytorch_model.safetensors'):
            d.from_diffusers(folder)
    finally:
        (folder / WEIGHTS).write_bytes(before)


# Weights in other files.

def halves(weights, name='diffusion_pytorch_model'):
    """The weights in two files, as diffusers splits large ones."""
    tensors = load_file(weights)
    names = sorted(tensors)
    for i, part in enumerate((names[::2], names[1::2])):
        file = weights.with_name(f'{name}-{i + 1:05}-of-00002.safetensors')
        save_file({key: tensors[key] for key in part}, file, {'format': 'pt'})
    weights.unlink()


def test_their_own_half_and_sharded_folders(tmp_path):
    network = randomise(theirs((8, 16), (False, True), 1, norm_num_groups=4))
    scheduler = diffusers.DDPMScheduler(10, .1, .9)
    pipeline = diffusers.DDPMPipeline(network.half(), scheduler)
    pipeline.save_pretrained(tmp_path / 'whole')
    pipeline.save_pretrained(tmp_path / 'half', variant='fp16')
    pipeline.save_pretrained(tmp_path / 'parts', max_shard_size='5KB')
    pipeline.save_pretrained(tmp_path / 'both', variant='fp16', max_shard_size='5KB')
    assert len(list((tmp_path / 'parts/unet').glob('*-of-*'))) > 1
    assert not (tmp_path / 'half' / WEIGHTS).exists()
    whole = d.from_diffusers(tmp_path / 'whole', 'cpu').state_dict()
    for name in ('half', 'parts', 'both'):
        read_in = d.from_diffusers(tmp_path / name, 'cpu').state_dict()
        for key, weight in whole.items():
            assert weight.dtype == torch.float32
            assert torch.equal(weight, read_in[key]), (name, key)


def test_full_precision_comes_first(tmp_path):
    folder = d.to_diffusers(tiny(), tmp_path / 'a')
    weights = load_file(folder / WEIGHTS)
    zeros = {name: torch.zeros_like(w).half() for name, w in weights.items()}
    save_file(zeros, (folder / WEIGHTS).with_suffix('.fp16.safetensors'))
    assert d.from_diffusers(folder, 'cpu').network.first.weight.any()


def no_part(weights):
    halves(weights)
    weights.with_name('diffusion_pytorch_model-00002-of-00002.safetensors').unlink()


def pointer(weights):
    weights.write_text('version https://git-lfs.github.com/spec/v1\noid sha256:1\n')


def renamed(ending):
    return lambda weights: weights.rename(weights.with_name(f'diffusion_{ending}'))


def refilled(change_weight):
    """One weight changed."""
    def write(weights):
        tensors = load_file(weights)
        tensors['conv_in.weight'] = change_weight(tensors['conv_in.weight'])
        save_file(tensors, weights, {'format': 'pt'})
    return write


@pytest.mark.parametrize('spoil, words', [
    (no_part, ['1 of 00002 parts', '00002-of-00002', 'copy']),
    (pointer, ['Git LFS', 'git lfs pull']),
    (renamed('model.bin'), ['pickle', 'use_safetensors=False']),
    (renamed('model.ckpt'), ['pickle']),
    (renamed('pytorch_model.non_ema.safetensors'), ['non_ema', 'the name']),
    (renamed('flax_model.msgpack'), ['Flax', 'from_flax=True']),
    (lambda weights: weights.unlink(), ['none', 'fetch the folder again']),
    (refilled(lambda w: w.to(torch.int8)), ['conv_in.weight', 'int8']),
    (refilled(lambda w: w / 0), ['conv_in.weight', 'finite']),
    (refilled(lambda w: w[:, :1].clone()),
     ['conv_in.weight', '(8, 1, 3, 3)', 'should']),
    (refilled(lambda w: w.flatten()), ['conv_in.weight', '(216,)', 'should']),
    (refilled(lambda w: w.sum()), ['conv_in.weight', '()', 'should']),
])
def test_each_cause_has_a_remedy(tmp_path, spoil, words):
    folder = d.to_diffusers(tiny(), tmp_path / 'a')
    spoil(folder / WEIGHTS)
    with pytest.raises(ValueError) as caught:
        d.from_diffusers(folder)
    for word in words:
        assert word in str(caught.value)
    if 'pickle' not in words:
        assert 'pickle' not in str(caught.value)


def test_another_place_is_named(tmp_path):
    folder = d.to_diffusers(tiny(), tmp_path / 'a')
    for read_in in (d.from_diffusers, d.diffusers_sampler):
        asker = read_in.__name__
        with pytest.raises(FileNotFoundError, match=f'{asker}: .*hf download'):
            read_in('google/ddpm-cifar10-32')
        with pytest.raises(ValueError, match=f'{asker}: .*file.* should be the folder'):
            read_in(folder / 'model_index.json')
        with pytest.raises(TypeError, match=f'{asker}: path is an int 3'):
            read_in(3)
    with pytest.raises(ValueError, match=re.escape(f'give {str(folder)!r}')):
        d.from_diffusers(folder / 'unet')
    cache = tmp_path / 'models--me--mine'
    (cache / 'snapshots').mkdir(parents=True)
    folder.rename(cache / 'snapshots/abc')
    with pytest.raises(ValueError, match='give .*abc'):
        d.from_diffusers(cache)
    with pytest.raises(ValueError, match='quantum'):
        d.from_diffusers(tmp_path, 'quantum')


def test_another_scheduler_has_a_remedy(tmp_path):
    folder = d.to_diffusers(tiny(), tmp_path / 'a')
    change(folder / SCHEDULER, _class_name='DDIMScheduler')
    with pytest.raises(ValueError, match='DDPMScheduler.from_config'):
        d.from_diffusers(folder)


UNWRITABLE = [
    ('patch = 2', d.pretrained, {}),
    ('groups', lambda: tiny(groups=16), {}),
    ('variance', tiny, dict(variance='large')),
    ('variance', tiny, dict(variance=torch.ones(11))),
    ('limit', lambda: tiny(limit=torch.tanh), {}),
    ('Linear', lambda: d.DDPM(torch.nn.Linear(1, 1), d.cosine_schedule(5)), {}),
]


@pytest.mark.parametrize('word, make, options', UNWRITABLE)
def test_what_they_have_not_is_refused(tmp_path, word, make, options):
    with pytest.raises(ValueError, match=word):
        d.to_diffusers(make(), tmp_path / 'a', **options)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full/mine.txt').write_text('mine')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(FileExistsError, match='another path'):
        d.to_diffusers(tiny(), tmp_path / 'full')
    with pytest.raises(FileExistsError):
        d.to_diffusers(tiny(), tmp_path / 'full/mine.txt')
    assert [p.name for p in (tmp_path / 'full').iterdir()] == ['mine.txt']
    assert d.to_diffusers(tiny(), tmp_path / 'empty') == tmp_path / 'empty'
    assert (tmp_path / 'empty/model_index.json').exists()


def test_writing_is_whole_or_not_at_all(tmp_path, monkeypatch):
    def full(*args):
        raise OSError('the disk is full')

    monkeypatch.setattr(safetensors.torch, 'save_file', full)
    with pytest.raises(OSError, match='full'):
        d.to_diffusers(tiny(), tmp_path / 'b')
    assert list(tmp_path.iterdir()) == []


WITHOUT = """
import sys
sys.modules['diffusers'] = sys.modules['huggingface_hub'] = None
from ddpm_teach import from_diffusers, to_diffusers
to_diffusers(from_diffusers({a!r}), {b!r})
print(sorted(sys.modules.keys() & {{'torchvision', 'matplotlib', 'accelerate'}}))
"""


def test_needs_neither_diffusers_nor_a_network(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError('the network was asked')

    for name in ('getaddrinfo', 'create_connection'):
        monkeypatch.setattr(socket, name, refuse)
    folder = d.to_diffusers(tiny(), tmp_path / 'a')
    diffusers.DDPMPipeline.from_pretrained(folder)      # not even told to stay at home
    assert run(WITHOUT.format(a=str(folder), b=str(tmp_path / 'b'))).strip() == '[]'
    written = (tmp_path / 'b/unet/config.json').read_text()
    assert (folder / 'unet/config.json').read_text() == written


@pytest.mark.parametrize('given', [
    dict(channels=(8,), attention=()),
    dict(channels=(8,), attention=(32,)),
    dict(channels=(8, 16, 24), blocks=3, attention=(32, 8)),
])
def test_every_weight_has_one_name(given):
    names = their_names(d.UNet(groups=4, patch=1, **given))
    used = [name for those in names.values() for name in those]
    assert len(set(used)) == len(used)
