"""Images of every generator depend on their seeds and labels only."""

from typing import Any

import pytest
import torch
from torch import nn

from burnish.errors import InputError
from burnish.generators.consistency import ConsistencyModel
from burnish.generators.diffusion import DiffusionModel
from burnish.generators.latent import LatentModel
from burnish.generators.unet import build_unet
from burnish.networks.build import build


def unet(num_classes: int | None = 4) -> Any:
    found: Any = build_unet(8, 1, num_classes, widths=(8, 16), norm_num_groups=4)
    nn.init.normal_(found.conv_out.weight, std=0.3)  # so that images differ
    return found


def decoder() -> Any:
    network = {"name": "decoder", "in_channels": 1, "num_classes": 4, "image_size": 8}
    found = build({**network, "latent_size": 5, "widths": [8, 6, 4]})
    for module in found.modules():
        if isinstance(module, nn.Embedding):  # so that classes differ
            nn.init.normal_(module.weight, 1.0, 0.5)
    return found


MODELS = {
    "consistency, 1 step": lambda: ConsistencyModel(unet()),
    "consistency, 2 steps": lambda: ConsistencyModel(unet(), num_steps=2),
    "diffusion": lambda: DiffusionModel(unet(), num_steps=2),
    "latent": lambda: LatentModel(decoder(), {}),
}


@pytest.mark.parametrize("name", MODELS)
def test_an_image_depends_on_its_seed_and_label_alone(name):
    model, seeds = MODELS[name](), [11, 4, 7, 2, 9]
    samples = model.sample(seeds)
    assert samples.labels is not None and samples.ids.tolist() == seeds
    assert len(set(samples.labels.tolist())) > 1
    cut = list(model.batches(seeds[::-1], batch_size=2))
    assert [len(part) for part in cut] == [2, 2, 1]
    assert torch.equal(torch.cat([part.labels for part in cut]).flip(0), samples.labels)
    images = torch.cat([part.images for part in cut]).flip(0)
    torch.testing.assert_close(images, samples.images, rtol=0, atol=1e-5)
    # Labels have their own stream: giving the same ones changes no pixel.
    assert torch.equal(model.sample(seeds, samples.labels).images, samples.images)
    other = model.sample(seeds, (samples.labels + 1) % 4)
    for found in (other.images - samples.images, samples.images - samples.images.roll(1, 0)):
        assert (found.flatten(1).abs().amax(1) > 1e-3).all()


@pytest.mark.parametrize("name", MODELS)
def test_labels_are_checked(name):
    for wrong in ([0, 4], [-1, 0], [0], [0, 1, 2]):
        with pytest.raises(InputError, match="labels"):
            MODELS[name]().sample([1, 2], torch.tensor(wrong))


def test_a_generator_without_classes_takes_no_labels():
    model = ConsistencyModel(unet(num_classes=None))
    assert model.sample([1]).labels is None
    with pytest.raises(InputError, match="has no classes"):
        model.sample([1], torch.tensor([0]))
