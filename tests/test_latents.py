"""An autoencoder in a model: in its file, in its training, in what it draws."""

import subprocess
import sys

import pytest
import torch

import ddpm_teach as d


def model_with_coder():
    torch.manual_seed(0)
    coder = d.Autoencoder((8, 16), size=32)
    coder.scale.fill_(3.)
    network = d.UNet(
        channels=(8, 16), attention=(), size=8, image_channels=4, patch=1, groups=4)
    return d.DDPM(network, d.cosine_schedule(20), limit=None, coder=coder)


def test_a_file_holds_the_coder(tmp_path):
    model = model_with_coder()
    path = d.save(model, tmp_path / 'model.safetensors')
    drawn = d.sample(2, model=model, seed=0, progress=False)
    assert drawn.shape == (2, 3, 32, 32)
    assert torch.equal(drawn, d.sample(2, model=path, seed=0, progress=False))
    look = (
        'import sys; from ddpm_teach import load; model = load(sys.argv[1]); '
        'assert model.coder.scale == 3')
    subprocess.run([sys.executable, '-c', look, path], check=True)


def test_a_coder_without_a_name_is_refused_before_the_training(tmp_path):
    model = model_with_coder()
    model.coder = torch.nn.Identity()
    with pytest.raises(ValueError, match='coder of the kind Identity'):
        d.save(model, tmp_path / 'model.safetensors')


def test_training_leaves_the_coder_alone(tmp_path):
    model = model_with_coder()
    before = [weight.clone() for weight in model.coder.state_dict().values()]
    data = d.Points(torch.randn(64, 4, 8, 8))
    hooks = d.usual(tmp_path / 'run', progress=False)
    trained = d.train(model, data, 1, hooks=hooks).model
    after = list(trained.coder.state_dict().values())
    assert all(torch.equal(a, b) for a, b in zip(before, after))
    stored = d.load(tmp_path / 'run')
    assert torch.equal(stored.coder.scale, torch.tensor(3.))


def test_mirrors_are_encoded_too():
    torch.manual_seed(0)
    coder = d.Autoencoder((8, 16), size=32)
    images = d.to_uint8(2 * torch.rand(3, 3, 32, 32) - 1)
    data = d.Pictures(images, mirror=True)
    latents = d.encoded(coder, data, batch_size=2, progress=False)
    with torch.no_grad():
        turned = coder.encode(d.to_float(images.flip(-1)))
    assert len(latents) == 6 and torch.allclose(latents.x[3:], turned, atol=1e-5)
    data.mirror = False
    assert len(d.encoded(coder, data, progress=False)) == 3


def test_a_pipeline_does_not_decode(tmp_path):
    with pytest.raises(ValueError, match='should be one without a coder'):
        d.to_diffusers(model_with_coder(), tmp_path / 'pipeline')
