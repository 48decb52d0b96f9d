"""Images as PNG and JPEG: single ones, amplified differences, and grids of pairs."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from burnish.errors import InputError
from burnish.files import write_aside
from burnish.report.pairs import read_pairs
from burnish.samples import to_uint8
from burnish.seeds import parse_seeds
from burnish.storage.formats import open_samples

FACTORS = (1, 2, 3, 4, 5, 8, 10, 15, 20, 30, 50)
# In one picture, where nobody says which.
MOST_PAIRS = 100


def png(image: Tensor) -> bytes:
    """Encode an image ``[C, H, W]`` in [0, 1]."""
    return _encode(_picture(image))


def jpeg(image: Tensor) -> bytes:
    """Encode a large image ``[C, H, W]`` in [0, 1] with small losses, to a tenth of its PNG."""
    buffer = io.BytesIO()
    _picture(image).save(buffer, "JPEG", quality=90, subsampling=0)
    return buffer.getvalue()


def _picture(image: Tensor) -> Image.Image:
    levels = to_uint8(image).permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)


def _encode(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def difference(before: Tensor, after: Tensor, factor: float) -> Tensor:
    """Return 0.5 + factor (after - before), clamped to [0, 1]: mid-gray is unchanged."""
    return (0.5 + factor * (after - before)).clamp(0, 1)


def amplification(before: Tensor, after: Tensor) -> int:
    """Return the largest of :data:`FACTORS` that clamps at most 0.5% of the differences."""
    moved = (after - before).abs().flatten().double().numpy()
    largest = float(np.quantile(moved, 0.995)) if moved.size else 0.0
    return max((f for f in FACTORS if f * largest <= 0.5), default=1) if largest else 1


def pairs_grid(before: Tensor, after: Tensor, num_columns: int = 10, scale: int = 2) -> bytes:
    """Return a PNG of strips: images before refinement, and each image after it below.

    The gaps are transparent, so that it fits light and dark pages.

    Args:
        before: ``[N, C, H, W]`` in [0, 1].
        after: The same images, refined.
        num_columns: Images per strip.
        scale: Screen pixels per pixel, enlarged without smoothing.
    """
    if before.shape != after.shape or before.ndim != 4 or not len(before):
        shapes = f"{list(before.shape)} and {list(after.shape)}"
        raise InputError(f"a grid needs images before and after of one shape, not {shapes}")
    num_columns = min(num_columns, len(before))
    height, width = (scale * side for side in before.shape[2:])
    gap = max(1, width // 24)
    num_strips = -(-len(before) // num_columns)
    strip_height = 2 * height + 3 * gap
    size = (num_columns * (width + gap) - gap, num_strips * strip_height - 3 * gap)
    picture = Image.new("LA" if before.shape[1] == 1 else "RGBA", size)
    for row, images in enumerate((before, after)):
        for i, image in enumerate(images):
            strip, column = divmod(i, num_columns)
            place = column * (width + gap), strip * strip_height + row * height
            tile = _picture(image).resize((width, height), Image.Resampling.NEAREST)
            picture.paste(tile.convert(picture.mode), place)
    return _encode(picture)


def write_pairs(generated: Path, refined: Path, out: Path, *, seeds: str = "") -> None:
    """Write :func:`pairs_grid` of two files of samples.

    Args:
        generated: The images before.
        refined: The images after.
        out: The picture.
        seeds: The ids of those to show; without it, the first pairs, 100 at most.

    Raises:
        InputError: One of the files lacks a seed, or no image is in both.
    """
    if seeds:
        before, after = (_of_seeds(path, parse_seeds(seeds)) for path in (generated, refined))
    else:
        pairs = read_pairs(generated, refined)
        before, after = (side.images for side in pairs.read(range(min(MOST_PAIRS, len(pairs)))))
    with write_aside(out) as aside:
        aside.write_bytes(pairs_grid(before, after))


def _of_seeds(path: Path, seeds: list[int]) -> Tensor:
    file = open_samples(path)
    place_of = {id_: place for place, id_ in enumerate(file.ids.tolist())}
    if missing := [seed for seed in seeds if seed not in place_of]:
        raise InputError(f"{path} has no image of seed {missing[0]}")
    return file.read([place_of[seed] for seed in seeds]).images
