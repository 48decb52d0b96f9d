"""Checkpoints of others: read as torch reads them, and nothing of them is run."""

import pickle
import resource
import time

import dill
import numpy as np
import pytest
import torch
from foreign_setup import edm_pickle, hostile, network, planted
from torch import nn

from burnish.errors import InputError
from burnish.foreign.reader import read_checkpoint
from burnish.foreign.values import Persistent, Stub


def same(found, wanted):
    if isinstance(wanted, torch.Tensor):
        assert found.dtype == wanted.dtype and torch.equal(found, wanted.detach())
    elif isinstance(wanted, np.ndarray):
        assert found.dtype == wanted.dtype and np.array_equal(found, wanted)
    elif isinstance(wanted, dict):
        assert list(found) == list(wanted)
        for key, value in wanted.items():
            same(found[key], value)
    elif isinstance(wanted, list | tuple):
        assert len(found) == len(wanted) and type(found) in (list, tuple)
        for one, other in zip(found, wanted, strict=True):
            same(one, other)
    else:
        assert found == wanted


def content():
    made = network()
    numbers = torch.arange(24.0)
    return {
        "model": made.state_dict(), "epoch": 3, "best": 0.5,
        "optimizer": {"state": {0: {"momentum_buffer": torch.ones(4)}}, "groups": [{"lr": 0.1}]},
        "part": numbers.view(4, 6)[1:3, 2:5], "turned": numbers.view(4, 6).t(),
        "half": torch.ones(3).half(), "brain": torch.ones(3).bfloat16(), "long": torch.arange(3),
        "bool": torch.tensor([True, False]), "empty": torch.zeros(0, 4), "one": torch.tensor(2.5),
        "parameter": nn.Parameter(torch.ones(2)), "size": torch.Size([2, 3]), "none": None,
        "list": [1, -7, 2**40, "ä", b"x", 1.5, True],
    }  # fmt: skip


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_files_of_torch_hold_what_torch_reads(is_zip, tmp_path):
    path = tmp_path / "a.pt"
    torch.save(content(), path, _use_new_zipfile_serialization=is_zip)
    found = read_checkpoint(path)
    same(found.content, torch.load(path, weights_only=True))
    assert not found.ignored and len(found.sha256) == 64


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_code_that_dill_saved_beside_the_weights_is_left_out(is_zip, tmp_path):
    """As the robustness library writes them, a learning-rate schedule inside."""
    path, factor = tmp_path / "a.pt", 0.1
    held = {**content(), "schedule": {"lr": lambda epoch: factor**epoch, "last": 3}}
    torch.save(held, path, pickle_module=dill, _use_new_zipfile_serialization=is_zip)
    found = read_checkpoint(path)
    assert isinstance(found.content["schedule"].pop("lr"), Stub)
    held["schedule"].pop("lr")
    same(found.content, held)
    assert "dill._dill._create_function" in found.ignored


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_every_protocol_with_tensors_and_arrays(protocol, tmp_path):
    path = tmp_path / "a.pkl"
    arrays = {
        "mu": np.arange(5.0), "sigma": np.eye(3, dtype=">f4"), "bytes": np.arange(3, dtype="u1"),
        "turned": np.arange(6).reshape(2, 3).T, "number": np.float64(0.1), "set": {1},
    }  # fmt: skip
    path.write_bytes(pickle.dumps({**content(), **arrays}, protocol))
    found = read_checkpoint(path).content
    assert found.pop("set") == [1]
    arrays.pop("set")
    same(found, {**content(), **arrays})


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_file_of_edm_gives_every_tensor_and_runs_none_of_its_source(protocol, tmp_path):
    path, touched = tmp_path / "edm.pkl", tmp_path / "touched"
    net = edm_pickle(path, touched, protocol)
    found = read_checkpoint(path)
    ema = found.content["ema"]
    assert isinstance(ema, Persistent) and ema.class_name == "SongUNet"
    assert ema.state["_init_kwargs"] == {"img_resolution": 32, "sigma": 0.5}
    tensors = {}

    def walk(value, prefix):
        for kind in ("_parameters", "_buffers"):
            tensors.update({prefix + key: one for key, one in value.state[kind].items()})
        for key, one in value.state["_modules"].items():
            walk(one, f"{prefix}{key}.")

    walk(ema, "")
    same(dict(sorted(tensors.items())), dict(sorted(net.state_dict().items())))
    assert not touched.exists() and "torch.nn.modules.container.ModuleDict" in found.ignored


def test_tied_tensors_stay_tied(tmp_path):
    weight = torch.rand(3, 3)
    torch.save({"a": weight, "b": weight, "c": weight[1]}, tmp_path / "a.pt")
    found = read_checkpoint(tmp_path / "a.pt").content
    found["a"][1] = 7
    assert (found["b"][1] == 7).all() and (found["c"] == 7).all()


PLANTED, HOSTILE = planted("touched"), hostile()
# These are read, since nothing in them is wrong; what is in them is no network, which import says.
READABLE = ("no state dict", "a tensor", "an index", "references", "a whole module",
            "a far place in the memo", "a picture")  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_pickle_is_refused_and_touches_nothing(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.pt"
    path.write_bytes(PLANTED[name])
    with pytest.raises(InputError, match=r"a\.pt: ") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", [one for one in HOSTILE if one not in READABLE])
def test_a_hostile_file_is_refused_in_bounded_memory_and_time(name, tmp_path):
    path = tmp_path / "a.pt"
    path.write_bytes(HOSTILE[name])
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(InputError, match=r"a\.pt: ") as caught:
        read_checkpoint(path)
    said = str(caught.value)
    assert "\n" not in said and len(said) < 600 and said.isprintable()
    assert time.process_time() - start < 20
    # KiB; the largest file here has 600 kB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000


def test_the_message_names_what_a_checkpoint_asks_for(tmp_path):
    path = tmp_path / "a.pt"
    path.write_bytes(PLANTED["a zip that calls a shell"])
    with pytest.raises(InputError, match=r"asks for (posix|nt)\.system"):
        read_checkpoint(path)
