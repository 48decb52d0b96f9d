"""Distilling a refiner: from end to end, killed, refused; then refine and tune with it."""

import json
import multiprocessing
import os

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from torch import nn

from burnish.checkpoint import load_model, save_model
from burnish.cli.main import main
from burnish.errors import InputError
from burnish.guide.load import load_guide
from burnish.metrics.features import Features
from burnish.networks.build import build
from burnish.refinement.learned import load_learned
from burnish.samples import Samples
from burnish.schema import plain
from burnish.storage.datasets import load_dataset
from burnish.storage.formats import write_samples
from burnish.studies.distill import plan_distill
from burnish.studies.distill_options import DistillOptions
from burnish.studies.dose.tune import TuneOptions, tune

OPTIONS = DistillOptions(training_steps=20, width=6, depth=3)
FLAGS = ["--training-steps", "60", "--width", "8", "--depth", "3", "--learning-rate", "0.005"]
STEPS = ["--eps", "1", "--num-steps", "2", "--precondition", "none", "--device", "cpu"]


@pytest.fixture
def digits(tmp_path, monkeypatch):
    """Write digits, some of them without labels, two guides, and one more network."""
    monkeypatch.chdir(tmp_path)
    data = load_dataset("digits")[:260].samples()
    write_samples(tmp_path / "d.npz", [data], len(data))
    bare = Samples(data.images, None, data.ids)
    write_samples(tmp_path / "bare.npz", [bare], len(bare))
    network = {
        "name": "convnet", "in_channels": 1, "num_classes": 10, "widths": [6, 8], "mean": [0.3],
        "std": [0.37],
    }  # fmt: skip
    card = {
        "network": network, "image_shape": [1, 8, 8],
        "realness": {"quantiles": [float(level) for level in range(-50, 51)]},
    }  # fmt: skip
    for seed, name in enumerate(("guide", "other")):
        torch.manual_seed(seed)
        (tmp_path / name).mkdir()
        save_model(tmp_path / name / "guide.safetensors", build(network).eval(), card)
    return tmp_path


GUIDE = "guide/guide.safetensors"


def plan(out, samples="d.npz", guide=GUIDE, options=OPTIONS, **settings):
    settings = {"eps": 1.0, "num_steps": 2, **settings}
    return plan_distill(samples, guide, out, options=options, device="cpu", **settings)


def test_a_distilled_refiner_refines_other_images_beside_its_guide(digits, capsys):
    command = ["distill", "d.npz[0-199]", "--guide", GUIDE, *FLAGS, *STEPS]
    main([*command, "--dry-run"])
    assert yaml.safe_load(capsys.readouterr().out)["num_images"] == 200
    assert not (digits / "guide" / "refiner").exists()
    main(command)
    said, kept = capsys.readouterr(), digits / "guide" / "refiner.safetensors"
    assert "about" in said.err and "minutes" in said.err
    card = load_model(kept)[1]
    assert f"explains {card['explained']:.0%} of the guide's change on 20 images" in said.out
    assert ("That is too little" in said.out) == (card["explained"] < 1 / 3)
    assert "s per 1,000 images, the guide" in said.out
    assert card["guide_sha256"] == load_guide(GUIDE).card["sha256"]
    assert card["settings"]["num_steps"] == 2 and card["num_images"] == 180
    # The same again, by name; nothing is refined or trained a second time.
    before = kept.read_bytes()
    main(command)
    assert kept.read_bytes() == before
    capsys.readouterr()

    arguments = ["refine", "d.npz", "--guide", GUIDE, "--device", "cpu", "--refiner"]
    main([*arguments, "learned", "--out", "a.npz"])
    assert "1.0 steps each" in capsys.readouterr().out
    main([*arguments, "guide/refiner.safetensors", "--out", "b.npz", "--eps", "0.2"])
    card = json.loads((digits / "a.npz.card.json").read_text())
    assert card["refiner"] == "learned" and card["settings"]["eps"] == 1.0
    assert card["refiner_sha256"] == load_learned(str(kept), load_guide(GUIDE), None, 1).sha256
    given, near, far = (
        np.load(name)["arr_0"].astype(float) / 255 for name in ("d.npz", "b.npz", "a.npz")
    )
    moved = [np.sqrt(((one - given) ** 2).reshape(260, -1).sum(1)) for one in (near, far)]
    assert 0.1 < moved[0].max() < 0.25 and moved[1].max() < 1.05  # but for rounding
    # An output that a guide's steps have made is not the refiner's.
    with pytest.raises(SystemExit):
        main([*arguments[:-1], *STEPS[:4], "--out", "a.npz"])
    assert "a.npz exists" in capsys.readouterr().err


def run_and_die(cache, out, module, name, call):
    """Distill in a process that ends, as if it were killed, at one call of a function."""
    # The server that forks has the cache, and what was measured there, of an earlier test.
    os.environ["BURNISH_CACHE"] = cache
    owner = __import__(module, fromlist=[name])
    if "." in name:
        kind, name = name.split(".")
        owner = getattr(owner, kind)
    real, calls = getattr(owner, name), iter(range(call))

    def die(*inputs, **options):
        return real(*inputs, **options) if next(calls, None) is not None else os._exit(9)

    setattr(owner, name, die)
    plan(out).run()


def test_killed_at_three_moments_it_ends_in_the_same_bytes(digits):
    whole, killed = digits / "whole.safetensors", digits / "killed" / "whole.safetensors"
    plan(whole).run()
    processes = multiprocessing.get_context("forkserver")
    # The optimizer imports the compiler, which takes seconds.
    processes.set_forkserver_preload(["burnish.studies.distill", "torch._dynamo"])
    moments = [
        ("burnish.jobs.refine_plan", "join_ledgers", 0),
        ("burnish.training.recipes.refiner", "ImitationLoss.__call__", 7),
        ("burnish.studies.distill", "save_model", 0),
    ]
    for moment in moments:
        process = processes.Process(
            target=run_and_die, args=(os.environ["BURNISH_CACHE"], killed, *moment)
        )
        process.start()
        process.join(120)
        assert process.exitcode == 9 and not killed.exists(), moment
    plan(killed).run()
    assert killed.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"samples": "d.npz[0-98]"}, "99 images are too few to learn from; give 100 at least"),
        ({"samples": "none.npz"}, "none.npz"),
        ({"samples": "bare.npz"}, "no labels; distill with --labels pseudo"),
        ({"guide": "nobody"}, "guide"),
        ({"num_steps": 0}, "nothing to learn from no steps"),
        ({"eps": 0.0}, "nothing to learn from no steps"),
        ({"out": "refiner.npz"}, r"is a \.safetensors file"),
        ({"out": GUIDE}, "would replace its own input"),
        ({"out": "other/guide.safetensors"}, "is there already; give another --out"),
        ({"out": "guide.safetensors"}, "guide is there already; give another --out"),
        ({"out": None, "guide": "cifar10"}, "give --out"),
    ],
)
def test_what_cannot_be_distilled_is_refused_before_any_work(digits, asked, message):
    out = asked.pop("out", "it.safetensors")
    before = sorted(digits.rglob("*"))
    with pytest.raises(InputError, match=message):
        plan(out and digits / out if out != GUIDE else digits / GUIDE, **asked)
    assert sorted(digits.rglob("*")) == before


def test_another_distillation_is_not_overwritten(digits):
    folder = digits / "it"
    folder.mkdir()
    (folder / "distill.json").write_text(json.dumps(plan(digits / "it.safetensors").kept()))
    plan(digits / "it.safetensors")
    with pytest.raises(InputError, match="with other settings; give another --out"):
        plan(digits / "it.safetensors", num_steps=3)


def learned_of(digits, guide="guide", channels=1, **more):
    """Write a refiner of a guide that adds a fifth of gray, without any training."""
    network = {"name": "residual", "in_channels": channels, "width": 4, "depth": 2}
    built = build(network)
    assert isinstance(built, nn.Module)
    nn.init.constant_(list(built.parameters())[-1], 0.2)
    source = load_guide(digits / guide / "guide.safetensors")
    card = {
        "network": network, "classifies": False, "guide_sha256": source.card["sha256"],
        "guide": guide, "settings": plain(plan(digits / "none.safetensors").settings), **more,
    }  # fmt: skip
    save_model(digits / "made.safetensors", built, card)


@pytest.mark.parametrize(
    ("made", "refiner", "message"),
    [
        ({}, "learned", "has no learned refiner: there is no guide/refiner.safetensors"),
        ({}, "none.safetensors", "no model at none.safetensors"),
        ({}, "d.npz", "is not a safetensors file"),
        ({}, GUIDE, "is no learned refiner; burnish distill makes them"),
        ({"guide": "other"}, "made.safetensors", "has learned from another guide, other"),
        ({"channels": 3}, "made.safetensors", "takes images of 3 channels, these have 1"),
        ({"settings": {"eps": -1}}, "made.safetensors", "eps must be at least 0"),
        ({"settings": "none"}, "made.safetensors", "settings: expected keys and values"),
    ],
)
def test_a_refiner_that_does_not_fit_is_refused(digits, capsys, made, refiner, message):
    learned_of(digits, **made)
    with pytest.raises(SystemExit) as ended:
        main(["refine", "d.npz", "--guide", GUIDE, "--refiner", refiner, "--device", "cpu"])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.count("\n") == 1 and message in said
    assert not (digits / "refined.npz").exists()


class Pixels:
    """Features that are the mean of each column of an image."""

    sha256 = "0" * 64

    def __init__(self, name, independent):
        self.name, self.independent = name, independent

    def __call__(self, images_uint8):
        return Features(images_uint8.float().mean(2).flatten(1) / 255, None)


def test_tune_tries_it_beside_the_steps_and_names_it_in_the_settings(digits, capsys):
    from burnish.studies.dose.files import read_tuning, write_tuning

    learned_of(digits)
    brighter = load_dataset("digits")[:260].samples()
    images = (brighter.images + 1 / 8).clamp(0, 1)  # what a move of length 1 makes of 64 values
    write_samples(digits / "real.npz", [brighter.with_images(images)], 260)
    options = TuneOptions(eps=(0.01,), num_steps=(2,), refiner="made.safetensors", num_images=100)
    eyes = [Pixels("one", False), Pixels("two", True)]
    found = tune(digits / "d.npz", GUIDE, "real.npz", eyes, options, device="cpu")
    last = found["rows"][-1]
    assert last["settings"]["refiner"] == "made.safetensors" and last["nfe"] == 1
    assert found["verdict"] == "use" and "refiner made.safetensors" in found["words"]
    write_tuning(digits / "t.json", found)
    assert read_tuning(digits / "t.json")["chosen"]["refiner"] == "made.safetensors"
    main([
        "refine", "d.npz", "--guide", GUIDE, "--settings", "t.settings.yaml", "--device", "cpu",
        "--dry-run",
    ])  # fmt: skip
    planned = yaml.safe_load(capsys.readouterr().out)
    with safe_open(digits / "made.safetensors", "pt") as file:
        settings = json.loads(file.metadata()["card"])["settings"]
    assert planned["refiner"] == "made.safetensors" and planned["settings"] == settings
