"""Samples on disk: nothing is lost, nothing is loaded too early, every fault is named."""

import io
import os
import re
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from burnish.errors import InputError
from burnish.samples import Samples, from_uint8, to_uint8
from burnish.storage.datasets import load_dataset, parse_rows
from burnish.storage.formats import check_output, open_samples, write_samples

FORMATS = ["set.npz", "set.parquet", "set"]
FASHION_MNIST = Path(__file__).parents[2] / "shared/data/fashion_mnist"


def all_levels(channels, labels=None, ids=None):
    """Twelve images 8x8 in which each of the 256 levels occurs, no two images alike."""
    steps = torch.arange(12 * channels * 64).reshape(3, -1)
    levels = (steps * 37 + torch.tensor([[0], [5], [10]])) % 256  # each third holds all levels
    images = from_uint8(levels.reshape(12, channels, 8, 8).to(torch.uint8))
    return Samples(images, labels, torch.arange(12) if ids is None else ids)


def batches(samples, batch_size=5):
    return [samples[i : i + batch_size] for i in range(0, len(samples), batch_size)]


def join(parts):
    parts = list(parts)
    labels = None if parts[0].labels is None else torch.cat([p.labels for p in parts])
    ids = torch.cat([p.ids for p in parts])
    return Samples(torch.cat([p.images for p in parts]), labels, ids)


def labels_of(samples):
    assert samples.labels is not None
    return samples.labels.tolist()


def assert_same(found, expected):
    torch.testing.assert_close(found.images, expected.images, rtol=0, atol=0)
    assert found.images.is_contiguous()
    assert torch.equal(found.ids, expected.ids)
    assert (found.labels is None) == (expected.labels is None)
    if expected.labels is not None:
        assert found.labels.dtype == torch.int64
        assert torch.equal(found.labels, expected.labels)


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", FORMATS)
def test_round_trip_of_all_levels(tmp_path, name, channels, labelled):
    # Labels neither ascend nor use every class: order and class numbers must survive folders.
    labels = torch.tensor([3, 0, 1] * 4) if labelled else None
    samples = all_levels(channels, labels)
    assert to_uint8(samples.images).unique().numel() == 256
    assert samples.images.unique(dim=0).shape[0] == 12

    path = write_samples(tmp_path / name, batches(samples), 12)
    file = open_samples(path, batch_size=7)

    assert (len(file), file.image_shape) == (12, (channels, 8, 8))
    assert [len(batch) for batch in file] == [7, 5]
    assert_same(join(file), samples)
    assert_same(join(file), samples)  # a second time
    order = [11, 2, 2, 7]
    assert_same(file.read(order), samples[torch.tensor(order)])
    assert len(file.read([])) == 0
    with pytest.raises(InputError, match="no image 12"):
        file.read([12])
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", FORMATS[:2])
def test_ids_are_kept(tmp_path, name):
    samples = join([all_levels(1)] * 25)  # more than one row group of parquet
    samples = Samples(samples.images, torch.arange(300), torch.arange(300) * 7 % 300 - 5)
    file = open_samples(write_samples(tmp_path / name, batches(samples), 300))
    assert_same(join(file), samples)
    assert_same(file.read([299, 3]), samples[torch.tensor([299, 3])])
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize(
    ("ids", "first", "last"),
    [
        (range(12), "000000.png", "000011.png"),
        (range(3, 15), "000003.png", "000014.png"),
        (range(999_995, 1_000_007), "0999995.png", "1000006.png"),
        ([*range(11, 0, -1), 50], "000000.png", "000011.png"),
    ],
)
def test_folders_are_named_by_ids_and_keep_the_order(tmp_path, ids, first, last):
    samples = all_levels(1, torch.arange(12) % 2, torch.tensor(list(ids)))
    file = open_samples(write_samples(tmp_path / "set", batches(samples), 12))
    assert file.names is not None
    assert (file.names[0], file.names[-1]) == (f"00000/{first}", f"00001/{last}")
    torch.testing.assert_close(join(file).images, samples.images, rtol=0, atol=0)


def test_names_are_kept(tmp_path):
    names = [f"{'ab'[i % 2]}/{i:02d}.jpeg" for i in range(12)]
    samples = all_levels(3, torch.arange(12) % 2)
    folder = open_samples(write_samples(tmp_path / "set", batches(samples), 12, names))
    assert folder.names == [name.replace("jpeg", "png") for name in names]
    assert folder.classes == ["a", "b"]
    write_samples(tmp_path / "set.parquet", batches(samples), 12, names)
    cells = pq.read_table(tmp_path / "set.parquet")["image"].to_pylist()
    assert [cell["path"] for cell in cells] == names


@pytest.mark.parametrize("name", FORMATS)
def test_same_samples_make_the_same_bytes(tmp_path, name):
    samples = all_levels(3, torch.arange(12) % 3, torch.arange(100, 112))
    contents = []
    for run, batch_size in (("a", 5), ("b", 12)):
        (tmp_path / run).mkdir()
        path = write_samples(tmp_path / run / name, batches(samples, batch_size), 12)
        files = sorted(path.rglob("*.png")) if path.is_dir() else [path]
        contents.append([(f.relative_to(path), f.read_bytes()) for f in files])
    assert contents[0] == contents[1]


def test_npz_is_numpys(tmp_path):
    samples = all_levels(3, torch.arange(12) % 3)
    with np.load(write_samples(tmp_path / "set.npz", batches(samples), 12)) as arrays:
        assert sorted(arrays) == ["arr_0", "arr_1"]
        expected = to_uint8(samples.images).permute(0, 2, 3, 1).numpy()
        assert np.array_equal(arrays["arr_0"], expected)
        assert arrays["arr_0"].dtype == np.uint8
        assert arrays["arr_1"].dtype == np.int64


def test_npz_floats_are_read_as_they_are(tmp_path):
    values = np.random.default_rng(0).random((4, 8, 8, 3))
    np.savez_compressed(tmp_path / "set.npz", values)
    images = join(open_samples(tmp_path / "set.npz", batch_size=3)).images
    expected = torch.from_numpy(values.astype(np.float32)).permute(0, 3, 1, 2)
    torch.testing.assert_close(images, expected, rtol=0, atol=0)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_larger_than_memory(tmp_path, save):
    images = np.zeros((1024, 64, 64, 3), np.uint8)  # 12.6 MB
    images[:, 0, 0, 0] = np.arange(1024) % 251
    save(tmp_path / "set.npz", images)
    del images
    tracemalloc.start()
    file = open_samples(tmp_path / "set.npz", batch_size=16)
    corners = torch.cat([to_uint8(batch.images[:, 0, 0, 0]) for batch in file])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert torch.equal(corners, (torch.arange(1024) % 251).to(torch.uint8))
    assert peak < 2e6  # a few batches of 0.2 MB


@pytest.mark.parametrize("name", FORMATS)
def test_writing_pulls_one_batch_at_a_time(tmp_path, name):
    on_disk = 0

    def stream():
        nonlocal on_disk
        generator = torch.Generator().manual_seed(0)
        for i in range(300):
            if i == 299:
                on_disk = sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file())
            noise = torch.rand(1, 3, 16, 16, generator=generator)
            yield Samples(noise, None, torch.tensor([i]))

    write_samples(tmp_path / name, stream(), 300)
    assert on_disk > 200 * 16 * 16 * 3  # most of it before the last image was asked for


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, InputError])
@pytest.mark.parametrize("name", FORMATS)
def test_nothing_is_left_behind(tmp_path, name, error):
    samples = all_levels(3, torch.arange(12))

    def stream():
        yield from batches(samples)[:2]
        raise error("midway")

    with pytest.raises(error, match="midway"):
        write_samples(tmp_path / name, stream(), 12)
    assert os.listdir(tmp_path) == []


def test_a_failed_rewrite_keeps_the_old_file(tmp_path):
    path = write_samples(tmp_path / "set.npz", [all_levels(3)], 12)
    before = path.read_bytes()
    with pytest.raises(InputError, match="10 of the 12"):
        write_samples(path, [all_levels(3)[:10]], 12)
    assert path.read_bytes() == before
    write_samples(path, [all_levels(1)], 12)
    assert open_samples(path).image_shape == (1, 8, 8)


@pytest.mark.parametrize(
    ("parts", "num_images", "said"),
    [
        ([all_levels(3)], 11, "more than the 11"),
        ([all_levels(3)], 13, "12 of the 13"),
        ([], 1, "0 of the 1"),
        ([], 0, "at least one"),
        ([all_levels(3), all_levels(1)], 24, "[3, 8, 8] and [1, 8, 8]"),
        ([all_levels(3), all_levels(3, torch.arange(12))], 24, "some have none"),
        ([all_levels(3, torch.arange(12) - 1)], 12, "label -1"),
    ],
)
@pytest.mark.parametrize("name", FORMATS)
def test_faulty_samples(tmp_path, name, parts, num_images, said):
    with pytest.raises(InputError, match=re.escape(said)):
        write_samples(tmp_path / name, parts, num_images)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "names", "said"),
    [
        ("full", None, "not empty"),
        ("file", None, "is a file; choose another name"),
        ("full.npz", None, "is a folder; choose another name"),
        ("file/set.npz", None, "cannot be written"),
        ("set.txt", None, "writable are .npz, .parquet"),
        ("set", ["a.png"], "12 images but 1 names"),
        ("set", ["../a.png", *"bcdefghijkl"], "leads out"),
        ("set", ["a.png", "a.jpg", *"cdefghijkl"], "a.png and a.jpg would both be written as"),
        ("set.parquet", ["\udcff.png", *"bcdefghijkl"], "names of UTF-8 only"),
    ],
)
def test_faulty_targets(tmp_path, name, names, said):
    for folder in ("full", "full.npz"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "kept").touch()
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))

    def unasked():
        pytest.fail("work began before the fault was found")
        yield

    with pytest.raises(InputError, match=re.escape(said)):
        write_samples(tmp_path / name, unasked(), 12, names)
    if names is None or len(names) == 12:
        with pytest.raises(InputError, match=re.escape(said)):
            check_output(tmp_path / name, names=names)
    assert sorted(tmp_path.rglob("*")) == before


def savez(*args, **kwargs):
    def make(path):
        np.savez(path / "set.npz", *args, **kwargs)
        return path / "set.npz"

    return make


def raw(name, content):
    def make(path):
        (path / name).write_bytes(content)
        return path / name

    return make


def damaged(position, compressed=False):
    def make(path):
        values = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)
        (np.savez_compressed if compressed else np.savez)(path / "set.npz", values)
        content = bytearray((path / "set.npz").read_bytes())
        content[position] ^= 255
        (path / "set.npz").write_bytes(content)
        return path / "set.npz"

    return make


def cut_member(path):
    array = io.BytesIO()
    np.save(array, NHWC)
    with zipfile.ZipFile(path / "set.npz", "w") as archive:
        archive.writestr("arr_0.npy", array.getvalue()[:-1])
    return path / "set.npz"


def png(mode="RGB", size=(8, 8)):
    Image.new(mode, size).save(content := io.BytesIO(), "PNG")
    return content.getvalue()


def png_of_16_bits():
    """An RGB PNG with two bytes per channel, which Pillow can read but not write."""
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(8 * 49))), (b"IEND", b"")]
    framed = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def tree(files):
    def make(path):
        for name, content in files.items():
            (path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
            (path / "set" / name).write_bytes(content)
        return path / "set"

    return make


def table(name="set.parquet", **columns):
    def make(path):
        (path / name).parent.mkdir(exist_ok=True)
        pq.write_table(pa.table(columns), path / name)
        return path / name

    return make


def cells(*contents):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.array([{"bytes": content, "path": None} for content in contents], kind)


def splits(path):
    table("set/train-00000-of-00001.parquet", image=cells(png()))(path)
    table("set/test-00000-of-00001.parquet", image=cells(png()))(path)
    return path / "set"


def unlike_parts(path):
    table("set/0.parquet", image=cells(png()))(path)
    table("set/1.parquet", image=cells(png()), label=[0])(path)
    return path / "set"


NHWC = np.zeros((4, 8, 8, 3), np.uint8)

FAULTS = {
    "missing": (lambda path: path / "set.npz", "no such file"),
    "missing pattern": (lambda path: path / "x-*.parquet", "no such file"),
    "suffix": (raw("set.txt", b""), "readable are .npz, .parquet"),
    "not a zip": (raw("set.npz", b"nonsense"), "broken or not an .npz"),
    "damaged": (damaged(400), "Bad CRC-32"),
    "damaged stream": (damaged(150, compressed=True), "broken or not an .npz"),
    "member ends early": (cut_member, "ends before its last number"),
    "no arr_0": (savez(mu=NHWC, sigma=NHWC), "only mu, sigma"),
    "objects": (savez(np.array([{}] * 4)), "pickled Python objects"),
    "object labels": (savez(NHWC, np.array([{}] * 4)), "arr_1 holds pickled"),
    "int32": (savez(NHWC.astype(np.int32)), "arr_0 is int32"),
    "float16": (savez(NHWC.astype(np.float16)), "arr_0 is float16"),
    "[-1, 1]": (savez(NHWC - np.float32(0.5)), "[-0.5, -0.5]; save images of [-1, 1]"),
    "above 1": (savez(NHWC + 1.001), "spans [1.001, 1.001]"),
    "nan": (savez(NHWC + np.float32(np.nan)), "spans [nan, nan]"),
    "rank": (savez(NHWC[0, 0]), "is not [N, H, W, C]"),
    "nchw": (savez(NHWC.transpose(0, 3, 1, 2).copy()), "looks like [N, C, H, W]"),
    "rgba": (savez(np.zeros((4, 8, 8, 4), np.uint8)), "has 4 channels"),
    "empty": (savez(NHWC[:0]), "holds no images"),
    "fortran": (savez(np.asfortranarray(NHWC)), "Fortran order"),
    "label count": (savez(NHWC, np.arange(3)), "4 images but arr_1 of shape [3]"),
    "one-hot": (savez(NHWC, np.eye(4, dtype=np.int64)), "arr_1 of shape [4, 4]"),
    "wide label": (savez(NHWC, np.full(4, 2**63, "u8")), "arr_1 holds 9223372036854775808"),
    "parquet wide label": (
        table(image=cells(png()), label=pa.array([2**64 - 1], "uint64")),
        "column label holds 18446744073709551615",
    ),
    "text in the column": (table(image=["a.png"]), "its columns are image (string)"),
    "negative label": (savez(NHWC, np.arange(4) - 1), "label -1"),
    "float label": (savez(NHWC, np.zeros(4)), "arr_1 is float64"),
    "id count": (savez(NHWC, ids=np.arange(5)), "ids of shape [5]"),
    "no images": (tree({"notes.txt": b"", ".hidden.png": png()}), "no images (.png"),
    "sizes": (tree({"a.png": png(), "b.png": png(size=(9, 8))}), "b.png is 8x9"),
    "first size": (tree({"a.png": png(), "b.png": png(size=(9, 8))}), "first image 8x8"),
    "broken image": (tree({"a.png": png(), "b.png": b"nonsense"}), "b.png is not a readable"),
    "cut image": (tree({"a.png": png()[:45]}), "a.png is not a readable"),
    "16 bit grey": (tree({"a.png": png("I;16")}), "16 bits or more"),
    "16 bit RGB": (tree({"a.png": png_of_16_bits()}), "16 bits or more"),
    "mixed": (tree({"a.png": png(), "b/a.png": png()}), "beside and inside"),
    "too deep": (tree({"a/b/c.png": png()}), "too deep"),
    "not parquet": (raw("set.parquet", b"nonsense"), "broken or not parquet"),
    "no image column": (table(photo=cells(png())), "its columns are photo (struct"),
    "undecodable column": (table(image=[1]), "its columns are image (int64)"),
    "parquet empty": (table(image=cells()), "holds no images"),
    "parquet sizes": (table(image=cells(png(), png(size=(9, 8)))), "image 1 is 8x9"),
    "parquet color": (table(image=cells(png("L"), png())), "image 1 has color"),
    "parquet broken image": (
        table(image=cells(png(), b"x")),
        "image 1 is not a readable image (damaged, or none of",
    ),
    "parquet paths": (table(image=cells(png(), None)), "image 1 has no bytes"),
    "parquet label": (table(image=cells(png()), label=[-1]), "label -1"),
    "parquet no label": (
        table(image=cells(png()), label=pa.array([None], "int64")),
        "misses 1 of its values",
    ),
    "parquet text label": (table(image=cells(png()), label=["cat"]), "column label holds string"),
    "splits": (splits, "holds the splits test, train"),
    "unlike parts": (unlike_parts, "some have none (0.parquet, 1.parquet)"),
}


@pytest.mark.parametrize(("make", "said"), FAULTS.values(), ids=FAULTS.keys())
def test_faulty_files(tmp_path, make, said):
    path = make(tmp_path)
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        list(open_samples(path))
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message


def test_folder_modes_and_other_files(tmp_path):
    grey = tree({"a.PNG": png("L"), "b.png": png("1"), "notes.txt": b"", ".c.png": b""})
    assert open_samples(grey(tmp_path)).image_shape == (1, 8, 8)
    Image.new("RGBA", (8, 8), (10, 20, 30, 0)).save(tmp_path / "set" / "c.png")
    images = join(open_samples(tmp_path / "set")).images
    assert to_uint8(images[2, :, 0, 0]).tolist() == [10, 20, 30]


def test_parquet_in_parts(tmp_path):
    for part in (1, 0):
        column = cells(png(), png()) if part else cells(png("RGBA"))
        table(f"set/train-{part}-of-2.parquet", img=column, labels=[part] * len(column))(tmp_path)
    (tmp_path / "set" / "thumbnail.png").write_bytes(png())
    for path in (tmp_path / "set", tmp_path / "set" / "train-*.parquet"):
        file = open_samples(path, batch_size=2)
        assert labels_of(file) == [0, 1, 1]
        assert [batch.ids.tolist() for batch in file] == [[0, 1], [2]]
        assert labels_of(file.read([2, 0])) == [1, 0]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("rows", ["", "0-3", "4-4", "2-11"])
def test_datasets_hold_the_rows_of_a_file(tmp_path, name, rows):
    samples = all_levels(3, torch.arange(12) % 3)
    path = write_samples(tmp_path / name, batches(samples), 12)
    data = load_dataset(str(path), rows)
    part = parse_rows(rows, 12)
    assert data.source == (f"{path}[{rows}]" if rows else str(path))
    assert torch.equal(data.images_uint8, to_uint8(samples.images[part]))
    assert torch.equal(data.labels, torch.arange(12)[part] % 3)


def test_datasets_read_the_batches_of_their_rows_only(tmp_path):
    images = np.zeros((900, 4, 4, 3), np.float32)
    images[:, 0, 0, 0] = np.arange(900) % 256 / 255
    images[-1] = 2  # a fault that only reading it finds
    np.savez(tmp_path / "set.npz", images, np.arange(900))
    data = load_dataset(str(tmp_path / "set.npz"), "300-600")  # of 256 images a batch
    assert data.labels.tolist() == list(range(300, 601))
    assert torch.equal(data.images_uint8[:, 0, 0, 0].long(), data.labels % 256)
    with pytest.raises(InputError, match="must lie in"):
        load_dataset(str(tmp_path / "set.npz"))


def test_faults_of_datasets(tmp_path):
    path = write_samples(tmp_path / "set.npz", [all_levels(1)], 12)
    with pytest.raises(InputError, match="has no labels"):
        load_dataset(str(path))
    with pytest.raises(InputError, match="no such file"):
        load_dataset("mnist")
    for rows, said in (("3", "cannot read"), ("4-3", "cannot read"), ("0-12", "past the end")):
        with pytest.raises(InputError, match=said):
            parse_rows(rows, 12)


@pytest.mark.skipif(not FASHION_MNIST.exists(), reason="shared/data is not here")
def test_fashion_mnist():
    file = open_samples(FASHION_MNIST / "test-00000-of-00001.parquet", batch_size=5)
    first = next(iter(file))
    assert (len(file), file.image_shape) == (10_000, (1, 28, 28))
    assert labels_of(first) == [9, 2, 1, 1, 6]
    assert sorted(labels_of(file)) == sorted([*range(10)] * 1000)
    assert 0.2 < first.images.mean() < 0.4
    assert_same(file.read([9_999, 1]), join([file.read([9_999]), first[1:2]]))
