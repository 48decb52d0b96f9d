"""Consistency models: scalings, samples and files are those of diffusers."""

# pyright: reportPrivateImportUsage=false

import json
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
from burnish.generators.unet import Preconditioned, Scalings, build_unet
from burnish.seeds import stream

SCALINGS = Scalings(sigma_max=60.0, sigma_data=0.6)
SIGMAS = torch.tensor([0.002, 0.0021, 0.1, 0.5, 3.0, 80.0])


@pytest.fixture(autouse=True)
def quiet():
    logging.disable_progress_bar()


def tiny(channels=1, num_classes: int | None = 4, num_steps=1, scalings=SCALINGS):
    torch.manual_seed(0)
    unet = build_unet(8, channels, num_classes, widths=(8, 16), norm_num_groups=4)
    # Larger weights than at the start of a training, so that images differ.
    nn.init.normal_(unet.conv_out.weight, std=0.3)
    return ConsistencyModel(unet, scalings, num_steps, {"name": "tiny"})


def pipeline_samples(pipeline, seeds, labels, num_steps):
    """Images of diffusers itself, each from its own stream."""
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
    # The input of the network, and its target (clean - c_skip noisy) / c_out.
    torch.testing.assert_close(SCALINGS.c_in(SIGMAS) ** 2 * (SIGMAS**2 + data**2), ones)
    target = ((1 - c_skip) * data) ** 2 + (c_skip * SIGMAS) ** 2
    torch.testing.assert_close(target / c_out**2, ones, rtol=1e-3, atol=0)


def test_boundary_scalings_are_those_of_diffusers():
    found = SCALINGS.boundary(SIGMAS)
    expected = scheduler_of(SCALINGS).get_scalings_for_boundary_condition(SIGMAS)
    torch.testing.assert_close(found, expected)


def test_schedule_is_that_of_diffusers():
    assert SCALINGS.schedule(1) == [pytest.approx(60.0)]
    scheduler = scheduler_of(SCALINGS)
    for num_steps in (2, 3, 7, 40):
        scheduler.set_timesteps(num_steps)
        found = torch.tensor(SCALINGS.schedule(num_steps))
        torch.testing.assert_close(found, scheduler.sigmas[:-1], rtol=1e-5, atol=0)
    for wrong in (0, 41):
        with pytest.raises(InputError, match="1 to 40"):
            tiny(num_steps=wrong)


@pytest.mark.parametrize("num_steps", [1, 2, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_samples_are_those_of_diffusers(channels, num_steps):
    model, seeds, labels = tiny(channels, num_steps=num_steps), [3, 8], torch.tensor([2, 0])
    found = model.sample(seeds, labels)
    pipeline = ConsistencyModelPipeline(model.unet, scheduler_of(SCALINGS))
    expected = pipeline_samples(pipeline, seeds, labels, num_steps)
    torch.testing.assert_close(found.images, expected, rtol=0, atol=1e-4)
    assert model.image_shape == (channels, 8, 8) and model.nfe == num_steps
    # Gray or equal images would prove nothing.
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


def test_saving_replaces_no_other_files(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match="other files"):
        tiny().save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_unet_is_built_as_asked():
    unet: Any = build_unet(16, 1, 3, widths=(8, 8, 16), attention=True, norm_num_groups=4)
    assert isinstance(unet, UNet2DModel)
    assert unet.config["num_class_embeds"] == 3
    assert [hasattr(block, "attentions") for block in unet.down_blocks] == [False, False, True]
    out = unet(torch.randn(2, 1, 16, 16), torch.tensor([1.0, 2.0]), torch.tensor([0, 2])).sample
    assert out.shape == (2, 1, 16, 16)
