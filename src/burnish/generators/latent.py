"""VAEs, GANs and Gaussians at sampling time: one decoder, one network call, one file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from burnish.checkpoint import load_model, save_model
from burnish.errors import InputError
from burnish.generators.base import Generator
from burnish.networks.biggan import BigGAN
from burnish.networks.biggan_deep import BigGANDeep
from burnish.networks.gaussian import Gaussian
from burnish.networks.latent import Decoder
from burnish.networks.mimicry import MimicryGenerator
from burnish.seeds import Streams

Network = Decoder | Gaussian | MimicryGenerator | BigGAN | BigGANDeep


class LatentModel(Generator):
    """A generator of the form image = decoder(z, label) with z ~ N(0, I).

    Args:
        decoder: The network; set to eval mode.
        card: What rebuilds the network (``network``) and says what it is (``kind``).
        num_steps: 1, the only value.
        truncation: Of BigGAN-deep alone, see
            :meth:`~burnish.networks.biggan_deep.BigGANDeep.truncate`; None for 1.
    """

    def __init__(
        self,
        decoder: Network,
        card: Mapping[str, Any],
        num_steps: int = 1,
        truncation: float | None = None,
    ) -> None:
        if num_steps != 1:
            kind = card.get("kind", "decoder")
            name = kind.upper() if kind in ("vae", "gan") else kind
            raise InputError(f"a {name} makes its images in 1 step, not {num_steps}")
        if isinstance(decoder, BigGANDeep):
            decoder.truncate(1.0 if truncation is None else truncation)
        elif truncation is not None:
            raise InputError("truncation belongs to BigGAN-deep; this generator has none")
        super().__init__(decoder, 1, card)
        self.decoder = decoder
        self.num_classes, self.image_shape = decoder.num_classes, decoder.image_shape

    def draw(self, noise: Streams, count: int, labels: Tensor | None) -> Tensor:
        """Return images ``[count, C, H, W]`` in [0, 1]; a VAE gives the means, without noise."""
        del count
        return self.decoder(noise.normal((self.decoder.latent_size,)).to(self.device), labels)

    def save(self, path: Path, half: bool = False) -> None:
        """Write one safetensors file, with float16 weights if ``half``; replace an older one."""
        save_model(path, self.decoder, self.card, half)

    @classmethod
    def load(
        cls, path: str | Path, num_steps: int = 1, truncation: float | None = None
    ) -> LatentModel:
        """Load what :meth:`save` wrote."""
        network, card = load_model(Path(path))
        if not isinstance(network, Network):
            raise InputError(f"{path} is a {card.get('kind', 'model')}, not a generator")
        return cls(network, card, num_steps, truncation)
