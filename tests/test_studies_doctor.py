"""The doctor: attacks do harm, batches leave no trace, one entry per guide."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from burnish.errors import InputError
from burnish.guide.model import Guide
from burnish.hub import shipped
from burnish.samples import from_uint8
from burnish.storage.datasets import Dataset
from burnish.studies.checkup.diagnosis import table, verdict
from burnish.studies.checkup.doctor import doctor
from burnish.studies.checkup.examine import READINGS, examine, low_frequencies, low_frequency_share
from burnish.training.validation import tell_apart


def test_attacks_do_harm_and_batches_leave_no_trace(guide):
    images = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8)
    # Labels that the guide agrees with, so that an attack has something to take away.
    data = Dataset(images, guide(from_uint8(images)).argmax(1), "random")
    real, generated = data.samples(slice(0, 10)), data.samples(slice(10, 20))
    guide = guide.frozen()
    whole, parts = (examine(guide, real, generated, size) for size in (10, 3))
    assert parts.pop("accuracy_by_range") == whole.pop("accuracy_by_range")
    assert parts == pytest.approx(whole, abs=1e-5)
    assert whole["accuracy_clean"] == 1 > whole["accuracy_robust"]
    assert whole["auc_attacked"] < whole["auc_clean"]
    assert 0 < whole["low_frequency_share"] < 1


def wave(rows, columns):
    """A cosine of so many periods down and across."""
    place = torch.arange(32) / 32
    phase = 2 * math.pi * (rows * place[:, None] + columns * place[None, :])
    return torch.cos(phase + 0.3).expand(1, 3, -1, -1)


def test_low_frequencies_are_those_within_the_radius():
    # A quarter of Nyquist is 4 periods in 32 pixels: the 49 points of the grid within radius 4.
    assert int(low_frequencies(32, 32).sum()) == 49
    assert int(low_frequencies(28, 28).sum()) == 37  # radius 3.5
    waves = {(0, 0): 1, (4, 0): 1, (0, -4): 1, (2, 3): 1, (3, 3): 0, (5, 0): 0, (16, 16): 0}
    for periods, share in waves.items():
        found = low_frequency_share(wave(*periods)).item()
        assert found == pytest.approx(share, abs=1e-6), periods
    # Energies of unlike waves add up, over channels too, whatever the scale of the whole.
    mixed = torch.cat([3 * wave(1, 2)[:, :1], wave(9, 9)[:, :1]], 1) * 1e-25
    assert low_frequency_share(mixed).item() == pytest.approx(0.9, abs=1e-5)
    assert low_frequency_share(torch.zeros(1, 1, 8, 8)).item() == 0


@pytest.mark.parametrize("size", [28, 32])
def test_white_noise_has_the_share_that_is_stated_beside(size):
    expected = low_frequencies(size, size).double().mean().item()
    shares = low_frequency_share(torch.randn(200, 3, size, size))
    assert shares.shape == (200,) and len(shares.unique()) > 100
    assert shares.mean().item() == pytest.approx(expected, rel=0.03)


def test_accuracy_auc_and_realness_follow_from_the_logits():
    guide, labels = Guide(torch.nn.Identity()), torch.tensor([0, 1])
    real, generated = torch.tensor([[2.0, 0], [3, 1]]), torch.tensor([[1.0, 5], [5, 0]])
    # Realness 2, 1 of real images and 1, 0 of generated ones: 3.5 of 4 pairs in order.
    assert tell_apart(guide, {"x": (real, generated)}, labels, labels) == {
        "accuracy_x": 0.5,
        "auc_x": 0.875,
        "realness_real_x": 1.5,
        "realness_generated_x": 0.5,
    }


@pytest.fixture
def write_images(tmp_path):
    def write(name, count, channels=1):
        path = tmp_path / name
        pixels = np.random.default_rng(count).integers(0, 256, (count, 28, 28, channels), np.uint8)
        np.savez(path, arr_0=pixels, arr_1=np.arange(count) % 10)
        return path

    return write


def test_the_result_has_one_entry_per_guide(write_images):
    real, generated = write_images("real.npz", 30), write_images("generated.npz", 16)
    guides = ["fashion_mnist", str(shipped("features")["fashion_mnist/plain"])]
    result = doctor(guides, real=f"{real}[2-29]", samples=generated)
    assert [row["guide"] for row in result["guides"]] == guides
    assert result["num_images"] == 16 and result["attacks"]["generated"]["eps"] == "inf"
    assert result["real"].endswith("real.npz[2-29]")
    assert result["low_frequency_share_of_white_noise"] == pytest.approx(37 / 28**2)
    for row in result["guides"]:
        assert len(row["sha256"]) == 64
        assert 0 <= row["accuracy_robust"] <= row["accuracy_clean"] <= 1
        assert row["auc_attacked"] <= row["auc_clean"]
        # Labels of noise mean nothing.
        assert row["verdict"].startswith("Not a classifier of these labels")
    text = table(result)
    assert "low frequencies" in text and "| fashion_mnist | " in text
    assert sum("Not a classifier" in line for line in text.splitlines()) == 2


def test_without_images_the_card_speaks_and_one_side_measures_what_it_can(write_images):
    text = table(doctor(["fashion_mnist"]))
    assert "consistency model, one step" in text and "knows the realness of real" in text
    assert "--samples, --real" in text and "|" not in text
    samples = doctor(["fashion_mnist"], samples=write_images("generated.npz", 16))["guides"][0]
    assert {"share_looks_real", "low_frequency_share"} <= samples.keys()
    assert "accuracy_clean" not in samples and "--real" in samples["verdict"]
    real = doctor(["fashion_mnist"], real=str(write_images("real.npz", 16)))["guides"][0]
    assert "accuracy_robust" in real and "auc_clean" not in real


def test_a_wrong_guide_is_told_before_images_are_looked_at(write_images):
    with pytest.raises(InputError, match="unknown guide 'fashion_mnst'"):
        doctor(["fashion_mnst"], real=write_images("few.npz", 3))
    with pytest.raises(InputError, match="3 images are too few to judge"):
        doctor(["fashion_mnist"], real=write_images("few.npz", 3))


GOOD = {
    "accuracy_clean": 0.6, "accuracy_robust": 0.3, "accuracy_by_range": {"as they are": 0.6},
    "auc_clean": 0.9, "auc_attacked": 0.2, "share_looks_real": 0.1, "low_frequency_share": 0.2,
}  # fmt: skip
CASES = {
    "Fine": {},
    "Wrong input": {"accuracy_by_range": {"as they are": 0.6, "inverted": 0.8}},
    "Not a classifier of these labels": {
        "accuracy_clean": 0.18,
        "accuracy_by_range": {"as they are": 0.18},
    },
    "Not robust": {"accuracy_robust": 0.1},
    "It cannot tell these images from real ones": {"share_looks_real": 0.3},
    "It cannot tell": {"auc_clean": 0.55},
}


@pytest.mark.parametrize("start", CASES)
def test_the_verdict_names_the_first_fault(start):
    said = verdict({**GOOD, **CASES[start]}, num_real=1000, most_frequent=0.1)
    assert said.startswith(start) and "\n" not in said
    if start.startswith("It cannot"):
        assert "burnish adapt" in said


def test_the_verdict_knows_shortcuts_and_guides_that_climb_the_class():
    kwargs = {"num_real": 1000, "most_frequent": 0.1}
    said = verdict(GOOD, shortcuts=["compression: blocks", "gray: no color"], **kwargs)
    assert "something trivial does, too: compression: blocks" in said
    said = verdict({**GOOD, "share_looks_real": 0.5}, climbs_class=True, **kwargs)
    assert said.startswith("A robust classifier")
    # By chance, another reading is a little better of few images.
    few = {**GOOD, "accuracy_by_range": {"as they are": 0.6, "inverted": 0.8}}
    assert verdict(few, num_real=50, most_frequent=0.1).startswith("Fine")


class Rescaled(torch.nn.Module):
    """A guide's network behind what somebody put in front of it."""

    def __init__(self, network, undo):
        super().__init__()
        self.network, self.undo = network, undo

    def forward(self, images):
        return self.network(self.undo(images))


UNDO = {
    "scaled to -1 .. 1": lambda images: (images + 1) / 2,
    "scaled to 0 .. 255": lambda images: images / 255,
    "with the normalization of ImageNet": lambda images: (
        images * torch.tensor([0.229, 0.224, 0.225])[:, None, None]
        + torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    ),
    "with red and blue swapped": lambda images: images.flip(1),
}


COLORS = torch.tensor([[0.3, 0.5, 0.6], [0.6, 0.3, 0.5], [0.35, 0.3, 0.45], [0.65, 0.6, 0.35]])


class NearestColor(torch.nn.Module):
    """The class is the one of four colors that is nearest to the mean color."""

    def forward(self, images):
        return -100 * (images.mean((2, 3))[:, None] - COLORS).square().sum(2)


@pytest.mark.parametrize("reading", UNDO)
def test_a_network_that_expects_other_pixels_is_found_out(reading):
    labels = torch.arange(200) % 4
    images = COLORS[labels][:, :, None, None] + 0.2 * (torch.rand(200, 3, 8, 8) - 0.5)
    real = Dataset((images * 255).byte(), labels, "colors").samples()
    undo = UNDO[reading]
    torch.testing.assert_close(undo(READINGS[reading](images)), images)
    for network, right in ((NearestColor(), True), (Rescaled(NearestColor(), undo), False)):
        numbers = examine(Guide(network).eval(), real, None)
        said = verdict(numbers, num_real=200, most_frequent=0.25)
        assert ("Wrong input" in said) != right and (reading in said) != right
        assert numbers["accuracy_by_range"]["as they are"] >= 0.9 or not right


def test_bad_input_is_refused_in_one_line(write_images, tmp_path):
    rgb, generated = write_images("rgb.npz", 20, channels=3), write_images("generated.npz", 20)
    few, same = write_images("few.npz", 9), str(generated)
    no_labels = tmp_path / "bare.npz"
    np.savez(no_labels, arr_0=np.zeros((20, 28, 28, 1), np.uint8))
    cases: list[tuple[str, list[str], dict[str, Any]]] = [
        (r"fashion_mnist: .*not \[3, 28, 28\]", ["fashion_mnist"], {"samples": rgb}),
        ("at least one guide", [], {}),
        ("few.npz: 9 images are too few", ["fashion_mnist"], {"samples": same, "real": few}),
        ("are the real ones", ["fashion_mnist"], {"samples": generated, "real": same}),
        ("no labels", ["fashion_mnist"], {"real": no_labels}),
        ("at least 16", ["fashion_mnist"], {"num_images": 15}),
    ]
    for wanted, guides, arguments in cases:
        with pytest.raises(InputError, match=wanted) as raised:
            doctor(guides, **arguments)
        assert "\n" not in str(raised.value)
