"""OpenAI's consistency U-Net at a tiny width: a file of it, and its formula."""

import math

import torch
import torch.nn.functional as F
from generator_files import State, numbers

HEAD = 64


def unet(widths=(32, 64), layers=1, classes=3, scale_shift=True, attends=(False, True)):
    """Return a state dict with the names and shapes of guided-diffusion."""
    state, emb = State(), 4 * widths[0]

    def res(name, before, after):
        state.norm(f"{name}.in_layers.0", before)
        state.conv(f"{name}.in_layers.2", before, after, 3)
        state.linear(f"{name}.emb_layers.1", emb, after * (2 if scale_shift else 1))
        state.norm(f"{name}.out_layers.0", after)
        state.conv(f"{name}.out_layers.3", after, after, 3)
        if before != after:
            state.conv(f"{name}.skip_connection", before, after, 1)

    def attention(name, width):
        state.norm(f"{name}.norm", width)
        for part, after in (("qkv", 3 * width), ("proj_out", width)):
            state[f"{name}.{part}.weight"] = numbers(after, width, 1, scale=2 / math.sqrt(width))
            state[f"{name}.{part}.bias"] = numbers(after)

    state.linear("time_embed.0", widths[0], emb)
    state.linear("time_embed.2", emb, emb)
    if classes:
        state["label_emb.weight"] = numbers(classes, emb, scale=1)
    state.conv("input_blocks.0.0", 3, widths[0], 3)
    here, skips, number = widths[0], [widths[0]], 1
    for level, width in enumerate(widths):
        for _ in range(layers):
            res(f"input_blocks.{number}.0", here, width)
            if attends[level]:
                attention(f"input_blocks.{number}.1", width)
            here, number = width, number + 1
            skips.append(here)
        if level < len(widths) - 1:
            res(f"input_blocks.{number}.0", here, here)
            number += 1
            skips.append(here)
    res("middle_block.0", here, here)
    attention("middle_block.1", here)
    res("middle_block.2", here, here)
    number = 0
    for level in reversed(range(len(widths))):
        for place in range(layers + 1):
            res(f"output_blocks.{number}.0", here + skips.pop(), widths[level])
            here = widths[level]
            if attends[level]:
                attention(f"output_blocks.{number}.1", here)
            if level and place == layers:
                res(f"output_blocks.{number}.{2 if attends[level] else 1}", here, here)
            number += 1
    state.norm("out.0", here)
    state.conv("out.2", here, 3, 3)
    return dict(state)


def output(s, x, times, labels, layers=1):
    """Return what the network makes of inputs ``[B, 3, H, W]`` at times ``[B]``."""

    def norm(x, name):
        return F.group_norm(x, 32, s[f"{name}.weight"], s[f"{name}.bias"])

    def conv(x, name, pad=1):
        return F.conv2d(x, s[f"{name}.weight"], s[f"{name}.bias"], padding=pad)

    def linear(x, name):
        return F.linear(x, s[f"{name}.weight"], s[f"{name}.bias"])

    def res(x, name, resample=None):
        h = F.silu(norm(x, f"{name}.in_layers.0"))
        if resample:
            h, x = resample(h), resample(x)
        h, given = conv(h, f"{name}.in_layers.2"), linear(F.silu(emb), f"{name}.emb_layers.1")
        given = given[:, :, None, None]
        if given.shape[1] == 2 * h.shape[1]:
            scale, shift = given.chunk(2, 1)
            h = norm(h, f"{name}.out_layers.0") * (1 + scale) + shift
        else:
            h = norm(h + given, f"{name}.out_layers.0")
        h = conv(F.silu(h), f"{name}.out_layers.3")
        return h + (conv(x, f"{name}.skip_connection", 0) if h.shape[1] != x.shape[1] else x)

    def attention(x, name):
        b, c, height, width = x.shape
        qkv = F.conv1d(norm(x, f"{name}.norm").view(b, c, -1), s[f"{name}.qkv.weight"],
                       s[f"{name}.qkv.bias"])  # fmt: skip
        q, k, v = qkv.view(b, 3, c // HEAD, HEAD, -1).unbind(1)  # three, heads, channels
        weights = (torch.einsum("bhdq,bhdk->bhqk", q, k) / math.sqrt(HEAD)).softmax(-1)
        a = torch.einsum("bhqk,bhdk->bhdq", weights, v).reshape(b, c, -1)
        a = F.conv1d(a, s[f"{name}.proj_out.weight"], s[f"{name}.proj_out.bias"])
        return x + a.view(b, c, height, width)

    def block(x, name, resample=None):
        x = res(x, f"{name}.0", resample)
        x = attention(x, f"{name}.1") if f"{name}.1.qkv.weight" in s else x
        for place in (1, 2):
            if f"{name}.{place}.in_layers.2.weight" in s:
                x = res(x, f"{name}.{place}", lambda y: F.interpolate(y, scale_factor=2))
        return x

    half = len(s["time_embed.0.weight"][0]) // 2
    turns = torch.exp(-math.log(10_000) * torch.arange(half) / half)
    waves = times[:, None].float() * turns[None]
    emb = torch.cat([waves.cos(), waves.sin()], 1)
    emb = linear(F.silu(linear(emb, "time_embed.0")), "time_embed.2")
    if labels is not None:
        emb = emb + s["label_emb.weight"][labels]
    hidden, skips, number = conv(x, "input_blocks.0.0"), [], 1
    skips.append(hidden)
    while f"input_blocks.{number}.0.in_layers.0.weight" in s:
        halves = number % (layers + 1) == 0
        pool = (lambda y: F.avg_pool2d(y, 2)) if halves else None
        hidden, number = block(hidden, f"input_blocks.{number}", pool), number + 1
        skips.append(hidden)
    hidden = res(hidden, "middle_block.0")
    hidden = res(attention(hidden, "middle_block.1"), "middle_block.2")
    for number in range(len(skips)):
        hidden = block(torch.cat([hidden, skips.pop()], 1), f"output_blocks.{number}")
    return conv(F.silu(norm(hidden, "out.0")), "out.2")
