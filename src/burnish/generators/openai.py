"""The U-Nets of OpenAI's consistency models, as ``UNet2DModel`` of diffusers.

The files are ``cd_imagenet64_l2.pt`` and its siblings: plain state dicts with the names of
guided-diffusion. They hold no settings; what shapes do not tell is what all of them share: 64
channels per head of attention, resolution changed by residual blocks, attention at 32 pixels and
below. Networks of guided-diffusion itself (ADM) have the same names, and another order of the
channels of attention; they are not read.
"""

import re
from typing import Any

from torch import Tensor

from burnish.errors import InputError, shown

# Published files: what they are, and the length of the table of noise levels.
KNOWN: dict[str, tuple[str, int]] = {
    "ct_imagenet64": ("openai-cm", 201), "cd_imagenet64_l2": ("openai-cm", 40),
    "cd_imagenet64_lpips": ("openai-cm", 40), "edm_imagenet64_ema": ("openai-edm", 40),
    "ct_bedroom256": ("openai-cm", 151), "ct_cat256": ("openai-cm", 151),
    "cd_bedroom256_l2": ("openai-cm", 40), "cd_bedroom256_lpips": ("openai-cm", 40),
    "cd_cat256_l2": ("openai-cm", 40), "cd_cat256_lpips": ("openai-cm", 40),
    "edm_bedroom256_ema": ("openai-edm", 40), "edm_cat256_ema": ("openai-edm", 40),
}  # fmt: skip
HEAD, COARSEST_PLAIN = 64, 32
_RESNET = {"in_layers.0": "norm1", "in_layers.2": "conv1", "emb_layers.1": "time_emb_proj",
           "out_layers.0": "norm2", "out_layers.3": "conv2",
           "skip_connection": "conv_shortcut"}  # fmt: skip
_ATTENTION = {"norm": "group_norm", "proj_out": "to_out.0"}
_OUTSIDE = {"time_embed.0": "time_embedding.linear_1", "time_embed.2": "time_embedding.linear_2",
            "label_emb": "class_embedding", "input_blocks.0.0": "conv_in",
            "middle_block.0": "mid_block.resnets.0", "middle_block.1": "mid_block.attentions.0",
            "middle_block.2": "mid_block.resnets.1", "out.0": "conv_norm_out",
            "out.2": "conv_out"}  # fmt: skip


def unet_of(state: dict[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the arguments of a ``UNet2DModel`` and its state.

    Raises:
        InputError: The names or shapes are not those of such a network.
    """
    num_blocks = 1 + max(
        (int(found[1]) for name in state if (found := re.match(r"input_blocks\.(\d+)\.", name))),
        default=-1,
    )
    if not 2 <= num_blocks <= 200:
        raise InputError(f"it has {num_blocks} input blocks")
    layers = _layers(state, num_blocks)
    starts = range(1, num_blocks, layers + 1)
    widths = [_size(state, f"input_blocks.{start}.0.out_layers.3.weight") for start in starts]
    attends = [f"input_blocks.{start}.1.qkv.weight" in state for start in starts]
    if not any(attends) or not all(attends[attends.index(True) :]):
        raise InputError("it has no attention at its coarser resolutions, or not at all of them")
    if wrong := [w for w, a in zip(widths, attends, strict=True) if w % (HEAD if a else 32)]:
        raise InputError(f"its {wrong[0]} channels are no whole number of heads of {HEAD}")
    first = f"input_blocks.1.0.{'{}'}.weight"
    doubled = _size(state, first.format("emb_layers.1"))
    doubled //= _size(state, first.format("out_layers.3"))
    down = ["AttnDownBlock2D" if one else "ResnetDownsampleBlock2D" for one in attends]
    up = ["AttnUpBlock2D" if one else "ResnetUpsampleBlock2D" for one in attends[::-1]]
    labels = state.get("label_emb.weight")
    arguments = {
        "sample_size": COARSEST_PLAIN << attends.index(True), "in_channels": 3, "out_channels": 3,
        "layers_per_block": layers, "block_out_channels": widths, "down_block_types": down,
        "up_block_types": up, "attention_head_dim": HEAD, "norm_num_groups": 32,
        "attn_norm_num_groups": 32, "resnet_time_scale_shift":
        "scale_shift" if doubled == 2 else "default", "downsample_type": "resnet",
        "upsample_type": "resnet", "num_class_embeds": None if labels is None else len(labels),
    }  # fmt: skip
    renamed: dict[str, Tensor] = {}
    for name, values in state.items():
        _place(renamed, name, values, layers, len(widths))
    return arguments, renamed


def _layers(state: dict[str, Tensor], num_blocks: int) -> int:
    """Return the residual blocks per resolution: the first block that ends with doubling tells."""
    for number in range(num_blocks):
        block = f"output_blocks.{number}"
        if any(f"{block}.{place}.in_layers.2.weight" in state for place in (1, 2)):
            if not number or num_blocks % (number + 1):
                break
            return number
    raise InputError("its blocks are not those of levels of one length; not OpenAI's network")


def _place(
    renamed: dict[str, Tensor], name: str, values: Tensor, layers: int, num_levels: int
) -> None:
    """Put a tensor under its name in diffusers; attention's in parts, without the last axis."""
    found = re.fullmatch(r"(input|output)_blocks\.(\d+)\.([0-2])\.(.+)\.(weight|bias)", name)
    if found and name.startswith("input_blocks.0."):
        found = None
    if found is None:
        for here, there in _OUTSIDE.items():
            if name.startswith(f"{here}."):
                return _part(renamed, there, name.removeprefix(f"{here}."), values)
        raise InputError(f"{shown(name)} is no tensor of OpenAI's networks")
    side, number, place, rest, kind = found.groups()
    level, step = divmod(int(number) - (side == "input"), layers + 1)
    if level >= num_levels:
        raise InputError(f"{shown(name)} is one tensor too many")
    block = f"{'down' if side == 'input' else 'up'}_blocks.{level}"
    attention = rest in ("norm", "qkv", "proj_out")
    if side == "input" and step == layers:
        module = f"{block}.downsamplers.0"
    elif side == "output" and place != "0" and not attention:
        module = f"{block}.upsamplers.0"
    else:
        module = f"{block}.{'attentions' if attention else 'resnets'}.{step}"
    _part(renamed, module, f"{rest}.{kind}", values)


def _part(renamed: dict[str, Tensor], module: str, rest: str, values: Tensor) -> None:
    part, _, kind = rest.rpartition(".")
    if part == "qkv":
        if len(values) % 3:
            raise InputError(f"{module}.qkv has {len(values)} rows, which are no three parts")
        for target, chunk in zip(("to_q", "to_k", "to_v"), values.chunk(3), strict=True):
            renamed[f"{module}.{target}.{kind}"] = _flat(chunk)
        return
    target = _ATTENTION.get(part) or _RESNET.get(part)
    if part and target is None:
        raise InputError(f"{shown(rest)} is no tensor of OpenAI's networks")
    values = _flat(values) if part == "proj_out" else values
    renamed[".".join(filter(None, (module, target, kind)))] = values


def _flat(values: Tensor) -> Tensor:
    """Return a 1 x 1 convolution as the matrix that it is."""
    return values.flatten(1) if values.ndim > 2 and values[0, 0].numel() == 1 else values


def _size(state: dict[str, Tensor], name: str) -> int:
    if name not in state or not state[name].ndim or not len(state[name]):
        raise InputError(f"{name} is missing")
    return len(state[name])
