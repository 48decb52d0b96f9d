"""Guides: objectives and their identities, frozen copies, saving, and hub repositories."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from burnish.ascent.balls import Unbounded
from burnish.ascent.loop import Slots, ascend
from burnish.ascent.step import Step, value_and_gradient
from burnish.errors import InputError
from burnish.guide.load import load_guide
from burnish.guide.model import Guide
from burnish.guide.objectives import OBJECTIVES, class_logit, objective_of
from burnish.metrics.formulas import frechet_distance
from burnish.metrics.moments import MomentSum
from burnish.networks.build import build

# Logits from the ordinary to the extreme, where a careless log(sigmoid) is infinite.
SCALES = torch.tensor([0.1, 1, 10, 100], dtype=torch.float64)


def some_logits():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 16, 5, generator=generator, dtype=torch.float64)
    logits = (logits * SCALES.view(4, 1, 1)).flatten(0, 1)
    labels = torch.randint(5, (64,), generator=generator)
    return logits, labels, class_logit(logits, labels)


def test_the_logit_is_both_log_odds_and_class_evidence_plus_marginal():
    logits, labels, at_label = some_logits()
    value = {name: function(logits, labels) for name, function in OBJECTIVES.items()}
    exact = {"rtol": 0, "atol": 1e-9}
    generated_loss = value["ce_minus_bce"] - value["ce"]  # l_BCE,0
    real_loss = -value["bce"]  # l_BCE,1
    torch.testing.assert_close(value["logit"], at_label, rtol=0, atol=0)
    torch.testing.assert_close(generated_loss - real_loss, at_label, **exact)
    torch.testing.assert_close(value["ce"] + value["logsumexp"], at_label, **exact)
    torch.testing.assert_close(value["ce_plus_bce"], value["ce"] + value["bce"], **exact)
    # The two that the identities leave open, against torch's at_label losses.
    reals = binary_cross_entropy_with_logits(at_label, torch.ones_like(at_label), reduction="none")
    torch.testing.assert_close(real_loss, reals, **exact)
    torch.testing.assert_close(value["ce"], -cross_entropy(logits, labels, reduction="none"))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_are_those_of_the_table(name):
    logits, labels, at_label = some_logits()
    p, hit = logits.softmax(1), nn.functional.one_hot(labels, 5).double()
    sigma = at_label.sigmoid()[:, None]
    expected = {
        "logit": hit,
        "ce": hit - p,
        "bce": (1 - sigma) * hit,
        "ce_minus_bce": hit - p + sigma * hit,
        "ce_plus_bce": hit - p + (1 - sigma) * hit,
        "logsumexp": p,
    }[name]
    logits.requires_grad_()
    (found,) = torch.autograd.grad(OBJECTIVES[name](logits, labels).sum(), logits)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    # Central differences, one logit at a time; every image's value must be its own.
    step = 1e-5
    for k in range(5):
        shift = torch.zeros(5, dtype=torch.float64)
        shift[k] = step
        with torch.no_grad():
            rise = OBJECTIVES[name](logits + shift, labels) - OBJECTIVES[name](
                logits - shift, labels
            )
        torch.testing.assert_close(rise / (2 * step), expected[:, k], rtol=0, atol=1e-6)


@pytest.mark.parametrize("energy", ["logit", "logsumexp"])
def test_energy_realness_and_objectives_agree(guide, energy):
    guide = Guide(guide.network, energy=energy).eval()
    images, labels = torch.rand(5, 1, 8, 8), torch.tensor([0, 1, 2, 3, 1])
    logits = guide(images)
    torch.testing.assert_close(guide.energy(images, labels), -logits[range(5), labels])
    torch.testing.assert_close(guide.energy(images), -logits.logsumexp(1))
    realness = guide.realness(images, labels)
    of_labels = labels if energy == "logit" else None
    torch.testing.assert_close(realness, -guide.energy(images, of_labels))
    torch.testing.assert_close(guide.realness_of(logits, labels), realness)
    values, found = guide.objective(energy)(images, labels)
    torch.testing.assert_close(values, realness)
    torch.testing.assert_close(found, realness)


def test_one_pass_gives_the_objective_and_the_realness(guide):
    images, labels = torch.rand(3, 1, 8, 8), torch.tensor([0, 1, 2])
    values, realness = guide.objective("ce")(images, labels)
    torch.testing.assert_close(realness, guide.realness(images, labels).detach())
    assert values.requires_grad
    assert not torch.allclose(values, realness)


def test_misspelt_names_are_answered_with_the_nearest(guide):
    with pytest.raises(InputError, match="did you mean 'ce_minus_bce'"):
        guide.objective("ce_minus_bec")
    with pytest.raises(InputError, match="did you mean 'logsumexp'"):
        Guide(nn.Identity(), energy="logsumexpp")


def test_an_objective_may_be_a_function(guide):
    def margin(logits, labels):
        return class_logit(logits, labels) - logits.mean(1)

    assert objective_of(margin) is margin
    images, labels = torch.rand(3, 1, 8, 8), torch.tensor([0, 1, 2])
    values, realness = guide.objective(margin)(images, labels)
    torch.testing.assert_close(values, margin(guide(images), labels))
    torch.testing.assert_close(realness, guide.realness(images, labels))


def test_quantiles_of_realness_are_interpolated(guide):
    guide.card["realness"]["quantiles"] = [-1.0, 0.0, 4.0]
    found = [guide.realness_quantile(q) for q in (0, 0.25, 0.5, 0.6, 1)]
    assert found == pytest.approx([-1, -0.5, 0, 0.8, 4])
    assert guide.realness_quantile(None) is None
    with pytest.raises(InputError, match="realness of real images"):
        Guide(nn.Identity()).realness_quantile(0.5)


def test_a_frozen_copy_has_the_logits_and_image_gradients_of_the_original(guide):
    class Named(Guide):
        """A subclass, with something of its own."""

        note = ""

    original = Named(guide.network, guide.card).eval()
    original.note = "kept"
    frozen = original.frozen()
    assert type(frozen) is Named and frozen.note == "kept"
    images, labels = torch.rand(5, 1, 8, 8), torch.tensor([0, 1, 2, 3, 1])
    for name in OBJECTIVES:
        theirs = value_and_gradient(original.objective(name), images, labels)
        ours = value_and_gradient(frozen.objective(name), images, labels)
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert not any(p.requires_grad for p in frozen.parameters())
    assert all(p.requires_grad for p in original.parameters())
    with pytest.raises(ValueError, match="frozen copy"):
        frozen.frozen()


def test_a_frozen_copy_follows_the_original_when_refreshed(guide):
    frozen, images = guide.frozen(), torch.rand(5, 1, 8, 8)
    before = guide(images)
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    torch.testing.assert_close(frozen(images), before, rtol=1e-4, atol=1e-5)
    frozen.refresh(guide)
    torch.testing.assert_close(frozen(images), guide(images), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(frozen(images), before, atol=1e-3)


RESNET = {"name": "resnet", "in_channels": 1, "num_classes": 4, "width": 4, "num_blocks": 1}


def savable(energy="logit"):
    card = {"name": "tiny", "network": RESNET, "kind": "joint", "sha256": "of another file"}
    return Guide(build(RESNET), card, energy).eval()


@pytest.mark.parametrize("energy", ["logit", "logsumexp"])
def test_a_saved_guide_comes_back_as_it_was(tmp_path, energy):
    original, images = savable(energy), torch.rand(3, 1, 8, 8)
    original.save_pretrained(tmp_path / "it")
    names = {path.name for path in (tmp_path / "it").iterdir()}
    assert names == {"model.safetensors", "config.json", "README.md"}
    for loaded in (Guide.from_pretrained(tmp_path / "it"), load_guide(tmp_path / "it")):
        assert torch.equal(loaded(images), original(images)) and not loaded.training
        assert loaded.energy_name == energy and loaded.card["name"] == "tiny"
        assert len(loaded.card["sha256"]) == 64
    config = json.loads((tmp_path / "it" / "config.json").read_text())
    assert config["network"] == RESNET and config["energy"] == energy and "sha256" not in config
    with safe_open(tmp_path / "it" / "model.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["card"]) == config
    assert "\n# tiny\n" in (tmp_path / "it" / "README.md").read_text()


def test_a_subclass_is_loaded_as_itself(tmp_path):
    class Own(Guide):
        """A guide with another objective, say."""

    savable().save_pretrained(tmp_path)
    assert type(Own.from_pretrained(tmp_path)) is Own


def test_a_guide_without_a_way_to_rebuild_it_is_not_saved(guide, tmp_path):
    with pytest.raises(InputError, match="how to rebuild its network"):
        guide.save_pretrained(tmp_path / "it")
    assert not list(tmp_path.iterdir())


def test_pushing_uploads_what_saving_writes(monkeypatch):
    calls, uploaded = [], {}

    class Api:
        def create_repo(self, repo_id, exist_ok):
            calls.append((repo_id, exist_ok))

        def upload_folder(self, repo_id, folder_path, commit_message):
            calls.append((repo_id, commit_message))
            uploaded.update({p.name: p.read_bytes() for p in Path(folder_path).iterdir()})
            return f"https://huggingface.co/{repo_id}"

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.setattr("burnish.networks.fetched.unreachable", lambda url: "")
    address = savable().push_to_hub("me/tiny", commit_message="first")
    assert address == "https://huggingface.co/me/tiny"
    assert calls == [("me/tiny", True), ("me/tiny", "first")]
    assert set(uploaded) == {"model.safetensors", "config.json", "README.md"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "none.safetensors", "no guide at"),
        (lambda folder: folder, "without model.safetensors"),
        (lambda folder: "fashion_mnits", "did you mean 'fashion_mnist'"),
        (lambda folder: "cifar10/plain", "did you mean 'cifar10'"),
    ],
)
def test_what_is_no_guide_is_refused(make, message, tmp_path):
    with pytest.raises(InputError, match=message):
        load_guide(make(tmp_path))


# Two classes in the plane; generated points are shifted by 1 and 1.3 times as wide. The table is
# the Frechet distance to real points after so many raw-gradient steps of 0.05, as computed in
# numpy from another draw of points, before this project was written.
TABLE = {
    5: {"logit": 0.626, "bce": 0.743, "ce_minus_bce": 0.997, "ce": 1.140},
    15: {"logit": 0.123, "bce": 0.315, "ce_minus_bce": 0.739, "ce": 1.140},
    25: {"logit": 0.056, "bce": 0.151, "ce_minus_bce": 0.523, "ce": 1.141},
    40: {"logit": 0.345, "bce": 0.110, "ce_minus_bce": 0.285, "ce": 1.142},
}
WIDTH = 20.0  # of the plane that [0, 1] pixels span; no point comes near its border


def points(count, shift, scale, generator):
    labels = torch.arange(count) % 2
    means = torch.stack([4.0 * labels - 2, torch.zeros(count)], 1)
    noise = torch.randn(count, 2, generator=generator)
    return means + torch.tensor([0.0, shift]) + scale * noise, labels


class Quadratic(nn.Module):
    """Logits that are quadratic in the plane: enough for the log ratio of two Gaussians."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(5, 2)

    def forward(self, images):
        x, y = ((images.flatten(1) - 0.5) * WIDTH).unbind(1)
        return self.head(torch.stack([x, y, x * x, y * y, x * y], 1))


def as_images(plane):
    return (plane / WIDTH + 0.5).view(-1, 1, 1, 2)


def trained_toy(real, generated):
    guide = Guide(Quadratic())
    optimizer = torch.optim.LBFGS(guide.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        total = torch.zeros(())
        for (plane, labels), target in ((real, 1.0), (generated, 0.0)):
            logits = guide(as_images(plane))
            at_label = class_logit(logits, labels)
            total = total + cross_entropy(logits, labels)
            total = total + binary_cross_entropy_with_logits(
                at_label, torch.full_like(at_label, target)
            )
        total.backward()
        return total

    optimizer.step(loss)
    return guide.requires_grad_(False)


def test_what_each_objective_does_to_a_gap_in_realism():
    generator = torch.Generator().manual_seed(0)
    real = points(4000, 0.0, 1.0, generator)
    generated = points(4000, 1.0, 1.3, generator)
    guide = trained_toy(real, generated)

    def gap(images):
        sums = MomentSum(), MomentSum()
        for total, plane in zip(sums, ((images.flatten(1) - 0.5) * WIDTH, real[0]), strict=True):
            total.add(plane.numpy())
        return frechet_distance(generated=sums[0].moments(), reference=sums[1].moments())

    def refined(name, num_steps):
        # Raw steps of 0.05 in the plane: the pixels' gradient is WIDTH times the plane's, and a
        # pixel WIDTH times as long.
        step = Step(Unbounded(), 0.05 / WIDTH**2, normalized=False)
        plane, labels = generated
        slots = Slots(as_images(plane), len(plane))
        slots.enter(range(len(plane)), as_images(plane), labels, range(len(plane)))
        for _ in ascend(guide.objective(name), slots, step, num_steps):
            pass
        images = slots.images
        assert images.min() > 0.1 and images.max() < 0.9  # the box had no part in it
        return gap(images)

    names = TABLE[5]
    start = gap(as_images(generated[0]))
    after = {n: {name: refined(name, n) for name in names} for n in TABLE}
    assert start == pytest.approx(1.14, abs=0.05)
    for num_steps, row in TABLE.items():
        assert after[num_steps] == pytest.approx(row, abs=0.07)
    # The raw logit is fastest and best of all, until it goes too far.
    assert min(min(row.values()) for row in after.values()) == after[25]["logit"] < 0.07
    assert after[40]["logit"] > 3 * after[25]["logit"]
    for num_steps in (5, 15, 25):
        row = after[num_steps]
        assert row["logit"] < row["bce"] < row["ce_minus_bce"] < row["ce"]
    assert start > after[5]["bce"] > after[15]["bce"] > after[25]["bce"] > after[40]["bce"]
    # The class alone says nothing of realism.
    assert all(abs(row["ce"] / start - 1) < 0.05 for row in after.values())
