"""Trivial differences between generated and real images: each is found and named, no other is."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate, pad

from burnish.errors import InputError
from burnish.generators.load import load_generator
from burnish.samples import to_uint8
from burnish.storage.datasets import load_dataset
from burnish.studies.checkup.shortcuts import find_shortcuts
from burnish.studies.checkup.traits import block_grid

DATA = Path(__file__).parents[2] / "shared/data"


@pytest.fixture(scope="module")
def images():
    """Images as real ones are in what is checked here: 8 bits, all levels, color."""
    return to_uint8(load_generator("cifar10").sample(range(128)).images)


def as_jpeg(images, quality):
    """Images written as JPEG and read again."""
    read = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
        read.append(torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1))
    return torch.stack(read)


def resized(images, size, mode):
    return interpolate(images.float(), size=size, mode=mode).round().clamp(0, 255).byte()


def in_gray(images):
    return images.float().mean(1, keepdim=True).round().byte().expand(-1, 3, -1, -1)


CHANGES = {
    "compression": lambda images: as_jpeg(images, 95),
    "resampling": lambda images: resized(images[..., ::2, ::2], 32, "bilinear"),
    "repeated pixels": lambda images: resized(images[..., ::2, ::2], 32, "nearest"),
    "borders": lambda images: pad(images[..., 2:-2, 2:-2], (2, 2, 2, 2), value=128),
    "gray": in_gray,
    "value range": lambda images: (16 + images * (219 / 255)).round().byte(),
    "clipping": lambda images: ((images.float() - 128) * 2 + 128).clamp(0, 255).byte(),
    "levels": lambda images: images // 4 * 4,
    "color": lambda images: (
        (images.float() * 0.7 + torch.tensor([70.0, 0, 0])[:, None, None]).clamp(0, 255).byte()
    ),
    "size": lambda images: resized(images, 16, "bilinear"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_done_to_one_side_is_named(images, name):
    changed, plain = CHANGES[name](images[:64]), images[64:]
    for sides in ((changed, plain), (plain, changed)):
        lines = find_shortcuts(*sides)
        assert name in [line.partition(":")[0] for line in lines]
        assert all("\n" not in line for line in lines)


def test_swapped_channels_are_found_where_colors_lean_to_one_side(images):
    warm = (images.float() + torch.tensor([15.0, 0, -15])[:, None, None]).clamp(0, 255).byte()
    (line,) = find_shortcuts(warm[:64], warm[64:].flip(1))
    assert line.startswith("channels: ")
    assert find_shortcuts(warm[:64], warm[64:]) == []


@pytest.mark.parametrize("name", ["none", "compression", "repeated pixels", "borders", "gray"])
def test_nothing_is_found_where_both_sides_have_it(images, name):
    change = CHANGES.get(name, lambda images: images)
    assert find_shortcuts(change(images[:64]), change(images[64:])) == []


def test_faults_that_a_guide_should_learn_are_no_shortcuts(images):
    noise = torch.randn(64, 3, 32, 32) * 8
    assert find_shortcuts((images[:64] + noise).round().clamp(0, 255).byte(), images[64:]) == []
    blurred = torch.nn.functional.conv2d(
        pad(images[:64].float(), (1, 1, 1, 1), mode="reflect").flatten(0, 1)[:, None],
        torch.tensor([[1.0, 6, 1], [6, 36, 6], [1, 6, 1]])[None, None] / 64,
    ).unflatten(0, (64, 3))
    assert find_shortcuts(blurred[:, :, 0].round().byte(), images[64:]) == []


def test_the_block_grid_is_found_wherever_it_begins(images):
    # Larger images, cropped after compression; and images too small for a block everywhere.
    large = torch.cat([torch.cat(list(images[i : i + 4]), 2) for i in range(0, 64, 4)], 1)
    large = as_jpeg(large.unfold(1, 64, 64).unfold(2, 64, 64).flatten(1, 2).transpose(0, 1), 90)
    assert block_grid(large) > 0.2 and block_grid(large[..., 5:, 3:]) > 0.2
    assert block_grid(images[..., :14, :14]) == 0


def test_few_images_are_refused(images):
    with pytest.raises(InputError, match="15 real images are too few to judge; give 16 or more"):
        find_shortcuts(images, images[:15])


@pytest.mark.skipif(not DATA.exists(), reason="shared/data is not here")
def test_sets_of_images_that_differ_in_their_compression_alone():
    png = load_dataset(str(DATA / "cifar10/test-00000-of-00001.parquet"), "0-399").images_uint8
    folder = DATA / "cifake"
    real, generated = (
        load_dataset(str(folder / f"{kind}-00000-of-00001.parquet"), "0-199").images_uint8
        for kind in ("real", "generated")
    )
    assert find_shortcuts(png[:200], png[200:]) == []
    assert find_shortcuts(generated, real) == []
    for sides in ((real, png), (png, generated)):
        (line,) = find_shortcuts(*sides)
        assert line.startswith("compression: ")


@pytest.mark.parametrize("name", ["cifar10", "fashion_mnist"])
@pytest.mark.skipif(not DATA.exists(), reason="shared/data is not here")
def test_images_of_shipped_generators_have_no_shortcut(name):
    real = load_dataset(str(DATA / name / "test-00000-of-00001.parquet"), "0-199").images_uint8
    generated = to_uint8(load_generator(name).sample(range(100)).images)
    assert find_shortcuts(generated, real) == []
