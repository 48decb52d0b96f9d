"""OpenAI's consistency models and the ports to diffusers: networks, time steps, precision."""

# pyright: reportPrivateImportUsage=false

from typing import Any

import pytest
import torch
from diffusers import CMStochasticIterativeScheduler, ConsistencyModelPipeline
from openai_files import output, unet

from burnish.errors import InputError
from burnish.generators.consistency import ConsistencyModel
from burnish.generators.diffusion import DiffusionModel
from burnish.generators.load import load_generator
from burnish.generators.openai import KNOWN, unet_of
from burnish.generators.unet import Scalings, build_unet
from burnish.networks.build import outline
from burnish.seeds import stream

SEEDS, LABELS = [3, 8], torch.tensor([2, 0])


def tiny(num_train_timesteps=40, timesteps=None, num_steps=1) -> ConsistencyModel:
    torch.manual_seed(0)
    unet = build_unet(8, 3, 3, widths=(8, 16), norm_num_groups=4)
    # As spread out as that of a trained network, so that images are inside of their range.
    torch.nn.init.normal_(unet.conv_out.weight, std=0.1)
    scalings = Scalings(num_train_timesteps=num_train_timesteps)
    return ConsistencyModel(unet, scalings, num_steps, timesteps=timesteps)


def by_diffusers(model, **options) -> torch.Tensor:
    pipeline: Any = ConsistencyModelPipeline(
        model.unet,
        CMStochasticIterativeScheduler(num_train_timesteps=model.scalings.num_train_timesteps),
    )
    pipeline.set_progress_bar_config(disable=True)
    noise = [stream(seed, "noise") for seed in SEEDS]
    return pipeline(len(SEEDS), LABELS, generator=noise, output_type="pt", **options).images


@pytest.mark.parametrize(
    ("levels", "timesteps"),
    [(40, (22, 0)), (201, (106, 0)), (151, (67, 0)), (40, (0,)), (40, (39, 22, 7, 0))],
)
def test_time_steps_are_those_of_diffusers(levels, timesteps):
    model = tiny(levels, timesteps)
    found, expected = model.sample(SEEDS, LABELS).images, by_diffusers(model, timesteps=timesteps)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert model.nfe == len(timesteps) and 0.02 < found.std() < 0.45
    differ = (found * 255).round().ne((expected * 255).round())
    assert differ.float().mean() < 0.01  # where a level lies between two


@pytest.mark.parametrize("levels", [40, 201])
@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_numbers_of_steps_are_those_of_diffusers(levels, num_steps):
    model = tiny(levels, num_steps=num_steps)
    expected = by_diffusers(model, num_inference_steps=num_steps)
    torch.testing.assert_close(model.sample(SEEDS, LABELS).images, expected, rtol=0, atol=1e-5)


def test_a_port_says_how_long_its_table_is(tmp_path):
    tiny(201).save(tmp_path / "port")
    found = load_generator(tmp_path / "port", timesteps=(106, 0))
    expected = tiny(201, (106, 0)).sample(SEEDS, LABELS).images
    assert torch.equal(found.sample(SEEDS, LABELS).images, expected)
    for wrong, message in (
        ((201, 0), r"0 \.\. 200"),
        ((5, 5, 0), "falling"),
        ((9,), "end with 0"),
    ):
        with pytest.raises(InputError, match=message):
            load_generator(tmp_path / "port", timesteps=wrong)
    with pytest.raises(InputError, match="are 2 steps, not 1"):
        load_generator(tmp_path / "port", 1, timesteps=(9, 0))
    with pytest.raises(InputError, match="knows its own"):
        load_generator(tmp_path / "port", num_train_timesteps=40)


@pytest.mark.parametrize(
    "options",
    [{}, {"layers": 2, "classes": 0}, {"scale_shift": False},
     {"widths": (32, 32, 64), "attends": (False, False, True)}],
    ids=str,
)  # fmt: skip
def test_the_network_is_that_of_the_original_formula(options, tmp_path):
    state, path = unet(**options), tmp_path / "ct_imagenet64.pt"
    torch.save(state, path)
    model = load_generator(path)
    assert isinstance(model, ConsistencyModel) and model.scalings.num_train_timesteps == 201
    assert model.num_classes == (options.get("classes", 3) or None)
    attends = options.get("attends", (False, True))
    assert model.image_shape == (3, 32 << attends.index(True), 32 << attends.index(True))
    x, times = torch.randn(2, 3, 16, 16), torch.tensor([1095.5, -3.25])
    labels = None if options.get("classes") == 0 else LABELS
    with torch.no_grad():
        found = model.unet(x, times, class_labels=labels).sample
        expected = output(state, x, times, labels, options.get("layers", 1))
    torch.testing.assert_close(
        found, expected, rtol=1e-4, atol=1e-5 * float(expected.std()) + 1e-5
    )
    assert expected.std() > 0.1


def test_one_file_is_what_its_name_or_the_user_says(tmp_path):
    state, path = unet(), tmp_path / "mine.pt"
    torch.save(state, path)
    with pytest.raises(InputError, match="give --as openai-cm or --as openai-edm"):
        load_generator(path)
    teacher = load_generator(path, 3, "euler", family="openai-edm")
    assert isinstance(teacher, DiffusionModel) and teacher.nfe == 3
    assert load_generator(path, family="openai-cm").nfe == 1
    with pytest.raises(InputError, match="give --num-train-timesteps"):
        load_generator(path, family="openai-cm", timesteps=(22, 0))
    known = load_generator(path, family="openai-cm", timesteps=(22, 0), num_train_timesteps=40)
    torch.save(state, tmp_path / "cd_imagenet64_l2.pt")
    named: ConsistencyModel = load_generator(tmp_path / "cd_imagenet64_l2.pt", timesteps=(22, 0))  # pyright: ignore[reportAssignmentType]
    assert known.sigmas == named.sigmas  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(InputError, match="takes no solver"):
        load_generator(tmp_path / "cd_imagenet64_l2.pt", solver="heun")


def test_the_published_networks_have_their_published_sizes():
    """The names and shapes of the real files, without their values."""
    from diffusers import UNet2DModel

    widths = {
        "imagenet64": ([192, 384, 576, 768], 3, 1000),
        "256": ([256, 256, 512, 512, 1024, 1024], 2, 0),
    }
    sizes = {"imagenet64": 64, "256": 256}
    for name, (channels, layers, classes) in widths.items():
        plain = len(channels) - 3
        attends = [False] * plain + [True] * 3
        with torch.device("meta"):
            state = unet(channels, layers, classes, name == "imagenet64", attends)
        arguments, renamed = unet_of(state)
        blank = outline(lambda arguments=arguments: UNet2DModel(**arguments), name)
        assert arguments["sample_size"] == sizes[name]
        assert {k: v.shape for k, v in renamed.items()} == {
            k: v.shape for k, v in blank.state_dict().items()
        }
        if name == "imagenet64":  # 296 M parameters, as published
            assert round(sum(v.numel() for v in state.values()) / 1e6) == 296
    assert len(KNOWN) == 12


@pytest.mark.parametrize(("precision", "near"), [("float16", 0.01), ("bfloat16", 0.08)])
def test_half_precision_is_inside_the_network_alone(precision, near):
    exact = tiny(timesteps=(22, 0)).sample(SEEDS, LABELS).images
    model = tiny(timesteps=(22, 0)).with_precision(precision)
    unet: Any = model.unet
    seen: dict[str, torch.dtype] = {}
    for name in ("time_embedding.linear_1", "down_blocks.0.resnets.0.time_emb_proj", "conv_out",
                 "mid_block.resnets.0.conv1"):  # fmt: skip
        module = unet.get_submodule(name)
        module.register_forward_hook(lambda m, i, o, name=name: seen.update({name: o.dtype}))
    found = model.sample(SEEDS, LABELS).images
    assert found.dtype == torch.float32 and 0 < (found - exact).abs().max() < near
    low = {name for name, dtype in seen.items() if dtype != torch.float32}
    assert low == {"mid_block.resnets.0.conv1"} and len(seen) == 4


def test_the_network_sees_the_very_times_of_diffusers():
    """Of 1095.5, the rounding of a logarithm in float32 would change the embedding by 1e-4."""
    model, seen = tiny(timesteps=(39, 22, 7, 0)), []
    model.unet.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1][0].item()))
    model.sample(SEEDS, LABELS)
    scheduler = CMStochasticIterativeScheduler()
    scheduler.set_timesteps(timesteps=[39, 22, 7, 0])
    assert seen == scheduler.timesteps.float().tolist()
