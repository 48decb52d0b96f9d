"""Images on disk, one by one: the same from each format, of one size, and plainly refused."""

import io
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image

from burnish.errors import InputError
from burnish.samples import Samples, from_uint8, to_uint8
from burnish.storage.center_crop import center_crop
from burnish.storage.datasets import load_dataset, pick_rows
from burnish.storage.disk_dataset import open_dataset, spread_rows
from burnish.storage.formats import write_samples

SUFFIXES = ["", ".npz", ".npy", ".tar", ".zip", ".parquet"]


def images_uint8(count=23, channels=3):
    generator = torch.Generator().manual_seed(channels)
    shape = (count, channels, 10, 12)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def written(path, count=23, channels=3):
    images = from_uint8(images_uint8(count, channels))
    samples = Samples(images, torch.arange(count) % 4, torch.arange(count))
    return write_samples(path, [samples], count)


def saved(path, size, mode="RGB", kind="JPEG"):
    """Write an image of a (width, height) and a smooth content."""
    x, y = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]))
    pixels = np.stack([x, y, 1 - x], 2) * 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).convert(mode).save(path, kind)


@pytest.mark.parametrize(
    ("suffix", "channels"), product(["", ".npz", ".tar", ".zip", ".parquet"], [1, 3])
)
def test_every_format_gives_the_images_of_any_rows(suffix, channels, tmp_path):
    path = written(tmp_path / f"set{suffix}", channels=channels)
    data = open_dataset(str(path))
    whole = load_dataset(str(path))
    assert data.image_shape == (channels, 10, 12) and len(data) == 23 and data.num_classes == 4
    rows = torch.tensor([22, 0, 7, 7, 3])
    for found, expected in [
        (data.samples(rows), whole.samples(rows)),
        (data[5:20].samples(slice(3, 9)), whole[5:20].samples(slice(3, 9))),
        (data[rows].samples(), whole[rows].samples()),
    ]:
        assert torch.equal(found.images, expected.images)
        assert found.labels is not None and expected.labels is not None
        assert torch.equal(found.labels, expected.labels)
        assert torch.equal(found.ids, expected.ids)
    assert data.pixel_mean == whole.pixel_mean


def test_what_save_to_disk_left_and_several_files_are_read(tmp_path):
    datasets = pytest.importorskip("datasets")
    contents = []
    for image in images_uint8().permute(0, 2, 3, 1).numpy():
        Image.fromarray(image).save(content := io.BytesIO(), "PNG")
        contents.append({"bytes": content.getvalue(), "path": None})
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    table = datasets.Dataset.from_dict(
        {"image": contents, "label": [i % 4 for i in range(23)]}, features
    )
    table.save_to_disk(str(tmp_path / "saved"), num_shards=3)
    data = open_dataset(str(tmp_path / "saved"))
    assert torch.equal(
        to_uint8(data.samples(torch.tensor([22, 4])).images), images_uint8()[[22, 4]]
    )
    for part in range(3):
        written(tmp_path / f"part-{part}.tar")
    joined = open_dataset(str(tmp_path / "part-{0..2}.tar"))
    assert len(joined) == 69
    one = joined.samples(torch.tensor([22, 23, 68]))
    assert torch.equal(to_uint8(one.images), images_uint8()[[22, 0, 22]])


def test_images_of_any_size_become_squares_of_one(tmp_path):
    sizes = [(64, 64), (500, 375), (40, 300), (90, 70), (64, 90)]
    for place, size in enumerate(sizes):
        saved(tmp_path / "set" / "a" / f"{place}.jpg", size, "L" if place == 3 else "RGB")
    data = open_dataset(str(tmp_path / "set"), size=64)
    found = data.samples()
    assert found.images.shape == (5, 3, 64, 64)
    with Image.open(tmp_path / "set" / "a" / "0.jpg") as image:
        exact = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)
    assert torch.equal(to_uint8(found.images[0]), exact)
    # The middle of a wide image: the red ramp is cut on both sides.
    wide = found.images[1, 0]
    assert wide[:, 0].mean() == pytest.approx(0.125, abs=0.02)
    assert wide[:, -1].mean() == pytest.approx(0.875, abs=0.02)
    with pytest.raises(InputError, match="set data: size"):
        open_dataset(str(tmp_path / "set")).samples()


def test_reducing_averages_what_it_leaves_out():
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (256, 128)))
    small = np.asarray(center_crop(stripes, 64)).astype(int)
    # Every second column alone would be black or white, and a sharp eye would see it.
    assert small.shape == (64, 64) and abs(small - 127.5).max() <= 1
    assert center_crop(small_image := stripes.crop((0, 0, 64, 64)), 64) is small_image
    with pytest.raises(InputError, match="too narrow"):
        center_crop(Image.new("L", (2**20, 1)), 64)


def test_what_cannot_be_read_in_any_order_is_refused(tmp_path):
    pixels, labels = images_uint8().permute(0, 2, 3, 1).numpy(), np.arange(23)
    np.savez_compressed(tmp_path / "packed.npz", pixels, labels)
    np.savez(tmp_path / "bare.npz", pixels)
    torch.save({"images": images_uint8(), "labels": torch.arange(23)}, tmp_path / "set.pt")
    saved(tmp_path / "mixed" / "a" / "0.png", (8, 8), "L", "PNG")
    (tmp_path / "broken" / "a").mkdir(parents=True)
    (tmp_path / "broken" / "a" / "0.jpg").write_bytes(b"\xff\xd8 no image")
    for path, reason in {
        "packed.npz": "is compressed",
        "bare.npz": "has no labels",
        "set.pt": "is compressed, or a .pt",
        "broken": "0.jpg is not a readable image",
        "nowhere": "no such file",
        "digits": "fits in memory",
        "s3://bucket/set.tar": "local files only",
    }.items():
        with pytest.raises(InputError, match=reason) as error:
            open_dataset(path if ":" in path or path == "digits" else str(tmp_path / path))
        assert "\n" not in str(error.value)


def test_a_color_image_among_gray_ones_is_named(tmp_path):
    for place in range(40):
        saved(tmp_path / "a" / f"{place:02d}.png", (8, 8), "RGB" if place == 39 else "L", "PNG")
    data = open_dataset(str(tmp_path), 8)  # looks at 32 of 40
    assert data.image_shape == (1, 8, 8)
    with pytest.raises(InputError, match=r"39\.png has color"):
        data.samples()


def test_the_hash_follows_from_images_labels_rows_and_size(tmp_path):
    data = open_dataset(str(written(tmp_path / "a.npz")))
    assert data.sha256() == open_dataset(str(written(tmp_path / "b.npz"))).sha256()
    others = [data[1:], data[torch.arange(23).flip(0)], open_dataset(str(tmp_path / "a.npz"), 10)]
    others.append(open_dataset(str(written(tmp_path / "c.npz", count=22))))
    assert len({one.sha256() for one in [data, *others]}) == 5


def test_rows_may_be_spread_over_all():
    def picked(text, count=10):
        return torch.arange(count)[pick_rows(text, count)].tolist()

    assert picked("every 4") == [0, 4, 8] and picked("not every 4") == [1, 2, 3, 5, 6, 7, 9]
    assert picked("3-5") == [3, 4, 5] and picked("") == list(range(10))
    for wrong in ("every", "every 1", "every 99", "some every 4", "not", "every -3", "every x"):
        with pytest.raises(InputError):
            picked(wrong)
    assert spread_rows(10, 4).tolist() == [0, 2, 5, 7] and spread_rows(3, 9).tolist() == [0, 1, 2]
