"""Spectra of images, and the filters that follow from them."""

import dataclasses

import pytest
import torch

from burnish.ascent.balls import L2Ball
from burnish.ascent.spectrum import (
    Filter,
    dct_basis,
    measure_spectrum,
    preconditioner,
    transport,
)
from burnish.ascent.step import Step
from burnish.checkpoint import load_beside, save_model
from burnish.errors import InputError
from burnish.guide.load import load_guide
from burnish.guide.model import Guide
from burnish.networks.build import build
from burnish.refinement.refiner import Refiner
from burnish.refinement.settings import RefineSettings
from burnish.samples import Samples

SETTINGS = RefineSettings(eps=0.3, step_size=0.1, num_steps=3)


def images_of(count, seed, channels=3, size=(6, 5)):
    """Smooth images with correlated channels, and some noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, channels, 2, 2, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=size, mode="bilinear")
    mixed = torch.einsum(
        "ij,bjhw->bihw", torch.rand(channels, channels, generator=generator), smooth
    )
    return (0.5 + 0.1 * mixed + 0.02 * torch.randn(mixed.shape, generator=generator)).clamp(0, 1)


def test_a_filter_of_unit_matrices_changes_nothing_and_one_frequency_is_a_cosine():
    images = torch.rand(3, 2, 6, 5, dtype=torch.float64)
    units = torch.eye(2, dtype=torch.float64).expand(6, 5, 2, 2)
    torch.testing.assert_close(Filter(units)(images), images)
    lowest = torch.zeros_like(units).clone()
    lowest[0, 0] = torch.eye(2)
    means = images.mean((2, 3), keepdim=True).expand_as(images)
    torch.testing.assert_close(Filter(lowest)(images), means)
    basis = dct_basis(7)
    torch.testing.assert_close(basis @ basis.T, torch.eye(7, dtype=torch.float64))


def test_a_spectrum_does_not_depend_on_the_batches_and_holds_all_the_energy():
    images = images_of(50, 0)
    whole, parts = measure_spectrum([images]), measure_spectrum(images.split(7))
    torch.testing.assert_close(whole, parts)
    energy = images.square().sum((1, 2, 3)).mean()
    assert whole.diagonal(dim1=2, dim2=3).sum().item() == pytest.approx(energy.item(), rel=1e-5)


def test_transport_gives_images_the_spectrum_of_real_ones_and_keeps_their_mean_colors():
    generated, real = images_of(400, 1), images_of(400, 2)
    spectra = measure_spectrum([generated]), measure_spectrum([real])
    moved = transport(*spectra)(generated)
    found = measure_spectrum([moved])
    torch.testing.assert_close(
        found.flatten(0, 1)[1:], spectra[1].flatten(0, 1)[1:], rtol=1e-3, atol=1e-6
    )
    torch.testing.assert_close(moved.mean((2, 3)), generated.mean((2, 3)))
    same = transport(spectra[0], spectra[0])(generated)
    torch.testing.assert_close(same, generated, rtol=0, atol=1e-5)


def test_white_noise_becomes_noise_with_the_spectrum_of_images_and_of_its_own_length():
    real = measure_spectrum([images_of(400, 3)])
    noise = torch.randn(4000, 3, 6, 5, generator=torch.Generator().manual_seed(4))
    shaped = preconditioner(real)(noise)
    assert shaped.mean((2, 3)).abs().max() < 1e-5
    found, wanted = measure_spectrum([shaped]).flatten(0, 1)[1:], real.flatten(0, 1)[1:]
    torch.testing.assert_close(found / found.sum(), wanted / wanted.sum(), rtol=0.2, atol=2e-3)
    assert shaped.square().mean().item() == pytest.approx(1, rel=0.05)


def test_a_preconditioned_step_is_as_long_as_any_other():
    real = measure_spectrum([images_of(50, 5)])
    center, gradient = torch.full((2, 3, 6, 5), 0.5), torch.randn(2, 3, 6, 5)
    step = Step(L2Ball(0.2), 0.1, precondition=preconditioner(real))
    moved = step(center, gradient, center) - center
    torch.testing.assert_close(moved.flatten(1).norm(dim=1), torch.full((2,), 0.1))
    plain = Step(L2Ball(0.2), 0.1)(center, gradient, center) - center
    roughness = [(m[..., 1:] - m[..., :-1]).square().mean() for m in (moved, plain)]
    assert roughness[0] < 0.5 * roughness[1]  # it moves what varies in images, not grain


@pytest.fixture
def knowing(guide):
    """Give the tiny guide the spectra of generated and of real images."""
    sides = {"generated": images_of(60, 6, 1, (8, 8)), "real": images_of(60, 7, 1, (8, 8))}
    spectra = {side: measure_spectrum([images]) for side, images in sides.items()}
    return Guide(guide.network, guide.card, spectra=spectra).eval()


def refined(guide, images, size, **changes):
    settings = dataclasses.replace(SETTINGS, **changes)
    samples = Samples(images, torch.arange(len(images)) % 4, torch.arange(len(images)))
    batches = [samples[i : i + size] for i in range(0, len(samples), size)]
    parts = list(Refiner(guide, settings, batch_size=4)(batches, samples.labels))
    return torch.cat([part.samples.images for part in parts]), parts[0].ledger


@pytest.mark.parametrize("match", [False, True])
def test_the_ball_is_centered_on_the_matched_image_whatever_the_batches(knowing, match):
    images = images_of(10, 8, 1, (8, 8))
    found, ledger = refined(knowing, images, 3, precondition="spectrum", match_spectrum=match)
    assert torch.equal(
        found, refined(knowing, images, 10, precondition="spectrum", match_spectrum=match)[0]
    )
    start = knowing.matcher()(images).clamp(0, 1) if match else images
    distance = (found - start).flatten(1).norm(dim=1)
    assert distance.max() <= 0.3 + 1e-5 and distance.min() > 0.1
    before = knowing.realness(images[:3], torch.arange(3) % 4)
    torch.testing.assert_close(ledger.realness_before, before, rtol=1e-4, atol=1e-4)
    assert (ledger.realness_after > ledger.realness_before).all() or match


def test_a_matched_image_without_steps_is_the_filtered_one(knowing):
    images = images_of(5, 9, 1, (8, 8))
    found, _ = refined(knowing, images, 5, num_steps=0, match_spectrum=True)
    torch.testing.assert_close(found, knowing.matcher()(images).clamp(0, 1))


@pytest.mark.parametrize("setting", [{"precondition": "spectrum"}, {"match_spectrum": True}])
def test_a_guide_that_knows_no_spectra_says_what_to_do(guide, setting):
    with pytest.raises(InputError, match=r"the spectrum of \w+ images.*burnish adapt"):
        Refiner(guide, dataclasses.replace(SETTINGS, **setting))


def test_spectra_travel_with_the_weights(tmp_path):
    network = {"name": "resnet", "width": 2, "num_blocks": 1, "in_channels": 1, "num_classes": 4}
    spectra = {side: torch.rand(8, 8, 1, 1) for side in ("generated", "real")}
    save_model(tmp_path / "a.safetensors", build(network), {"network": network}, True, spectra)
    loaded = load_guide(tmp_path / "a.safetensors")
    loaded.save_pretrained(tmp_path / "hub")
    for found in (loaded.spectra, load_beside(tmp_path / "hub" / "model.safetensors")):
        assert found.keys() == spectra.keys()
        assert all(torch.equal(found[side], spectra[side]) for side in spectra)
