"""What libraries fetch is never unpickled, has the hash of its name, and fails at once offline."""

import hashlib
import os
import time
from pathlib import Path

import pytest
import torch

from burnish.errors import InputError
from burnish.hub import find
from burnish.metrics import inception
from burnish.networks.fetched import fetch, tensors_only, unreachable
from burnish.networks.pretrained import PretrainedClassifier

NOWHERE = "http://127.0.0.1:9"


class Touch:
    """Pickled, it makes a file when somebody unpickles it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache of torch."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_a_pickle_is_not_run(tmp_path, monkeypatch):
    path, trace = tmp_path / "weights.pth", tmp_path / "trace"
    torch.save({"weight": Touch(trace)}, path)
    monkeypatch.setattr(inception, "packaged_weights", lambda: None)
    monkeypatch.setattr(inception, "fetch", lambda url: path)
    with pytest.raises(InputError, match="not read from checkpoints"):
        inception.load_inception()
    before = dict(os.environ)
    with tensors_only(), pytest.raises(Exception, match=r"[Ww]eights.only"):
        torch.load(path, weights_only=False)  # as libraries do
    assert dict(os.environ) == before and not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists()  # so the file would have done harm


def test_a_pickle_with_the_right_hash_is_not_run_by_torchvision(cache, monkeypatch, tmp_path):
    """Eight digits of a hash can be forged."""
    from torchvision.models import ResNet18_Weights

    trace = tmp_path / "trace"
    torch.save({"weight": Touch(trace)}, tmp_path / "evil")
    digits = hashlib.sha256((tmp_path / "evil").read_bytes()).hexdigest()[:8]
    (tmp_path / "evil").rename(cache / f"resnet18-{digits}.pth")
    url = f"https://example.org/resnet18-{digits}.pth"
    monkeypatch.setattr(type(ResNet18_Weights.DEFAULT), "url", url)
    with pytest.raises(InputError, match="torchvision/resnet18 cannot be loaded"):
        PretrainedClassifier("torchvision/resnet18", pretrained=True)
    assert not trace.exists()


def test_a_file_must_have_the_hash_of_its_name(cache):
    torch.save({"weight": torch.ones(2)}, path := cache / "it.pth")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    right, wrong = cache / f"it-{digest[:8]}.pth", cache / "it-00000000.pth"
    wrong.write_bytes(path.read_bytes())
    path.rename(right)
    assert fetch(f"{NOWHERE}/{right.name}") == right
    assert fetch(f"{NOWHERE}/elsewhere.pth", right.name) == right
    with pytest.raises(InputError, match=r"it-00000000\.pth has not the SHA-256 of its name"):
        fetch(f"{NOWHERE}/{wrong.name}")


def test_without_a_network_everything_fails_at_once(cache, monkeypatch):
    import timm.models  # noqa: F401 - which takes seconds by itself

    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", NOWHERE)
    began = time.perf_counter()
    with pytest.raises(InputError, match=r"hub cannot be reached .*hf download owner/name"):
        find("guide", "owner/name")
    with pytest.raises(InputError, match=f"refused.*put a copy at {cache}/it.pth"):
        fetch(f"{NOWHERE}/it.pth")
    with pytest.raises(InputError, match=r"timm/test_vit cannot be fetched .*'hf download timm/"):
        PretrainedClassifier("timm/test_vit", pretrained=True)
    assert time.perf_counter() - began < 9  # three waits of a second, on a slow machine
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert unreachable("https://example.org") == "HF_HUB_OFFLINE is set"
