"""Jobs: checked in planning, the same bytes at every run, all outputs or none."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import nn

from burnish.errors import InputError
from burnish.files import card_path, ledger_path
from burnish.generators.base import Generator
from burnish.generators.load import load_generator
from burnish.guide.model import Guide
from burnish.jobs.evaluate import plan_evaluate
from burnish.jobs.options import JobOptions
from burnish.jobs.plan import resolve_device
from burnish.jobs.refine import plan_refine
from burnish.jobs.sample import plan_sample
from burnish.refinement.settings import RefineSettings
from burnish.samples import Samples, to_uint8
from burnish.storage.formats import open_samples, write_samples

SHAPE = (1, 28, 28)
# Explicit, so that nothing depends on the processor, its memory or a measurement.
HERE = {"device": "cpu", "batch_size": 4}
SAFE = {**HERE, "precision": "float32", "compile": "never"}
SETTINGS = {"eps": 1.0, "num_steps": 2}


def write(path, count=6, shape=SHAPE, labels=True):
    images = torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))
    classes = torch.arange(count) % 3 if labels else None
    return write_samples(path, [Samples(images, classes, 10 + torch.arange(count))], count)


def some_guide():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 5, 4), nn.SiLU(), nn.Flatten(), nn.Linear(72, 3))
    card = {"name": "some", "realness": {"quantiles": [-0.5, 0.0, 0.5]}, "image_shape": [*SHAPE]}
    return Guide(network, card).eval()


def everything(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def plans(folder):
    """One plan of each kind, on files in this folder."""
    source = write(folder / "source.npz")
    generator = load_generator("fashion_mnist")
    return {
        "sample": plan_sample(generator, "3-8", folder / "sampled.npz", **HERE),
        "refine": plan_refine(source, some_guide(), folder / "refined.npz", **SETTINGS, **SAFE),
        "evaluate": plan_evaluate(
            source, "fashion_mnist/plain", out=folder / "scores.json", **HERE
        ),
    }


JOBS = ["sample", "refine", "evaluate"]


@pytest.mark.parametrize("job", JOBS)
def test_a_plan_is_plain_values_and_planning_writes_nothing(job, tmp_path):
    plan = plans(tmp_path)[job]
    described = plan.describe()
    assert json.loads(json.dumps(described, allow_nan=False)) == described
    fields = {field.name for field in dataclasses.fields(plan)}
    assert set(described) == fields - {"opened", "chosen", "job"}
    assert described["batch_size"] == 4 and described["num_images"] == 6
    assert set(everything(tmp_path)) == {"source.npz"}
    # It says all of what will be done: another plan of the same job is equal.
    assert plan == plans(tmp_path)[job]


@pytest.mark.parametrize("job", JOBS)
def test_running_twice_gives_the_same_bytes(job, tmp_path):
    plan = plans(tmp_path)[job]
    cards, files = [], []
    for _ in range(2):
        card = plan.run()
        cards.append({key: value for key, value in card.items() if key != "seconds"})
        found = everything(tmp_path)
        files.append({name: found[name] for name in found if not name.endswith("card.json")})
        assert json.loads((plan.out if job == "evaluate" else card_path(plan.out)).read_text())
    assert cards[0] == cards[1] and files[0] == files[1]
    outputs = {
        "sample": {"sampled.npz"},
        "refine": {"refined.npz", "refined.npz.ledger.parquet"},
        "evaluate": {"scores.json", "scores.influence.npz"},
    }[job]
    assert set(files[0]) == {"source.npz"} | outputs


def test_a_refined_file_has_a_row_and_an_image_for_each_of_the_source(tmp_path):
    source = write(tmp_path / "source")
    plan = plan_refine(source, some_guide(), tmp_path / "refined", **SETTINGS, **SAFE)
    card = plan.run()
    before, after = open_samples(source), open_samples(tmp_path / "refined")
    assert after.names == before.names
    assert before.labels is not None and after.labels is not None
    assert torch.equal(after.labels, before.labels)
    ledger = pq.read_table(ledger_path(tmp_path / "refined")).to_pydict()
    assert ledger["id"] == before.ids.tolist() and ledger["label"] == before.labels.tolist()
    assert card["mean_num_steps"] == sum(ledger["num_steps"]) / 6
    assert card["share_real_enough"] == ledger["stopped"].count("real enough") / 6
    assert card["num_worse"] == sum(ledger["worse"]) and card["num_kept"] == 0
    assert card["threshold"] == 0.0 and card["guide"]["name"] == "some"
    assert json.loads(card_path(tmp_path / "refined").read_text()) == card


@pytest.mark.parametrize("nothing", [{"eps": 0.0}, {"num_steps": 0, "eps": 1.0}], ids=str)
def test_no_radius_and_no_steps_give_the_bytes_of_the_source(nothing, tmp_path):
    source = write(tmp_path / "source.npz")
    plan_refine(source, some_guide(), tmp_path / "same.npz", **nothing, **SAFE).run()
    assert (tmp_path / "same.npz").read_bytes() == source.read_bytes()


def test_labels_may_come_from_the_guide(tmp_path):
    source = write(tmp_path / "source.npz", labels=False)
    for labels in ("pseudo", "balanced", "quotas"):
        out = tmp_path / f"{labels}.npz"
        plan_refine(source, some_guide(), out, labels=labels, **SETTINGS, **SAFE).run()
        rows = pq.read_table(ledger_path(out))["label"].to_pylist()
        assert labels != "quotas" or sorted(rows) == [0, 0, 1, 1, 2, 2]


def test_settings_may_be_given_whole(tmp_path):
    source = write(tmp_path / "source.npz")
    settings = RefineSettings("ce", eps=1.0, step_size=0.5, num_steps=2)
    plan = plan_refine(source, some_guide(), tmp_path / "out.npz", settings=settings, **SAFE)
    assert plan.settings == settings
    with pytest.raises(InputError, match="but not both"):
        plan_refine(source, some_guide(), tmp_path / "out.npz", settings=settings, eps=2.0)


def test_an_objective_that_is_a_function_is_named_in_the_card(tmp_path):
    def largest(logits, labels):
        return logits.amax(1)

    source = write(tmp_path / "source.npz")
    options = {"objective": largest, **SETTINGS, **SAFE}
    card = plan_refine(source, some_guide(), tmp_path / "out.npz", **options).run()
    assert card["settings"]["objective"].endswith("largest")


REFINE_FAULTS = {
    "no such file": ({"samples": "nowhere.npz"}, "nowhere.npz"),
    "no such guide": ({"guide": "fashion_mnits"}, "did you mean 'fashion_mnist'"),
    "over the input": ({"out": "source.npz"}, "would replace its own input"),
    "inside the input": ({"samples": "folder", "out": "folder/out"}, "the folder that is refined"),
    "into a full folder": ({"out": "folder"}, "not empty"),
    "unknown format": ({"out": "out.jpg"}, "unknown suffix '.jpg'"),
    "ledger over the input": (
        {"samples": "r.npz.ledger.parquet", "out": "r.npz"}, "would replace its own input",
    ),
    "card of the input": ({"out": "source.npz.card.json"}, "unknown suffix '.json'"),
    "no labels": ({"samples": "bare.npz"}, "--labels pseudo"),
    "wrong shape": ({"samples": "rgb.npz"}, r"not \[3, 28, 28\]"),
    "wrong size": ({"samples": "small.npz"}, r"not \[1, 8, 8\]"),
    "label out of range": ({"samples": "labels.npz"}, "label 5 is not one of this guide's 0 .. 2"),
    "misspelt setting": ({"epz": 1.0}, "did you mean 'eps'"),
    "misspelt option": ({"batch_sise": 1}, "did you mean 'batch_size'"),
    "misspelt choice": ({"labels": "psuedo"}, "did you mean 'pseudo'"),
    "misspelt preset": ({"preset": "bigrock"}, "did you mean 'bigroc'"),
    "out of range": ({"batch_size": 0}, "batch_size must be at least 1"),
    "no such device": ({"device": "cdua"}, "no device 'cdua' here"),
}  # fmt: skip


@pytest.mark.parametrize("fault", REFINE_FAULTS)
def test_faults_of_refining_are_found_in_planning(fault, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("source.npz", "folder", "r.npz.ledger.parquet"):
        write(tmp_path / name)
    write(tmp_path / "bare.npz", labels=False)
    write(tmp_path / "rgb.npz", shape=(3, 28, 28))
    write(tmp_path / "small.npz", shape=(1, 8, 8))
    images = Samples(torch.rand(2, *SHAPE), torch.tensor([0, 5]), torch.arange(2))
    write_samples("labels.npz", [images], 2)
    before = everything(tmp_path)
    changes, message = REFINE_FAULTS[fault]
    given = {"guide": some_guide(), "samples": "source.npz", "out": "out.npz", **SETTINGS, **SAFE}
    given |= changes
    samples, guide, out = given.pop("samples"), given.pop("guide"), given.pop("out")
    with pytest.raises(InputError, match=message):
        plan_refine(tmp_path / samples, guide, tmp_path / out, **given)
    assert everything(tmp_path) == before


SAMPLE_FAULTS = {
    "no such generator": ({"generator": "fashion_mnits"}, "did you mean 'fashion_mnist'"),
    "backward seeds": ({"seeds": "9-3"}, "runs backwards"),
    "a seed twice": ({"seeds": [1, 2, 1]}, "twice"),
    "no such class": ({"label": 10}, "label 10 is not one of this model's 10 classes"),
    "misspelt option": ({"num_stesp": 1}, "did you mean 'num_steps'"),
    "unknown format": ({"out": "out.jpg"}, "unknown suffix '.jpg'"),
    "below a file": ({"out": "file/out.npz"}, "file is a file"),
}


@pytest.mark.parametrize("fault", SAMPLE_FAULTS)
def test_faults_of_sampling_are_found_in_planning(fault, tmp_path):
    (tmp_path / "file").touch()
    changes, message = SAMPLE_FAULTS[fault]
    given = {"generator": "fashion_mnist", "seeds": "0-3", "out": "out.npz", **HERE, **changes}
    generator, seeds, out = given.pop("generator"), given.pop("seeds"), given.pop("out")
    with pytest.raises(InputError, match=message):
        plan_sample(generator, seeds, tmp_path / out, **given)
    assert set(everything(tmp_path)) == {"file"}


EVALUATE_FAULTS = {
    "misspelt reference": ({"reference": "fashion_mnist/plian"}, "did you mean"),
    "missing reference": ({"reference": "nowhere.npz"}, "there is no nowhere.npz"),
    "misspelt extractor": ({"features": "fashion_mnist/plian"}, "did you mean"),
    "wrong shape": ({"generated": "rgb.npz"}, r"not \[3, 28, 28\]"),
    "over the input": ({"out": "source.npz"}, "would replace its own input"),
    "statistics over the input": (
        {"reference": "source.npz[0-3]", "save_reference": "source.npz"}, "would replace",
    ),
    "statistics of no format": ({"save_reference": "real.json"}, "kept as .npz"),
    "misspelt option": ({"num_neighbours": 3}, "did you mean 'num_neighbors'"),
    "out of range": ({"num_neighbors": 0}, "num_neighbors must be at least 1"),
}  # fmt: skip


@pytest.mark.parametrize("fault", EVALUATE_FAULTS)
def test_faults_of_scoring_are_found_in_planning(fault, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "source.npz")
    write(tmp_path / "rgb.npz", shape=(3, 28, 28))
    before = everything(tmp_path)
    changes, message = EVALUATE_FAULTS[fault]
    given = {"generated": "source.npz", "reference": "fashion_mnist/plain", **HERE, **changes}
    for name in ("generated", "out"):
        if name in given:
            given[name] = tmp_path / given[name]
    with pytest.raises(InputError, match=message):
        plan_evaluate(**given)
    assert everything(tmp_path) == before


class Failing(Generator):
    """A generator whose second batch fails."""

    num_calls, num_classes, image_shape = 0, None, SHAPE

    def draw(self, noise, count, labels):
        self.num_calls += 1
        if self.num_calls == 2:
            raise RuntimeError("the second batch fails")
        return torch.zeros(count, *SHAPE)


def test_a_sampling_that_fails_in_the_middle_leaves_nothing(tmp_path):
    generator = Failing(nn.Linear(1, 1), 1, {})
    with pytest.raises(RuntimeError, match="second batch"):
        plan_sample(generator, "0-5", tmp_path / "out.npz", **HERE).run()
    assert not everything(tmp_path)


@pytest.mark.parametrize("out", ["out.npz", "out.parquet", "out"])
def test_jobs_that_fail_in_the_middle_leave_nothing(out, tmp_path):
    source = write(tmp_path / "source")
    refining = plan_refine(
        source, some_guide(), tmp_path / out, **{**SETTINGS, **SAFE, "batch_size": 2}
    )
    scores = tmp_path / "scores.json"
    scoring = plan_evaluate(source, "fashion_mnist/plain", out=scores, device="cpu", batch_size=2)
    broken = sorted(source.rglob("*.png"))[-1]
    broken.write_bytes(broken.read_bytes()[:60])
    before = everything(tmp_path)
    for plan in (refining, scoring):
        with pytest.raises(InputError, match=broken.name):
            plan.run()
    assert everything(tmp_path) == before


def test_devices():
    assert resolve_device("cpu") == "cpu" and resolve_device("auto") in ("cpu", "cuda")
    with pytest.raises(InputError, match="no device 'cpu:x' here"):
        resolve_device("cpu:x")


def test_labels_of_ones_own_replace_those_of_the_file(tmp_path):
    source = write(tmp_path / "source.npz", labels=False)
    np.save(tmp_path / "own.npy", np.array([2, 1, 0, 0, 1, 2]))
    for labels, expected in (("1", [1] * 6), (str(tmp_path / "own.npy"), [2, 1, 0, 0, 1, 2])):
        out = tmp_path / f"{len(labels)}.npz"
        plan = plan_refine(source, some_guide(), out, labels=labels, **SETTINGS, **SAFE)
        plan.run()
        assert pq.read_table(ledger_path(out))["label"].to_pylist() == expected
        other = dict(plan.compared(), labels_sha256="of others")
        assert plan.differs(other) == ["labels_sha256"]
    with pytest.raises(InputError, match="did you mean 'pseudo'"):
        plan_refine(source, some_guide(), tmp_path / "out.npz", labels="psuedo", **SAFE)


def test_tiles_of_a_grid_are_refined_and_scored_one_by_one(tmp_path):
    grid = np.full((30 * 2 + 2, 30 * 3 + 2), 255, np.uint8)
    source = open_samples(write(tmp_path / "source.npz"))
    tiles = to_uint8(next(iter(source)).images)[:, 0].numpy()
    for place, tile in enumerate(tiles):
        top, left = 2 + 30 * (place // 3), 2 + 30 * (place % 3)
        grid[top : top + 28, left : left + 28] = tile
    Image.fromarray(grid).save(tmp_path / "grid.png")
    options = {"labels": "pseudo", "tile": 28, "eps": 0.0, **SAFE}
    plan_refine(tmp_path / "grid.png", some_guide(), tmp_path / "tiles.npz", **options).run()
    found = to_uint8(next(iter(open_samples(tmp_path / "tiles.npz"))).images)[:, 0].numpy()
    assert np.array_equal(found, tiles)
    plan = plan_evaluate(tmp_path / "grid.png", "fashion_mnist/plain", tile=28, **HERE)
    assert plan.num_images == 6


def test_flat_folders_keep_their_labels(tmp_path):
    source = write(tmp_path / "source.npz")
    plan_refine(source, some_guide(), tmp_path / "flat", flat=True, **SETTINGS, **SAFE).run()
    flat = open_samples(tmp_path / "flat")
    assert flat.labels is not None and flat.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert len(list((tmp_path / "flat").glob("*.png"))) == 6


def test_a_job_reads_and_writes_elsewhere(tmp_path, monkeypatch):
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    elsewhere = fsspec.filesystem("memory")
    source = write(tmp_path / "source.npz")
    elsewhere.put_file(str(source), "/jobs/source.npz")
    here = plan_refine(source, some_guide(), tmp_path / "out.npz", **SETTINGS, **SAFE)
    here.run()
    refine = {"settings": here.settings, **SAFE}
    there = Path("memory://jobs/out.npz")
    plan = plan_refine(Path("memory://jobs/source.npz"), some_guide(), there, **refine)
    assert plan.input_sha256 == here.input_sha256
    plan.run()
    assert elsewhere.cat("/jobs/out.npz") == (tmp_path / "out.npz").read_bytes()
    assert sorted(path.rpartition("/")[2] for path in elsewhere.ls("/jobs", detail=False)) == [
        "out.npz", "out.npz.card.json", "out.npz.ledger.parquet", "source.npz",
    ]  # fmt: skip
    assert not everything(tmp_path / "cache" / "jobs")
    with pytest.raises(InputError, match="exists; --force replaces it"):
        plan_refine(source, some_guide(), there, job=JobOptions(), **refine)
