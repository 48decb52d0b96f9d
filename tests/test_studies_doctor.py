"""The doctor: attacks do harm, batches leave no trace, one entry per guide."""

import math

import numpy as np
import pytest
import torch

from burnish.errors import InputError
from burnish.guide.model import Guide
from burnish.hub import shipped
from burnish.samples import from_uint8
from burnish.storage.datasets import Dataset
from burnish.studies.doctor import doctor, examine, low_frequencies, low_frequency_share, table
from burnish.training.validation import tell_apart


def test_attacks_do_harm_and_batches_leave_no_trace(guide):
    images = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8)
    # Labels that the guide agrees with, so that an attack has something to take away.
    data = Dataset(images, guide(from_uint8(images)).argmax(1), "random")
    real, generated = data.samples(slice(0, 10)), data.samples(slice(10, 20))
    whole, parts = (examine(guide, real, generated, size) for size in (10, 3))
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
    real, generated = write_images("real.npz", 30), write_images("generated.npz", 6)
    guides = ["fashion_mnist", str(shipped("features")["fashion_mnist/plain"])]
    result = doctor(guides, str(real), generated)
    assert [row["guide"] for row in result["guides"]] == guides
    assert result["num_images"] == 6 and result["attacks"]["generated"]["eps"] == "inf"
    assert result["low_frequency_share_of_white_noise"] == pytest.approx(37 / 28**2)
    for row in result["guides"]:
        assert len(row["sha256"]) == 64
        assert 0 <= row["accuracy_robust"] <= row["accuracy_clean"] <= 1
        assert row["auc_attacked"] <= row["auc_clean"]
    text = table(result)
    assert "low frequencies" in text and "| fashion_mnist | " in text


def test_a_guide_that_does_not_fit_is_named(write_images):
    rgb, generated = write_images("rgb.npz", 4, channels=3), write_images("generated.npz", 4)
    with pytest.raises(InputError, match=r"fashion_mnist: .*not \[3, 28, 28\]"):
        doctor(["fashion_mnist"], str(rgb), generated)
    with pytest.raises(InputError, match="at least one guide"):
        doctor([], str(rgb), generated)
