"""Vision transformers as feature extractors: DINOv2, CLIP, SigLIP and MAE, by timm.

A name says which weights and, behind a colon, whose resizing: ``dinov2-vit-l-14:dgm`` gives the
FD-DINOv2 of dgm-eval, ``dinov2-vit-l-14:edm2`` that of EDM2. Another resizing is another number.

Weights are ``.safetensors``, from the cache of ``huggingface_hub`` or a place of burnish's own,
in the names of timm, of Meta's DINOv2 or of open_clip. Their header is compared with a network on
the meta device before anything is read.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from burnish.errors import InputError, shown, unknown
from burnish.files import cache_folder
from burnish.metrics.features import CPU_BATCH_SIZE, Features, check_uint8, weights_sha256
from burnish.metrics.resize import bicubic_antialias, bicubic_uint8
from burnish.networks.fetched import hub_or_cache

FILE = "model.safetensors"
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OPENAI = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)

RESIZERS = {
    "dgm": bicubic_uint8,  # dgm-eval, EDM2's resize_mode "pil"
    "pillow": bicubic_uint8,  # as networks of timm and open_clip are trained and validated
    "edm2": bicubic_antialias,
    "cmmd": bicubic_antialias,  # jax.image.resize, which does not clip either
}


@dataclass(frozen=True)
class Backbone:
    """A network of timm and what goes into it."""

    timm: str
    repository: str
    """On the hub; its file is :data:`FILE`."""
    side: int
    scaling: tuple[tuple[float, ...], tuple[float, ...]]
    """Mean and standard deviation of the levels in [0, 1]."""
    resizers: tuple[str, ...]
    features: Literal["pooled", "projected", "unit"] = "pooled"
    """The class token, or what the network pools, after the last norm; times CLIP's projection;
    that, divided by its length."""
    native_side: int = 0
    """Of the images that its positions were made for, where it is not ``side``."""
    options: tuple[tuple[str, Any], ...] = ()


def _dinov2(size: str) -> Backbone:
    name = f"vit_{size}_patch14_dinov2.lvd142m"
    return Backbone(name, f"timm/{name}", 224, IMAGENET, ("dgm", "edm2"), native_side=518)


def _timm(name: str, side: int, scaling: Any, resizer: str, **more: Any) -> Backbone:
    repository = f"timm/{name.replace('quickgelu_', '')}"
    return Backbone(name, repository, side, scaling, (resizer,), **more)


BACKBONES = {
    "dinov2-vit-s-14": _dinov2("small"),
    "dinov2-vit-b-14": _dinov2("base"),
    "dinov2-vit-l-14": _dinov2("large"),
    "clip-vit-l-14-datacomp": _timm("vit_large_patch14_clip_224.datacompxl", 224, OPENAI, "dgm"),
    "clip-vit-l-14-336": _timm(
        "vit_large_patch14_clip_quickgelu_336.openai", 336, OPENAI, "cmmd", features="unit"
    ),
    "siglip-vit-b-16": _timm("vit_base_patch16_siglip_224.webli", 224, HALF, "pillow"),
    "siglip-vit-l-16-256": _timm("vit_large_patch16_siglip_256.webli", 256, HALF, "pillow"),
    "mae-vit-b-16": _timm("vit_base_patch16_224.mae", 224, IMAGENET, "dgm"),
    "mae-vit-l-16": _timm("vit_large_patch16_224.mae", 224, IMAGENET, "dgm"),
}  # fmt: skip


def known_backbones() -> list[str]:
    """Return the names, with resizing."""
    return [f"{name}:{way}" for name, one in BACKBONES.items() for way in one.resizers]


class BackboneExtractor:
    """One of :func:`known_backbones`.

    Images become square whatever their shape; gray ones are repeated to three channels.

    Args:
        name: Network and resizing, e.g. ``"dinov2-vit-l-14:dgm"``.
        device: Where the network computes.

    Raises:
        InputError: There is no such name, its weights are not here and cannot be fetched, or a
            file holds others.
    """

    def __init__(self, name: str, *, device: torch.device | str = "cpu") -> None:
        if name not in known_backbones():
            raise unknown("feature extractor", name, known_backbones())
        plain, _, resizer = name.partition(":")
        self._backbone, self._resize = BACKBONES[plain], RESIZERS[resizer]
        network = load_backbone(self._backbone, _weights(plain))
        self.name = name
        # The head is no part of features that leave it out.
        self.sha256 = hashlib.sha256(f"{weights_sha256(network)} {name}".encode()).hexdigest()
        if self._backbone.native_side:
            _fit_positions(network, self._backbone.side)
        self.device, self._network = torch.device(device), network.to(device)
        mean, std = (torch.tensor(v, device=device)[:, None, None] for v in self._backbone.scaling)
        self._mean, self._std = mean, std

    @torch.inference_mode()
    def __call__(self, images_uint8: Tensor) -> Features:
        """Return features ``[B, D]`` on the network's device; there are no probabilities."""
        check_uint8(images_uint8)
        found, size = [], CPU_BATCH_SIZE if self.device.type == "cpu" else len(images_uint8)
        for part in images_uint8.split(size):
            levels = self._resize(part.to(self.device), self._backbone.side)
            scaled = (levels.expand(-1, 3, -1, -1) / 255 - self._mean) / self._std
            found.append(self._network(scaled).float())
        features = torch.cat(found)
        return Features(
            normalize(features) if self._backbone.features == "unit" else features, None
        )


def _weights(name: str) -> Path:
    """Return the file of weights; InputError says what to fetch and where to put it."""
    from huggingface_hub import hf_hub_download

    own, backbone = cache_folder() / "backbones" / f"{name}.safetensors", BACKBONES[name]
    if own.exists():
        return own
    with hub_or_cache() as offline:
        try:
            return Path(hf_hub_download(backbone.repository, FILE))
        except Exception as error:  # the hub's own, httpx's and the system's
            reason = offline or (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"the weights of {name} are not here and cannot be fetched ({reason}); elsewhere "
                f"'hf download {backbone.repository} {FILE}' fetches them: put that file "
                f"at {own}"
            ) from error


def load_backbone(backbone: Backbone, path: Path) -> nn.Module:
    """Return a network with the weights of a file, in float32 and evaluation mode.

    Raises:
        InputError: It is no ``.safetensors`` file, a tensor is missing, surplus or of another
            shape, or one holds NaN or infinity.
    """
    import timm

    options: dict[str, Any] = {"num_classes": 0, "img_size": backbone.native_side or backbone.side}
    if backbone.features != "pooled":
        del options["num_classes"]
    with torch.device("meta"):
        network = timm.create_model(backbone.timm, **options | dict(backbone.options))
    wanted = network.state_dict()
    try:
        with safe_open(path, framework="pt") as file:
            sources = _sources(list(file.keys()), wanted)
            if fault := _misfit(wanted, sources, file):
                raise InputError(f"{path} holds other weights than {backbone.timm}: {fault}")
            state = {name: file.get_tensor(source).float() for name, source in sources.items()}
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} is not a safetensors file: {reason}") from error
    for name, values in state.items():
        if not bool(values.isfinite().all()):
            raise InputError(f"{path}: {name} holds NaN or infinite values")
        if sources[name] == "visual.proj":
            state[name] = values = values.T.contiguous()
        state[name] = values.reshape(wanted[name].shape)
    if "head.bias" in wanted and "head.bias" not in state:
        state["head.bias"] = torch.zeros(wanted["head.bias"].shape)
    network.load_state_dict(state, assign=True)
    return network.requires_grad_(False).eval()


# From the names of open_clip to those of timm, in this order.
_OPEN_CLIP = {
    r"^visual\.": "", r"^proj$": "head.weight", r"^class_embedding$": "cls_token",
    r"^positional_embedding$": "pos_embed", r"^conv1\.": "patch_embed.proj.",
    r"^transformer\.resblocks\.": "blocks.", r"^ln_pre\.": "norm_pre.", r"^ln_post\.": "norm.",
    r"\.ln_(\d)\.": r".norm\1.", r"\.in_proj_": ".qkv.", r"\.out_proj\.": ".proj.",
    r"\.c_fc\.": ".fc1.", r"\.c_proj\.": ".fc2.",
}  # fmt: skip


def _sources(names: list[str], wanted: Mapping[str, Any]) -> dict[str, str]:
    """Return from names in the network to those in a file, for whatever it is of the two."""
    if "visual.class_embedding" in names:
        found = {}
        for name in (name for name in names if name.startswith("visual.")):
            new = name
            for pattern, replacement in _OPEN_CLIP.items():
                new = re.sub(pattern, replacement, new)
            found[new] = name
    else:  # timm's own; Meta's DINOv2 has a token for masks besides
        found = {name: name for name in names if name != "mask_token"}
    return {
        new: name for new, name in found.items() if new in wanted or not new.startswith("head.")
    }


def _misfit(wanted: Mapping[str, Tensor], sources: Mapping[str, str], file: Any) -> str:
    for name in sorted(wanted.keys() | sources.keys()):
        if name not in wanted:
            return f"{shown(name)} is one tensor too many"
        if name not in sources:
            if name == "head.bias" and "visual.class_embedding" in file.keys():
                continue  # open_clip's projection has none
            return f"{name} is missing"
        header = file.get_slice(sources[name])
        shape, right = list(header.get_shape()), list(wanted[name].shape)
        if sources[name] == "visual.proj":
            right = right[::-1]
        elif name in ("cls_token", "pos_embed"):  # open_clip leaves the dimensions of 1 away
            shape = [1] * (len(right) - len(shape)) + shape
        if shape != right:
            return f"{name} is of shape {shape}, not {right}"
        if header.get_dtype() not in ("F64", "F32", "F16", "BF16"):
            return f"{name} holds {header.get_dtype()}"
    return ""


def _fit_positions(network: Any, side: int) -> None:
    """Resize the embeddings of positions as DINOv2 does for images of another size.

    It scales by (side / 14 + 0.1) / 37, without antialiasing, in bicubic steps; timm resizes to
    exactly side / 14 with antialiasing, which gives other features.
    """
    positions = network.pos_embed
    grid, patch = network.patch_embed.grid_size[0], network.patch_embed.patch_size[0]
    network.set_input_size(img_size=side)
    scale = (side // patch + 0.1) / grid
    square = positions[:, 1:].reshape(1, grid, grid, -1).permute(0, 3, 1, 2)
    fitted = interpolate(square, scale_factor=(scale, scale), mode="bicubic").flatten(2).mT
    network.pos_embed = nn.Parameter(torch.cat([positions[:, :1], fitted], 1), requires_grad=False)
