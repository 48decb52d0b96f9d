"""Models are diffusers' own, images belong to their seeds, losses are least where theory says."""

# pyright: reportPrivateImportUsage=false

import json
from itertools import pairwise
from typing import Any

import pytest
import torch
from diffusers import (
    CMStochasticIterativeScheduler,
    ConsistencyModelPipeline,
    DDPMPipeline,
    DDPMScheduler,
    UNet2DModel,
)
from diffusers.utils import logging
from torch import nn

from burnish.errors import InputError
from burnish.generators.consistency import ConsistencyModel
from burnish.generators.scalings import Preconditioned, Scalings
from burnish.generators.unet import build_unet
from burnish.samples import Samples
from burnish.seeds import stream
from burnish.training.losses.consistency import ConsistencyLoss, DenoisingLoss, heun_step

SCALINGS = Scalings(sigma_max=60.0, sigma_data=0.6)
SIGMAS = torch.tensor([0.002, 0.0021, 0.1, 0.5, 3.0, 80.0])


@pytest.fixture(autouse=True)
def quiet():
    logging.disable_progress_bar()


def tiny(channels=1, num_classes: int | None = 4, num_steps=1, scalings=SCALINGS):
    torch.manual_seed(0)
    unet = build_unet(8, channels, num_classes, widths=(8, 16), norm_num_groups=4)
    # Random weights would answer almost alike to all noise; these do not.
    nn.init.normal_(unet.conv_out.weight, std=0.3)
    return ConsistencyModel(unet, scalings, num_steps, {"name": "tiny"})


def pipeline_samples(pipeline, seeds, labels, num_steps):
    """What diffusers itself makes, each image from its own stream as ours are."""
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        batch_size=len(seeds),
        class_labels=labels,
        num_inference_steps=num_steps,
        generator=[stream(seed, "noise") for seed in seeds],
        output_type="pt",
    ).images


def scheduler_of(scalings):
    return CMStochasticIterativeScheduler(
        sigma_min=scalings.sigma_min,
        sigma_max=scalings.sigma_max,
        sigma_data=scalings.sigma_data,
        rho=scalings.rho,
    )


# Scalings.


@pytest.mark.parametrize("training", [True, False])
def test_at_sigma_min_the_function_is_the_identity(training):
    function = Preconditioned(tiny().unet, SCALINGS, consistent=True).train(training)
    noisy, labels = torch.randn(3, 1, 8, 8), torch.arange(3)
    found = function(noisy, torch.full((3,), SCALINGS.sigma_min), labels)
    assert torch.equal(found, noisy)
    assert not torch.equal(function(noisy, torch.full((3,), 0.1), labels), noisy)


def test_scalings_keep_variances_at_one():
    c_skip, c_out = SCALINGS.denoiser(SIGMAS)
    data = SCALINGS.sigma_data
    ones = torch.ones(len(SIGMAS))
    # What the network sees, and what it is asked for: (clean - c_skip noisy) / c_out.
    torch.testing.assert_close(SCALINGS.c_in(SIGMAS) ** 2 * (SIGMAS**2 + data**2), ones)
    asked = ((1 - c_skip) * data) ** 2 + (c_skip * SIGMAS) ** 2
    torch.testing.assert_close(asked / c_out**2, ones, rtol=1e-3, atol=0)


def test_boundary_scalings_are_those_of_diffusers():
    found = SCALINGS.boundary(SIGMAS)
    expected = scheduler_of(SCALINGS).get_scalings_for_boundary_condition(SIGMAS)
    torch.testing.assert_close(found, expected)


def test_schedule():
    assert SCALINGS.schedule(1) == [pytest.approx(60.0)]
    scheduler = scheduler_of(SCALINGS)
    for num_steps in (2, 3, 7, 40):
        scheduler.set_timesteps(num_steps)
        found = torch.tensor(SCALINGS.schedule(num_steps))
        torch.testing.assert_close(found, scheduler.sigmas[:-1], rtol=1e-5, atol=0)
    for wrong in (0, 41):
        with pytest.raises(InputError, match="1 to 40"):
            tiny(num_steps=wrong)


# Sampling, and diffusers on the other side.


@pytest.mark.parametrize("num_steps", [1, 2, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_samples_are_those_of_diffusers(channels, num_steps):
    model, seeds, labels = tiny(channels, num_steps=num_steps), [3, 8], torch.tensor([2, 0])
    found = model.sample(seeds, labels)
    pipeline = ConsistencyModelPipeline(model.unet, scheduler_of(SCALINGS))
    expected = pipeline_samples(pipeline, seeds, labels, num_steps)
    torch.testing.assert_close(found.images, expected, rtol=0, atol=1e-4)
    assert model.image_shape == (channels, 8, 8) and model.nfe == num_steps
    # It would prove nothing if the images were all grey, or all alike.
    assert found.images.std() > 0.05 and (found.images[0] - found.images[1]).abs().max() > 0.05


@pytest.mark.parametrize("half", [False, True])
def test_diffusers_loads_what_we_save(tmp_path, half):
    model, seeds, labels = tiny(), [1, 2], torch.tensor([1, 3])
    for _ in range(2):  # the second time replaces the first
        model.save(tmp_path / "it", half=half)
    expected = model.sample(seeds, labels).images
    pipeline = ConsistencyModelPipeline.from_pretrained(tmp_path / "it", torch_dtype=torch.float32)
    found = pipeline_samples(pipeline, seeds, labels, 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-3 if half else 1e-4)
    ours = ConsistencyModel.load(tmp_path / "it")
    assert ours.card == {"name": "tiny"} and ours.scalings == SCALINGS
    assert all(p.dtype == torch.float32 for p in ours.unet.parameters())
    torch.testing.assert_close(ours.sample(seeds, labels).images, found, rtol=0, atol=1e-4)
    assert all(p.dtype == torch.float32 for p in model.unet.parameters())
    if not half:
        assert torch.equal(ours.sample(seeds, labels).images, expected)


def test_we_load_what_diffusers_saves(tmp_path):
    model = tiny(3, num_classes=None)
    pipeline = ConsistencyModelPipeline(model.unet, scheduler_of(SCALINGS))
    pipeline.save_pretrained(tmp_path)
    found = ConsistencyModel.load(tmp_path, num_steps=2)
    assert found.num_classes is None and found.scalings == SCALINGS
    assert found.card == {"source": str(tmp_path)} and not found.unet.training
    expected = pipeline_samples(pipeline, [4, 5], None, 2)
    torch.testing.assert_close(found.sample([4, 5]).images, expected, rtol=0, atol=1e-4)


def test_loading_runs_no_code_and_names_faults(tmp_path):
    model = tiny()
    model.save(tmp_path / "it")
    index = json.loads((tmp_path / "it/model_index.json").read_text()) | {"unet": ["evil", "It"]}
    (tmp_path / "it/model_index.json").write_text(json.dumps(index))
    (tmp_path / "it/unet/evil.py").write_text(
        f"open({str(tmp_path / 'trace')!r}, 'w')\nfrom diffusers import UNet2DModel as It\n"
    )
    ConsistencyModel.load(tmp_path / "it")
    assert not (tmp_path / "trace").exists()
    DDPMPipeline(model.unet, DDPMScheduler()).save_pretrained(tmp_path / "diffusion")
    for name in ("", "it/unet", "diffusion"):
        with pytest.raises(InputError, match="no consistency model"):
            ConsistencyModel.load(tmp_path / name)


def test_saving_spares_other_files(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match="other files"):
        tiny().save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("num_steps", [1, 2])
def test_an_image_is_a_function_of_its_seed(num_steps):
    model, seeds = tiny(num_steps=num_steps), [11, 4, 7, 2, 9]
    samples = model.sample(seeds)
    assert samples.labels is not None and samples.ids.tolist() == seeds
    assert len(set(samples.labels.tolist())) > 1
    cut = list(model.batches(seeds[::-1], batch_size=2))
    assert [len(part) for part in cut] == [2, 2, 1]
    assert torch.equal(
        torch.cat([s.labels for s in cut if s.labels is not None]).flip(0), samples.labels
    )
    images = torch.cat([s.images for s in cut]).flip(0)
    torch.testing.assert_close(images, samples.images, rtol=0, atol=1e-5)
    # Labels come from a stream of their own: naming the very same ones changes no pixel.
    again = model.sample(seeds, samples.labels)
    assert torch.equal(again.images, samples.images)
    other = model.sample(seeds, (samples.labels + 1) % 4)
    assert ((other.images - samples.images).flatten(1).abs().amax(1) > 1e-3).all()


def test_labels_are_checked():
    model = tiny()
    for wrong in ([0, 4], [-1, 0], [0], [0, 1, 2]):
        with pytest.raises(InputError, match="labels"):
            model.sample([1, 2], torch.tensor(wrong))
    unconditional = tiny(num_classes=None)
    assert unconditional.sample([1]).labels is None
    with pytest.raises(InputError, match="no classes"):
        unconditional.sample([1], torch.tensor([0]))


# Losses. Data N(mu, s^2) per pixel have closed forms for everything.

MU, S = 0.1, 0.2


def gaussian_batch(count):
    """Samples whose images, in [-1, 1], are N(MU, S^2) in each pixel."""
    values = MU + S * torch.randn(count, 1, 4, 4, generator=torch.Generator().manual_seed(3))
    return Samples((values / 2 + 0.5).clamp(0, 1), None, torch.arange(count))


class Gaussian(nn.Module):
    """The denoiser of such data; ``scale`` and ``shift`` spoil it."""

    def __init__(self, s=S, scale=1.0, shift=0.0):
        super().__init__()
        self.s, self.scale, self.shift = s, scale, shift

    def forward(self, noisy, sigma, labels):
        gain = (self.s**2 / (self.s**2 + sigma**2)).view(-1, 1, 1, 1)
        return MU + self.scale * gain * (noisy - MU) + self.shift


class Trajectory(nn.Module):
    """The consistency function of such data: the end, at ``sigma_min``, of the flow through x."""

    def forward(self, noisy, sigma, labels):
        return MU + flow(noisy - MU, sigma, torch.tensor(0.002))


def flow(centred, t, r):
    return centred * ((S**2 + r**2) / (S**2 + t**2)).sqrt().view(-1, 1, 1, 1)


def test_heun_step_is_exact_for_a_single_image():
    # Data that are one image: every path is straight.
    noisy = torch.randn(3, 1, 4, 4, dtype=torch.float64)
    t = torch.tensor([0.1, 2.0, 50.0], dtype=torch.float64)
    found = heun_step(Gaussian(s=0.0), noisy, t, t / 5, None)
    torch.testing.assert_close(found, MU + (noisy - MU) / 5)


def test_heun_step_is_of_second_order():
    noisy = torch.randn(1, 1, 4, 4, dtype=torch.float64)
    exact = MU + flow(noisy - MU, *(torch.tensor([x], dtype=torch.float64) for x in (0.5, 0.1)))
    errors = []
    for count in (8, 16, 32):
        levels = torch.linspace(0.5, 0.1, count + 1, dtype=torch.float64)
        found = noisy
        for t, r in pairwise(levels):
            found = heun_step(Gaussian(), found, t.view(1), r.view(1), None)
        errors.append((found - exact).abs().max().item())
    assert errors[0] < 0.01
    for wide, narrow in pairwise(errors):
        assert 3.5 < wide / narrow < 4.5


def test_denoising_loss_is_least_for_the_exact_denoiser():
    loss, batch = DenoisingLoss(Scalings(sigma_data=S)), gaussian_batch(4096)

    def value(**spoilt):
        torch.manual_seed(0)  # the same noise for all
        return loss(Gaussian(**spoilt), batch, 0)[0].item()

    # The weighting makes the least loss 1 at every noise level; six standard errors.
    assert value() == pytest.approx(1, abs=6 * (2 / batch.images.numel()) ** 0.5)
    for spoilt in ({"scale": 0.9}, {"scale": 1.1}, {"shift": 0.03}, {"shift": -0.03}):
        assert value(**spoilt) > value() + 0.005


def test_pairs_of_noise_levels():
    loss = ConsistencyLoss(SCALINGS, num_steps=600, num_stages=6)

    def pairs(step):
        torch.manual_seed(0)
        return loss.pairs(4000, step)

    gaps = []
    for step in range(50, 600, 100):
        t, r = pairs(step)
        assert bool((t > r).all()) and r.min() >= SCALINGS.sigma_min
        assert t.max() <= SCALINGS.sigma_max * (1 + 1e-6)
        assert abs(t.log().median() + 0.8) < 0.2
        gap = 1 - r / t
        high = t > 12  # where the gap is widened no more
        gaps.append(gap[high].mean().item())
        free = (t < 1) & (r > 1.01 * SCALINGS.sigma_min)
        assert (gap[free] > 3 * gaps[-1]).all()
    torch.testing.assert_close(torch.tensor(gaps), 0.5 ** torch.arange(1.0, 7), rtol=1e-2, atol=0)
    # Stages are of equal length and the last does not end.
    for step, same in ((99, 0), (100, 150), (500, 599), (10_000, 599)):
        assert torch.equal(pairs(step)[1], pairs(same)[1])


class Scaled(nn.Module):
    """a x, and a memory of the x it was given."""

    def __init__(self):
        super().__init__()
        self.a, self.seen = nn.Parameter(torch.tensor(1.0)), []

    def forward(self, noisy, sigma, labels):
        self.seen.append((noisy, sigma))
        return self.a * noisy


@pytest.mark.parametrize("teacher", [None, Gaussian()])
def test_consistency_loss_and_its_gradient(teacher):
    model, batch = Scaled(), gaussian_batch(5)
    value, _ = ConsistencyLoss(SCALINGS, 600, teacher)(model, batch, 300)
    value.backward()
    (nearer, r), (noisy, t) = model.seen
    clean = batch.images * 2 - 1
    if teacher is None:
        noise = (noisy - clean) / t.view(-1, 1, 1, 1)
        expected = clean + r.view(-1, 1, 1, 1) * noise
    else:
        expected = heun_step(teacher, noisy, t, r, None)
    torch.testing.assert_close(nearer, expected, rtol=1e-4, atol=1e-5)
    # d = a noisy - target with the target held fast.
    gap, offset = (noisy - nearer).flatten(1), 0.00054 * 4
    root = (gap.square().sum(1) + offset**2).sqrt()
    torch.testing.assert_close(value, ((root - offset) / (t - r)).mean())
    slope = ((gap * noisy.flatten(1)).sum(1) / root / (t - r)).mean()
    torch.testing.assert_close(model.a.grad, slope)


def test_distillation_is_least_for_the_exact_function():
    teacher: Any = Gaussian()
    loss, batch = ConsistencyLoss(Scalings(), 600, teacher), gaussian_batch(256)

    def distance(function):
        torch.manual_seed(0)
        return loss(function, batch, 599)[1]["distance"]

    # The denoiser is close to it, and yet its outputs move along a trajectory.
    assert distance(Trajectory()) < 0.02 * distance(Gaussian())


def test_unet_is_as_asked():
    unet: Any = build_unet(16, 1, 3, widths=(8, 8, 16), attention=True, norm_num_groups=4)
    assert isinstance(unet, UNet2DModel)
    assert unet.config["num_class_embeds"] == 3
    assert [hasattr(block, "attentions") for block in unet.down_blocks] == [False, False, True]
    out = unet(torch.randn(2, 1, 16, 16), torch.tensor([1.0, 2.0]), torch.tensor([0, 2])).sample
    assert out.shape == (2, 1, 16, 16)
