"""Controls: the part of a gain that cheap changes explain, and a fake refiner found out."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from burnish.cli.main import main
from burnish.errors import InputError
from burnish.files import card_path
from burnish.jobs.refine import plan_refine
from burnish.jobs.sample import plan_sample
from burnish.metrics.features import Features
from burnish.metrics.intervals import Estimate
from burnish.report.controls import check_controls, shares_table
from burnish.samples import to_uint8
from burnish.storage.formats import open_samples
from burnish.studies.baselines import resample_counts
from burnish.studies.controls.controls import class_frequencies, rejection
from burnish.studies.controls.more_steps import MoreSteps
from burnish.studies.controls.score import score
from burnish.studies.controls.shares import share_of
from burnish.studies.controls.sides import check_order, draw_sides
from burnish.studies.controls.words import account, table
from burnish.studies.dose.drawn import check_two_sides, draw, open_drawn

CIFAR = Path(__file__).parents[1] / "../shared/data/cifar10/test-00000-of-00001.parquet"


def estimate(value, spread, count=400, seed=0):
    influence = spread * np.random.default_rng(seed).standard_normal(count)
    return Estimate(value, influence - influence.mean())


def share(*estimates, **how):
    found = share_of(*estimates, **how)
    assert found is not None
    return found


def test_shares_of_known_controls():
    before, after = estimate(10, 5), estimate(6, 5, seed=1)
    all_of_it = share(before, after, before, after, paired=True)
    assert all_of_it.share == 1 and all_of_it.high - all_of_it.low < 1e-12
    nothing = share(before, after, before, before, paired=True)
    assert nothing.share == 0 and nothing.high - nothing.low < 1e-12
    half = share(before, after, before, estimate(8, 5, seed=2), paired=True)
    assert half.share == 0.5 and half.low < 0.5 < half.high
    # What is not paired is less certain, and so is a control of other images.
    unpaired = share(before, after, before, estimate(8, 5, seed=2), paired=False)
    apart = share(before, after, before, estimate(8, 5, seed=2), paired=False, apart=True)
    assert half.low > unpaired.low and unpaired.share == apart.share == 0.5
    assert share_of(before, estimate(9.9, 5, seed=1), before, before, paired=True) is None
    assert share_of(before, estimate(11, 5, seed=1), before, before, paired=True) is None


def test_the_interval_of_a_share_is_that_of_many_draws():
    """Means of squares, of which everything is known, in 400 draws of 300 images."""
    rng, found = np.random.default_rng(0), []
    for _ in range(400):
        x = rng.normal([2, 1, 1.5], size=(300, 3))  # baseline, refined, control
        x[:, 1:] += 0.7 * (x[:, :1] - 2)
        ends = [Estimate(s.mean(), s - s.mean()) for s in (x**2).T]
        found.append(share(ends[0], ends[1], ends[0], ends[2], paired=True))
    expected = np.array([2, 1, 1.5]) ** 2 + [1, 1.49, 1.49]
    truth = (expected[0] - expected[2]) / (expected[0] - expected[1])
    covered = np.mean([one.low <= truth <= one.high for one in found])
    assert 0.92 <= covered <= 0.98


def test_class_frequencies_are_those_of_the_refined_images():
    baseline = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    refined = torch.tensor([0] * 20 + [1] * 30 + [2] * 40 + [3] * 10)  # no 3 to take
    rows = class_frequencies(baseline, refined).rows
    assert rows is not None
    assert torch.bincount(baseline[rows]).tolist() == [22, 33, 45]
    assert resample_counts(torch.tensor([3, 3, 3, 1])).tolist().count(0) == 1
    kept = rejection(torch.tensor([0.1, 3, 2, -1])).rows
    assert kept is not None and kept.tolist() == [0, 1, 2]


class Columns:
    """Features that are column means; the class is whether the image is bright."""

    sha256 = "0" * 64

    def __init__(self, name, independent, classifies):
        self.name, self.independent, self.classifies = name, independent, classifies

    def __call__(self, images_uint8):
        features = images_uint8.float().mean(2).flatten(1) / 255
        if not self.classifies:
            return Features(features, None)
        bright = (features.mean(1, keepdim=True) > 0.5).float()
        return Features(features, torch.cat([1 - bright, bright], 1))


def gray(mean, count=300, seed=0):
    noise = 0.05 * np.random.default_rng(seed).standard_normal((count, 1, 6, 6))
    return torch.from_numpy((255 * (mean + noise)).clip(0, 255).round().astype(np.uint8))


EYES = [Columns("left", False, True), Columns("all", True, False)]


def test_a_gain_that_no_control_gives_is_not_explained_away():
    sides = {"baseline": gray(0.4), "refined": gray(0.5), "other": gray(0.5, seed=2)}
    found = score(sides, gray(0.5, seed=1), EYES, paired=["refined"])
    for control in ("blur", "sharpen", "filter", "class frequencies"):
        assert abs(found["shares"][control]["all"]["fid"]["share"]) < 0.1
    assert 0.95 < found["shares"]["other"]["all"]["fid"]["share"] < 1.05
    words = account(found)
    assert words.startswith("By all, FD goes from 0.0") and "This is what 'other' gives" in words
    del sides["other"]
    assert "This is what" not in account(score(sides, gray(0.5, seed=1), EYES))


@pytest.mark.parametrize(
    "ids, paired, left_out, said",
    [
        ({}, {"refined"}, {}, "Paired: images with the same ids are compared."),
        ({"refined": range(-30, 200)}, {"refined"}, {"refined": 70},
         "left out, as not all sides have their ids: 70 of refined."),
        ({"baseline": range(300, -1, -1), "x": range(150)}, {"refined", "x"},
         {"baseline": 151, "refined": 10}, "ids: 151 of baseline, 10 of refined."),
        ({"x": range(900, 1200)}, {"refined"}, {}, "images of their own, not paired: x."),
        ({"refined": range(900, 1200)}, set(), {}, "Not paired: baseline and refined share no"),
    ],
)  # fmt: skip
def test_images_of_all_sides_are_paired_by_their_ids(tmp_path, ids, paired, left_out, said):
    opened = {}
    for name, numbers in ({"baseline": range(160), "refined": range(160)} | ids).items():
        pixels = np.array([i % 256 for i in numbers], np.uint8).reshape(-1, 1, 1, 1)
        path = tmp_path / f"{name}.npz"
        np.savez(path, arr_0=pixels.repeat(3, 3), ids=np.array(numbers))
        opened[name] = open_drawn(str(path))
    sides = draw_sides(opened, 120, 0)
    first = sides.drawn["baseline"]
    found = {name for name, side in sides.drawn.items() if side.ids.equal(first.ids)}
    assert found == paired | {"baseline"}
    assert {name: count for name, count in sides.left_out.items() if count} == left_out
    for side in sides.drawn.values():
        assert len(side) == 120 and len(side.ids.unique()) == 120
        assert side.images_uint8[:, 0, 0, 0].equal((side.ids % 256).byte())
    result = {"extractors": [], "shares": {}, "unchanged": 0, "repeated": 0}
    result |= {"left_out": sides.left_out, "paired": {n: n in found for n in opened}}
    assert said in account(result)


def test_too_few_images_with_the_same_ids_are_refused(tmp_path):
    for name, first in (("baseline", 0), ("refined", 150)):
        np.savez(tmp_path / f"{name}.npz", arr_0=np.zeros((200, 1, 1, 3), np.uint8),
                 ids=np.arange(first, first + 200))  # fmt: skip
    names = {name: str(tmp_path / f"{name}.npz") for name in ("baseline", "refined")}
    opened = {name: open_drawn(path) for name, path in names.items()}
    with pytest.raises(InputError, match=r"refined.npz have 50 ids in common; 100 are needed"):
        draw_sides(opened, 200, 0)
    opened = {name: open_drawn(f"{path}[0-98]") for name, path in names.items()}
    with pytest.raises(InputError, match=r"baseline.npz\[0-98\]: 99 images are too few"):
        draw_sides(opened, 200, 0)


def test_every_share_is_told_with_what_it_is_held_against():
    sides = {"baseline": gray(0.4), "refined": gray(0.5)}
    found = score(sides, gray(0.5, seed=1), EYES, paired=["refined"], realness=torch.arange(300.0))
    assert found["baselines"]["blur"] == "baseline" and found["paired"] == {"refined": True}
    assert found["baselines"]["rejection"] == "baseline, first 225"
    assert "| baseline, first 225 |" in table(found)
    assert "rejection (held against baseline, first 225)" in account(found)
    rows = shares_table(found)["rows"]
    assert rows[-1][0] == "rejection (held against baseline, first 225)"
    check_controls(json.loads(json.dumps(found)), "x.json")  # each share follows from the scores


def test_a_refiner_that_only_resamples_classes_is_called_what_it_is(tmp_path, capsys):
    """Real images in wrong class frequencies, put right by dropping and repeating them."""
    batch = next(iter(open_samples(CIFAR, 2600)))
    images = (255 * batch.images).round().byte().permute(0, 2, 3, 1).numpy()
    assert batch.labels is not None
    labels = batch.labels.numpy()
    many = np.flatnonzero(labels < 2)[:260]
    few = np.flatnonzero(labels >= 2)[:140]
    rows = np.sort(np.concatenate([many, few]))
    counts = resample_counts(torch.from_numpy(labels[rows])).numpy()
    fake = np.repeat(rows, counts)
    for name, some in (("b", rows), ("f", fake), ("r", np.arange(2000, 2600))):
        np.savez(tmp_path / f"{name}.npz", arr_0=images[some], arr_1=labels[some])
    names = [str(tmp_path / f"{name}.npz") for name in "bfr"]
    command = ["explain", *names[:2], "--real", names[2], "--out", str(tmp_path / "e.json")]
    command += ["--features", "cifar10/plain", "--features", "cifar10/views"]
    assert not main([*command, "--guide", "cifar10"])
    said = capsys.readouterr().out
    assert "100% are baseline images without any change" in said
    assert "This is what taking the same images in other class frequencies gives" in said
    found = json.loads((tmp_path / "e.json").read_text())
    assert found["shares"]["class frequencies"]["cifar10/plain"]["fid"]["share"] > 0.8
    assert found["inputs"]["refined"]["num_images"] == len(fake)

    main(["report", str(tmp_path / "e.json"), "--out", str(tmp_path / "e.html")])
    page = (tmp_path / "e.html").read_text()
    share = found["shares"]["class frequencies"]["cifar10/plain"]["fid"]["share"]
    assert f"<td>{100 * share:.0f} % [" in page and "cifar10/plain and cifar10/views (" in page
    assert "This is what taking the same images in other class frequencies gives" in page

    wrong = {
        "needs the --guide that refined": [*names[:2], "--real", names[2], "--more-steps", "2"],
        "there is no": [*names[:2], "--real", names[2], "--more-steps", "2", "--guide", "cifar10"],
        "burnish: explain needs at least two": [
            *names[:2],
            "--real",
            names[2],
            "--more-steps",
            "2",
            "--guide",
            "cifar10",
            "--features",
            "cifar10/plain",
        ],
        "b.npz: this guide takes images of shape [1, 28, 28]": [
            *names[:2],
            "--real",
            names[2],
            "--guide",
            "fashion_mnist",
            "--features",
            "cifar10/plain",
            "--features",
            "cifar10/views",
        ],
        "is compared with itself": [names[0], names[0], "--real", names[2]],
        "names of their own": [*names[:2], "--real", names[2], "--other", f"refined={names[0]}"],
        "not one of baseline": [
            *names[:2],
            "--real",
            names[2],
            "--other",
            f"baseline2={names[0]}",
        ],
        "not one of": [*names[:2], "--real", names[2], "--other", f"blur={names[0]}"],
        "takes NAME=PATH": [*names[:2], "--real", names[2], "--other", "x"],
        "num_images must be": [*names[:2], "--real", names[2], "--num-images", "3"],
        "these are not": [names[0], names[1], "--real", names[0]],
        "--out": [*names[:2], "--real", names[2], "--out", names[0], "--force"],
    }
    for said, arguments in wrong.items():
        out = [] if "--out" in arguments else ["--out", str(tmp_path / "x.json")]
        with pytest.raises(SystemExit, match="2"):
            main(["explain", *arguments, *out])
        error = capsys.readouterr().err
        assert said in error or said == "--out", error
        assert len(error.strip().splitlines()) == 1 and not (tmp_path / "x.json").exists()


def test_more_steps_are_of_the_same_seeds_and_cost_time(tmp_path):
    sampled, refined = tmp_path / "s.npz", tmp_path / "r.npz"
    plan_sample("fashion_mnist", "5-24", sampled, device="cpu").run()
    plan_sample("fashion_mnist", "5-24", tmp_path / "two.npz", num_steps=2, device="cpu").run()
    plan_refine(sampled, "fashion_mnist", refined, num_steps=1, device="cpu").run()
    names = str(sampled), str(refined)
    drawn = draw(names[0], 10, 0, "test")
    made, costs = MoreSteps(*names, 2, "fashion_mnist", "cpu")(drawn)
    two = open_samples(tmp_path / "two.npz").read((drawn.ids - 5).tolist())
    assert (
        made.ids.equal(two.ids)
        and (made.images_uint8.int() - to_uint8(two.images)).abs().max() <= 1
    )
    assert costs["before"] == 1 and costs["refine_seconds"] > 0
    found = {"extractors": [], "shares": {}, "unchanged": 0, "repeated": 0}
    costs |= {"seconds": 2.0, "refine_seconds": 2.4}
    assert "refining takes 2.4 s, as long as about 2 steps" in account(
        {**found, "more_steps": costs}
    )
    check_order(names[0], draw(names[1], 10, 0, "test"))
    with pytest.raises(InputError, match=r"r.npz was refined from .*s.npz; name the images as"):
        check_order(names[1], drawn)
    with pytest.raises(InputError, match=r"r.npz.card.json lacks num_steps, generator_sha256"):
        MoreSteps(names[1], names[0], 2, "fashion_mnist", "cpu")
    with pytest.raises(InputError, match="have 1 steps already"):
        MoreSteps(*names, 1, "fashion_mnist", "cpu")
    with pytest.raises(InputError, match="was not refined with cifar10"):
        MoreSteps(*names, 2, "cifar10", "cpu")
    with pytest.raises(InputError, match="gives other images"):
        MoreSteps(*names, 2, "fashion_mnist", "cpu")(replace(drawn, ids=drawn.ids + 1))
    card = json.loads(card_path(sampled).read_text())
    for change, said in (
        ({"num_steps": None}, "needs images of burnish sample: .*num_steps"),
        ({"generator_sha256": "0", "generator_source": "gone"}, r"\(gone\) is not to be had"),
        ({"timesteps": [22, 0]}, "timesteps of its own"),
    ):
        card_path(sampled).write_text(json.dumps(card | change))
        with pytest.raises(InputError, match=said):
            MoreSteps(*names, 2, "fashion_mnist", "cpu")


def test_copies_of_real_images_are_named():
    side = gray(0.5, 200)
    real = torch.cat([gray(0.5, seed=1), side[[7, 30]]])
    places = check_two_sides("s", side, "r", real)
    assert places == [7, 30]
    copies = {"refined": {"num_images": 5000, "ids": [7, 30]}}
    result = {"extractors": [], "shares": {}, "unchanged": 0, "repeated": 0, "copies": copies}
    assert account(result).startswith("2 of 5,000 refined images are copies of real ones")


def tuned(**controls):
    falls = {"baseline": 3.0, "refined": 1.0, "blur": 8.0}
    share = {"share": -2.5, "low": -3, "high": 4e9}
    controls = {
        "scores": {k: {"all": {"fid": v, "kid": 0.1}} for k, v in falls.items()}, "unchanged": 0,
        "shares": {"blur": {"all": {"fid": share, "kid": None}}}, "repeated": 0,
        "baselines": {"blur": "baseline"}, "paired": {"refined": True},
        "extractors": [{"name": "all", "independent": True, "sha256": None}], **controls,
    }  # fmt: skip
    return {"verdict": "use", "words": "Use these.", "rows": [], "chosen": {"eps": 1.5},
            "controls": controls}  # fmt: skip


def page_of(folder, result):
    (folder / "tuning.json").write_text(json.dumps(result))
    assert not main(["report", str(folder / "tuning.json"), "--out", str(folder / "t.html"),
                     "--force"])  # fmt: skip
    return (folder / "t.html").read_text()


def test_the_page_of_a_tuning_shows_its_controls(tmp_path):
    page = page_of(tmp_path, tuned())
    assert "Tuning found settings that help" in page and "No control gives 80% of every" in page
    assert "<td>\N{MINUS SIGN}250 % [\N{MINUS SIGN}300, 4.0e+11]</td><td>\N{EN DASH}</td>" in page
    assert "<td>1.5</td>" in page  # the settings
    assert "Images are paired by their ids. all decides" in page
    page = page_of(tmp_path, tuned() | {"controls": None, "verdict": "leave"})
    assert "leave these images" in page and "Use these." in page and "cheap controls" not in page


PORTION = {"share": -2.5, "low": -3, "high": 4}


def shares(by):
    return {"shares": {"blur": {"all": by}}}


def share_of_blur(number, **ends):
    return shares({"fid": {**PORTION, "share": number, **ends}, "kid": None})


def judges(*names):
    return {"extractors": [{"name": name, "independent": name == "all"} for name in names]}


@pytest.mark.parametrize(
    "controls, said",
    [
        ({"shares": {"blur": {}}}, "blur has no numbers by all"),
        (shares({"fid": None}), "blur has no numbers by all"),
        ({"shares": {}}, "shares must hold one control or more"),
        ({"scores": {}}, "baseline has no numbers by all"),
        ({"extractors": []}, "has no numbers by any extractor"),
        (judges("all", "other"), "baseline has no numbers by other"),
        (judges("all", "all"), "extractors: 'all' is given twice"),
        ({"extractors": [{"name": 3}]}, "expected text"),
        ({"scores": {"baseline": {"all": {"fid": "x"}}}}, "expected a number"),
        ({"scores": {"refined": {"all": {"fid": 1e308}}}}, "all: fid must be at least -1e+12"),
        (shares({"fid": 1}), "expected keys and values"),
        (share_of_blur(1e308), "all: fid: share must be at least -1e+12"),
        (share_of_blur("-2.5"), "shares: blur: all: fid: share must be a number, not '-2.5'"),
        (share_of_blur(-2.5, low=1, high=-4), "share -2.5 is outside of low .. high"),
        (share_of_blur(-2.5, low=-2, high=4), "share -2.5 is outside of low .. high"),
        (share_of_blur(-2), "share -2 is not what the scores give"),
        (shares({"fid": None, "kid": PORTION}), "kid: a share, though the scores show no gain"),
        (shares({"fid": {"share": 1}}), "all: fid lacks low, high; add it, or name another file"),
        ({"baselines": {"blur": "gone"}}, "there are no scores of 'gone'"),
        ({"baselines": {"blur": 1}}, "expected text"),
        ({"paired": {"refined": "yes"}}, "refined: expected true or false"),
        ({"unchanged": 7}, "unchanged must be at least 0 and at most 1"),
        ({"unchanged": "0"}, "unchanged must be a number, not '0'"),
    ],
)
def test_controls_that_lack_something_are_no_page(tmp_path, capsys, controls, said):
    with pytest.raises(SystemExit, match="2"):
        page_of(tmp_path, tuned(**controls))
    error = capsys.readouterr().err
    assert said in error and len(error.strip().splitlines()) == 1
    assert not (tmp_path / "t.html").exists()


@pytest.mark.parametrize("share, expected", [(0.79, False), (0.9, True)])
def test_a_control_accounts_for_a_gain_by_giving_most_of_it_everywhere(share, expected):
    shares = {
        name: {"fid": {"share": share, "low": 0.7, "high": 1.1}, "kid": None} for name in "ab"
    }
    result = {
        "scores": {s: {n: {"fid": 1, "kid": 1} for n in "ab"} for s in ("baseline", "refined")},
        "shares": {"blur": shares}, "unchanged": 0, "repeated": 0,
        "extractors": [{"name": name, "independent": False} for name in "ab"],
    }  # fmt: skip
    assert ("This is what a blur gives" in account(result)) is expected
