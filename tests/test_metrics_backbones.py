"""Vision transformers: formats of weights, resizing, scaling, positions and the token taken."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from burnish.errors import InputError
from burnish.metrics.backbones import BACKBONES, IMAGENET, OPENAI
from burnish.metrics.features import known_extractors, load_extractor

TINY = (("depth", 2), ("embed_dim", 32), ("num_heads", 2))
IMAGES = torch.randint(0, 256, (3, 3, 40, 40), generator=torch.Generator().manual_seed(0)).byte()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Shrink the networks, and let there be no network."""
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for name, one in BACKBONES.items():
        monkeypatch.setitem(BACKBONES, name, replace(one, options=TINY))
    (tmp_path / "backbones").mkdir()
    return tmp_path / "backbones"


def random_state(name, **more):
    """Return random weights in the names of timm, none of them 0 or 1."""
    one = BACKBONES[name]
    side = one.native_side or one.side
    network = timm.create_model(one.timm, img_size=side, **dict(one.options), **more)
    generator = torch.Generator().manual_seed(1)
    return {
        # Attention that is far from uniform, or the class token would hardly see the image.
        key: torch.randn(value.shape, generator=generator) * (1 if "qkv" in key else 0.3)
        for key, value in network.state_dict().items()
    }


def pillow(images, side, scaling):
    arrays = [Image.fromarray(one.permute(1, 2, 0).numpy()) for one in images]
    resized: list[Any] = [one.resize((side, side), Image.Resampling.BICUBIC) for one in arrays]
    levels = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float()
    return scale(levels, scaling)


def scale(levels, scaling):
    mean, std = (torch.tensor(one).reshape(-1, 1, 1) for one in scaling)
    return (levels / 255 - mean) / std


def dinov2(state, images):
    """Compute DINOv2's class token from its weights alone, as its program does."""
    width, heads = state["cls_token"].shape[-1], 2
    x = F.conv2d(images, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], 14)
    grid = state["pos_embed"][:, 1:].reshape(1, 37, 37, width).permute(0, 3, 1, 2)
    side = x.shape[-1]
    grid = F.interpolate(grid, scale_factor=((side + 0.1) / 37,) * 2, mode="bicubic")
    assert grid.shape[-1] == side == 16
    x = torch.cat([state["cls_token"].expand(len(x), -1, -1), x.flatten(2).mT], 1)
    x = x + torch.cat([state["pos_embed"][:, :1], grid.flatten(2).mT], 1)

    def norm(x, name):
        return F.layer_norm(x, (width,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    def linear(x, name):
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    for i in range(2):
        block = f"blocks.{i}"
        shape = (len(x), x.shape[1], 3, heads, width // heads)
        q, k, v = linear(norm(x, f"{block}.norm1"), f"{block}.attn.qkv").reshape(shape).unbind(2)
        q, k, v = (one.transpose(1, 2) for one in (q, k, v))
        weights = (q @ k.mT / (width // heads) ** 0.5).softmax(-1)
        mixed = (weights @ v).transpose(1, 2).flatten(2)
        x = x + state[f"{block}.ls1.gamma"] * linear(mixed, f"{block}.attn.proj")
        hidden = F.gelu(linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1"))
        x = x + state[f"{block}.ls2.gamma"] * linear(hidden, f"{block}.mlp.fc2")
    return norm(x, "norm")[:, 0]


def test_dinov2_is_that_of_its_program_by_either_resizing(cache):
    state = random_state("dinov2-vit-s-14")
    save_file({**state, "mask_token": torch.zeros(1, 32)}, cache / "dinov2-vit-s-14.safetensors")
    dgm, edm2 = (load_extractor(f"dinov2-vit-s-14:{way}") for way in ("dgm", "edm2"))
    found = dgm(IMAGES)
    assert found.probabilities is None and found.features.shape == (3, 32)
    expected = dinov2(state, pillow(IMAGES, 224, IMAGENET))
    torch.testing.assert_close(found.features, expected, atol=2e-4, rtol=2e-4)
    levels = F.interpolate(IMAGES.float(), (224, 224), mode="bicubic", antialias=True)
    assert levels.min() < 0 and levels.max() > 255  # what overshoots is kept
    other = edm2(IMAGES).features
    expected = dinov2(state, scale(levels, IMAGENET))
    torch.testing.assert_close(other, expected, atol=2e-4, rtol=2e-4)
    assert (other - found.features).abs().max() > 1e-2
    assert dgm.sha256 != edm2.sha256 and dgm.name == "dinov2-vit-s-14:dgm"
    # Gray images are repeated, and batches do not matter.
    gray = IMAGES[:, :1]
    torch.testing.assert_close(dgm(gray).features, dgm(gray.expand(-1, 3, -1, -1)).features)
    torch.testing.assert_close(dgm(IMAGES[1:2]).features, found.features[1:2])


@pytest.mark.parametrize(
    ("name", "width", "quick"),
    [("clip-vit-l-14-336:cmmd", 336, True), ("clip-vit-l-14-datacomp:dgm", 224, False)],
)
def test_clip_is_that_of_open_clip(cache, name, width, quick):
    torch.manual_seed(2)
    vision = CLIPVisionCfg(layers=2, width=32, head_width=16, patch_size=14, image_size=width)
    theirs = CLIP(768, vision, CLIPTextCfg(layers=1, width=16, heads=2), quick_gelu=quick).eval()
    save_file(theirs.state_dict(), cache / f"{name.partition(':')[0]}.safetensors")
    found = load_extractor(name)(IMAGES).features
    with torch.no_grad():
        if quick:
            levels = F.interpolate(IMAGES.float(), (336, 336), mode="bicubic", antialias=True)
            expected = theirs.encode_image(scale(levels, OPENAI), normalize=True)
        else:  # dgm-eval leaves the projection out
            visual: Any = theirs.visual
            visual.proj = None
            expected = theirs.visual(pillow(IMAGES, 224, OPENAI))
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "scaling"),
    [
        ("siglip-vit-b-16:pillow", ((0.5,) * 3, (0.5,) * 3)),
        ("siglip-vit-l-16-256:pillow", ((0.5,) * 3, (0.5,) * 3)),
        ("mae-vit-b-16:dgm", IMAGENET),
        ("mae-vit-l-16:dgm", IMAGENET),
    ],
)
def test_siglip_and_mae_are_those_of_timm(cache, name, scaling):
    one = BACKBONES[plain := name.partition(":")[0]]
    state = random_state(plain, num_classes=0)
    save_file(state, cache / f"{plain}.safetensors")
    network = timm.create_model(one.timm, num_classes=0, **dict(one.options)).eval()
    network.load_state_dict(state)
    settings: Any = timm.get_pretrained_cfg(one.timm)
    assert settings.input_size == (3, one.side, one.side)
    assert (settings.mean, settings.std) == one.scaling == scaling
    with torch.no_grad():
        expected = network(pillow(IMAGES, one.side, scaling))
    torch.testing.assert_close(load_extractor(name)(IMAGES).features, expected)


def test_names_and_repositories_are_those_of_timm():
    known = known_extractors()
    assert {"dinov2-vit-l-14:dgm", "dinov2-vit-l-14:edm2"} <= {*known}
    assert len({*known}) == len(known)
    for one in BACKBONES.values():
        settings: Any = timm.get_pretrained_cfg(one.timm)
        assert settings.hf_hub_id == one.repository
        assert (settings.mean, settings.std) == one.scaling
        assert settings.input_size[-1] == (one.native_side or one.side)


def test_without_weights_one_line_says_what_to_fetch_and_where_to_put_it(cache):
    with pytest.raises(InputError) as found:
        load_extractor("dinov2-vit-l-14:dgm")
    message = str(found.value)
    command = "hf download timm/vit_large_patch14_dinov2.lvd142m model.safetensors"
    assert command in message and str(cache / "dinov2-vit-l-14.safetensors") in message
    assert "\n" not in message
    with pytest.raises(InputError, match=r"dinov2-vit-l-14:dgm or dinov2-vit-l-14:edm2"):
        load_extractor("dinov2-vit-l-14")
    with pytest.raises(InputError, match="did you mean"):
        load_extractor("dinov2-vit-l-14:dgn")


def damaged(state, how):
    if how == "missing":
        del state["blocks.1.ls1.gamma"]
    elif how == "surplus":
        state["planted\x1b"] = torch.zeros(1)
    elif how == "shape":  # of other positions
        state["pos_embed"] = torch.zeros(1, 257, 32)
    elif how == "type":
        state["norm.weight"] = torch.ones(32, dtype=torch.int64)
    elif how == "nan":
        state["norm.weight"] = torch.full((32,), torch.nan)
    return state


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", "ls1.gamma is missing"),
        ("surplus", "one tensor too many"),
        ("shape", r"pos_embed is of shape \[1, 257, 32\], not \[1, 1370, 32\]"),
        ("type", "holds I64"),
        ("nan", "NaN"),
    ],
)
def test_other_weights_are_refused_in_one_line(cache, how, message):
    path = cache / "dinov2-vit-s-14.safetensors"
    save_file(damaged(random_state("dinov2-vit-s-14"), how), path)
    with pytest.raises(InputError, match=message) as found:
        load_extractor("dinov2-vit-s-14:dgm")
    assert str(found.value).isprintable()


def test_a_file_that_is_none_is_refused(cache):
    path = cache / "mae-vit-b-16.safetensors"
    path.write_bytes(b"\x80\x04 pickled")
    with pytest.raises(InputError, match="is not a safetensors file"):
        load_extractor("mae-vit-b-16:dgm")


def test_weights_in_half_precision_are_read_as_float32(cache):
    state = {name: one.half() for name, one in random_state("dinov2-vit-s-14").items()}
    save_file(state, cache / "dinov2-vit-s-14.safetensors")
    half = load_extractor("dinov2-vit-s-14:dgm")
    save_file({k: v.float() for k, v in state.items()}, cache / "dinov2-vit-s-14.safetensors")
    assert load_extractor("dinov2-vit-s-14:dgm").sha256 == half.sha256
    assert half(IMAGES).features.dtype == torch.float32
    assert load_file(cache / "dinov2-vit-s-14.safetensors").keys() == state.keys()
