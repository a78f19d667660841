"""Networks in the form of diffusers: the same weights, noise and pictures on both sides, in both directions; what cannot be the same is refused."""
import json
import socket

import pytest
import torch
from safetensors.torch import load_file, save_file

import ddpm_teach as d
from ddpm_teach.published import their_names

diffusers = pytest.importorskip('diffusers')
diffusers.utils.logging.disable_progress_bar()
PUBLISHED = dict(norm_eps=1e-6, freq_shift=1, flip_sin_to_cos=False, downsample_padding=0, attention_head_dim=None)


def theirs(channels, attention, blocks, **given):
    down = tuple('AttnDownBlock2D' if a else 'DownBlock2D' for a in attention)
    up = tuple('AttnUpBlock2D' if a else 'UpBlock2D' for a in reversed(attention))
    return diffusers.UNet2DModel(block_out_channels=channels, layers_per_block=blocks, down_block_types=down, up_block_types=up, **{'sample_size': 32, **PUBLISHED, **given}).eval()


def randomise(network, seed=0):
    """Random everywhere, also where both sides start from zero or one."""
    g = torch.Generator().manual_seed(seed)
    for p in network.parameters():
        p.data = torch.randn(p.shape, generator=g) / max(p[0].numel(), 4)**.5
    return network


def tiny(**given):
    return d.DDPM(randomise(d.UNet(**{'channels': (8, 16), 'groups': 4, 'attention': (16,), 'patch': 1, **given})), d.cosine_schedule(10), 'v').eval()


CASES = {  # the network in both forms, the scheduler of theirs, and how many steps of it to walk from the top and from the bottom
    'CIFAR-10, eps, fixed_large': (dict(channels=(128, 256, 256, 256), attention=(16,), blocks=2, groups=32, dropout=.1),
                                   lambda: theirs((128, 256, 256, 256), (False, True, False, False), 2, dropout=.1), dict(num_train_timesteps=1000, variance_type='fixed_large'), 2),
    'v, cosine, fixed_small': (dict(channels=(16, 32, 48), attention=(8, 16), blocks=1, groups=8),
                               lambda: theirs((16, 32, 48), (False, True, True), 1, norm_num_groups=8), dict(num_train_timesteps=40, beta_schedule='squaredcos_cap_v2', prediction_type='v_prediction'), 40),
    'x0, grey, not clipped': (dict(channels=(8, 8), attention=(), blocks=3, groups=4, size=16, image_channels=1),
                              lambda: theirs((8, 8), (False, False), 3, norm_num_groups=4, sample_size=16, in_channels=1, out_channels=1),
                              dict(num_train_timesteps=40, beta_schedule='scaled_linear', beta_start=.01, beta_end=.6, prediction_type='sample', clip_sample=False, variance_type='fixed_small_log'), 40),
    'trained_betas, eps': (dict(channels=(12, 24), attention=(32, 16), blocks=2, groups=4),
                           lambda: theirs((12, 24), (True, True), 2, norm_num_groups=4), dict(num_train_timesteps=25, trained_betas=d.linear_schedule(25, .01, .6).betas.tolist()), 25)}


def compare(model, sampler, pipeline, start, steps, dtype):
    """The largest difference while both walk `steps` steps down from `start`, with the same noise: in pixels of [0, 1] and in x0_hat.

    In float32 a linear schedule leaves four digits of 1 - abar near t = 0, on both sides. In float64 only the networks round, which stay in float32."""
    scheduler = diffusers.DDPMScheduler.from_config(pipeline.scheduler.config)
    if dtype == torch.float64:
        scheduler.alphas_cumprod = model.schedule.abar[1:]
    shape, g, h = (2, *model.network.shape), torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    model = d.DDPM(lambda x, i, network=model.network: network(x.float(), i).to(dtype), model.schedule, model.predicts)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(4)).to(dtype)
    x = x if start == model.schedule.T else x.clamp(-1, 1)        # near the end a chain is near a picture
    ours, worst = sampler(model, x, draw=lambda: torch.randn(shape, generator=g, dtype=dtype), start=start), 0.
    next(ours)
    for i, step in zip(range(start - 1, start - 1 - steps, -1), ours):
        with torch.no_grad():
            out = scheduler.step(pipeline.unet(x.float(), torch.tensor(i)).sample.to(dtype), i, x, generator=h)
        x = out.prev_sample
        assert step.t == i and step.x.dtype == x.dtype == dtype
        grows = max(1., model.schedule.snr[i + 1].item()**-.5) if model.predicts == 'eps' else 1.    # what an error of 1 in eps is in x0_hat
        worst = max(worst, (step.x - x).abs().max().item() / 2, (step.x0_hat - out.pred_original_sample).abs().max().item() / grows / 2)
    assert (x.abs() < .999).double().mean() > .2 and (x[0] - x[1]).abs().max() > .01      # else anything would agree
    return worst


@pytest.mark.parametrize('case', CASES)
def test_same_pictures_in_both_directions(case, tmp_path):
    given, make, settings, steps = CASES[case]
    torch.manual_seed(0)
    scheduler = diffusers.DDPMScheduler(**settings)
    diffusers.DDPMPipeline(randomise(make(), 1), scheduler).save_pretrained(tmp_path / 'theirs')                 # theirs, read by us
    model, sampler = d.from_diffusers(tmp_path / 'theirs', 'cpu'), d.diffusers_sampler(tmp_path / 'theirs')
    pipeline = diffusers.DDPMPipeline.from_pretrained(tmp_path / 'theirs', local_files_only=True)
    assert {k: v for k, v in model.network.config.items() if k != 'attention'} == {k: v for k, v in d.UNet(patch=1, **given).config.items() if k != 'attention'}
    if case.startswith('CIFAR'):
        assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in pipeline.unet.parameters()) == 35_746_307
    T = model.schedule.T
    with torch.no_grad():
        x, t = torch.randn(3, *model.network.shape), torch.tensor([0, min(7, T - 1), T - 1])
        assert (pipeline.unet(x, t).sample - model.network(x, t)).abs().max() < 1e-4
    for start in {T, steps}:
        assert compare(model, sampler, pipeline, start, steps, torch.float32) < (2e-4 if start < T else 1e-4)    # the four digits, twice
        assert compare(model, sampler, pipeline, start, steps, torch.float64) < 1e-5
    mine = d.DDPM(randomise(d.UNet(patch=1, **given), 2).eval(), model.schedule, model.predicts)                 # ours, read by them
    d.to_diffusers(mine, tmp_path / 'ours', variance=sampler.keywords['variance'], clip=sampler.keywords['clip'])
    back = diffusers.DDPMPipeline.from_pretrained(tmp_path / 'ours', local_files_only=True)
    for start in {T, steps}:
        assert compare(mine, sampler, back, start, steps, torch.float64) < 1e-5
    again = d.from_diffusers(tmp_path / 'ours', 'cpu')                                                           # and back: the same bits
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), mine.state_dict().values())) and torch.equal(again.schedule.betas, mine.schedule.betas)
    assert again.predicts == mine.predicts and d.diffusers_sampler(tmp_path / 'ours').keywords == sampler.keywords


def test_whole_pipeline(tmp_path):
    """Their own call, from noise to pictures in [0, 1], without a network."""
    model = tiny()
    pipeline = diffusers.DDPMPipeline.from_pretrained(d.to_diffusers(model, tmp_path / 'a'), local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    images = torch.from_numpy(pipeline(2, torch.Generator().manual_seed(0), 10, output_type='np').images).permute(0, 3, 1, 2)
    g = torch.Generator().manual_seed(0)
    draw = lambda: torch.randn(2, 3, 32, 32, generator=g)
    *_, last = d.ancestral(model, draw(), draw=draw)
    assert (images - (last.x / 2 + .5).clamp(0, 1)).abs().max() < 1e-4


def test_the_published_layout(tmp_path):
    """As in google/ddpm-cifar10-32: all files in one place, old names of the attention, few settings, and a pickle beside the safetensors."""
    d.to_diffusers(tiny(), tmp_path / 'new')
    weights = load_file(tmp_path / 'new/unet/diffusion_pytorch_model.safetensors')
    for old, new in [('query', 'to_q'), ('key', 'to_k'), ('value', 'to_v'), ('proj_attn', 'to_out.0')]:
        weights = {name.replace(f'.{new}.', f'.{old}.'): w for name, w in weights.items()}
    old = tmp_path / 'old'
    old.mkdir()
    save_file({name: w.contiguous() for name, w in weights.items()}, old / 'diffusion_pytorch_model.safetensors', {'format': 'pt'})
    (old / 'diffusion_pytorch_model.bin').write_bytes(b'a pickle: never read')
    config = json.loads((tmp_path / 'new/unet/config.json').read_text())
    (old / 'config.json').write_text(json.dumps(config | {'_diffusers_version': '0.0.4'}))
    (old / 'scheduler_config.json').write_text(json.dumps(dict(_class_name='DDPMScheduler', _diffusers_version='0.1.1', beta_end=.02, beta_schedule='linear', beta_start=1e-4, clip_sample=True,
                                                               num_train_timesteps=1000, trained_betas=None, variance_type='fixed_large')))
    model, network = d.from_diffusers(old, 'cpu'), diffusers.UNet2DModel.from_pretrained(old, local_files_only=True).eval()
    x, t = torch.randn(2, 3, 32, 32), torch.tensor([0, 999])
    with torch.no_grad():
        assert (network(x, t).sample - model.network(x, t)).abs().max() < 1e-4
    assert model.predicts == 'eps' and torch.equal(model.schedule.betas, d.linear_schedule(1000).betas) and d.diffusers_sampler(old).keywords == dict(variance='beta', clip=True)


@pytest.mark.parametrize('file, name, value, word', [
    ('unet/config.json', 'norm_eps', 1e-5, 'norm_eps = 1e-05'), ('unet/config.json', 'norm_eps', ..., 'norm_eps = 1e-05'), ('unet/config.json', 'flip_sin_to_cos', True, 'flip_sin_to_cos = True'),
    ('unet/config.json', 'freq_shift', ..., 'freq_shift = 0'), ('unet/config.json', 'downsample_padding', 1, 'downsample_padding = 1'), ('unet/config.json', 'attention_head_dim', 8, 'attention_head_dim 8'),
    ('unet/config.json', 'out_channels', 6, 'out_channels = 6'), ('unet/config.json', 'resnet_time_scale_shift', 'scale_shift', 'scale_shift'), ('unet/config.json', 'num_class_embeds', 10, 'num_class_embeds = 10'),
    ('unet/config.json', 'sample_size', [32, 16], 'square'), ('unet/config.json', 'down_block_types', ['DownBlock2D', 'ResnetDownsampleBlock2D'], 'ResnetDownsampleBlock2D'),
    ('unet/config.json', 'up_block_types', ['AttnUpBlock2D', 'AttnUpBlock2D'], 'in reverse'), ('unet/config.json', '_class_name', 'UNet2DConditionModel', 'UNet2DConditionModel'),
    ('unet/config.json', 'layers_per_block', 2, 'lacks'), ('unet/config.json', 'block_out_channels', [8, 32], 'other shapes'), ('scheduler/scheduler_config.json', 'num_train_timesteps', 11, 'as many betas'),
    ('scheduler/scheduler_config.json', 'rescale_betas_zero_snr', True, 'rescale'), ('scheduler/scheduler_config.json', 'prediction_type', 'flow', 'flow')])
def test_what_is_not_ours_is_refused(tmp_path, file, name, value, word):
    folder = d.to_diffusers(tiny(), tmp_path / 'a')
    d.from_diffusers(folder)
    config = json.loads((folder / file).read_text())
    config.pop(name, None) if value is ... else config.update({name: value})
    (folder / file).write_text(json.dumps(config))
    with pytest.raises(ValueError, match=word.replace('(', r'\(')):
        d.from_diffusers(folder)


@pytest.mark.parametrize('change, word', [(dict(variance_type='learned'), 'learned'), (dict(thresholding=True), 'thresholding True'), (dict(clip_sample_range=2.), '2.0'), (dict(made_up=1), 'made_up')])
def test_drawing_that_is_not_ours_is_refused(tmp_path, change, word):
    file = d.to_diffusers(tiny(), tmp_path / 'a') / 'scheduler/scheduler_config.json'
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ValueError, match=word):
        d.diffusers_sampler(tmp_path / 'a')


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match='give the folder'):
        d.from_diffusers(tmp_path / 'none')
    with pytest.raises(ValueError, match='neither unet/config.json'):
        d.from_diffusers(tmp_path)
    weights = d.to_diffusers(tiny(), tmp_path / 'a') / 'unet/diffusion_pytorch_model.safetensors'
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match='not a whole safetensors file'):
        d.from_diffusers(tmp_path / 'a')
    weights.rename(weights.with_suffix('.bin'))
    with pytest.raises(ValueError, match='pickle'):
        d.from_diffusers(tmp_path / 'a')


def test_writing_is_whole_or_not_at_all(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match='patch = 2'):
        d.to_diffusers(d.pretrained(), tmp_path / 'a')
    with pytest.raises(ValueError, match='groups'):
        d.to_diffusers(tiny(groups=16), tmp_path / 'a')
    with pytest.raises(ValueError, match='variance'):
        d.to_diffusers(tiny(), tmp_path / 'a', variance='large')
    with pytest.raises(ValueError, match='Linear'):
        d.to_diffusers(d.DDPM(torch.nn.Linear(1, 1), d.cosine_schedule(5)), tmp_path / 'a')
    assert list(tmp_path.iterdir()) == []
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full/mine.txt').write_text('mine')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(FileExistsError, match='another path'):
        d.to_diffusers(tiny(), tmp_path / 'full')
    with pytest.raises(FileExistsError):
        d.to_diffusers(tiny(), tmp_path / 'full/mine.txt')
    assert d.to_diffusers(tiny(), tmp_path / 'empty') == tmp_path / 'empty' and (tmp_path / 'empty/model_index.json').exists()
    import safetensors.torch

    def full(*args): raise OSError('the disk is full')
    monkeypatch.setattr(safetensors.torch, 'save_file', full)
    with pytest.raises(OSError, match='full'):
        d.to_diffusers(tiny(), tmp_path / 'b')
    assert sorted(p.name for p in tmp_path.iterdir()) == ['empty', 'full'] and [p.name for p in (tmp_path / 'full').iterdir()] == ['mine.txt']


def test_needs_neither_diffusers_nor_a_network(tmp_path, monkeypatch):
    from test_package import run
    def refuse(*args, **kwargs): raise AssertionError('the network was asked')
    for name in ('getaddrinfo', 'create_connection'):
        monkeypatch.setattr(socket, name, refuse)
    folder = d.to_diffusers(tiny(), tmp_path / 'a')
    diffusers.DDPMPipeline.from_pretrained(folder)                                     # not even told to stay at home
    code = f"""
import sys
sys.modules['diffusers'] = sys.modules['huggingface_hub'] = None
from ddpm_teach import from_diffusers, to_diffusers
to_diffusers(from_diffusers({str(folder)!r}), {str(tmp_path / 'b')!r})
print(sorted(sys.modules.keys() & {{'torchvision', 'matplotlib', 'accelerate'}}))
"""
    assert run(code).strip() == '[]'
    assert (folder / 'unet/config.json').read_text() == (tmp_path / 'b/unet/config.json').read_text()


def test_every_weight_has_one_name():
    for given in (dict(channels=(8,)), dict(channels=(8, 16, 24), blocks=3, attention=(32, 8))):
        names = their_names(d.UNet(groups=4, patch=1, **given))
        used = [name for those in names.values() for name in those]
        assert len(set(used)) == len(used)
