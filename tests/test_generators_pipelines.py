"""Pipelines of diffusers, sampled by diffusers: seeds, classes, and what is refused."""

# pyright: reportPrivateImportUsage=false

import json
import shutil
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    UNet2DModel,
)

from burnish.cli.main import main
from burnish.errors import InputError
from burnish.generators.load import load_generator
from burnish.generators.pipelines import PipelineGenerator
from burnish.seeds import stream


def unet():
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=8, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
    )  # fmt: skip


def latent():
    torch.manual_seed(0)
    transformer = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=4, num_layers=1,
        sample_size=4, patch_size=2, num_embeds_ada_norm=1000, norm_num_groups=4,
    )  # fmt: skip
    kind: Any = AutoencoderKL
    vae = kind(
        block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    scheduler: Any = DDIMScheduler()
    return DiTPipeline(transformer.eval(), vae.eval(), scheduler)


KINDS = {
    "ddpm": (lambda: DDPMPipeline(unet(), DDPMScheduler()), None, (3, 8, 8)),
    "ddim": (lambda: DDIMPipeline(unet(), DDIMScheduler()), None, (3, 8, 8)),
    "dit": (latent, 1000, (3, 8, 8)),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    found = {}
    for name, (make, _, _) in KINDS.items():
        found[name] = tmp_path_factory.mktemp("pipelines") / name
        make().save_pretrained(found[name])
    return found


@pytest.mark.parametrize("name", KINDS)
def test_images_are_those_of_diffusers_and_depend_on_their_seeds_alone(name, folders):
    make, num_classes, shape = KINDS[name]
    model = load_generator(folders[name], 3)
    assert isinstance(model, PipelineGenerator) and model.num_steps == 3
    assert (model.num_classes, model.image_shape) == (num_classes, shape)
    labels = None if num_classes is None else torch.tensor([4, 1, 5])
    found = model.sample([3, 8, 9], labels).images
    pipeline = make()
    pipeline.set_progress_bar_config(disable=True)
    given = {"batch_size": 3} if labels is None else {"class_labels": labels.tolist()}
    expected = pipeline(
        generator=[stream(seed, "noise") for seed in (3, 8, 9)], num_inference_steps=3,
        output_type="np", **given,
    ).images  # fmt: skip
    expected = torch.from_numpy(expected).permute(0, 3, 1, 2)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert found.std() > 0.02 and (found[0] - found[1]).abs().max() > 0.02
    alone = model.sample([8], None if labels is None else labels[1:2]).images
    torch.testing.assert_close(alone[0], found[1], rtol=0, atol=1e-5)


def test_noise_that_a_pipeline_draws_from_elsewhere_follows_the_seed_too(folders, monkeypatch):
    step = DDPMScheduler.step
    monkeypatch.setattr(
        DDPMScheduler,
        "step",
        lambda self, *args, generator=None, **more: step(self, *args, **more),
    )
    model = load_generator(folders["ddpm"], 3)
    before = torch.get_rng_state()
    found = model.sample([3, 8, 9]).images
    again = model.sample([8]).images
    fresh = load_generator(folders["ddpm"], 3).sample([9, 8]).images
    torch.testing.assert_close(again[0], found[1], rtol=0, atol=1e-5)
    torch.testing.assert_close(fresh, found[[2, 1]], rtol=0, atol=1e-5)
    assert torch.equal(torch.get_rng_state(), before)


def edit(folder, name, **values):
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


FAULTS = {
    "code of its own": (
        lambda f: edit(f, "model_index.json", _class_name=["pipeline", "Mine"]), "of its own"),
    "an unknown class": (
        lambda f: edit(f, "model_index.json", _class_name="EvilPipeline"), "not one of diffusers"),
    "no pipeline": (
        lambda f: edit(f, "model_index.json", _class_name="UNet2DModel"), "not one of diffusers"),
    "a class with a path": (
        lambda f: edit(f, "model_index.json", _class_name="os.system"), "not one of diffusers"),
    "a prompt": (
        lambda f: edit(f, "model_index.json", _class_name="FluxPipeline"), "not one of diffusers"),
    "an image": (
        lambda f: edit(f, "model_index.json", _class_name="RePaintPipeline"), "burnish samples"),
    "a part from a module": (
        lambda f: edit(f, "model_index.json", unet=["evil", "Net"]), "no part of diffusers"),
    "a part that is no class": (
        lambda f: edit(f, "model_index.json", unet=["diffusers", "os"]), "not one of diffusers"),
    "a part left out": (
        lambda f: edit(f, "model_index.json", unet=[None, None]), "do not make"),
    "Python": (lambda f: (f / "unet" / "evil.py").write_text("raise"), "is code"),
    "no weights": (
        lambda f: (f / "unet/diffusion_pytorch_model.safetensors").unlink(), "no .safetensors"),
    "pickled weights": (
        lambda f: (f / "unet/diffusion_pytorch_model.safetensors").rename(
            f / "unet/diffusion_pytorch_model.bin"), "no .safetensors"),
    "broken weights": (
        lambda f: (f / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"x" * 99), "unet"),
    "other widths": (
        lambda f: edit(f, "unet/config.json", block_out_channels=[8, 16]), "unet"),
    "huge widths": (
        lambda f: edit(f, "unet/config.json", block_out_channels=[8, 10**9]), "at most"),
    "many layers": (
        lambda f: edit(f, "unet/config.json", layers_per_block=10**6), "at most"),
    "one level more": (
        lambda f: edit(f, "unet/config.json", block_out_channels=[8, 8, 8]), "unet"),
    "no size": (lambda f: edit(f, "unet/config.json", sample_size=None), "sample_size"),
    "text": (lambda f: (f / "model_index.json").write_text("{"), "not JSON"),
    "a loop": (lambda f: (
        (f / "unet/config.json").unlink(), (f / "unet/config.json").symlink_to("config.json")),
        "no file"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_pipelines_are_refused_in_one_line(fault, folders, tmp_path, capfd, monkeypatch):
    break_it, message = FAULTS[fault]
    shutil.copytree(folders["ddpm"], tmp_path / "it")
    break_it(tmp_path / "it")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(["sample", "it", "--seeds", "0-1", "--num-steps", "2", "--out", "out.npz"])
    said = capfd.readouterr().err
    last = said.strip().splitlines()[-1]
    assert caught.value.code == 2 and last.startswith("burnish: ") and message in last, said
    assert "Traceback" not in said and len(last) < 700
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


def test_options_that_a_pipeline_does_not_have(folders):
    faults: list[tuple[Any, str]] = [
        ({"solver": "heun"}, "no solver"),
        ({"timesteps": (5, 0)}, "takes no timesteps"),
        ({"num_steps": 0}, "1 step or more"),
        ({"family": "edm"}, "leave out --as"),
    ]
    for options, message in faults:
        with pytest.raises(InputError, match=message):
            load_generator(folders["ddpm"], **options)
