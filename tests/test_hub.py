"""From a name to files: shipped, local, or a hub repository; no network in between."""

from pathlib import Path

import pytest
import torch

import burnish
from burnish.errors import InputError
from burnish.guide.load import load_guide
from burnish.hub import find, shipped


@pytest.fixture
def downloads(monkeypatch, tmp_path):
    """Stand in for the hub: note what is asked for, hand out a folder."""
    asked = []

    def snapshot_download(repo_id, **options):
        asked.append((repo_id, options))
        return str(tmp_path / "snapshot")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.setattr("burnish.networks.fetched.unreachable", lambda url: "")
    return asked


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("guide", {"cifar10", "fashion_mnist"}),
        ("generator", {"cifar10", "fashion_mnist"}),
        ("features", {"cifar10/plain", "cifar10/wide", "fashion_mnist/plain"}),
        ("reference", {"cifar10/plain", "cifar10/wide", "fashion_mnist/plain"}),
    ],
)
def test_shipped_models_are_found_by_name(kind, names, downloads):
    found = shipped(kind)
    assert names <= set(found) and all(path.exists() for path in found.values())
    assert all(find(kind, name) == path for name, path in found.items())
    assert not downloads


def test_a_shipped_name_wins_over_a_path_and_a_path_over_the_hub(downloads, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("cifar10", "owner/name"):
        Path(name).mkdir(parents=True)
    assert find("guide", "cifar10") == shipped("guide")["cifar10"]
    assert find("guide", "./cifar10") == Path("cifar10")
    assert find("guide", "owner/name") == Path("owner/name")
    assert not downloads


def test_a_repository_of_the_hub_is_downloaded_without_code_or_pickles(downloads, tmp_path):
    assert find("guide", "owner/name") == tmp_path / "snapshot"
    assert downloads == [("owner/name", {"allow_patterns": ["*.json", "*.safetensors"]})]


def test_a_guide_comes_from_the_hub_as_from_its_folder(downloads, tmp_path):
    original = load_guide("fashion_mnist")
    original.save_pretrained(tmp_path / "snapshot")
    loaded = burnish.Guide.from_pretrained("owner/name")
    images = torch.rand(2, 1, 28, 28)
    assert torch.equal(loaded(images), original(images)) and len(downloads) == 1


@pytest.mark.parametrize("error", [OSError("404: no such repository"), ValueError("bad id")])
def test_a_failing_download_is_one_line(error, monkeypatch):
    def fail(*_, **__):
        raise type(error)(f"{error}\nand a long explanation")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    monkeypatch.setattr("burnish.networks.fetched.unreachable", lambda url: "")
    with pytest.raises(InputError, match=f"'owner/name' here, and the hub has none: {error}$"):
        find("guide", "owner/name")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifra10", "did you mean 'cifar10'"),
        ("cifar10/wyde", "did you mean 'cifar10/wide'"),
        ("", "choose from"),
        ("a/b/c", "choose from"),
        ("owner/name.safetensors", "no features at owner/name.safetensors"),
    ],
)
def test_what_cannot_be_on_the_hub_is_not_asked_for(name, message, downloads):
    with pytest.raises(InputError, match=message):
        find("features", name, ("cifar10",))
    assert not downloads
