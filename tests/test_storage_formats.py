"""Every format: there and back, shards, classes, labels of one's own, tiles, far places."""

import json
import os
import re
import sys
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torchvision.utils import make_grid

from burnish.errors import InputError
from burnish.samples import Samples, from_uint8, to_uint8
from burnish.storage.formats import check_output, open_samples, write_samples
from burnish.storage.kinds import WRITABLE

IMAGES = Path(__file__).parents[2] / "shared/data/third_party/images"


def some(count=12, channels=3, labelled=True, ids=None):
    """Different images, labels that neither ascend nor use every class, ids."""
    generator = torch.Generator().manual_seed(channels)
    pixels = torch.randint(256, (count, channels, 8, 8), dtype=torch.uint8, generator=generator)
    labels = torch.arange(count) * 5 % 4 if labelled else None
    return Samples(from_uint8(pixels), labels, torch.arange(count) if ids is None else ids)


def all_of(file):
    return file.read(range(len(file)))


def labels_of(samples):
    assert samples.labels is not None
    return samples.labels.tolist()


def assert_same(found, expected, ids=True):
    assert torch.equal(to_uint8(found.images), to_uint8(expected.images))
    assert (found.labels is None) == (expected.labels is None)
    if expected.labels is not None:
        assert labels_of(found) == labels_of(expected)
    if ids:
        assert found.ids.tolist() == expected.ids.tolist()


def png(pixels):
    array = pixels.permute(1, 2, 0).numpy()
    Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).save(out := BytesIO(), "PNG")
    return out.getvalue()


@pytest.mark.parametrize("ids", [None, torch.arange(100, 112)], ids=["places", "ids"])
@pytest.mark.parametrize("labelled", [False, True], ids=["plain", "labels"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", [suffix for suffix in WRITABLE if suffix != ".npy"])
def test_there_and_back(tmp_path, suffix, channels, labelled, ids):
    samples = some(12, channels, labelled, ids)
    path = write_samples(tmp_path / f"a{suffix}", [samples[:5], samples[5:]], 12)
    file = open_samples(path, 7)
    assert file.image_shape == (channels, 8, 8)
    assert_same(all_of(file), samples)
    assert [len(part) for part in file] == [7, 5]
    assert_same(file.read([11, 0, 0]), samples[torch.tensor([11, 0, 0])])
    # Through every other format, nothing is lost and the same bytes come out.
    other = tmp_path / ("b.npz" if suffix != ".npz" else "b.parquet")
    write_samples(other, file, 12, file.names, classes=file.classes)
    again = write_samples(tmp_path / f"c{suffix}", open_samples(other), 12)
    if path.is_file():
        assert again.read_bytes() == path.read_bytes()
    assert_same(all_of(open_samples(again)), samples)
    assert sorted(os.listdir(tmp_path)) == sorted([path.name, other.name, again.name])


def test_npy_holds_images_alone(tmp_path):
    samples = some()
    path = write_samples(tmp_path / "a.npy", [samples], 12)
    expected = to_uint8(samples.images).permute(0, 2, 3, 1).numpy()
    assert np.array_equal(np.load(path), expected)
    assert open_samples(path).labels is None
    np.save(path, to_uint8(samples.images).numpy())  # channels first
    np.save(tmp_path / "labels.npy", np.array(labels_of(samples)))
    assert_same(all_of(open_samples(path, labels=tmp_path / "labels.npy")), samples)


def a_torch_file(path, samples):
    wider = torch.cat([samples.images, samples.images])
    torch.save({"images": wider[12:], "labels": samples.labels}, path / "set.pt")
    return path / "set.pt"


def a_bare_torch_file(path, samples):
    torch.save(to_uint8(samples.images), path / "set.pt")
    return path / "set.pt"


def saved_to_disk(path, samples):
    """What save_to_disk of datasets writes."""
    path = path / "set"
    path.mkdir()
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features = {"image": {"_type": "Image"},
                "label": {"_type": "ClassLabel", "names": ["a", "b", "c", "d"]}}  # fmt: skip
    facts = {"huggingface": json.dumps({"info": {"features": features}})}
    schema = pa.schema({"image": image, "label": pa.int64()}, facts)
    rows = [
        {"image": {"bytes": png(to_uint8(one)), "path": f"{i}.png"}, "label": int(label)}
        for i, (one, label) in enumerate(zip(samples.images, samples.labels, strict=True))
    ]
    names = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    for name, part in zip(names, (rows[:7], rows[7:]), strict=True):
        with pa.OSFile(str(path / name), "wb") as sink, pa.ipc.new_stream(sink, schema) as out:
            out.write_table(pa.Table.from_pylist(part, schema), max_chunksize=3)
    (path / "state.json").write_text(json.dumps({"_data_files": [{"filename": n} for n in names]}))
    (path / "dataset_info.json").write_text("{}")
    return path


def webdataset(path, samples):
    with tarfile.open(path / "set.tar", "w") as archive:
        for place, (one, label) in enumerate(zip(samples.images, samples.labels, strict=True)):
            content = {"txt": b"a text", "jpg": b"", "json": b'{"label": %d}' % label}
            content["jpg"] = png(to_uint8(one))  # the content says what it is
            for kind, data in content.items():
                member = tarfile.TarInfo(f"train/{'ab'[place % 2]}{place}.{kind}")
                member.size = len(data)
                archive.addfile(member, BytesIO(data))
    return path / "set.tar"


def edm_folder(path, samples):
    labels = []
    for place, (one, label) in enumerate(zip(samples.images, samples.labels, strict=True)):
        name = f"00000/img{place:08d}.png"
        (path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (path / "set" / name).write_bytes(png(to_uint8(one)))
        labels.append([name, int(label)])
    (path / "set/dataset.json").write_text(json.dumps({"labels": labels}))
    return path / "set"


def deflated_zip(path, samples):
    source = edm_folder(path, samples)
    with zipfile.ZipFile(path / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for one in sorted(source.rglob("*")):  # with folders, and labels not at the end
            archive.write(one, one.relative_to(source))
    return path / "set.zip"


@pytest.mark.parametrize(
    "make",
    [a_torch_file, a_bare_torch_file, saved_to_disk, webdataset, edm_folder, deflated_zip],
)
def test_what_others_write(tmp_path, make):
    samples = some()
    file = open_samples(make(tmp_path, samples), 5)
    if make is a_bare_torch_file:
        samples = Samples(samples.images, None, samples.ids)
    assert_same(all_of(file), samples)
    parts = [part for start in (0, 4, 9) for part in file.rows(start, min(start + 5, 12))]
    assert sum(map(len, parts)) == 13
    assert_same(file.read([11, 3]), samples[torch.tensor([11, 3])])
    if make is saved_to_disk:
        assert file.classes == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    "names",
    [
        [f"{1000 * (i // 6):06d}/{i % 6 + 1000 * (i // 6):06d}.png" for i in range(12)],
        [f"{i // 6:05d}/img{i % 6 + 1000 * (i // 6):08d}.png" for i in range(12)],
        [f"{i // 6:05d}/{i % 6 + 1000 * (i // 6):08d}.png" for i in range(12)],
    ],
    ids=["generate.py", "dataset_tool.py", "plain"],
)
def test_folders_of_edm_have_no_labels(tmp_path, names):
    samples = some(labelled=False)
    for name, one in zip(names, samples.images, strict=True):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(png(to_uint8(one)))
    file = open_samples(tmp_path / "set")
    assert_same(all_of(file), samples, ids=False)
    assert file.names == names
    again = open_samples(write_samples(tmp_path / "again", file, 12, file.names))
    assert again.labels is None and again.names == names


@pytest.mark.parametrize(
    ("names", "ids", "expected"),
    [
        (["0/000007.png", "0/000009.png"], None, [7, 9]),
        (["0/000007.png", "0/000009.png"], [4, 3], [4, 3]),
        (["0/img00000007.png", "0/img00000009.png"], None, [0, 1]),
    ],
)
def test_ids_by_name_with_a_dataset_json(tmp_path, names, ids, expected):
    facts = {"labels": [[name, 0] for name in names], **({"ids": ids} if ids else {})}
    (tmp_path / "set/0").mkdir(parents=True)
    for name in names:
        (tmp_path / "set" / name).write_bytes(png(to_uint8(some(1).images[0])))
    (tmp_path / "set/dataset.json").write_text(json.dumps(facts))
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name in (*names, "dataset.json"):
            archive.write(tmp_path / "set" / name, name)
    for suffix in ("", ".zip"):
        assert open_samples(tmp_path / f"set{suffix}").ids.tolist() == expected


def test_class_folders_called_by_numbers_are_labels(tmp_path):
    for name in ("0/000000.png", "9/000001.png", "00002/000002.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(png(to_uint8(some(1).images[0])))
    assert labels_of(all_of(open_samples(tmp_path))) == [0, 9, 2]


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".tar", ".zip"])
def test_shards_are_read_together(tmp_path, suffix):
    samples = some(30)
    for number in range(3):
        part = samples[number * 10 : number * 10 + 10]
        write_samples(tmp_path / f"part-{number:03d}{suffix}", [part], 10)
    ledger = tmp_path / f"part-000{suffix}.ledger.parquet"
    pq.write_table(pa.table({"id": [1]}), ledger)
    for pattern in (f"part-*{suffix}", f"part-{{000..002}}{suffix}", f"part-00[0-2]{suffix}"):
        file = open_samples(tmp_path / pattern, 7)
        assert [len(part) for part in file] == [7, 7, 7, 7, 2]
        assert_same(all_of(file), samples)
        assert_same(file.read([29, 3, 12]), samples[torch.tensor([29, 3, 12])])
    if suffix == ".parquet":
        assert_same(all_of(open_samples(tmp_path)), samples)
        assert_same(all_of(open_samples(tmp_path / "*.parquet")), samples)


def test_ids_of_shards(tmp_path):
    def part(name, *ids):
        write_samples(tmp_path / name, [some(len(ids), ids=torch.tensor(ids))], len(ids))

    part("none-0.npz", 0, 1)
    part("none-1.npz", 0, 1)
    assert open_samples(tmp_path / "none-*.npz").ids.tolist() == [0, 1, 2, 3]
    part("more-9.npz", 7, 6)
    part("more-10.npz", 0, 1)
    part("more-11.npz", 3, 2)
    # Numbers in names count as numbers.
    assert open_samples(tmp_path / "more-*.npz").ids.tolist() == [7, 6, 0, 1, 3, 2]
    part("more-12.npz", 0, 1)
    with pytest.raises(InputError, match="the same ids are in several files"):
        open_samples(tmp_path / "more-*.npz")


CLASSES = {
    "sorted": ["ant", "bee", "cat", "dog"],
    "unsorted": ["T - shirt / top", "Trouser", "Bag", "Ankle boot"],
    "numbers": ["3", "1", "2", "0"],
}


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("suffix", [".parquet", ".zip", ""])
def test_names_of_classes_are_kept(tmp_path, suffix, kind):
    classes, samples = CLASSES[kind], some()
    path = write_samples(tmp_path / f"set{suffix}", [samples], 12, classes=classes)
    file = open_samples(path)
    assert_same(all_of(file), samples)
    assert file.classes == [c.replace("/", "_") if not suffix else c for c in classes]
    if path.is_dir():  # other readers number folders as they sort
        places = {name: i for i, name in enumerate(sorted(os.listdir(path)))}
        folders = [name.split("/")[0] for name in file.names or ()]
        assert [places[folder] for folder in folders] == labels_of(samples)
        assert "ant" in places or "00000-" in min(places)


@pytest.mark.parametrize("suffix", [".parquet", ".tar", ""])
def test_names_are_kept(tmp_path, suffix):
    names = [f"{'ab'[i % 2]}/{i:02d} é<b>.png" for i in range(12)]
    samples = some()
    path = write_samples(tmp_path / f"set{suffix}", [samples], 12, names)
    file = open_samples(path)
    assert file.names == names
    assert_same(all_of(file), samples)  # labels that the folders a and b do not say


@pytest.mark.parametrize("names", [None, [f"{'ab'[i % 2]}/{i:02d}.png" for i in range(12)]])
def test_flat_folders(tmp_path, names):
    samples = some()
    path = write_samples(tmp_path / "set", [samples], 12, names, flat=True)
    assert len(list(path.glob("*.png"))) == 12
    assert_same(all_of(open_samples(path)), samples)
    with pytest.raises(InputError, match="only a folder can be flat"):
        check_output(tmp_path / "a.npz", flat=True)


@pytest.mark.parametrize(
    ("name", "content"),
    [("l.txt", "3\n1\n2\n"), ("l.csv", "label\n3\n1\n2"), ("l.csv", '"3"\r\n1\r\n2\r\n'),
     ("l.csv", "\ufefflabels\n3\n1\n2\n"), ("l.csv", "\ufeff3\n1\n2\n")],
)  # fmt: skip
def test_labels_of_ones_own(tmp_path, name, content):
    path = write_samples(tmp_path / "set.npz", [some(3)], 3)
    (tmp_path / name).write_text(content)
    file = open_samples(path, labels=tmp_path / name)
    assert [i for part in file for i in labels_of(part)] == [3, 1, 2]
    assert labels_of(open_samples(path, labels=5)) == [5, 5, 5]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("l.txt", "3\n1\n", "3 images but 2 labels"),
        ("l.txt", "3\n1\n2\n0\n", "3 images but more labels"),
        ("l.txt", "3\n1\ncat", "line 3 is 'cat'"),
        ("l.txt", "3\n\n1\n", "line 2 is ''"),
        ("l.txt", "3\n1\n1_0\n", "line 3 is '1_0'; write"),
        ("l.txt", "3\n1\n\0\n", "line 3 is '\\x00'; write"),
        ("l.csv", "a.png,3\n", "line 1 is 'a.png,3'"),
        ("l.txt", "3\n1\n" + "9" * 10**6, "line 3 is"),
        ("l.txt", "3\n1\n99999999999999999999", "line 3 is"),
        ("l.txt", "3\n1\n-1\n", "label -1"),
        ("l.json", "[3, 1, 2]", "read from .npy, .txt or .csv"),
    ],
)
def test_faulty_labels(tmp_path, name, content, said):
    path = write_samples(tmp_path / "set.npz", [some(3)], 3)
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=re.escape(said)):
        open_samples(path, labels=tmp_path / name)
    with pytest.raises(InputError, match="no such file of labels"):
        open_samples(path, labels=tmp_path / "missing.txt")
    np.save(tmp_path / "float.npy", np.zeros(3))
    with pytest.raises(InputError, match="is float64"):
        open_samples(path, labels=tmp_path / "float.npy")


@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_grids_are_cut_as_torchvision_draws_them(tmp_path, padding, channels):
    samples = some(10, channels, labelled=False)
    pixels = to_uint8(samples.images)
    for name, part in (("a.png", pixels[:6]), ("b.png", pixels[6:])):  # b has places left
        grid = make_grid(part, nrow=3, padding=padding)
        grid = grid[:1] if channels == 1 else grid
        (tmp_path / name).write_bytes(png(grid))
    found = all_of(open_samples(tmp_path, tile=8, padding=padding))
    count = 10 if padding else 12
    assert len(found) == count
    assert_same(found[:10], samples)
    one = open_samples(tmp_path / "b.png", tile=8, padding=padding)
    assert torch.equal(to_uint8(all_of(one).images[:4]), pixels[6:])
    with pytest.raises(InputError, match="no grid of tiles of 7 pixels"):
        open_samples(tmp_path / "b.png", tile=7, padding=padding)


@pytest.mark.skipif(not IMAGES.exists(), reason="shared/data is not here")
@pytest.mark.parametrize(
    ("name", "tile", "padding", "count"),
    [
        ("ddpm_cifar10_grid.png", 32, 2, 256),
        ("infomaxgan_cifar10_grid.png", 32, 2, 64),
        ("dcgan_cifar10_grid.png", 32, 2, 64),
        ("smalldiffusion_imagenet256_grid.png", 256, 0, 8),
    ],
)
def test_published_grids(name, tile, padding, count):
    file = open_samples(IMAGES / name, tile=tile, padding=padding)
    assert (len(file), file.image_shape) == (count, (3, tile, tile))
    images = all_of(file).images
    assert images.flatten(1).std(1).min() > 0.01  # no tile is a piece of the padding


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ""])
def test_far_places(tmp_path, suffix):
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    url = f"memory://{tmp_path.name}/set{suffix}"
    samples = some()
    assert str(write_samples(Path(url), [samples], 12)) == str(Path(url))
    names = [one for one in files.find(f"/{tmp_path.name}") if ".part" in one]
    assert not names and files.exists(f"/{tmp_path.name}/set{suffix}")
    for path in (url, Path(url)):  # a Path has one slash
        assert_same(all_of(open_samples(path)), samples)
    if suffix:
        write_samples(f"memory://{tmp_path.name}/set-2{suffix}", [samples], 12)
        both = open_samples(f"memory://{tmp_path.name}/set*{suffix}")
        assert len(both) == 24
    with pytest.raises(InputError, match="no such file"):
        open_samples(f"memory://{tmp_path.name}/none.npz")
    with pytest.raises(InputError, match="Protocol not known"):
        open_samples("nowhere://a/b.npz")


def test_a_failed_write_leaves_nothing_far_away(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    with pytest.raises(InputError, match="11 of the 12"):
        write_samples(f"memory://{tmp_path.name}/set.npz", [some(11)], 12)
    assert not fsspec.filesystem("memory").exists(f"/{tmp_path.name}")


def test_sets_of_the_hub(tmp_path, monkeypatch):
    samples = some()
    folder = saved_to_disk(tmp_path, samples)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match="needs the package datasets"):
        open_samples("hub:someone/some:test")
    asked = []

    def load_dataset(name, split):
        asked.append((name, split))
        files = [{"filename": str(one)} for one in sorted(folder.glob("*.arrow"))]
        return SimpleNamespace(cache_files=files)

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert_same(all_of(open_samples("hub:someone/some:test")), samples)
    assert asked == [("someone/some", "test")]


def test_the_splits_that_are_advised_can_be_read(tmp_path):
    samples = some()
    for split in ("train", "train-extra", "test"):
        write_samples(tmp_path / f"one/{split}-00000-of-00001.parquet", [samples], 12)
        write_samples(tmp_path / f"two/{split}/0000.parquet", [samples], 12)
    for folder in ("one", "two"):
        with pytest.raises(InputError, match="holds the splits") as caught:
            open_samples(tmp_path / folder)
        advised = str(caught.value).split("'")[1]
        assert_same(all_of(open_samples(advised)), samples)
