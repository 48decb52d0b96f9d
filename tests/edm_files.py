"""EDM's networks at tiny widths: pickles as its persistence writes them, and their formulas."""

import math
import pickle
import sys
import types
from typing import Any

import torch
import torch.nn.functional as F
from generator_files import State, numbers
from torch import nn

SONG = {"img_resolution": 16, "img_channels": 3, "label_dim": 3, "model_type": "SongUNet",
        "model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [8],
        "augment_dim": 9, "dropout": 0.13, "use_fp16": False}  # fmt: skip
NCSN = {**SONG, "label_dim": 0, "embedding_type": "fourier", "channel_mult_noise": 2,
        "encoder_type": "residual", "resample_filter": [1, 3, 3, 1]}  # fmt: skip
ADM = {"img_resolution": 16, "img_channels": 3, "label_dim": 3, "model_channels": 64,
       "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [8],
       "model_type": "DhariwalUNet"}  # fmt: skip


def state_of(kwargs):
    """Return the tensors by name, in the order in which EDM's modules are called."""
    s, song = State(), kwargs["model_type"] == "SongUNet"
    width, mult, side = kwargs["model_channels"], kwargs["channel_mult"], kwargs["img_resolution"]
    emb, noise = 4 * width, width * kwargs.get("channel_mult_noise", 1)
    row = torch.tensor(kwargs.get("resample_filter", [1, 1])).float() if song else torch.ones(2)
    taps = (row.outer(row) / row.sum() ** 2)[None, None]
    attends = kwargs["attn_resolutions"]

    def block(name, before, after, attention=False, resample=False):
        s.norm(f"{name}.norm0", before)
        s.conv(f"{name}.conv0", before, after, 3)
        s.linear(f"{name}.affine", emb, after * (1 if song else 2))
        s.norm(f"{name}.norm1", after)
        s.conv(f"{name}.conv1", after, after, 3)
        if resample:
            s[f"{name}.conv0.resample_filter"] = taps
        if before != after or resample:
            if song or before != after:
                s.conv(f"{name}.skip", before, after, 1)
            if resample:
                s[f"{name}.skip.resample_filter"] = taps
        if attention:
            s.norm(f"{name}.norm2", after)
            s.conv(f"{name}.qkv", after, 3 * after, 1)
            s.conv(f"{name}.proj", after, after, 1)

    if kwargs.get("embedding_type") == "fourier":
        s["map_noise.freqs"] = numbers(noise // 2, scale=0.02)
    if kwargs["label_dim"]:
        s.linear("map_label", kwargs["label_dim"], noise if song else emb, bias=song)
    if kwargs.get("augment_dim"):
        s.linear("map_augment", kwargs["augment_dim"], noise, bias=False)
    s.linear("map_layer0", noise, emb)
    s.linear("map_layer1", emb, emb)
    here, aux, skips = width, 3, [width]
    s.conv(f"enc.{side}x{side}_conv", 3, width, 3)
    for level, factor in enumerate(mult):
        name = f"enc.{side >> level}x{side >> level}"
        if level:
            block(f"{name}_down", here, here, resample=True)
            if kwargs.get("encoder_type") == "residual":
                s.conv(f"{name}_aux_residual", aux, here, 3)
                s[f"{name}_aux_residual.resample_filter"], aux = taps, here
            skips.append(here)
        block(f"{name}_block0", here, width * factor, side >> level in attends)
        here = width * factor
        skips.append(here)
    for level, factor in reversed(list(enumerate(mult))):
        name = f"dec.{side >> level}x{side >> level}"
        if level == len(mult) - 1:
            block(f"{name}_in0", here, here, True)
            block(f"{name}_in1", here, here)
        else:
            block(f"{name}_up", here, here, resample=True)
        for place in range(2):
            attention = side >> level in attends and (place == 1 or not song)
            block(f"{name}_block{place}", here + skips.pop(), width * factor, attention)
            here = width * factor
    ends = (f"dec.{side}x{side}_aux_norm", f"dec.{side}x{side}_aux_conv")
    s.norm(ends[0] if song else "out_norm", here)
    s.conv(ends[1] if song else "out_conv", here, 3, 3)
    return dict(s)


def denoised(s, kwargs, x, sigma, labels, consistent=False):
    """Return D(x; sigma) of EDM, or f(x, sigma) of ECT; sigma ``[B]``."""
    song, groups = kwargs["model_type"] == "SongUNet", lambda c: min(32, c // 4)
    eps, half = (1e-6 if song else 1e-5), math.sqrt(0.5) if song else 1

    def norm(h, name):
        return F.group_norm(h, groups(h.shape[1]), s[f"{name}.weight"], s[f"{name}.bias"], eps)

    def resampled(h, name, up):
        taps = s[f"{name}.resample_filter"].expand(h.shape[1], 1, -1, -1)
        pad = (taps.shape[-1] - 1) // 2
        if up:
            return F.conv_transpose2d(h, 4 * taps, stride=2, padding=pad, groups=h.shape[1])
        return F.conv2d(h, taps, stride=2, padding=pad, groups=h.shape[1])

    def conv(h, name, up=False):
        if f"{name}.resample_filter" in s:
            h = resampled(h, name, up)
        if f"{name}.weight" not in s:
            return h
        w = s[f"{name}.weight"]
        return F.conv2d(h, w, s[f"{name}.bias"], padding=w.shape[-1] // 2)

    def block(h, name):
        up, orig = name.endswith("_up"), h
        h = conv(F.silu(norm(h, f"{name}.norm0")), f"{name}.conv0", up)
        given = F.linear(emb, s[f"{name}.affine.weight"], s[f"{name}.affine.bias"])[
            ..., None, None
        ]
        if song:
            h = F.silu(norm(h + given, f"{name}.norm1"))
        else:
            scale, shift = given.chunk(2, 1)
            h = F.silu(shift + norm(h, f"{name}.norm1") * (scale + 1))
        h = conv(h, f"{name}.conv1")
        skips_over = any(key.startswith(f"{name}.skip.") for key in s)
        h = (h + (conv(orig, f"{name}.skip", up) if skips_over else orig)) * half
        if f"{name}.qkv.weight" in s:
            b, c, height, width = h.shape
            heads = 1 if song else c // 64
            qkv = conv(norm(h, f"{name}.norm2"), f"{name}.qkv")
            q, k, v = qkv.reshape(b * heads, c // heads, 3, -1).unbind(2)
            w = torch.einsum("ncq,nck->nqk", q, k / math.sqrt(k.shape[1])).softmax(2)
            a = torch.einsum("nqk,nck->ncq", w, v).reshape(b, c, height, width)
            h = (conv(a, f"{name}.proj") + h) * half
        return h

    level, n = sigma.log() / 4, len(s["map_layer0.weight"][0]) // 2
    if "map_noise.freqs" in s:
        freqs = 2 * math.pi * s["map_noise.freqs"]
    else:
        freqs = (1 / 10_000) ** (torch.arange(n) / (n - 1 if song else n))
    waves = level[:, None] * freqs
    emb = torch.cat([waves.sin(), waves.cos()] if song else [waves.cos(), waves.sin()], 1)
    hot = None if labels is None else F.one_hot(labels, kwargs["label_dim"]).float()
    if song and hot is not None:
        hot = hot * math.sqrt(kwargs["label_dim"])
        emb = emb + F.linear(hot, s["map_label.weight"], s["map_label.bias"])
    emb = F.silu(F.linear(emb, s["map_layer0.weight"], s["map_layer0.bias"]))
    emb = F.linear(emb, s["map_layer1.weight"], s["map_layer1.bias"])
    if not song and hot is not None:
        emb = emb + hot @ s["map_label.weight"].T
    emb = F.silu(emb)
    data = 0.5
    h = aux = x / (data**2 + sigma**2).sqrt()[:, None, None, None]
    skips = []
    modules = list(
        dict.fromkeys(".".join(k.split(".")[:2]) for k in s if k[:4] in ("enc.", "dec."))
    )
    for name in modules:
        if name.endswith("aux_residual"):  # the convolution first, then the filter
            taps = s[f"{name}.resample_filter"]
            reach = (taps.shape[-1] - 1) // 2
            wide = F.conv2d(aux, s[f"{name}.weight"], padding=1 + reach)
            wide = F.conv2d(wide, taps.expand(wide.shape[1], 1, -1, -1), stride=2,
                            groups=wide.shape[1])  # fmt: skip
            h = aux = (h + wide + s[f"{name}.bias"][:, None, None]) / math.sqrt(2)
            skips[-1] = h
        elif name.endswith(("_conv", "_norm")) and f"{name}.conv0.weight" not in s:
            h = F.silu(norm(h, name)) if name.endswith("_norm") else conv(h, name)
            if name.startswith("enc."):
                skips.append(h)
        else:
            if s[f"{name}.norm0.weight"].numel() != h.shape[1]:
                h = torch.cat([h, skips.pop()], 1)
            h = block(h, name)
            if name.startswith("enc."):
                skips.append(h)
    h = h if song else conv(F.silu(norm(h, "out_norm")), "out_conv")
    low = 0.003 if consistent else 0.0
    c_skip = data**2 / ((sigma - low) ** 2 + data**2)
    c_out = (sigma - low) * data / (sigma**2 + data**2).sqrt()
    return c_skip[:, None, None, None] * x + c_out[:, None, None, None] * h


def write(path, kwargs, state, kind="EDMPrecond", protocol=4, half=False):
    """Write a pickle as EDM's persistence does, with source code that must never run."""
    module = types.ModuleType("torch_utils.persistence")

    def _reconstruct_persistent_obj(meta):
        raise AssertionError("unpickled")

    _reconstruct_persistent_obj.__module__ = module.__name__
    _reconstruct_persistent_obj.__qualname__ = _reconstruct_persistent_obj.__name__
    module._reconstruct_persistent_obj = _reconstruct_persistent_obj  # pyright: ignore[reportAttributeAccessIssue]

    class Persistent(nn.Module):
        kind = "Conv2d"

        def __reduce__(self):
            meta = {"type": "class", "version": 6, "module_src": "raise SystemExit",
                    "class_name": self.kind, "state": dict(self.__dict__)}  # fmt: skip
            return _reconstruct_persistent_obj, (meta,), None

    root, inner = Persistent(), Persistent()
    inner.enc, inner.dec = nn.ModuleDict(), nn.ModuleDict()
    for name, values in state.items():
        here: Any = inner
        values = values.half() if half else values
        *parents, last = name.split(".")
        for parent in parents:
            children = here._modules
            if parent not in children:
                children[parent] = Persistent()
            here = children[parent]
        if last in ("freqs", "resample_filter"):
            here.register_buffer(last, values)
        else:
            here._parameters[last] = nn.Parameter(values)
    root.__dict__["kind"], root._init_kwargs = kind, kwargs  # pyright: ignore[reportAttributeAccessIssue]
    root.model = inner
    before = {name: sys.modules.get(name) for name in ("torch_utils", module.__name__)}
    sys.modules |= {"torch_utils": types.ModuleType("torch_utils"), module.__name__: module}
    try:
        content = {"ema": root, "loss_fn": None, "augment_pipe": None, "dataset_kwargs": {}}
        path.write_bytes(pickle.dumps(content, protocol))
    finally:
        for name, value in before.items():
            sys.modules.pop(name)
            if value is not None:
                sys.modules[name] = value
