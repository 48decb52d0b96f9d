"""The cache of features: bytes as without it, no second computation, bounded, and mended."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from burnish.errors import InputError
from burnish.jobs import feature_cache
from burnish.jobs.evaluate import plan_evaluate
from burnish.jobs.feature_cache import CachedExtractor, cached
from burnish.jobs.options import JobOptions
from burnish.metrics.features import Features, NetworkExtractor
from burnish.networks.build import build

MEGABYTE = 2**20


class Counting:
    """An extractor that counts the images that it computes."""

    name, sha256, calls, classifies = "counting", "0" * 64, 0, False

    def __init__(self, spatial=True):
        self._spatial = spatial

    def __call__(self, images_uint8):
        self.calls += len(images_uint8)
        features = images_uint8.float().flatten(1)[:, :4] / 3
        return Features(features, features.softmax(1), features * 2 if self._spatial else None)


def images(seed, count=5):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 8, 8), generator=generator).byte()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path))
    return tmp_path / "features"


def same(one, other):
    return all(
        (a is None) == (b is None) and (a is None or a.equal(b))
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("spatial", [False, True])
@pytest.mark.parametrize("has_spatial", [False, True])
def test_a_second_time_the_same_bytes_without_computing(spatial, has_spatial):
    extractor = Counting(has_spatial)
    direct = extractor(images(0))
    direct = direct if spatial else direct._replace(spatial=None)
    extractor.calls = 0
    for _ in range(2):
        found = cached(extractor, spatial=spatial)(images(0))
        assert same(found, direct)
    assert extractor.calls == 5
    # An entry with spatial features serves those who want none; the other way it is made again.
    cached(extractor, spatial=False)(images(0))
    assert extractor.calls == 5
    cached(extractor, spatial=True)(images(0))
    assert extractor.calls == (5 if spatial else 10)


def test_anything_that_changes_features_misses():
    extractor = Counting()
    cached(extractor, spatial=False)(images(0))
    one_pixel = images(0)
    one_pixel[0, 0, 0, 0] ^= 1
    turned = images(0).transpose(2, 3)
    for other in (one_pixel, turned, images(0)[:4], images(0).reshape(5, 3, 4, 16)):
        before = extractor.calls
        cached(extractor, spatial=False)(other)
        assert extractor.calls == before + len(other)
    resized = Counting()
    resized.sha256 = "1" * 64
    cached(resized, spatial=False)(images(0))
    assert resized.calls == 5


@pytest.mark.parametrize("how", ["cut", "flipped", "empty", "other rows", "folder"])
def test_a_damaged_entry_is_made_again(folder, how):
    extractor = Counting()
    right = cached(extractor, spatial=False)(images(0))
    (path,) = folder.glob("*/*")
    data = path.read_bytes()
    if how == "flipped":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif how == "other rows":
        cached(extractor, spatial=False)(images(1, count=4))
        (other,) = set(folder.glob("*/*")) - {path}
        path.write_bytes(other.read_bytes())
    elif how == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(data[:40] if how == "cut" else b"")
    before = extractor.calls
    assert same(cached(extractor, spatial=False)(images(0)), right)
    assert extractor.calls == before + 5
    cached(extractor, spatial=False)(images(0))
    assert extractor.calls == before + (10 if how == "folder" else 5)


def test_it_stays_below_its_limit_and_what_was_used_last_stays(folder):
    extractor = CachedExtractor(Counting(), folder, 20_000, False)
    extractor(images(0))
    entry = sum(path.stat().st_size for path in folder.glob("*/*"))
    counting = Counting()
    extractor = CachedExtractor(counting, folder, 10 * entry, False)
    for seed in range(30):
        extractor(images(seed))
        for age, path in enumerate(sorted(folder.glob("*/*"), key=os.path.getmtime)[::-1]):
            os.utime(path, (when := time.time() - age - 1, when))  # clocks of disks are coarse
        extractor(images(0))
        assert sum(path.stat().st_size for path in folder.glob("*/*")) <= 10 * entry
    assert counting.calls == 5 * 29  # the first was there, and was used each time


def test_a_folder_that_cannot_be_written_is_no_fault(folder):
    folder.write_text("a file")
    extractor = Counting()
    assert same(cached(extractor, spatial=True)(images(0)), extractor(images(0)))


def test_small_networks_and_whoever_wants_none_go_without(monkeypatch):
    network = build({"name": "convnet", "num_classes": 2, "in_channels": 3})
    small = NetworkExtractor(network, "small", "0" * 64)
    assert cached(small, spatial=False) is small
    extractor = Counting()
    assert cached(extractor, spatial=False, wanted=False) is extractor
    monkeypatch.setenv(feature_cache.SIZE, "0")
    assert cached(extractor, spatial=False) is extractor
    monkeypatch.setenv(feature_cache.SIZE, "much")
    with pytest.raises(InputError, match="'much' is no number"):
        cached(extractor, spatial=False)


def test_another_protocol_or_k_computes_no_features_again(tmp_path):
    for seed, name in enumerate(("generated.npz", "real.npz")):
        np.savez(tmp_path / name, arr_0=images(seed, 40).permute(0, 2, 3, 1).numpy())

    def score(extractor, out, **options):
        paths = tmp_path / "generated.npz", f"{tmp_path}/real.npz"
        plan = plan_evaluate(*paths, extractor, out=tmp_path / out, batch_size=16, **options)
        before = extractor.calls
        result = plan.run()
        return extractor.calls - before, {name: result[name] for name in ("fid", "kid", "recall")}

    extractor = Counting()
    count, first = score(extractor, "a.json")
    assert count == 80
    assert score(extractor, "b.json", num_neighbors=3) == (0, first)
    assert score(extractor, "c.json", num_neighbors=5)[0] == 0
    assert score(extractor, "d.json", protocol="torch-fidelity")[0] == 0
    assert score(extractor, "e.json", cache=False) == (80, first)


def test_validation_images_go_the_same_way_and_are_not_the_reference(tmp_path):
    for seed, name in enumerate(("generated.npz", "real.npz", "other.npz")):
        np.savez(tmp_path / name, arr_0=images(seed, 40).permute(0, 2, 3, 1).numpy())
    paths = [str(tmp_path / name) for name in ("generated.npz", "real.npz", "other.npz")]

    def plan(validation, out="a.json", **options):
        options = {"batch_size": 16, "job": JobOptions(shard_size=16, force=True), **options}
        return plan_evaluate(
            Path(paths[0]), paths[1], extractor, out=tmp_path / out, validation=validation,
            **options,
        )  # fmt: skip

    extractor = Counting()
    planned = plan(paths[2])
    sides = [shard.of for shard in planned.shards()]
    assert [sides.count(of) for of in ("", "reference-", "validation-")] == [3, 3, 3]
    assert len({shard.number for shard in planned.shards()}) == 9
    result = planned.run()
    assert extractor.calls == 3 + 120  # one image of each side shows the size
    own = plan_evaluate(Path(paths[2]), paths[1], extractor).run()["fid"]
    assert result["fdr"] == pytest.approx(result["fid"] / own)
    np.savez(tmp_path / "few.npz", arr_0=np.load(paths[2])["arr_0"][:20])
    said = plan(f"{tmp_path}/few.npz", "few.json").run()["warnings"]
    assert any("20 validation and 40 generated images" in line for line in said)
    before = extractor.calls
    assert plan(paths[2], "b.json", num_neighbors=5).run()["fdr"] == result["fdr"]
    assert extractor.calls == before + 1
    # The same file, and the same images in a file of another name and order.
    with pytest.raises(InputError, match="the validation images are those of the reference"):
        plan(paths[1])
    np.savez(tmp_path / "turned.npz", arr_0=np.load(paths[1])["arr_0"][::-1])
    with pytest.raises(InputError, match=r"turned.npz' are those of the reference"):
        plan(f"{tmp_path}/turned.npz", "c.json").run()
    assert not (tmp_path / "c.json").exists()


def test_labels_and_accuracy_do_not_depend_on_the_cache(tmp_path):
    for seed, name in enumerate(("generated.npz", "real.npz")):
        rows = images(seed, 40)
        labels = Counting()(rows).features.argmax(1).numpy()  # the most probable class
        labels[:10] = (labels[:10] + 1) % 4
        pixels = rows.permute(0, 2, 3, 1).numpy()
        np.savez(tmp_path / name, arr_0=pixels, arr_1=labels.astype(np.int64))
    extractor = Counting()
    extractor.classifies = True
    for out in ("a.json", "b.json"):
        paths = tmp_path / "generated.npz", f"{tmp_path}/real.npz"
        plan = plan_evaluate(*paths, extractor, out=tmp_path / out, batch_size=16)
        assert plan.run()["accuracy"] == 0.75
    assert extractor.calls == 80 + 3  # plans try an image of each side, the real one once
