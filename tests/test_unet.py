"""The published CIFAR-10 network of Ho et al. (2020), built here and in diffusers: the same weights, the same output."""
import pytest
import torch

from ddpm_teach import UNet

diffusers = pytest.importorskip('diffusers')


def theirs():
    return diffusers.UNet2DModel(
        sample_size=32, in_channels=3, out_channels=3, layers_per_block=2, block_out_channels=(128, 256, 256, 256),
        down_block_types=('DownBlock2D', 'AttnDownBlock2D', 'DownBlock2D', 'DownBlock2D'),
        up_block_types=('UpBlock2D', 'UpBlock2D', 'AttnUpBlock2D', 'UpBlock2D'),
        norm_eps=1e-6, freq_shift=1, flip_sin_to_cos=False, downsample_padding=0, attention_head_dim=None, dropout=.1).eval()


def copy(a, b):
    b.load_state_dict(a.state_dict())


def copy_block(a, b):
    """A residual block of theirs into one of ours."""
    for x, y in [('norm1', 'norm1'), ('conv1', 'conv1'), ('time_emb_proj', 'time'), ('norm2', 'norm2'), ('conv2', 'conv2')]:
        copy(getattr(a, x), getattr(b, y))
    if a.conv_shortcut is not None:
        copy(a.conv_shortcut, b.bypass)


def copy_attention(a, b):
    copy(a.group_norm, b.norm)
    b.qkv.weight.data = torch.cat([a.to_q.weight, a.to_k.weight, a.to_v.weight])
    b.qkv.bias.data = torch.cat([a.to_q.bias, a.to_k.bias, a.to_v.bias])
    copy(a.to_out[0], b.out)


def copy_way(their_blocks, stages):
    """One way of the U: `stages` is an iterator over ours."""
    for level in their_blocks:
        attentions = getattr(level, 'attentions', None)
        for i, block in enumerate(level.resnets):
            stage = next(stages)
            copy_block(block, stage[0])
            if attentions is not None:
                copy_attention(attentions[i], stage[1])
        if getattr(level, 'downsamplers', None):
            copy(level.downsamplers[0].conv, next(stages)[0].conv)
        if getattr(level, 'upsamplers', None):
            copy(level.upsamplers[0].conv, stage[-1].conv)


def test_same_as_diffusers():
    torch.manual_seed(0)
    a, b = theirs(), UNet(channels=(128, 256, 256, 256), patch=1, blocks=2, attention=(16,), groups=32, dropout=.1).eval()
    for p in a.parameters():                                      # random everywhere, also where diffusers starts from zero or one
        p.data = torch.randn(p.shape) / max(p[0].numel(), 4)**.5
    assert sum(p.numel() for p in a.parameters()) == sum(p.numel() for p in b.parameters()) == 35_746_307
    copy(a.time_embedding.linear_1, b.time[0])
    copy(a.time_embedding.linear_2, b.time[2])
    copy(a.conv_in, b.first)
    copy_way(a.down_blocks, iter(b.down))
    copy_way(a.up_blocks, iter(b.up))
    copy_block(a.mid_block.resnets[0], b.middle[0])
    copy_attention(a.mid_block.attentions[0], b.middle[1])
    copy_block(a.mid_block.resnets[1], b.middle[2])
    copy(a.conv_norm_out, b.last[0])
    copy(a.conv_out, b.last[2])
    x, t = torch.randn(3, 3, 32, 32), torch.tensor([0, 7, 999])
    with torch.no_grad():
        expected, got = a(x, t).sample, b(x, t)
    assert expected.abs().mean() > .01
    assert (got - expected).abs().max() < 1e-4
