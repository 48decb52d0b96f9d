"""From a name to files, and back to the hub: shipped, local, or a repository; no network."""

import hashlib
import json
import shutil
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard

import burnish
from burnish.cli.main import main
from burnish.errors import InputError
from burnish.generators.latent import LatentModel
from burnish.generators.load import load_generator
from burnish.guide.load import load_guide
from burnish.hub import SHIPPED, SUMS, find, shipped
from burnish.networks.build import build
from burnish.networks.fetched import unreachable
from burnish.studies.models import find_model, list_models
from burnish.studies.share import pull_model, push_model

GUIDE = shipped("guide")["fashion_mnist"]


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


def test_the_hashes_of_what_ships_are_those_of_its_files():
    listed = dict(line.split("  ")[::-1] for line in SUMS.read_text().splitlines())
    files = {p for end in ("safetensors", "npz") for p in SHIPPED.rglob(f"*.{end}")}
    assert set(listed) == {path.relative_to(SHIPPED).as_posix() for path in files}
    for name, sha256 in listed.items():
        assert hashlib.sha256((SHIPPED / name).read_bytes()).hexdigest() == sha256, name


def test_a_shipped_file_with_another_hash_is_refused(monkeypatch):
    monkeypatch.setattr("burnish.hub._sums", lambda: {"fashion_mnist/guide.safetensors": "0" * 64})
    with pytest.raises(InputError, match=r"guide\.safetensors has not the SHA-256 of SHA256SUMS"):
        find("guide", "fashion_mnist")


def test_a_file_in_the_cache_of_the_hub_must_have_the_hash_of_its_blob(downloads, tmp_path):
    """The hub's cache names the blobs of large files by their SHA-256, and links to them."""
    content = GUIDE.read_bytes()
    blob = tmp_path / hashlib.sha256(content).hexdigest()
    blob.write_bytes(content)
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "model.safetensors").symlink_to(blob)
    assert load_guide("owner/name").card["name"] == "fashion_mnist-joint"
    blob.write_bytes(content[:-1] + b"x")
    with pytest.raises(InputError, match=f"has not the SHA-256 of the hub; delete {blob}"):
        load_guide("owner/name")


def test_a_machine_that_takes_connections_and_says_nothing_is_given_up_soon():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.perf_counter()
        assert unreachable(f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.perf_counter() - began < 9


@pytest.mark.parametrize("kind", ["guide", "unet", "features"])
def test_what_was_pushed_into_a_folder_is_pulled_as_the_same_bytes(kind, tmp_path):
    source = {"guide": GUIDE, "unet": SHIPPED / "fashion_mnist" / "generator",
              "features": shipped("features")["fashion_mnist/plain"]}[kind]  # fmt: skip
    push_model(str(source), "me/it", folder=tmp_path / "hub", license="MIT")
    out = tmp_path / ("back" if kind == "unet" else "back.safetensors")
    assert pull_model(str(tmp_path / "hub"), out) == {"unet": "generator"}.get(kind, kind)
    if kind == "unet":
        files = {p.relative_to(source) for p in source.rglob("*") if p.is_file()}
        assert files == {p.relative_to(out) for p in out.rglob("*") if p.is_file()}
        assert all((out / one).read_bytes() == (source / one).read_bytes() for one in files)
        assert load_generator(tmp_path / "hub").sample([0]).images.shape == (1, 1, 28, 28)
    else:
        assert out.read_bytes() == source.read_bytes()
        config = json.loads((tmp_path / "hub" / "config.json").read_text())
        assert config["network"]["name"] in ("resnet", "convnet")
    data: Any = ModelCard.load(tmp_path / "hub" / "README.md").data
    assert data.license == "mit" and "burnish" in data.tags
    assert data.library_name == ("diffusers" if kind == "unet" else "burnish")


def test_a_generator_of_one_file_is_sampled_from_a_folder_in_the_layout(tmp_path):
    network = {
        "name": "decoder", "in_channels": 1, "num_classes": None, "image_size": 8,
        "latent_size": 4, "widths": [8],
    }  # fmt: skip
    card = {"name": "small", "kind": "gan", "network": network}
    decoder: Any = build(network)
    LatentModel(decoder, card).save(tmp_path / "gan.safetensors")
    push_model(str(tmp_path / "gan.safetensors"), "me/it", folder=tmp_path / "hub")
    here, there = (load_generator(tmp_path / one) for one in ("gan.safetensors", "hub"))
    assert torch.equal(here.sample([3]).images, there.sample([3]).images)
    data: Any = ModelCard.load(tmp_path / "hub" / "README.md").data
    assert data.pipeline_tag == "unconditional-image-generation"


def test_a_model_card_gives_numbers_in_the_format_of_the_hub(tmp_path):
    values = {"fid": 4.25, "kid": 1.5, "feature_extractor": "x/plain", "num_images": 1000,
              "reference": "real.npz"}  # fmt: skip
    (tmp_path / "r.json").write_text(json.dumps(values))
    target = tmp_path / "hub"
    push_model(str(GUIDE), "me/it", folder=target, evaluations=[tmp_path / "r.json"])
    data: Any = ModelCard.load(target / "README.md").data
    assert data.pipeline_tag == "image-classification" and data.license == "other"
    found = {(one.metric_type, one.dataset_name): one.metric_value for one in data.eval_results}
    assert found[("fid", "real.npz")] == 4.25 and found[("kid", "real.npz")] == 1.5
    assert any(kind == "accuracy" for kind, _ in found)


def test_pushing_a_file_uploads_its_bytes(monkeypatch, downloads, tmp_path):
    uploaded = {}

    class Api:
        def create_repo(self, repo_id, **options):
            assert options == {"exist_ok": True, "private": True}

        def upload_folder(self, repo_id, folder_path, commit_message):
            uploaded.update({p.name: p.read_bytes() for p in Path(folder_path).iterdir()})
            return f"commit of {repo_id}"

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    assert push_model(str(GUIDE), "me/it", private=True) == "commit of me/it"
    assert uploaded["model.safetensors"] == GUIDE.read_bytes() and len(uploaded) == 3


def test_models_are_listed_with_what_is_known_of_them(capsys):
    rows = {(row.kind, row.name): row for row in list_models()}
    own = rows[("guide", "cifar10")]
    assert own.where == "shipped" and own.image_size == 32 and own.license == "Apache-2.0"
    assert own.sha256["cifar10/guide.safetensors"] and own.reached
    for one in (("guide", "clip/chs20/fare2-clip"), ("guide", "madrylab/resnet50_l2_eps3"),
                ("generator", "openai/diffusers-ct_imagenet64"),
                ("features", "inception-v3-compat")):  # fmt: skip
        assert rows[one].where == "known" and rows[one].use and rows[one].source
    main(["models", "--json", "--kind", "generator"])
    listed = json.loads(capsys.readouterr().out)
    assert {row["kind"] for row in listed} == {"generator"}
    main(["models"])
    assert "cifar10-robust" in capsys.readouterr().out


def test_one_model_is_shown_with_its_whole_card(capsys, tmp_path):
    main(["models", "cifar10-robust"])
    assert json.loads(capsys.readouterr().out)["card"]["network"]["name"] == "resnet"
    assert set(find_model("cifar10").card) == {"guide (shipped)", "generator (shipped)"}
    found = find_model(str(GUIDE))
    assert found.kind == "guide" and found.card["network"]["name"] == "resnet"


BAD = [
    (["models", "cifar11"], "did you mean 'cifar10'"),
    (["models", "a\x1b[2J"], "that is no name"),
    (["models", "--kind", "gide"], "did you mean 'guide'"),
    (["models", "{broken}"], "not a safetensors file"),
    (["push", "{none}", "me/it"], "no model at"),
    (["push", "{guide}", "me"], "a repository of the hub is OWNER/NAME"),
    (["push", "{guide}", "me/\x1b[2J"], "a repository of the hub is OWNER/NAME"),
    (["push", "{broken}", "me/it"], "not a safetensors file"),
    (["push", "{empty}", "me/it"], "holds neither model.safetensors nor"),
    (["push", "{code}", "me/it"], "burnish import reads"),
    (["push", "{guide}", "me/it", "--metrics", "{broken}"], "not text in UTF-8"),
    (["push", "{guide}", "me/it", "--folder", "{empty}"], "exists already"),
    (["push", "{guide}", "me/it"], "the hub cannot be reached (away); burnish push --folder"),
    (["pull", "me/it", "--out", "{out}"], "the hub cannot be reached (away); elsewhere"),
    (["pull", "me", "--out", "{out}"], "unknown model 'me'"),
    (["pull", "fashion_mnist", "--out", "{folder}"], "--out must be the name of a .safetensors"),
    (["pull", "fashion_mnist", "--out", "{out}", "--sha256", "00"], "nothing was written"),
    (["pull", "fashion_mnist", "--out", "{guide}"], "would replace its own input|exists already"),
    (["pull", "madrylab/resnet50_l2_eps3", "--out", "{out}"], "burnish import"),
    (["pull", "{broken}", "--out", "{out}"], "not a safetensors file"),
    (["pull", "{loop}", "--out", "{out}"], "unknown model|no model|symbolic links"),
]


@pytest.mark.parametrize("place", range(len(BAD)))
def test_bad_input_ends_with_one_line_and_code_2(place, monkeypatch, tmp_path, capsys):
    arguments, message = BAD[place]
    monkeypatch.setattr("burnish.networks.fetched.unreachable", lambda url: "away")
    paths = {name: tmp_path / name for name in ("none", "empty", "folder", "loop")}
    paths |= {name: tmp_path / f"{name}.safetensors" for name in ("broken", "guide", "out")}
    paths["code"] = tmp_path / "code.pt"
    paths["broken"].write_bytes(b"\xff" * 100)
    paths["code"].write_bytes(b"x")
    paths["empty"].mkdir()
    paths["loop"].symlink_to(paths["loop"])
    shutil.copy(GUIDE, paths["guide"])
    for name, path in paths.items():
        arguments = [one.replace(f"{{{name}}}", str(path)) for one in arguments]
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    said = capsys.readouterr().err
    assert caught.value.code == 2 and said.count("\n") == 1 and "\x1b" not in said
    assert any(one in said for one in message.split("|")), said
    assert not paths["out"].exists() and not paths["folder"].exists()
    assert paths["guide"].read_bytes() == GUIDE.read_bytes()


def test_links_that_lead_out_of_a_folder_are_not_uploaded(tmp_path):
    folder, secret = tmp_path / "generator", tmp_path / "token.json"
    shutil.copytree(Path(burnish.__file__).parent / "weights/fashion_mnist/generator", folder)
    secret.write_text("{}")
    (folder / "notes.json").symlink_to(secret)
    with pytest.raises(InputError, match="a link that leads out of the folder"):
        push_model(str(folder), "me/it", folder=tmp_path / "hub")
    assert not (tmp_path / "hub").exists()
