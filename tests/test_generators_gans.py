"""GANs of others: files in their own formats give the images of their own formulas."""

from typing import Any

import pytest
import torch
from generator_files import (
    biggan,
    biggan_deep,
    biggan_deep_images,
    biggan_images,
    mimicry,
    mimicry_images,
)

from burnish.errors import InputError
from burnish.generators.load import load_generator
from burnish.seeds import Streams

FILES = {
    "mimicry": (lambda: mimicry(), mimicry_images, None, (3, 32, 32)),
    "mimicry-cgan-pd": (lambda: mimicry(num_classes=4), mimicry_images, 4, (3, 32, 32)),
    "mimicry-64": (lambda: mimicry(blocks=4, width=4), mimicry_images, None, (3, 64, 64)),
    "biggan-cifar10": (lambda: biggan(), biggan_images, 4, (3, 32, 32)),
    "diffaugment": (lambda: biggan(shared=5), biggan_images, 4, (3, 32, 32)),
    "biggan-hierarchical": (
        lambda: biggan(5, True, (1,), latent=8), biggan_images, 4, (3, 32, 32)),
    "biggan-deep": (lambda: biggan_deep(), biggan_deep_images, 5, (3, 16, 16)),
}  # fmt: skip


def truncated(noise, t=1.0):
    """Latents by the inverse of the distribution function, from that of the normal numbers."""
    normal = torch.distributions.Normal(0.0, 1.0)
    low, high = (normal.cdf(torch.tensor(end)) for end in (-2.0, 2.0))
    return t * normal.icdf(low + normal.cdf(noise) * (high - low))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_images_are_those_of_the_original_formula(name, legacy, tmp_path):
    make, formula, num_classes, shape = FILES[name]
    state, path = make(), tmp_path / "G.pth"
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    model: Any = load_generator(path)
    assert (model.num_classes, model.image_shape, model.nfe) == (num_classes, shape, 1)
    seeds, labels = [3, 8, 9], torch.tensor([1, 3, 0])
    found = model.sample(seeds, None if num_classes is None else labels).images
    latents = Streams(seeds, "noise").normal((model.network.latent_size,))
    if formula is biggan_deep_images:
        latents = truncated(latents)
    expected = formula(state, latents, labels)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)
    assert found.std() > 0.1 and (found[0] - found[1]).abs().max() > 0.1
    # It is kept as one of ours, and read again.
    model.save(tmp_path / "ours.safetensors")
    again = load_generator(tmp_path / "ours.safetensors")
    assert torch.equal(again.sample(seeds, None if num_classes is None else labels).images, found)
    assert again.card["sha256"] == model.card["sha256"] and again.card["source"] == "G.pth"


def test_truncation_takes_its_own_statistics(tmp_path):
    state, path = biggan_deep(), tmp_path / "biggan-deep-128.bin"
    torch.save(state, path)
    labels, noise = torch.tensor([1, 2]), Streams([3, 4], "noise").normal((6,))
    found = {}
    for t in (0.4, 0.435, 1.0):  # between two rows of statistics, too
        found[t] = load_generator(path, truncation=t).sample([3, 4], labels).images
        expected = biggan_deep_images(state, truncated(noise, t), labels, t)
        torch.testing.assert_close(found[t], expected, rtol=0, atol=2e-5)
    assert (found[0.4] - found[0.435]).abs().max() > 1e-3
    for wrong in (0.0, 1.1):
        with pytest.raises(InputError, match="truncation must be above 0"):
            load_generator(path, truncation=wrong)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_steps": 2}, "a GAN makes its images in 1 step"),
        ({"solver": "heun"}, "takes no solver"),
        ({"timesteps": (22, 0)}, "takes no timesteps"),
        ({"truncation": 0.5}, "takes no truncation"),
        ({"family": "biggan"}, "its tensors are those of mimicry, not of biggan"),
        ({"family": "biggna"}, "did you mean 'biggan'"),
        ({"precision": "float8"}, "unknown precision"),
    ],
)
def test_options_that_a_file_does_not_have_are_refused(options, message, tmp_path):
    torch.save(mimicry(), tmp_path / "netG.pth")
    with pytest.raises(InputError, match=message):
        load_generator(tmp_path / "netG.pth", **options)
    assert load_generator(tmp_path / "netG.pth", 1, family="mimicry").nfe == 1
