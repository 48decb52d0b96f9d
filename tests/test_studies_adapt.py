"""Adapting a guide to images of another generator: from end to end, killed, and refused."""

import json
import multiprocessing
import os

import numpy as np
import pytest
import torch

from burnish.checkpoint import save_model
from burnish.cli.main import main
from burnish.errors import InputError
from burnish.guide.load import load_guide
from burnish.networks.build import build
from burnish.refinement.presets import settings_for
from burnish.samples import Samples
from burnish.storage.datasets import Dataset, load_dataset
from burnish.storage.formats import open_samples, write_samples
from burnish.studies.adapt import plan_adapt
from burnish.studies.adapt_options import AdaptOptions, scale_of
from burnish.studies.baselines import blur

PIXELS = {"in_channels": 1, "num_classes": 10, "mean": [0.3], "std": [0.37]}
OPTIONS = AdaptOptions(num_steps=20, batch_size=16, learning_rate=0.003)
FEATURES = ("labels.safetensors", "views.safetensors")


@pytest.fixture
def digits(tmp_path, monkeypatch):
    """Write real digits, others that are blurred, a guide to start from and two extractors."""
    monkeypatch.chdir(tmp_path)
    data = load_dataset("digits")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    real, rest = data[order[:900]], data[order[900:]].samples()
    write_samples(tmp_path / "real.npz", [real.samples()], len(real))
    write_samples(tmp_path / "blurred.npz", [rest.with_images(blur(rest.images, 0.7))], len(rest))
    torch.manual_seed(0)
    network = {"name": "resnet", "width": 8, "num_blocks": 1, **PIXELS}
    save_model(tmp_path / "start.safetensors", build(network), {"network": network})
    network = {"name": "convnet", **PIXELS}
    for name in FEATURES:
        card = {"network": network, "classifies": name == FEATURES[0]}
        save_model(tmp_path / name, build(network), card)
    return tmp_path


def plan(out, samples="blurred.npz", real="real.npz", options=OPTIONS, start="start.safetensors"):
    return plan_adapt(samples, real, start, out, features=FEATURES, options=options, device="cpu")


def run_and_die(cache, out, module, name, call):
    """Adapt in a process that ends, as if it were killed, at one call of a function."""
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


def test_adapt_teaches_a_guide_and_tells_the_dose(digits, capsys):
    arguments = [
        "adapt", "blurred.npz", "--real", "real.npz", "--guide", "start.safetensors", "--out",
        "mine", "--num-steps", "150", "--batch-size", "16", "--learning-rate", "0.003",
        "--no-match-spectrum",
        *(part for name in FEATURES for part in ("--features", name)), "--device", "cpu",
    ]  # fmt: skip
    main([*arguments, "--dry-run"])
    assert "num_steps: 150" in capsys.readouterr().out and not (digits / "mine").exists()
    main(arguments)
    said = capsys.readouterr()
    guide, tuning = load_guide("mine/guide.safetensors"), json.loads(
        (digits / "mine" / "tuning.json").read_text()
    )  # fmt: skip
    assert tuning["words"] in said.out and "150 steps at most" in said.err
    assert guide.card["tuning"]["verdict"] == tuning["verdict"]
    assert guide.card["refine"] == (tuning["chosen"] or {})
    assert guide.card["adapted_from"]["guide"] == "start.safetensors"
    known, real = guide.card["realness_generated"]["quantiles"], guide.card["realness"]
    assert known[50] < real["quantiles"][50]  # the medians: it has learned which are blurred
    assert guide.spectra["real"].shape == (8, 8, 1, 1)
    assert "Tuning" in (digits / "mine" / "report.html").read_text()
    # Nothing that was held out for the dose was trained on.
    held_out = {image.tobytes() for image in np.load("mine/held-out/generated.npz")["arr_0"]}
    seen = plan(digits / "elsewhere").opened.data.generated
    assert isinstance(seen, Dataset)
    channels_last = seen.images_uint8.permute(0, 2, 3, 1)
    assert not held_out & {image.numpy().tobytes() for image in channels_last}


def test_killed_at_five_moments_it_ends_in_the_same_bytes(digits):
    plan(digits / "whole").run()
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["burnish.studies.adapt"])
    moments = [
        ("burnish.studies.adapt", "train_guide", 0),
        ("burnish.training.losses.joint", "JointLoss.__call__", 7),
        ("burnish.training.recipes.joint", "save_model", 0),
        ("burnish.studies.dose.verdict", "choose", 0),
        ("burnish.studies.adapt", "save_model", 0),
    ]
    for moment in moments:
        process = processes.Process(
            target=run_and_die,
            args=(os.environ["BURNISH_CACHE"], digits / "killed" / "whole", *moment),
        )
        process.start()
        process.join(120)
        assert process.exitcode == 9, moment
        assert not (digits / "killed" / "whole" / "guide.safetensors").exists()
    plan(digits / "killed" / "whole").run()
    for name in ("guide.safetensors", "held-out/generated.npz", "joint/log.jsonl"):
        ends = [(digits / run / name).read_bytes() for run in ("whole", "killed/whole")]
        if name.endswith("jsonl"):  # all but how fast it was
            ends = [
                [{**json.loads(line), "steps_per_second": 0} for line in end.splitlines()]
                for end in ends
            ]
        assert ends[0] == ends[1], name


def test_images_without_labels_get_those_that_the_guide_sees(digits):
    file = open_samples(digits / "blurred.npz")
    images = torch.cat([batch.images for batch in file])
    bare = Samples(images, None, torch.arange(len(images)))
    write_samples(digits / "bare.npz", [bare], len(images))
    with pytest.raises(InputError, match="labels"):
        plan(digits / "out", samples="bare.npz")
    pseudo = AdaptOptions(labels="pseudo")
    found = plan(digits / "out", samples="bare.npz", options=pseudo).opened.tuning[0]
    with torch.no_grad():
        expected = load_guide("start.safetensors")(found.samples().images).argmax(1)
    assert (found.labels == expected).float().mean() > 0.99  # but for ties by rounding


def test_another_adaptation_is_not_overwritten(digits):
    folder = digits / "out"
    folder.mkdir()
    (folder / "adapt.json").write_text(json.dumps(plan(folder).kept()))
    plan(folder)
    with pytest.raises(InputError, match="with other options; give another --out"):
        plan(folder, options=AdaptOptions(seed=1))
    (folder / "adapt.json").write_text("{}")
    with pytest.raises(InputError, match="damaged"):
        plan(folder)


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        ({"samples": "real.npz"}, "100% of the images of real.npz are in real.npz"),
        ({"samples": "blurred.npz[0-99]"}, "100 images are too few"),
        ({"real": "none.npz"}, "none.npz"),
        ({"real": "large.npz"}, "of shape"),
        ({"start": "nobody"}, "guide"),
    ],
)
def test_what_cannot_be_adapted_is_refused_before_any_work(digits, sides, message):
    images = torch.rand(600, 1, 16, 16)
    large = Samples(images, torch.arange(600) % 10, torch.arange(600))
    write_samples(digits / "large.npz", [large], 600)
    with pytest.raises(InputError, match=message):
        plan(digits / "out", **sides)
    assert not (digits / "out").exists()


def test_a_folder_of_something_else_and_one_that_holds_the_input_are_refused(digits):
    with pytest.raises(InputError, match="holds something else"):
        plan(digits)
    folder = digits / "out"
    folder.mkdir()
    (folder / "adapt.json").write_text(json.dumps(plan(folder).kept()))
    (digits / "blurred.npz").rename(folder / "blurred.npz")
    with pytest.raises(InputError, match="lies in"):
        plan(folder, samples=str(folder / "blurred.npz[0-600]"))


@pytest.mark.parametrize("left", ['{"verdict": "use"}', "[]", '{"chosen": {"epsi": 3}}', "x"])
def test_a_tuning_of_something_else_is_made_anew(digits, monkeypatch, left):
    found = {"verdict": "leave", "words": "w", "chosen": None}
    monkeypatch.setattr("burnish.studies.adapt.tune", lambda *_, **__: found)
    monkeypatch.setattr("burnish.studies.adapt.write_tuning", lambda *_: None)
    monkeypatch.setattr("burnish.studies.adapt.write_report", lambda *_: None)
    (digits / "out").mkdir()
    ready = plan(digits / "out", options=AdaptOptions(num_steps=1, batch_size=8))
    (digits / "out" / "tuning.json").write_text(left)
    assert ready.run() == found
    with pytest.raises(InputError, match="no settings helped when this guide was adapted"):
        settings_for(load_guide(digits / "out" / "guide.safetensors"))


def test_few_images_for_a_dose_and_a_single_extractor_are_refused(digits):
    with pytest.raises(InputError, match="num_tuning must be 0 or at least 200"):
        AdaptOptions(num_tuning=50)
    with pytest.raises(InputError, match="at least two feature extractors"):
        plan_adapt("blurred.npz", "real.npz", "start.safetensors", digits / "out",
                   features=FEATURES[:1], options=OPTIONS)  # fmt: skip


def test_radii_keep_the_change_of_a_pixel():
    assert scale_of((3, 32, 32)) == 1 and scale_of((3, 256, 256)) == 8
