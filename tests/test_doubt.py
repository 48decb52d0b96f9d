"""A guide that cannot tell images from real ones says so before it changes them."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

import burnish
from burnish.jobs.refine import plan_refine
from burnish.refinement.doubt import doubt
from burnish.refinement.presets import settings_for
from burnish.samples import Samples
from burnish.storage.formats import write_samples


class Brightness(nn.Module):
    """The brighter an image, the more real, whatever the class."""

    def forward(self, images):
        return images.mean((1, 2, 3))[:, None].expand(-1, 2)


def brightness_guide(**card):
    card = {"realness": {"quantiles": [0.0, 0.5, 1.0]}, "refine": {"eps": 0.1}, **card}
    head = nn.Linear(2, 2, bias=False)
    nn.init.eye_(head.weight)
    return burnish.Guide(nn.Sequential(Brightness(), head), card)


def refiner(objective="logit", card=None):
    guide = brightness_guide(**(card or {}))
    return burnish.Refiner(guide, settings_for(guide, "golan24-pgd", eps=0.1, objective=objective))


def samples(num_bright, num_dark):
    levels = torch.tensor([0.75] * num_bright + [0.25] * num_dark)
    images = levels.view(-1, 1, 1, 1).expand(-1, 1, 4, 4).clone()
    return Samples(images, torch.zeros(len(levels), dtype=torch.int64), torch.arange(len(levels)))


@pytest.mark.parametrize(
    ("num_bright", "num_dark", "doubtful"), [(0, 20, False), (5, 15, False), (6, 14, True)]
)
def test_more_than_a_quarter_that_look_real_are_doubtful(num_bright, num_dark, doubtful):
    some = samples(num_bright, num_dark)
    assert bool(doubt(refiner(), some, some.labels)) == doubtful
    if doubtful:
        assert doubt(refiner(), some, some.labels).startswith("30% of these images")


def test_images_outside_of_what_the_guide_knows_are_doubtful():
    # 1 % and 99 % of the generated images that the guide knows: 0.201 and 0.299.
    knows = {"realness_generated": {"quantiles": [0.2, 0.3]}}
    levels = torch.tensor([0.25] * 10 + [0.2005] * 5 + [0.2995] * 5)
    images = levels.view(-1, 1, 1, 1).expand(-1, 1, 4, 4).clone()
    some = Samples(images, None, torch.arange(20))
    assert not doubt(refiner(card=knows), some)
    some.images[0] = 0.1
    said = doubt(refiner(card=knows), some)
    assert "55% of these images look unlike" in said
    assert "burnish adapt" in said and "burnish tune" in said and "\n" not in said
    assert not doubt(refiner(), some) and not doubt(refiner("ce", knows), some)


def test_cross_entropy_and_few_images_raise_no_doubt():
    assert not doubt(refiner("ce"), samples(20, 0))
    assert not doubt(refiner(), samples(15, 0))


def test_images_that_were_refined_already_are_doubtful_and_refused_by_strict(tmp_path):
    generator = burnish.load_generator("fashion_mnist")
    path = burnish.write_samples(tmp_path / "made.npz", [generator.sample(range(40))], 40)
    plan = plan_refine(path, "fashion_mnist", tmp_path / "a.npz", precision="float32")
    assert plan.doubt == ""
    plan.run()
    again = plan_refine(
        tmp_path / "a.npz", "fashion_mnist", tmp_path / "b.npz", precision="float32"
    )
    assert "already look at least as real" in again.doubt
    with pytest.raises(burnish.InputError, match="already look at least as real"):
        plan_refine(
            tmp_path / "a.npz",
            "fashion_mnist",
            tmp_path / "b.npz",
            precision="float32",
            strict=True,
        )


def test_a_file_keeps_the_bytes_of_images_that_got_worse(tmp_path):
    path = write_samples(tmp_path / "in.npz", [samples(20, 20)], 40)
    # Noise alone makes images brighter or darker, at random.
    noise = {"update": "sgld", "step_size": 0.0, "noise_std": 0.1, "num_steps": 1, "eps": 9.0}
    options = {"preset": "golan24-pgd", "precision": "float32", "compile": "never", **noise}
    before = np.load(path)["arr_0"]
    after, cards = {}, {}
    for name, keep in (("a", False), ("b", True)):
        plan = plan_refine(
            path, brightness_guide(), tmp_path / f"{name}.npz", keep_better=keep, **options
        )
        cards[name] = plan.run()
        after[name] = np.load(tmp_path / f"{name}.npz")["arr_0"]
    worse = np.array(pq.read_table(tmp_path / "a.npz.ledger.parquet")["worse"])
    assert cards["a"]["num_worse"] == cards["b"]["num_kept"] == worse.sum()
    assert cards["a"]["num_kept"] == cards["b"]["num_worse"] == 0 < worse.sum() < 40
    assert (after["b"][worse] == before[worse]).all()
    assert (after["b"][~worse] == after["a"][~worse]).all()
    stopped = pq.read_table(tmp_path / "b.npz.ledger.parquet")["stopped"].to_pylist()
    assert [reason == "kept as it was" for reason in stopped] == worse.tolist()


def test_tensors_keep_what_got_worse_too():
    some = samples(20, 20)
    options = {"update": "sgld", "step_size": 0.0, "noise_std": 0.1, "num_steps": 1, "eps": 9.0}
    options |= {"guide": brightness_guide(), "labels": some.labels, "preset": "golan24-pgd"}
    with pytest.warns(UserWarning, match="50% of these images"):
        free, kept = (burnish.refine(some.images, keep_better=k, **options) for k in (False, True))
    darker = free.mean((1, 2, 3)) < some.images.mean((1, 2, 3))
    assert 0 < darker.sum() < 40
    assert torch.equal(kept, torch.where(darker[:, None, None, None], some.images, free))


@pytest.mark.parametrize(
    ("verdict", "said"),
    [("use", ""), ("leave", "no settings helped"), ("disagree", "no settings")],
)
def test_what_tune_found_counts_for_more_than_what_looks_real(verdict, said):
    some = samples(6, 14)
    found = doubt(refiner(card={"tuning": {"verdict": verdict, "words": "w"}}), some, some.labels)
    assert found.startswith(said) and bool(found) == bool(said)
