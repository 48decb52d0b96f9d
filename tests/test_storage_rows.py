"""Ranges of a file: what is asked for comes, in order, and nothing else is read."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from burnish.errors import InputError
from burnish.samples import Samples, from_uint8, to_uint8
from burnish.storage.formats import open_samples, write_samples


def numbered(count):
    """Images whose corner is their place."""
    images = torch.zeros(count, 3, 4, 4, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(count)
    return Samples(from_uint8(images), torch.arange(count) % 7, torch.arange(count))


def corners(parts):
    return [int(i) for part in parts for i in to_uint8(part.images[:, 0, 0, 0])]


@pytest.fixture(params=["stored.npz", "deflated.npz", "set.parquet", "set"])
def file(request, tmp_path):
    path = tmp_path / request.param
    if request.param == "deflated.npz":
        images = to_uint8(numbered(200).images).permute(0, 2, 3, 1).numpy()
        np.savez_compressed(path, images, np.arange(200) % 7)
    else:
        write_samples(path, [numbered(200)], 200)
    if request.param == "set.parquet":
        pq.write_table(pq.read_table(path), path, row_group_size=30)
    return open_samples(path, batch_size=8)


@pytest.mark.parametrize(
    "ranges",
    [[(0, 200)], [(5, 5)], [(3, 4)], [(0, 10), (10, 20), (20, 200)], [(150, 170), (20, 60)],
     [(30, 61), (61, 62), (0, 1), (199, 200)]],
)  # fmt: skip
def test_ranges_come_in_order(file, ranges):
    for start, stop in ranges:
        parts = list(file.rows(start, stop))
        assert corners(parts) == [*range(start, stop)]
        assert [i for part in parts for i in part.ids.tolist()] == [*range(start, stop)]
        assert [i for part in parts for i in part.labels.tolist()] == [
            place % 7 for place in range(start, stop)
        ]
        assert all(len(part) == 8 for part in parts[:-1])


def test_ranges_may_be_read_in_turns(file):
    first, second, third = file.rows(0, 60), file.rows(40, 100), file.rows(100, 160)
    turns = [[next(rows) for rows in (first, second, third)] for _ in range(4)]
    for number, start in enumerate((0, 40, 100)):
        assert corners(turn[number] for turn in turns) == [*range(start, start + 32)]
    assert corners([file.read([190, 3, 3, 77])]) == [190, 3, 3, 77]


@pytest.mark.parametrize("bounds", [(-1, 3), (0, 201), (5, 4)])
def test_places_that_are_not_there(file, bounds):
    with pytest.raises(InputError, match=r"it holds 0 to 199"):
        file.rows(*bounds)


def test_what_lies_before_a_range_is_not_read(tmp_path):
    path = write_samples(tmp_path / "set.npz", [numbered(200)], 200)
    content = bytearray(path.read_bytes())
    content[300] ^= 255  # reading all of it finds this fault
    path.write_bytes(content)
    file = open_samples(path, batch_size=50)
    with pytest.raises(InputError, match="CRC"):
        list(file)
    assert corners(file.rows(100, 200)) == [*range(100, 200)]

    path = write_samples(tmp_path / "set.parquet", [numbered(200)], 200)
    pq.write_table(pq.read_table(path), path, row_group_size=50, compression="none")
    content = bytearray(path.read_bytes())
    group = pq.read_metadata(path).row_group(1).column(0)
    content[group.data_page_offset : group.data_page_offset + 40] = bytes(40)
    path.write_bytes(content)
    file = open_samples(path)
    with pytest.raises(InputError, match="broken"):
        list(file)
    assert corners(file.rows(120, 200)) == [*range(120, 200)]


def test_consecutive_ranges_unpack_once(tmp_path, monkeypatch):
    images = to_uint8(numbered(200).images).permute(0, 2, 3, 1).numpy()
    np.savez_compressed(tmp_path / "set.npz", images)
    file = open_samples(tmp_path / "set.npz", batch_size=7)
    assert corners(file.rows(50, 60)) == [*range(50, 60)]

    def opened(*_):
        pytest.fail("the file was opened again")

    monkeypatch.setattr("burnish.storage.npz._open_array", opened)
    assert corners(file.rows(60, 160)) == [*range(60, 160)]
