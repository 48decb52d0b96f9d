"""VAEs, GANs and Gaussians: sizes, files and moments."""

from typing import Any

import pytest
import torch
from torch import nn

from burnish.checkpoint import save_model
from burnish.errors import InputError
from burnish.generators.latent import LatentModel
from burnish.generators.load import load_generator
from burnish.guide.load import load_guide
from burnish.networks.build import build
from burnish.seeds import Streams

DECODER = {"name": "decoder", "in_channels": 1, "num_classes": 4, "image_size": 8,
           "latent_size": 5, "widths": [8, 6, 4]}  # fmt: skip
GAUSSIAN = {"name": "gaussian", "in_channels": 1, "num_classes": 4, "image_size": 8}


def decoder(**more) -> Any:
    torch.manual_seed(0)
    found = build({**DECODER, **more})
    for module in found.modules():
        if isinstance(module, nn.Embedding):  # classes that differ
            nn.init.normal_(module.weight, 1.0, 0.5)
    return found


def gaussian(latent_size) -> Any:
    return build({**GAUSSIAN, "latent_size": latent_size})


def latent():
    return LatentModel(decoder(), {"kind": "gan", "network": DECODER})


@pytest.mark.parametrize(("size", "widths"), [(8, [4]), (28, [8, 6, 4]), (32, [8, 8, 6, 4])])
def test_sizes_of_decoders(size, widths):
    model = LatentModel(decoder(image_size=size, widths=widths, in_channels=3), {})
    assert model.sample([1, 2]).images.shape == (2, 3, size, size)
    with pytest.raises(InputError, match="cannot be halved"):
        decoder(image_size=6, widths=[4, 4, 4])


def test_files_of_latent_models(tmp_path):
    model, path = latent(), tmp_path / "it.safetensors"
    model.save(path)
    found = load_generator(str(path))
    assert isinstance(found, LatentModel) and found.card == model.card and found.nfe == 1
    assert torch.equal(found.sample([1, 2]).images, model.sample([1, 2]).images)
    model.save(path, half=True)
    halved = load_generator(str(path), 1).sample([1, 2]).images
    torch.testing.assert_close(halved, model.sample([1, 2]).images, rtol=0, atol=5e-3)


def test_faulty_files_and_options_are_named(tmp_path):
    path = tmp_path / "it.safetensors"
    latent().save(path)
    faults: list[Any] = [((2,), "a GAN makes its images in 1 step"), ((1, "euler"), "solver")]
    for options, reason in faults:
        with pytest.raises(InputError, match=reason):
            load_generator(str(path), *options)
    with pytest.raises(InputError, match="is a generator, not a guide"):
        load_guide(str(path))
    arguments = {"name": "convnet", "in_channels": 1, "num_classes": 2, "widths": [4]}
    save_model(path, build(arguments), {"kind": "feature extractor", "network": arguments})
    with pytest.raises(InputError, match="is a feature extractor, not a generator"):
        load_generator(str(path))
    with pytest.raises(InputError, match="no generator at"):
        load_generator("nowhere.safetensors")


def test_a_gaussian_has_the_moments_of_its_classes():
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (400, 1, 8, 8), dtype=torch.uint8, generator=generator)
    labels = torch.arange(400) % 4
    network = gaussian(64).fit(images, labels)
    values = images.flatten(1).double() / 255
    means = torch.stack([values[labels == label].mean(0) for label in range(4)])
    torch.testing.assert_close(network.means.double(), means, rtol=0, atol=1e-6)
    covariance = (values - means[labels]).T.cov(correction=0)
    basis = network.basis.double()  # as many directions as values, so nothing is lost
    torch.testing.assert_close(basis.T @ basis, covariance, rtol=0, atol=1e-6)
    samples = LatentModel(network, {"kind": "gaussian"}).sample([3, 4], torch.tensor([1, 2]))
    latents = Streams([3, 4], "noise").normal((64,))
    expected = (means[[1, 2]] + latents.double() @ basis).clamp(0, 1).view(2, 1, 8, 8)
    torch.testing.assert_close(samples.images.double(), expected, rtol=0, atol=1e-5)
    assert (samples.images == 0).any()  # clamped
    few = gaussian(3).fit(images, labels)
    torch.testing.assert_close(few.basis, network.basis[-3:])  # those of most variance


def test_faults_of_gaussians():
    with pytest.raises(InputError, match=r"latent_size must be 1 \.\. 64"):
        gaussian(65)
    with pytest.raises(ValueError, match="no image of class 2"):
        gaussian(3).fit(torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 3]))
