"""Checkpoints of generators as other projects write them, with tiny widths; and their formulas.

The formulas are written from what these projects' networks compute, on their own tensors, and
share no code with the package.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F


def numbers(*shape, scale=0.3):
    return torch.randn(*shape) * scale


class State(dict):
    """A state dict that is filled layer by layer."""

    def conv(self, name, before, after, kernel, bias=True):
        scale = math.sqrt(2 / (before * kernel**2))
        self[f"{name}.weight"] = numbers(after, before, kernel, kernel, scale=scale)
        if bias:
            self[f"{name}.bias"] = numbers(after)

    def linear(self, name, before, after, bias=True):
        self[f"{name}.weight"] = numbers(after, before) * 3 / math.sqrt(before)
        if bias:
            self[f"{name}.bias"] = numbers(after)

    def norm(self, name, width):
        self[f"{name}.weight"], self[f"{name}.bias"] = 1 + numbers(width), numbers(width)


# --- torch-mimicry


def mimicry(num_classes=None, width=8, latent=5, blocks=3):
    state = State()
    state.linear("l1", latent, 16 * width)
    for number in range(2, 2 + blocks):
        name = f"block{number}"
        state.conv(f"{name}.c1", width, width, 3)
        state.conv(f"{name}.c2", width, width, 3)
        state.conv(f"{name}.c_sc", width, width, 1)
        for norm in ("b1", "b2"):
            inner = f"{name}.{norm}" + (".bn" if num_classes else "")
            state[f"{inner}.running_mean"] = numbers(width)
            state[f"{inner}.running_var"] = 0.5 + torch.rand(width)
            state[f"{inner}.num_batches_tracked"] = torch.tensor(7)
            if num_classes:
                state[f"{name}.{norm}.embed.weight"] = 1 + numbers(num_classes, 2 * width)
            else:
                state.norm(inner, width)
    last = blocks + 2
    state.norm(f"b{last}", width)
    state[f"b{last}.running_mean"] = numbers(width)
    state[f"b{last}.running_var"] = 0.5 + torch.rand(width)
    state[f"b{last}.num_batches_tracked"] = torch.tensor(7)
    state.conv(f"c{last}", width, 3, 3)
    return {"model_state_dict": dict(state), "optimizer_state_dict": {}, "global_step": 100_000}


def mimicry_images(file, latents, labels):
    s = file["model_state_dict"]

    def norm(x, name):
        if f"{name}.embed.weight" in s:
            gain, bias = s[f"{name}.embed.weight"][labels].chunk(2, 1)
            name = f"{name}.bn"
        else:
            gain, bias = s[f"{name}.weight"][None], s[f"{name}.bias"][None]
        mean, var = s[f"{name}.running_mean"], s[f"{name}.running_var"]
        x = (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
        return x * gain[..., None, None] + bias[..., None, None]

    def conv(x, name, pad):
        return F.conv2d(x, s[f"{name}.weight"], s[f"{name}.bias"], padding=pad)

    def up(x):
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    x = F.linear(latents, s["l1.weight"], s["l1.bias"]).view(len(latents), -1, 4, 4)
    number = 2
    while f"block{number}.c1.weight" in s:
        name = f"block{number}"
        h = conv(up(norm(x, f"{name}.b1").relu()), f"{name}.c1", 1)
        h = conv(norm(h, f"{name}.b2").relu(), f"{name}.c2", 1)
        x, number = h + conv(up(x), f"{name}.c_sc", 0), number + 1
    return conv(norm(x, f"b{number}").relu(), f"c{number}", 1).tanh() / 2 + 0.5


# --- BigGAN-PyTorch and DiffAugment-BigGAN


def biggan(shared=0, hierarchical=False, attention=(), classes=4, width=16, latent=6, blocks=3):
    state = State()
    part = latent if not hierarchical else latent // (blocks + 1)

    def sn(name, before, after, kernel=None, bias=True):
        if kernel:
            state.conv(name, before, after, kernel, bias)
        else:
            state.linear(name, before, after, bias)
        state[f"{name}.u0"], state[f"{name}.sv0"] = torch.randn(1, after), torch.ones(1)

    if shared:
        state["shared.weight"] = numbers(classes, shared, scale=1)
    sn("linear", part, 16 * width)
    for n in range(blocks):
        for norm in ("bn1", "bn2"):
            for kind in ("gain", "bias"):
                name = f"blocks.{n}.0.{norm}.{kind}"
                if shared:
                    sn(name, shared + part * hierarchical, width, bias=False)
                else:
                    state[f"{name}.weight"] = numbers(classes, width)
            state[f"blocks.{n}.0.{norm}.stored_mean"] = numbers(width)
            state[f"blocks.{n}.0.{norm}.stored_var"] = 0.5 + torch.rand(width)
        for name, kernel in (("conv1", 3), ("conv2", 3), ("conv_sc", 1)):
            sn(f"blocks.{n}.0.{name}", width, width, kernel)
        if n in attention:
            for name, after in (("theta", width // 8), ("phi", width // 8), ("g", width // 2)):
                sn(f"blocks.{n}.1.{name}", width, after, 1, bias=False)
            sn(f"blocks.{n}.1.o", width // 2, width, 1, bias=False)
            state[f"blocks.{n}.1.gamma"] = torch.tensor(0.7)
    state["output_layer.0.gain"], state["output_layer.0.bias"] = 1 + numbers(width), numbers(width)
    state["output_layer.0.stored_mean"] = numbers(width)
    state["output_layer.0.stored_var"] = 0.5 + torch.rand(width)
    sn("output_layer.2", width, 3, 3)
    return dict(state)


def biggan_images(s, latents, labels):
    def weight(name):
        w = s[f"{name}.weight"]
        if f"{name}.u0" not in s:
            return w
        matrix = w.flatten(1)
        v = F.normalize(s[f"{name}.u0"] @ matrix)
        u = F.normalize(v @ matrix.T)
        return w / (v @ matrix.T @ u.T).squeeze()

    def conv(x, name, pad=1):
        return F.conv2d(x, weight(name), s.get(f"{name}.bias"), padding=pad)

    def plain(x, name):
        mean, var = s[f"{name}.stored_mean"], s[f"{name}.stored_var"]
        return (x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()

    def norm(x, name, y):
        both = [weight(f"{name}.{kind}") for kind in ("gain", "bias")]
        gain, bias = (w[y] if y.ndim == 1 else y @ w.T for w in both)
        return plain(x, name) * (1 + gain[..., None, None]) + bias[..., None, None]

    part = s["linear.weight"].shape[1]
    first, *rest = latents.split(part, 1)
    y = s["shared.weight"][labels] if "shared.weight" in s else labels
    x = F.linear(first, weight("linear"), s["linear.bias"]).view(len(latents), -1, 4, 4)
    n = 0
    while f"blocks.{n}.0.conv1.weight" in s:
        name, given = f"blocks.{n}.0", torch.cat([y, rest[n]], 1) if rest else y
        h = F.interpolate(norm(x, f"{name}.bn1", given).relu(), scale_factor=2)
        h = conv(norm(conv(h, f"{name}.conv1"), f"{name}.bn2", given).relu(), f"{name}.conv2")
        x = h + conv(F.interpolate(x, scale_factor=2), f"{name}.conv_sc", 0)
        if f"blocks.{n}.1.gamma" in s:
            x = _attention(x, lambda z, m, n=n: conv(z, f"blocks.{n}.1.{m}", 0), "theta phi g o",
                           s[f"blocks.{n}.1.gamma"])  # fmt: skip
        n += 1
    gain, bias = (s[f"output_layer.0.{kind}"][:, None, None] for kind in ("gain", "bias"))
    x = plain(x, "output_layer.0") * gain + bias
    return conv(x.relu(), "output_layer.2").tanh() / 2 + 0.5


def _attention(x, conv, names, gamma):
    theta, phi, g, o = names.split()
    b, c, h, w = x.shape
    query = conv(x, theta).view(b, c // 8, h * w)
    key = F.max_pool2d(conv(x, phi), 2).view(b, c // 8, h * w // 4)
    value = F.max_pool2d(conv(x, g), 2).view(b, c // 2, h * w // 4)
    weights = torch.einsum("bcq,bck->bqk", query, key).softmax(-1)
    return x + gamma * conv(torch.einsum("bck,bqk->bcq", value, weights).view(b, c // 2, h, w), o)


# --- pytorch-pretrained-BigGAN


def biggan_deep(widths=(32, 32, 16, 8, 8), attention=2, classes=5, latent=6, stats=51):
    state = State()

    def sn(name, before, after, kernel=None, bias=True):
        if kernel:
            state.conv(name, before, after, kernel, bias)
        else:
            state.linear(name, before, after, bias)
        state[f"{name}.weight_orig"] = weight = state.pop(f"{name}.weight")
        state[f"{name}.weight_u"] = F.normalize(torch.randn(after), dim=0)
        state[f"{name}.weight_v"] = F.normalize(
            weight.flatten(1).T @ state[f"{name}.weight_u"], dim=0
        )

    def norm(name, width, conditional=True):
        state[f"{name}.running_means"] = numbers(stats, width)
        state[f"{name}.running_vars"] = 0.5 + torch.rand(stats, width)
        if conditional:
            sn(f"{name}.scale", 2 * latent, width, bias=False)
            sn(f"{name}.offset", 2 * latent, width, bias=False)
        else:
            state.norm(name, width)

    state["embeddings.weight"] = numbers(latent, classes, scale=1)
    sn("generator.gen_z", 2 * latent, 16 * widths[0])
    place = 0
    for n, (before, after) in enumerate(pairwise(widths)):
        if n == attention:
            name = f"generator.layers.{place}"
            for part, size in (("theta", before // 8), ("phi", before // 8), ("g", before // 2)):
                sn(f"{name}.snconv1x1_{part}", before, size, 1, bias=False)
            sn(f"{name}.snconv1x1_o_conv", before // 2, before, 1, bias=False)
            state[f"{name}.gamma"] = torch.tensor([0.7])
            place += 1
        name, middle = f"generator.layers.{place}", before // 4
        for k, (width, out, kernel) in enumerate(
            [(before, middle, 1), (middle, middle, 3), (middle, middle, 3), (middle, after, 1)]
        ):
            norm(f"{name}.bn_{k}", width)
            sn(f"{name}.conv_{k}", width, out, kernel)
        place += 1
    norm("generator.bn", widths[-1], False)
    sn("generator.conv_to_rgb", widths[-1], widths[-1], 3)
    return dict(state)


def biggan_deep_images(s, latents, labels, truncation=1.0):
    def weight(name):
        w = s[f"{name}.weight_orig"]
        return w / (s[f"{name}.weight_u"] @ w.flatten(1) @ s[f"{name}.weight_v"])

    def conv(x, name, pad):
        return F.conv2d(x, weight(name), s.get(f"{name}.bias"), padding=pad)

    share, first = math.modf(truncation / (1 / 50))

    def norm(x, name, given=None):
        rows = [s[f"{name}.running_{kind}"] for kind in ("means", "vars")]
        at = int(first)
        mean, var = (
            row[at] * share + row[at + 1] * (1 - share) if share else row[at] for row in rows
        )
        x = (x - mean[:, None, None]) / (var[:, None, None] + 1e-4).sqrt()
        if given is None:
            return x * s[f"{name}.weight"][:, None, None] + s[f"{name}.bias"][:, None, None]
        gain, bias = (given @ weight(f"{name}.{kind}").T for kind in ("scale", "offset"))
        return x * (1 + gain[..., None, None]) + bias[..., None, None]

    given = torch.cat([latents, s["embeddings.weight"].T[labels]], 1)
    x = F.linear(given, weight("generator.gen_z"), s["generator.gen_z.bias"])
    x = x.view(len(x), 4, 4, -1).permute(0, 3, 1, 2)
    place, block = 0, 0
    while any(key.startswith(f"generator.layers.{place}.") for key in s):
        name = f"generator.layers.{place}"
        place += 1
        if f"{name}.gamma" in s:
            names = "snconv1x1_theta snconv1x1_phi snconv1x1_g snconv1x1_o_conv"
            x = _attention(
                x, lambda z, m, p=name: conv(z, f"{p}.{m}", 0), names, s[f"{name}.gamma"]
            )
            continue
        h = conv(norm(x, f"{name}.bn_0", given).relu(), f"{name}.conv_0", 0)
        h = norm(h, f"{name}.bn_1", given).relu()
        h = F.interpolate(h, scale_factor=2) if block % 2 else h
        h = conv(h, f"{name}.conv_1", 1)
        h = conv(norm(h, f"{name}.bn_2", given).relu(), f"{name}.conv_2", 1)
        h = conv(norm(h, f"{name}.bn_3", given).relu(), f"{name}.conv_3", 0)
        x = x[:, : h.shape[1]]
        x, block = h + (F.interpolate(x, scale_factor=2) if block % 2 else x), block + 1
    x = conv(norm(x, "generator.bn").relu(), "generator.conv_to_rgb", 1)
    return x[:, :3].tanh() / 2 + 0.5
