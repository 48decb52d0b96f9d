"""Sampling jobs: labels of each image, plans that are opened elsewhere; presets in refinement."""

import json

import numpy as np
import pytest
import torch
from generator_files import mimicry
from openai_files import unet
from torch import nn

from burnish.errors import InputError
from burnish.files import card_path
from burnish.guide.model import Guide
from burnish.jobs.job import PLAN
from burnish.jobs.refine import plan_refine
from burnish.jobs.sample import plan_sample
from burnish.jobs.worker import open_plan
from burnish.samples import Samples
from burnish.storage.formats import open_samples, write_samples

HERE = {"device": "cpu", "batch_size": 2}


@pytest.fixture
def gan(tmp_path):
    torch.manual_seed(0)
    torch.save(mimicry(num_classes=4), tmp_path / "netG.pth")
    return tmp_path / "netG.pth"


def test_each_image_has_the_label_that_was_given(gan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.csv").write_text("label\n3\n0\n3\n1\n2\n")
    np.save("labels.npy", np.array([3, 0, 3, 1, 2]))
    found = {}
    for name, expected in (("labels.csv", [3, 0, 3, 1, 2]), ("labels.npy", [3, 0, 3, 1, 2]),
                           ("balanced", [0, 1, 2, 3, 0])):  # fmt: skip
        plan = plan_sample(gan, "5-9", tmp_path / f"{name}.npz", labels=name, **HERE)
        plan.run()
        samples = Samples.joined(open_samples(plan.out))
        found[name] = samples
        assert samples.labels is not None and samples.labels.tolist() == expected
        card = json.loads(card_path(plan.out).read_text())
        assert card["labels"] == name and card["labels_sha256"]
    assert torch.equal(found["labels.csv"].images, found["labels.npy"].images)
    # The third image of each has the same seed, and another label.
    assert not torch.equal(found["labels.csv"].images[2], found["balanced"].images[2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": "few.txt"}, "5 images but 2 labels"),
        ({"labels": "high.txt"}, "label 4 is not one of this model's 4 classes"),
        ({"labels": "low.txt"}, "label -1 is not one"),
        ({"labels": "nowhere.txt"}, "no such file of labels"),
        ({"labels": "balanced", "label": 1}, "but not both"),
        ({"label": 4}, "label 4 is not one of this model's 4 classes"),
    ],
)
def test_labels_that_do_not_fit_are_refused(options, message, gan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, lines in (("few", "1 2"), ("high", "0 1 2 3 4"), ("low", "0 -1 1 1 1")):
        (tmp_path / f"{name}.txt").write_text("\n".join(lines.split()))
    with pytest.raises(InputError, match=message):
        plan_sample(gan, "5-9", tmp_path / "out.npz", **options, **HERE)


def test_a_generator_without_classes_takes_no_labels(tmp_path):
    torch.save(mimicry(), tmp_path / "netG.pth")
    with pytest.raises(InputError, match="no classes; leave out --labels"):
        plan_sample(tmp_path / "netG.pth", "5-9", tmp_path / "out.npz", labels="balanced", **HERE)


def test_another_process_opens_the_same_plan(tmp_path, monkeypatch):
    torch.manual_seed(0)
    torch.save(unet(classes=4), tmp_path / "mine.pt")
    (tmp_path / "labels.txt").write_text("3\n1\n")
    options = {"timesteps": (22, 0), "num_train_timesteps": 40, "precision": "bfloat16",
               "family": "openai-cm", "labels": str(tmp_path / "labels.txt"), **HERE}  # fmt: skip
    plan = plan_sample(str(tmp_path / "mine.pt"), "5-6", tmp_path / "out.npz", **options)
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / PLAN).write_text(json.dumps(plan.frozen()))
    monkeypatch.chdir(tmp_path)
    again = open_plan(folder)
    assert again.describe() == plan.describe() and again.describe()["timesteps"] == [22, 0]
    assert again.opened.generator.sigmas == plan.opened.generator.sigmas  # pyright: ignore
    assert again.opened.classes.tolist() == [3, 1]
    # Labels that have changed since are another job.
    (tmp_path / "labels.txt").write_text("3\n2\n")
    with pytest.raises(InputError, match="labels_sha256"):
        open_plan(folder)


def test_a_published_preset_brings_its_labels_and_says_where_sizes_differ(tmp_path):
    images = torch.rand(4, 3, 32, 32)
    write_samples(tmp_path / "it.npz", [Samples(images, torch.arange(4) % 2, torch.arange(4))], 4)
    guide = Guide(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))).eval()
    exact = {**HERE, "precision": "float32", "compile": "never"}

    def plan(preset, **options):
        return plan_refine(
            tmp_path / "it.npz", guide, tmp_path / "out.npz", preset=preset, **options, **exact
        )

    found = plan("bigroc/sngan")
    assert (found.labels, found.settings.eps, found.doubt) == ("balanced", 1.5, "")
    assert plan("bigroc/cgan-pd").labels == plan("bigroc", eps=1.0).labels == "given"
    assert plan("bigroc/sngan", labels="given").labels == "given"
    found = plan("bigroc/adm-g-128")
    assert "published for images of 128 x 128, and these are 32 x 32" in found.doubt
    assert found.settings.eps == 1.5 and found.run()["num_images"] == 4
