"""The settings of a network of EDM, as its files give them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from burnish.networks.sizes import Blocks, Channels, Side, Width
from burnish.schema import Range, check

Factor = Annotated[int, Range(1, 64)]


@dataclass(frozen=True)
class EDMConfig:
    """What EDM's files say of a network, by EDM's names."""

    open = True
    img_resolution: Side
    img_channels: Channels
    label_dim: Annotated[int, Range(0, 100_000)] = 0
    augment_dim: Annotated[int, Range(0, 1000)] = 0
    model_type: str = "DhariwalUNet"
    model_channels: Width | None = None
    channel_mult: Sequence[Factor] | None = None
    channel_mult_emb: Factor = 4
    num_blocks: Blocks | None = None
    attn_resolutions: Sequence[int] | None = None
    embedding_type: str = "positional"
    channel_mult_noise: Factor = 1
    encoder_type: str = "standard"
    decoder_type: str = "standard"
    resample_filter: Sequence[float] = (1, 1)

    def __post_init__(self) -> None:
        check(self)
        for name, known in KNOWN.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} {getattr(self, name)!r:.60} is not known here")
        if len(self.mult) not in range(1, 10) or self.img_resolution % 2 ** (len(self.mult) - 1):
            raise ValueError("channel_mult is for 1 to 9 resolutions, each half of the last")
        if len(self.resample_filter) not in range(1, 9) or not sum(self.resample_filter):
            raise ValueError("resample_filter is of 1 to 8 numbers that do not cancel")

    @property
    def song(self) -> bool:
        """Whether it is DDPM++ or NCSN++."""
        return self.model_type == "SongUNet"

    @property
    def width(self) -> int:
        """Channels at the full size, before ``channel_mult``."""
        return self.model_channels or (128 if self.song else 192)

    @property
    def mult(self) -> Sequence[int]:
        """Factors on the width, full size first."""
        return self.channel_mult or ((1, 2, 2, 2) if self.song else (1, 2, 3, 4))

    def attends(self, side: int) -> bool:
        """Return whether blocks of images of a side have attention."""
        usual = (16,) if self.song else (32, 16, 8)
        return side in (usual if self.attn_resolutions is None else self.attn_resolutions)


KNOWN = {
    "model_type": ("SongUNet", "DhariwalUNet"), "embedding_type": ("positional", "fourier"),
    "encoder_type": ("standard", "residual"), "decoder_type": ("standard",),
}  # fmt: skip
