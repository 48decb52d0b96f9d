"""Small images as PNG bytes, differences that can be seen, and grids of pairs."""

import io

import numpy as np
from PIL import Image
from torch import Tensor

from burnish.errors import InputError
from burnish.samples import to_uint8

__all__ = ["amplification", "difference", "pairs_grid", "png"]

FACTORS = (1, 2, 3, 4, 5, 8, 10, 15, 20, 30, 50)


def png(image: Tensor) -> bytes:
    """Encode an image ``[C, H, W]`` in [0, 1]."""
    levels = to_uint8(image).permute(1, 2, 0).cpu().numpy()
    return _encode(Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels))


def _encode(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def difference(base: Tensor, refined: Tensor, factor: float) -> Tensor:
    """Return what changed: mid-grey = unchanged, brighter or darker by ``factor`` times."""
    return (0.5 + factor * (refined - base)).clamp(0, 1)


def amplification(base: Tensor, refined: Tensor) -> int:
    """Return the largest round factor at which at most 0.5% of the differences are cut off."""
    moved = (refined - base).abs().flatten().double().numpy()
    largest = float(np.quantile(moved, 0.995)) if moved.size else 0.0
    return max((f for f in FACTORS if f * largest <= 0.5), default=1) if largest else 1


def pairs_grid(
    base: Tensor,
    refined: Tensor,
    num_columns: int = 10,
    scale: int = 3,
    amplify: float | None = None,
) -> bytes:
    """Return a PNG of strips: originals on top, the refined images right below them.

    The gaps are transparent, so that it sits on light and dark pages alike.

    Args:
        base: ``[N, C, H, W]`` in [0, 1].
        refined: The same images, refined.
        num_columns: Images per strip; more than that begin another strip.
        scale: Screen pixels per pixel, enlarged without smoothing.
        amplify: Add a third row to each strip: the difference, amplified so.

    Raises:
        InputError: There are no images, or not as many refined as base images.
    """
    if base.shape != refined.shape or base.ndim != 4 or not len(base):
        shapes = f"{list(base.shape)} and {list(refined.shape)}"
        raise InputError(f"a grid needs base and refined images of one shape, not {shapes}")
    layers = [base, refined]
    if amplify is not None:
        layers.append(difference(base, refined, amplify))
    num_columns = min(num_columns, len(base))
    height, width = (scale * side for side in base.shape[2:])
    gap = max(1, scale * base.shape[3] // 24)
    num_strips = -(-len(base) // num_columns)
    strip_height = len(layers) * height + 3 * gap
    size = (num_columns * (width + gap) - gap, num_strips * strip_height - 3 * gap)
    picture = Image.new("LA" if base.shape[1] == 1 else "RGBA", size)
    for row, layer in enumerate(layers):
        for i, image in enumerate(to_uint8(layer).permute(0, 2, 3, 1).cpu().numpy()):
            tile = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
            strip, column = divmod(i, num_columns)
            place = column * (width + gap), strip * strip_height + row * height
            tile = tile.resize((width, height), Image.Resampling.NEAREST)
            picture.paste(tile.convert(picture.mode), place)
    return _encode(picture)
