"""CLIP's image tower under a fixed list of texts: a classifier whose classes are said in words.

Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision",
section 3.1.2, https://arxiv.org/abs/2103.00020. The towers are those of open_clip.
"""

import dataclasses
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from burnish.errors import InputError, shown, unknown
from burnish.networks.normalize import Normalize
from burnish.networks.sizes import Classes, Deviations, Means, Width

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
MODES = ("bicubic", "bilinear")
# Far above any published tower; they bound what a configuration can ask for.
MOST_LAYERS, MOST = 200, 2**17
# What a text tower may be while only the image tower is wanted.
_NO_TEXT = {"context_length": 2, "vocab_size": 2, "width": 8, "heads": 1, "layers": 1}


class ClipClassifier(nn.Module):
    r"""The image tower of a CLIP, and one direction per class.

    With the unit vectors :math:`u(x)` of an image and :math:`t_k` of the texts of class :math:`k`,
    logits are :math:`f_k(x) = s \, u(x) \cdot t_k`. Images of any size are resized to the tower's,
    with gradient, by the whole of them: their aspect ratio is not kept. Gray ones are repeated.

    Args:
        num_classes: Number of texts, K.
        embed_dim: Size of the vectors, D.
        vision: The ``vision_cfg`` of open_clip.
        quick_gelu: Whether its activation is OpenAI's, which the weights do not say.
        mean: Channel means that images are normalized by, [0, 1]; CLIP's own by default.
        std: Channel standard deviations that they are divided by.
        interpolation: ``bicubic`` or ``bilinear``, with antialiasing.
    """

    texts: Tensor
    scale: Tensor

    def __init__(
        self,
        num_classes: Classes,
        embed_dim: Width,
        vision: dict[str, Any],
        quick_gelu: bool = False,
        mean: Means = MEAN,
        std: Deviations = STD,
        interpolation: str = "bicubic",
    ) -> None:
        super().__init__()
        if interpolation not in MODES:
            raise unknown("interpolation", interpolation, MODES)
        if len(mean) != 3 or len(std) != 3:
            raise InputError("mean and std are three numbers, one per color")
        whole: Any = clip_of({
            "embed_dim": embed_dim, "vision_cfg": vision, "text_cfg": _NO_TEXT,
            "quick_gelu": quick_gelu,
        })  # fmt: skip
        self.visual: nn.Module = whole.visual
        self.normalize, self.interpolation = Normalize(mean, std), interpolation
        self.size = _sides(vision.get("image_size", 224))
        self.register_buffer("texts", torch.zeros(num_classes, embed_dim))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[B, K]`` of images ``[B, C, H, W]`` in [0, 1], C 1 or 3."""
        images = images.expand(-1, 3, -1, -1)
        if tuple(images.shape[2:]) != self.size:
            images = interpolate(
                images, self.size, mode=self.interpolation, antialias=True, align_corners=False
            )
        found = self.visual(self.normalize(images))
        with torch.autocast(images.device.type, enabled=False):  # cosines need float32
            return self.scale * normalize(found.float(), dim=1) @ self.texts.T


def clip_of(config: dict[str, Any]) -> nn.Module:
    """Return an open_clip model with random weights, image and text tower, in eval mode.

    Args:
        config: The ``model_cfg`` of open_clip. Towers of timm are taken; those of transformers,
            which would be fetched, and captioning models are not.

    Raises:
        InputError: open_clip is not installed, or the configuration is none or out of range.
    """
    if find_spec("open_clip") is None:
        raise InputError("guides from text need open_clip: pip install 'burnish[clip]'")
    import open_clip
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    _check("the configuration", config)
    config = dict(config)
    for name, kind in (("vision_cfg", CLIPVisionCfg), ("text_cfg", CLIPTextCfg)):
        part = config.get(name)
        if not isinstance(part, dict):
            raise InputError(f"{name} must be keys and values, not {shown(part)}")
        known = [field.name for field in dataclasses.fields(kind)]
        if strange := [key for key in part if key not in known]:
            raise unknown(f"key of {name}", str(strange[0]), known)
        config[name] = {**part, "output_tokens": False}
    if "multimodal_cfg" in config:
        raise InputError("this model writes captions; give one with an image and a text tower")
    _check_towers(config["vision_cfg"], config["text_cfg"])
    config["vision_cfg"]["timm_model_pretrained"] = False
    kind = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
    try:
        return kind(**config).eval()
    except InputError:
        raise
    except Exception as error:  # whatever open_clip, timm and torch say of such a configuration
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"open_clip cannot build this model: {reason}") from error


def _check_towers(vision: dict[str, Any], text: dict[str, Any]) -> None:
    if text.get("hf_model_name") or text.get("hf_tokenizer_name"):
        raise InputError(
            "its text tower or tokenizer is one of transformers, which is not read here; give a "
            "CLIP with CLIP's own tokenizer"
        )
    if name := vision.get("timm_model_name"):
        import timm

        if not isinstance(name, str) or not timm.is_model(name):
            raise InputError(f"its image tower is no model of timm: {shown(name)}")
    for part in (vision, text):
        layers = part.get("layers", 12)
        counts = layers if isinstance(layers, list | tuple) else [layers]
        if not all(isinstance(n, int) and 1 <= n <= MOST_LAYERS for n in counts):
            raise InputError(f"layers must be 1 to {MOST_LAYERS}, not {shown(layers)}")
    _sides(vision.get("image_size", 224))


def _check(where: str, value: Any) -> None:
    """Refuse numbers, however deep, that no tower has."""
    if isinstance(value, dict):
        for name, one in value.items():
            _check(str(name), one)
    elif isinstance(value, list | tuple):
        for one in value:
            _check(where, one)
    elif isinstance(value, int | float) and not abs(value) <= MOST:
        raise InputError(f"{where} is out of range: {shown(value)}")


def _sides(size: Any) -> tuple[int, int]:
    sides = tuple(size) if isinstance(size, list | tuple) else (size, size)
    if len(sides) != 2 or not all(type(one) is int and 8 <= one <= 4096 for one in sides):
        raise InputError(f"image_size must be 8 to 4096 pixels, not {shown(size)}")
    return sides[0], sides[1]
