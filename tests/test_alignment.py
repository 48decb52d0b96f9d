"""What a gradient looks like, against closed forms; and the script that says it of guides."""

import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from burnish.cli import main
from burnish.errors import InputError
from burnish.guide.model import Guide
from burnish.hub import SHIPPED
from burnish.samples import Samples, from_uint8
from burnish.studies.gradients import (
    cosine,
    logit_gradient,
    low_frequencies,
    low_frequency_share,
    toward_nearest,
)
from burnish.training.validation import attacked_logits, tell_apart


def wave(rows, columns, height=32, width=32):
    """A cosine of so many periods down and across."""
    y, x = torch.arange(height)[:, None] / height, torch.arange(width)[None, :] / width
    return torch.cos(2 * math.pi * (rows * y + columns * x) + 0.3).expand(1, 3, -1, -1)


def test_low_frequencies_are_those_within_the_radius():
    # A quarter of Nyquist is 4 periods in 32 pixels: the 49 points of the grid within radius 4.
    assert int(low_frequencies(32, 32, 0.25).sum()) == 49
    assert low_frequencies(28, 28, 0.25).sum() == 37  # radius 3.5
    assert low_frequencies(32, 16, 10).all()
    for rows, columns, share in (
        (0, 0, 1),
        (4, 0, 1),
        (0, -4, 1),
        (2, 3, 1),
        (3, 3, 0),
        (5, 0, 0),
    ):
        found = low_frequency_share(wave(rows, columns))
        assert found.item() == pytest.approx(share, abs=1e-6), (rows, columns)
    checkerboard = (-1.0) ** (torch.arange(32)[:, None] + torch.arange(32))
    assert low_frequency_share(checkerboard.view(1, 1, 32, 32)).item() == pytest.approx(
        0, abs=1e-9
    )
    # Energies of unlike waves add up, over channels too, whatever the scale of the whole.
    mixed = torch.cat([3 * wave(1, 2)[:, :1], wave(9, 9)[:, :1]], 1) * 1e-25
    assert low_frequency_share(mixed).item() == pytest.approx(0.9, abs=1e-5)
    assert low_frequency_share(torch.zeros(1, 1, 8, 8)).item() == 0


@pytest.mark.parametrize("size", [28, 32])
def test_white_noise_has_the_share_that_is_stated_beside(size):
    expected = low_frequencies(size, size, 0.25).double().mean().item()
    shares = low_frequency_share(torch.randn(200, 3, size, size))
    assert shares.shape == (200,) and len(shares.unique()) > 100
    assert shares.mean().item() == pytest.approx(expected, rel=0.03)


def test_toward_the_nearest_of_the_class():
    real = torch.randint(0, 256, (12, 1, 6, 6), dtype=torch.uint8)
    real_labels = torch.arange(12) % 3
    labels = torch.tensor([1, 2, 0, 1])
    mine = torch.tensor([4, 5, 9, 7])  # one real image of each class asked for
    away = 0.02 * torch.randn(4, 1, 6, 6)
    found = toward_nearest(from_uint8(real[mine]) + away, labels, real, real_labels)
    torch.testing.assert_close(found, -away, rtol=0, atol=1e-6)
    torch.testing.assert_close(cosine(-7 * away, found), torch.ones(4))
    torch.testing.assert_close(cosine(away, found), -torch.ones(4))
    # A nearer one of another class does not count.
    images = from_uint8(real[mine])
    other = toward_nearest(images, (labels + 1) % 3, real, real_labels)
    for image, way, label in zip(images, other, (labels + 1) % 3, strict=True):
        bank = from_uint8(real[real_labels == label])
        assert way.norm() == pytest.approx((bank - image).flatten(1).norm(dim=1).min().item())
    with pytest.raises(InputError, match="class 3"):
        toward_nearest(images[:1], torch.tensor([3]), real, real_labels)


def test_cosines():
    right, up = torch.tensor([1.0, 0]).view(1, 1, 1, 2), torch.tensor([0, 1.0]).view(1, 1, 1, 2)
    assert cosine(right, up).item() == 0 and cosine(right, 0 * up).item() == 0
    assert cosine(1e-30 * right, right + up).item() == pytest.approx(math.sqrt(0.5))


def test_the_gradient_is_that_of_each_images_own_logit(guide):
    images, labels = torch.rand(3, 1, 8, 8), torch.tensor([2, 0, 2])
    found = logit_gradient(guide, images, labels)
    for i in range(3):
        alone = torch.func.grad(lambda x, y=labels[i]: guide(x[None])[0, y])(images[i])
        torch.testing.assert_close(found[i], alone)
    step = 1e-2 * found / found.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    assert (guide.realness(images + step, labels) > guide.realness(images, labels)).all()


def script():
    path = Path(__file__).parents[1] / "experiments" / "assess.py"
    spec = importlib.util.spec_from_file_location("assess", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_attacks_do_harm_and_batches_leave_no_trace(guide):
    assess = script()
    images = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8)
    # Labels that the guide agrees with, so that an attack has something to take away.
    labels = guide(from_uint8(images)).argmax(1)
    bank = assess.Dataset(images, labels, "bank")
    real, fake = bank.samples(slice(0, 10)), bank.samples(slice(10, 20))
    whole, parts = (assess.assess(guide, real, fake, bank, size) for size in (10, 3))
    assert parts == pytest.approx(whole, abs=1e-5)
    assert whole["accuracy_clean"] == 1 > whole["accuracy_robust"]
    assert whole["auc_attacked"] < whole["auc_clean"]
    # The generated images are in the bank themselves: there is no way to go.
    assert whole["cosine_to_nearest"] == 0 and 0 < whole["low_frequency_share"] < 1


def test_what_logits_say():
    guide, labels = Guide(torch.nn.Identity()), torch.tensor([0, 1])
    real, fake = torch.tensor([[2.0, 0], [3, 1]]), torch.tensor([[1.0, 5], [5, 0]])
    found = tell_apart(guide, {"x": (real, fake)}, labels, labels)
    # Own logits 2, 1 of real images and 1, 0 of generated ones: 3.5 of 4 pairs in order.
    expected = {"accuracy_x": 0.5, "auc_x": 0.875, "realness_real_x": 1.5, "realness_fake_x": 0.5}
    assert found == expected


def test_the_script_writes_one_entry_per_guide(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, seeds in (("real.npz", "0-29"), ("fake.npz", "30-35")):
        main(["sample", "fashion_mnist", "--seeds", seeds, "--out", name])
    judge = str(SHIPPED / "fashion_mnist" / "judge-plain.safetensors")
    arguments = {"fake": Path("fake.npz"), "real": "real.npz", "data": "real.npz"}
    script().main(("fashion_mnist", judge), out=Path("out.json"), device="cpu", **arguments)
    result = json.loads(Path("out.json").read_text())
    assert [row["guide"] for row in result["guides"]] == ["fashion_mnist", judge]
    assert result["num_images"] == 6 and result["attacks"]["fake"]["eps"] == "inf"
    assert result["low_frequency_share_of_white_noise"] == pytest.approx(37 / 28**2)
    for row in result["guides"]:
        assert len(row["sha256"]) == 64
        assert 0 <= row["accuracy_robust"] <= row["accuracy_clean"] <= 1
        assert row["auc_attacked"] <= row["auc_clean"]
    assert "cosine to nearest" in capsys.readouterr().out
    np.savez("rgb.npz", arr_0=np.zeros((4, 28, 28, 3), np.uint8), arr_1=np.arange(4))
    with pytest.raises(InputError, match=r"fashion_mnist: .*not \[3, 28, 28\]"):
        arguments["real"] = "rgb.npz"
        script().main(("fashion_mnist",), out=Path("none.json"), device="cpu", **arguments)
    assert not Path("none.json").exists()


def test_attacked_logits_are_of_images_pushed_the_way_that_is_said(guide):
    attack = script().REAL_ATTACK
    images = torch.rand(6, 1, 8, 8)
    samples = Samples(images, torch.arange(6) % 4, torch.arange(6))
    logits = attacked_logits(guide, samples, samples, attack, attack)
    clean, attacked = logits["clean"], logits["attacked"]
    torch.testing.assert_close(clean[0], guide(images))
    mine = (range(6), samples.labels)
    assert (attacked[0][mine] < clean[0][mine]).all()
    assert (attacked[1][mine] > clean[1][mine]).all()
