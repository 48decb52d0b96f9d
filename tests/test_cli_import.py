"""``burnish import``: from a checkpoint to a guide that the other commands take, or one line."""

import json
import re
import resource
import shlex
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from foreign_networks import MEAN, STD, cifar_resnet, made
from foreign_setup import hostile, planted
from safetensors import safe_open

from burnish.cli.main import main
from burnish.guide.load import load_guide

DATA = Path(__file__).parents[2] / "shared" / "data"
WEIGHTS = DATA / "third_party" / "weights"
TEST_IMAGES = DATA / "cifar10" / "test-00000-of-00001.parquet"
SAY = [
    "--mean",
    ",".join(map(str, MEAN)),
    "--std",
    ",".join(map(str, STD)),
    "--activation",
    "relu",
]
PLANTED, HOSTILE = planted("touched"), hostile()
FILES = {**PLANTED, **HOSTILE}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def refused(capsys, *command):
    """Run a command that must fail; return its one line."""
    before = set(Path().iterdir())
    with pytest.raises(SystemExit) as caught:
        main([str(part) for part in command])
    assert caught.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and said[0].startswith("burnish: ") and len(said[0]) < 900
    assert said[0].isprintable() and set(Path().iterdir()) == before
    return said[0]


def test_there_are_more_than_thirty_hostile_files():
    assert len(PLANTED) > 10 and len(HOSTILE) > 30


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_becomes_one_line_and_no_guide(name, capsys):
    Path("a.pt").write_bytes(FILES[name])
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    assert "a.pt" in refused(capsys, "import", "a.pt", *SAY)
    assert time.monotonic() - start < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # KiB


@pytest.fixture
def samples():
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    np.savez("samples.npz", arr_0=images, arr_1=np.arange(20) % 10)
    np.savez("real.npz", arr_0=255 - images, arr_1=np.arange(20) % 10)


COMMANDS = {
    "refine": ["refine", "samples.npz", "--guide", "a.pt", "--preset", "bigroc", "--eps", "1",
               "--out", "o.npz"],
    "doctor": ["doctor", "a.pt", "--real", "real.npz"],
    "adapt": ["adapt", "samples.npz", "--real", "real.npz", "--guide", "a.pt", "--out", "o"],
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", ["a zip that calls a shell", "a pickle that executes", "tensors"])
def test_commands_that_take_a_guide_name_import_for_a_checkpoint(command, name, samples, capsys):
    torch.save(made(cifar_resnet)[0], "a.pt")
    if name in FILES:
        Path("a.pt").write_bytes(FILES[name])
    assert "burnish import" in refused(capsys, *COMMANDS[command])


@pytest.mark.parametrize("command", [
    ["sample", "a.pt", "--seeds", "0-1", "--out", "o.npz"],
    ["evaluate", "samples.npz", "--reference", "real.npz", "--features", "a.pt"],
    ["evaluate", "samples.npz", "--reference", "a.pt"],
    ["refine", "a.pt", "--guide", "cifar10", "--out", "o.npz"],
])  # fmt: skip
def test_other_commands_run_no_pickle_either(command, samples, capsys):
    for name in ("a zip that calls a shell", "a pickle that executes"):
        Path("a.pt").write_bytes(FILES[name])
        refused(capsys, *command)


def test_an_imported_guide_refines_and_says_where_it_is_from(samples, capsys):
    state, images, wanted = made(cifar_resnet)
    torch.save({f"module.{name}": one for name, one in state.items()}, "a.pt")
    main(["import", "a.pt", *SAY, "--out", "guide.safetensors"])
    said = capsys.readouterr().out
    assert "cifar_resnet" in said and "as the user has it" in said and "burnish doctor" in said
    guide = load_guide("guide.safetensors")
    assert torch.allclose(guide(images), wanted, atol=1e-5)
    with safe_open("guide.safetensors", "pt") as file:
        card = json.loads(file.metadata()["card"])
    assert card["origin"]["file"] == "a.pt" and len(card["origin"]["sha256"]) == 64
    assert "exists already" in refused(capsys, "import", "a.pt", *SAY)
    command = ["refine", "samples.npz", "--guide", "guide.safetensors", "--preset", "bigroc"]
    main([*command, "--eps", "0.5", "--out", "better.npz"])
    assert np.load("better.npz")["arr_0"].shape == (20, 32, 32, 3)


WRONG = [
    (["a.pt", "--mean", "a,b,c", "--std", "1"], "--mean takes numbers"),
    (["a.pt", "--as", "robustnes"], "did you mean 'robustness'"),
    (["a.pt", "--out", "guide.pt"], "name it so"), (["nothing.pt"], "no checkpoint"),
    (["."], "is a folder"), (["x" * 5000], "no checkpoint"), (["a\x1bb"], "no checkpoint"),
    (["madrylab/resnet5_l2_eps3"], "did you mean"),
    (["robustbench/Wu2020Adversarial"], "it lies at"),
    (["owner/name"], "name the file: owner/name/FILE"), (["a.pt", "--index", "3"], "up to 0"),
    (["a.pt", *SAY, "--check", "nothing.npz"], "nothing.npz"),
    (["a.pt", *SAY, "--check", "gray.npz"], "images of 1 channels, the guide takes 3"),
    (["a.pt", *SAY, "--check", "many.npz"], "has 12 classes, the guide 10"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[row[1] for row in WRONG])
def test_wrong_arguments_become_one_line(arguments, message, capsys):
    torch.save(made(cifar_resnet)[0], "a.pt")
    images = np.zeros((12, 32, 32, 3), dtype=np.uint8)
    np.savez("many.npz", arr_0=images, arr_1=np.arange(12))
    np.savez("gray.npz", arr_0=images[..., :1], arr_1=np.arange(12) % 10)
    assert message in refused(capsys, "import", *arguments)


@pytest.mark.parametrize("source", ["madrylab/resnet50_l2_eps3", "owner/name/model.safetensors"])
def test_offline_one_line_says_at_once_what_to_fetch(source, capsys):
    start = time.monotonic()
    said = refused(capsys, "import", source)
    assert time.monotonic() - start < 10
    assert "elsewhere 'hf download " in said and "--local-dir FOLDER" in said


@pytest.mark.skipif(not WEIGHTS.exists(), reason="third-party weights are not here")
def test_a_check_compares_with_the_published_accuracy(capsys):
    command = ["import", str(WEIGHTS / "resnet2b.pth"), "--check", f"{TEST_IMAGES}[0-1999]"]
    main(command)
    assert "fits the published 0.6925" in capsys.readouterr().out
    card = load_guide("guide.safetensors").card
    assert card["origin"]["measured"]["images"] == 2000 and card["license"] == "BSD-3-Clause-like"
    # The same weights where red and blue are swapped are another, worse classifier.
    state = torch.load(WEIGHTS / "resnet2b.pth", weights_only=True, map_location="cpu")[
        "state_dict"
    ]
    state["conv1.weight"] = state["conv1.weight"].flip(1) * 0.3
    torch.save(state, "other.pt")
    from burnish.guide.importers import registry
    from burnish.guide.importers.registry import Known

    registry.KNOWN["crown/other"] = Known(
        "crown/other", "CIFAR-10", "Linf", 0.6925, registry.CIFAR, where="here"
    )
    try:
        command = ["import", "other.pt", "--as", "crown/other", "--check", command[3], "--out"]
        said = refused(capsys, *command, "other.safetensors")
    finally:
        del registry.KNOWN["crown/other"]
    assert "DOES NOT FIT" in said and "nothing was written" in said


PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "import.md"


@pytest.mark.skipif(not WEIGHTS.exists(), reason="third-party files are not here")
def test_the_page_works_from_top_to_bottom():
    for name, path in {
        "resnet4b.pth": WEIGHTS / "resnet4b.pth", "cifar10-test.parquet": TEST_IMAGES,
        "ddpm_cifar10_grid.png": WEIGHTS.parent / "images" / "ddpm_cifar10_grid.png",
    }.items():  # fmt: skip
        Path(name).symlink_to(path)
    text = PAGE.read_text().replace("\\\n", " ")
    commands = re.findall(
        r"^    burnish (.*)$", text.partition("## From the hub")[0], re.MULTILINE
    )
    assert [command.split()[0] for command in commands] == ["import", "doctor", "refine", "refine"]
    for command in commands:
        main(shlex.split(command))
    before = np.stack([np.load(f"{name}.npz")["arr_0"] for name in ("pseudo", "balanced")])
    assert before.shape == (2, 256, 32, 32, 3) and (before[0] != before[1]).any()
    (row,) = json.loads(Path("doctor.json").read_text())["guides"]
    assert row["accuracy_clean"] > 0.6 and row["accuracy_robust"] > 0.3
    pseudo, balanced = (
        pq.read_table(f"{one}.npz.ledger.parquet")["label"].to_numpy()
        for one in ("pseudo", "balanced")
    )
    assert set(pseudo) == set(balanced) == set(range(10)) and (pseudo != balanced).any()
