"""Tuning end to end: what is tried, what is found, what is written, what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from burnish.cli.main import main
from burnish.errors import InputError
from burnish.guide.model import Guide
from burnish.metrics.features import Features
from burnish.studies.dose.tune import TuneOptions, grid, tune

CIFAKE = Path(__file__).parents[1] / "../shared/data/cifake"


class Means(nn.Module):
    """A classifier whose logit falls with the squared distance to a gray level."""

    def __init__(self, level):
        super().__init__()
        self.level = nn.Parameter(torch.tensor(level))

    def forward(self, images):
        away = (images - self.level).square().flatten(1).sum(1)
        return torch.stack([-away, -2 * away], 1)


class Pixels:
    """Features that are the mean of some columns of each image."""

    sha256 = "0" * 64

    def __init__(self, name, independent, columns=slice(None), **facts):
        self.name, self.independent, self.columns = name, independent, columns
        vars(self).update(facts)

    def __call__(self, images_uint8):
        return Features(images_uint8[..., self.columns].float().mean(2).flatten(1) / 255, None)


def write(path, count, mean, seed=0, labels=True):
    rng = np.random.default_rng(seed)
    pixels = (255 * (mean + 0.05 * rng.standard_normal((count, 4, 4, 1)))).clip(0, 255)
    members = {"arr_0": pixels.round().astype(np.uint8)}
    np.savez(path, **members, **({"arr_1": np.arange(count) % 2} if labels else {}))
    return path


@pytest.fixture
def files(tmp_path):
    """Generated images that are too dark, and real ones."""
    return write(tmp_path / "s.npz", 240, 0.4), str(write(tmp_path / "r.npz", 200, 0.5, seed=1))


def guide_to(level):
    return Guide(Means(level), {"name": "means"}).eval()


EYES = [Pixels("left", False, slice(0, 2)), Pixels("all", True)]
# At eps 0.4 the 16 pixels move by 0.1, from 0.4 to 0.5.
OPTIONS = TuneOptions(eps=(0.1, 0.4, 1.2), num_steps=(3,), objective=("logit",))


def test_the_dose_that_moves_images_onto_real_ones_is_found_and_confirmed(files):
    result = tune(files[0], guide_to(1.0), files[1], EYES, OPTIONS)
    assert result["verdict"] == "use" and result["words"].startswith("Use these settings: eps 0.4")
    assert result["chosen"]["eps"] == 0.4
    before, *rows = result["rows"]
    assert [row["settings"]["eps"] for row in rows] == [0.1, 0.4, 1.2]
    assert before["settings"] is None and rows[0]["nfe"] == 3
    assert any("eps 1.2 is too much" in said for said in rows[2]["against"])
    assert not rows[1]["against"]
    first, after = result["confirmation"]
    assert first["scores"]["all"]["fid"] != before["scores"]["all"]["fid"]  # other images
    assert after["scores"]["all"]["fid_change"]["high"] < 0
    # No cheap change does the same, and it is said.
    blur = result["controls"]["shares"]["blur"]["all"]["fid"]
    assert abs(blur["share"]) < 0.2 and "of that gain, alone: blur" in result["words"]
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    again = tune(files[0], guide_to(1.0), files[1], EYES, OPTIONS)
    assert again["rows"] == result["rows"] and again["confirmation"] == result["confirmation"]


def test_a_guide_that_points_away_leaves_the_images_alone(files):
    result = tune(files[0], guide_to(0.0), files[1], EYES, OPTIONS)
    assert result["verdict"] == "leave" and result["chosen"] is None
    assert result["confirmation"] == []
    # A radius of 0 changes nothing, and is not recommended.
    options = TuneOptions(eps=(0.0,), objective=("logit",))
    result = tune(files[0], guide_to(1.0), files[1], EYES, options)
    change = result["rows"][1]["scores"]["all"]["fid_change"]
    assert change == {"difference": 0, "std_error": 0, "low": 0, "high": 0}
    assert result["verdict"] == "leave"


class Gamer(Means):
    """Raises what one extractor sees, the left columns, and darkens all else."""

    def forward(self, images):
        left, right = images[..., :2], images[..., 2:]
        seen = -(left - 0.5).square().flatten(1).sum(1) - 0.5 * right.flatten(1).sum(1)
        return torch.stack([seen, 2 * seen], 1)


def test_a_guide_that_games_one_extractor_is_found_out(files):
    gamer = Guide(Gamer(0.5), {"name": "gamer"}).eval()
    options = TuneOptions(eps=(0.2, 0.5), num_steps=(10,), objective=("logit",))
    result = tune(files[0], gamer, files[1], EYES, options)
    for row in result["rows"][1:]:
        left, everything = row["scores"]["left"], row["scores"]["all"]
        assert left["fid_change"]["high"] < 0 < everything["fid_change"]["low"]
    assert result["verdict"] == "disagree" and result["chosen"] is None
    assert "FD falls by left, while FD or KID rises by all" in result["words"]


def test_what_is_left_open_is_the_guides_own(guide):
    guide.card["refine"] = {"eps": 9.0, "num_steps": 4, "step_size": 7.0, "norm": "linf"}
    tried = grid(guide, TuneOptions(eps=(0.5, 1.0), objective=("logit", "ce")))
    named = [(one["eps"], one["objective"], one["num_steps"]) for one in tried]
    assert named == [(0.5, "logit", 4), (0.5, "ce", 4), (1.0, "logit", 4), (1.0, "ce", 4)]
    assert all(one["norm"] == "linf" and one["stop_quantile"] == 0.5 for one in tried)
    assert not any("step_size" in one for one in tried)
    tried = grid(guide, TuneOptions(eps=(1.0,), stop_quantile=(0.25, 1.0), num_steps=(2, 3)))
    assert [(one["num_steps"], one["stop_quantile"]) for one in tried] == [
        (2, 0.25), (2, 1.0), (3, 0.25), (3, 1.0)
    ]  # fmt: skip


def test_bad_input_is_named(files, tmp_path):
    samples, real = files
    guide = guide_to(1.0)
    few = write(tmp_path / "few.npz", 199, 0.4)
    for given, against, message in (
        (few, real, "199 images are too few to judge; at least 200 are needed"),
        (samples, str(write(tmp_path / "r2.npz", 99, 0.5)), "99 real images are too few"),
        (samples, str(samples), "compared with itself"),
        (samples, "cifar10/plain", "takes real images"),
        (samples, "digits", r"images of shape \[1, 4, 4\], digits of \[1, 8, 8\]"),
        (write(tmp_path / "bare.npz", 240, 0.4, labels=False), real, "has no labels"),
        (Path(f"{samples}[0-999]"), real, "go past the end"),
    ):
        with pytest.raises(InputError, match=message):
            tune(given, guide, against, EYES, OPTIONS)
    (tmp_path / "copy.npz").write_bytes(samples.read_bytes())
    with pytest.raises(InputError, match=r"100% of the images .* pixel by pixel"):
        tune(samples, guide, str(tmp_path / "copy.npz"), EYES, OPTIONS)
    for features, message in (
        (EYES[:1], "at least two feature extractors"),
        ([EYES[0], EYES[0]], "given twice"),
        (["cifar10/plain", EYES[0]], r"does not take|takes images of shape"),
    ):
        with pytest.raises(InputError, match=message):
            tune(samples, guide, real, features, OPTIONS)
    eyes = [Pixels(name, False, classifies=True) for name in ("a", "b")]
    with pytest.raises(InputError, match="saw no labels"):
        tune(samples, guide, real, eyes, OPTIONS)
    with pytest.raises(InputError, match="at least one value"):
        TuneOptions(eps=())


class Run:
    """The commands tune and refine with a guide and extractors from here."""

    def __init__(self, files, tmp_path, monkeypatch):
        self.samples, self.real = files
        self.folder, self.level = tmp_path, 1.0
        monkeypatch.setattr("burnish.refinement.choice.load_guide", lambda _: guide_to(self.level))
        monkeypatch.setattr("burnish.jobs.captions.load_guide", lambda _: guide_to(self.level))
        eyes = {eye.name: eye for eye in EYES}
        monkeypatch.setattr(
            "burnish.studies.dose.scorer.load_extractor", lambda name, _: eyes[name]
        )

    def tune(self, *flags):
        main([
            "tune", str(self.samples), "--guide", "means", "--real", self.real, "--features",
            "left", "--features", "all", "--eps", "0.1,0.4", "--num-steps", "3", "--objective",
            "logit", "--out", str(self.folder / "found.json"), *flags,
        ])  # fmt: skip

    def refine(self, *flags):
        main(["refine", str(self.samples), "--guide", "means", "--dry-run", *flags])


@pytest.fixture
def run(files, tmp_path, monkeypatch):
    return Run(files, tmp_path, monkeypatch)


def test_the_command_writes_numbers_a_picture_and_settings_that_refine_takes(run, capsys):
    run.tune()
    out = capsys.readouterr()
    assert "Use these settings: eps 0.4, num_steps 3" in out.out and "min" in out.err
    result = json.loads((run.folder / "found.json").read_text())
    assert result["chosen"]["eps"] == 0.4
    assert (run.folder / "found.png").read_bytes().startswith(b"\x89PNG")
    settings = run.folder / "found.settings.yaml"
    assert yaml.safe_load(settings.read_text())["eps"] == 0.4
    run.refine("--settings", str(settings))
    planned = yaml.safe_load(capsys.readouterr().out)
    resolved = planned["settings"]
    assert {name: resolved[name] for name in result["chosen"]} == result["chosen"]
    assert planned["labels"] == "given" and resolved["step_size"] == pytest.approx(0.2)
    run.refine("--settings", str(settings), "--eps", "0.2", "--labels", "pseudo")
    planned = yaml.safe_load(capsys.readouterr().out)
    assert planned["settings"]["eps"] == 0.2 and planned["settings"]["num_steps"] == 3
    assert planned["labels"] == "pseudo"
    # Another verdict leaves no settings behind.
    run.level = 0.0
    with pytest.raises(SystemExit):
        run.tune()
    assert "--force to replace it" in capsys.readouterr().err and settings.exists()
    run.tune("--force")
    assert "Leave these images as they are" in capsys.readouterr().out
    assert not settings.exists() and (run.folder / "found.json").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epsilon: 1", "unknown key 'epsilon'; did you mean 'eps'?"),
        ("- 1", "expected keys and values"),
        ("eps: -1", "eps must be at least 0"),
        ("eps: [1", "is not YAML"),
        ("", "holds no settings"),
        (None, "there is no file"),
    ],
)
def test_what_is_no_file_of_settings_is_refused_in_one_line(run, capsys, text, message):
    path = run.folder / "settings.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SystemExit) as stopped:
        run.refine("--settings", str(path))
    said = capsys.readouterr().err
    assert stopped.value.code == 2 and message in said and said.count("\n") == 1


def test_bad_input_ends_the_command_with_one_line(run, capsys):
    for flags in (["--real", str(run.samples)], ["--out", "found.png"], ["--num-images", "50"]):
        with pytest.raises(SystemExit) as stopped:
            run.tune(*flags)
        said = capsys.readouterr().err
        assert stopped.value.code == 2 and said.count("\n") == 1


@pytest.mark.skipif(not CIFAKE.exists(), reason="the data set is not here")
def test_the_shipped_guide_leaves_images_of_stable_diffusion_alone():
    generated, real = (CIFAKE / f"{side}-00000-of-00001.parquet" for side in ("generated", "real"))
    result = tune(
        Path(f"{generated}[12000-12199]"), "cifar10-all", f"{real}[10000-10199]",
        ["cifar10/plain", "cifar10/wide", "cifar10/views"],
        TuneOptions(eps=(0.5,), num_steps=(3,), precision="float32"),
    )  # fmt: skip
    assert result["verdict"] == "leave"
