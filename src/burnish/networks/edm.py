"""The U-Nets of EDM: DDPM++, NCSN++ (``song``) and ADM (``dhariwal``), for sampling.

Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models", table 1
and appendix F, https://arxiv.org/abs/2206.00364. Names of tensors are those of EDM's files.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from burnish.networks.edm_config import EDMConfig


class EDMUNet(nn.Module):
    """A U-Net that takes images, the noise level as EDM scales it, and labels.

    Args:
        config: Its settings.
    """

    def __init__(self, config: EDMConfig) -> None:
        super().__init__()
        self.config, song = config, config.song
        emb = config.width * config.channel_mult_emb
        noise = config.width * (config.channel_mult_noise if song else 1)
        self.num_noise = noise
        self.map_noise = nn.Module()
        if song and config.embedding_type == "fourier":
            self.map_noise.register_buffer("freqs", torch.zeros(noise // 2))
        if config.label_dim:
            self.map_label = nn.Linear(config.label_dim, noise if song else emb, bias=song)
        if config.augment_dim:  # of training alone
            self.map_augment = nn.Linear(config.augment_dim, noise, bias=False)
        self.map_layer0, self.map_layer1 = nn.Linear(noise, emb), nn.Linear(emb, emb)
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        self._build(emb)

    def _build(self, emb: int) -> None:
        config, song = self.config, self.config.song
        count = config.num_blocks or (4 if song else 3)
        width = aux = config.img_channels
        skips: list[int] = []
        sizes = [(config.img_resolution >> n, config.width * m) for n, m in enumerate(config.mult)]

        def block(before: int, after: int, attends: bool = False, resample: str = "") -> _Block:
            return _Block(before, after, emb, config, attends, resample)

        for level, (side, after) in enumerate(sizes):
            name = f"{side}x{side}"
            if level == 0:
                first = config.width if song else after
                self.enc[f"{name}_conv"] = _Conv(width, first, 3)
                width = first
            else:
                self.enc[f"{name}_down"] = block(width, width, resample="down")
                if song and config.encoder_type == "residual":
                    self.enc[f"{name}_aux_residual"] = _Conv(
                        aux, width, 3, "down", config.resample_filter, fused=True
                    )
                    aux = width
            skips.append(width)
            for place in range(count):
                self.enc[f"{name}_block{place}"] = block(width, after, config.attends(side))
                width = after
                skips.append(width)
        for level, (side, after) in reversed(list(enumerate(sizes))):
            name = f"{side}x{side}"
            if level == len(sizes) - 1:
                self.dec[f"{name}_in0"] = block(width, width, True)
                self.dec[f"{name}_in1"] = block(width, width)
            else:
                self.dec[f"{name}_up"] = block(width, width, resample="up")
            for place in range(count + 1):
                attends = config.attends(side) and (not song or place == count)
                self.dec[f"{name}_block{place}"] = block(width + skips.pop(), after, attends)
                width = after
        if song:
            side = config.img_resolution
            self.dec[f"{side}x{side}_aux_norm"] = _norm(width, 1e-6)
            self.dec[f"{side}x{side}_aux_conv"] = _Conv(width, config.img_channels, 3)
        else:
            self.out_norm, self.out_conv = _norm(width), _Conv(width, config.img_channels, 3)

    def forward(self, images: Tensor, level: Tensor, labels: Tensor | None) -> Tensor:
        """Return the network's output, of the shape of ``images [B, C, H, W]``.

        Args:
            images: Scaled to unit variance.
            level: ``[B]``, ln(sigma) / 4.
            labels: ``[B]`` int64; None without classes.
        """
        emb = self._embedding(level, labels)
        hidden, aux, skips = images, images, []
        for name, block in self.enc.items():
            if name.endswith("aux_residual"):
                hidden = skips[-1] = aux = (hidden + block(aux)) / 2**0.5
                continue
            hidden = block(hidden, emb) if isinstance(block, _Block) else block(hidden)
            skips.append(hidden)
        for name, block in self.dec.items():
            if isinstance(block, _Block):
                if block.norm0.num_channels != hidden.shape[1]:
                    hidden = torch.cat([hidden, skips.pop()], 1)
                hidden = block(hidden, emb)
            else:
                hidden = F.silu(block(hidden)) if name.endswith("norm") else block(hidden)
        return hidden if self.config.song else self.out_conv(F.silu(self.out_norm(hidden)))

    def _embedding(self, level: Tensor, labels: Tensor | None) -> Tensor:
        song, half = self.config.song, self.num_noise // 2
        if song and self.config.embedding_type == "fourier":
            turns = 2 * torch.pi * self.map_noise.get_buffer("freqs")
        else:
            turns = torch.arange(half, dtype=torch.float32, device=level.device)
            turns = (1 / 10_000) ** (turns / (half - song))
        angles = level.float().outer(turns)
        waves = [angles.sin(), angles.cos()] if song else [angles.cos(), angles.sin()]
        emb, label = torch.cat(waves, 1), 0.0
        if self.config.label_dim and labels is not None:
            one_hot = F.one_hot(labels, self.config.label_dim).to(emb.dtype)
            label = self.map_label(one_hot * self.config.label_dim**0.5 if song else one_hot)
        if song:
            return F.silu(self.map_layer1(F.silu(self.map_layer0(emb + label))))
        return F.silu(self.map_layer1(F.silu(self.map_layer0(emb))) + label)


class _Block(nn.Module):
    def __init__(
        self, before: int, after: int, emb: int, config: EDMConfig, attends: bool, resample: str
    ) -> None:
        super().__init__()
        song, taps = config.song, config.resample_filter if config.song else (1, 1)
        eps, self.song = 1e-6 if song else 1e-5, song
        self.norm0, self.norm1 = _norm(before, eps), _norm(after, eps)
        self.conv0 = _Conv(before, after, 3, resample, taps)
        self.conv1 = _Conv(after, after, 3)
        self.affine = nn.Linear(emb, after * (1 if song else 2))
        self.skip = None
        if before != after or resample:
            kernel = 1 if song or before != after else 0
            self.skip = _Conv(before, after, kernel, resample, taps)
        self.num_heads = 0 if not attends else 1 if song else after // 64
        if self.num_heads:
            self.norm2 = _norm(after, eps)
            self.qkv, self.proj = _Conv(after, 3 * after, 1), _Conv(after, after, 1)

    def forward(self, images: Tensor, emb: Tensor) -> Tensor:
        hidden, given = self.conv0(F.silu(self.norm0(images))), self.affine(emb)[:, :, None, None]
        if self.song:
            hidden = F.silu(self.norm1(hidden + given))
        else:
            scale, shift = given.chunk(2, 1)
            hidden = F.silu(self.norm1(hidden) * (scale + 1) + shift)
        hidden = self.conv1(hidden) + (images if self.skip is None else self.skip(images))
        hidden = hidden * 0.5**0.5 if self.song else hidden
        if self.num_heads:
            # Channels are in the order (head, channel, three).
            parts = self.qkv(self.norm2(hidden)).flatten(2).unflatten(1, (self.num_heads, -1, 3))
            query, key, value = (part.transpose(2, 3) for part in parts.unbind(3))
            found = F.scaled_dot_product_attention(query, key, value).transpose(2, 3)
            hidden = self.proj(found.flatten(1, 2).unflatten(2, hidden.shape[2:])) + hidden
            hidden = hidden * 0.5**0.5 if self.song else hidden
        return hidden


class _Conv(nn.Module):
    """A convolution, before or after which a fixed filter doubles or halves the resolution."""

    def __init__(
        self, before: int, after: int, kernel: int, resample: str = "",
        taps: Sequence[float] = (1, 1), fused: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.resample, self.fused = resample, fused
        self.weight = self.bias = None
        if kernel:
            self.weight = nn.Parameter(torch.zeros(after, before, kernel, kernel))
            self.bias = nn.Parameter(torch.zeros(after))
        if resample:
            row = torch.tensor(taps, dtype=torch.float32)
            self.register_buffer("resample_filter", (row.outer(row) / row.sum() ** 2)[None, None])

    def forward(self, images: Tensor) -> Tensor:
        pad = 0 if self.weight is None else self.weight.shape[-1] // 2
        if self.resample:
            taps = self.get_buffer("resample_filter")
            reach = (taps.shape[-1] - 1) // 2
            if self.fused and self.weight is not None:  # the convolution first, then halving
                images = F.conv2d(images, self.weight, padding=pad + reach)
                taps = taps.expand(images.shape[1], -1, -1, -1)
                images = F.conv2d(images, taps, groups=images.shape[1], stride=2)
                return images if self.bias is None else images + self.bias[:, None, None]
            count = images.shape[1]
            resample = F.conv_transpose2d if self.resample == "up" else F.conv2d
            taps = (taps * 4 if self.resample == "up" else taps).expand(count, -1, -1, -1)
            images = resample(images, taps, groups=count, stride=2, padding=reach)
        if self.weight is None:
            return images
        return F.conv2d(images, self.weight, self.bias, padding=pad)


def _norm(width: int, eps: float = 1e-5) -> nn.GroupNorm:
    return nn.GroupNorm(max(1, min(32, width // 4)), width, eps=eps)
