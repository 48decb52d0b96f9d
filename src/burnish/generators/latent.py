"""VAEs, GANs and Gaussians at sampling time: one decoder, one call, one .safetensors file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from burnish.checkpoint import load_model, save_model
from burnish.errors import InputError
from burnish.generators.base import Generator
from burnish.networks.decoder import Decoder
from burnish.networks.gaussian import Gaussian
from burnish.seeds import Streams

__all__ = ["LatentModel"]


class LatentModel(Generator):
    """A generator: image = decoder(z, label), z ~ N(0, I) of each seed's own stream.

    Args:
        decoder: The network, in eval mode from here on.
        card: Facts that rebuild the network (``network``) and tell its family (``kind``).
        num_steps: 1; there are no more.

    Raises:
        InputError: More than one step is asked for.
    """

    def __init__(
        self, decoder: Decoder | Gaussian, card: Mapping[str, Any], num_steps: int = 1
    ) -> None:
        if num_steps != 1:
            kind = {"vae": "VAE", "gan": "GAN"}.get(kind := card.get("kind", "decoder"), kind)
            raise InputError(f"a {kind} makes its images in 1 step, not {num_steps}")
        super().__init__(decoder, 1, card)
        self.decoder = decoder

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.decoder.num_classes

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of its images."""
        return self.decoder.image_shape

    def draw(self, noise: Streams, count: int, labels: Tensor | None) -> Tensor:
        """Return images ``[count, C, H, W]`` in [0, 1]; of a VAE the means, without noise."""
        del count
        return self.decoder(noise.normal((self.decoder.latent_size,)).to(self.device), labels)

    def save(self, path: Path, half: bool = False) -> None:
        """Write one safetensors file.

        Args:
            path: Where; replaced if it exists.
            half: Store float16 weights, half the bytes.
        """
        save_model(path, self.decoder, self.card, half)

    @classmethod
    def load(cls, path: str | Path, num_steps: int = 1) -> "LatentModel":
        """Load what ``save`` wrote.

        Raises:
            InputError: Nothing loadable is there, or it is no generator.
        """
        network, card = load_model(Path(path))
        if not isinstance(network, Decoder | Gaussian):
            raise InputError(f"{path} is a {card.get('kind', 'model')}, not a generator")
        return cls(network, card, num_steps)
