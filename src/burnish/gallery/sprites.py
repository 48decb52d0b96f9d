"""Sprites: one picture that holds the thumbnails of many pairs, the image after below that before.

Images of up to 64 pixels are whole and exact in a sprite (PNG); larger ones are reduced to 128
(JPEG), and shown large from a picture of their own.
"""

import io
import math
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from burnish.gallery.store import Store, stamp
from burnish.report.pairs import Pairs
from burnish.samples import to_uint8

EXACT = 64
REDUCED = 128
# As many pairs as a screen shows; of large images, which take long to read, fewer.
PER_SPRITE, PER_REDUCED = 48, 12
COLUMNS = 12
# Values of images that are held at once, in float32.
MAX_VALUES = 16 * 2**20


class Sprites:
    """Makes pictures of pairs, and keeps them in a store.

    Attributes:
        size: ``(height, width)`` of a thumbnail.
        exact: Whether thumbnails are the images themselves.
        per_sprite: Pairs in a sprite, at most.
        kind: Content type of a sprite.
        version: Changes when the files do, so that browsers keep no pictures of others.
    """

    def __init__(self, pairs: Pairs, store: Store) -> None:
        self._pairs, self._store = pairs, store
        _, height, width = pairs.before.image_shape
        self.exact = max(height, width) <= EXACT
        scale = 1 if self.exact else REDUCED / max(height, width)
        # Whole blocks of JPEG, so that neighbors do not bleed into each other.
        unit = 1 if self.exact else 8
        self.size = tuple(max(unit, round(side * scale / unit) * unit) for side in (height, width))
        self.per_sprite = PER_SPRITE if self.exact else PER_REDUCED
        self.kind = "image/png" if self.exact else "image/jpeg"
        self._stamp = stamp([pairs.before.path, pairs.after.path])
        self.version = self._stamp[:12]

    def sprite(self, rows: Sequence[int]) -> bytes:
        """Return the sprite of some rows, 12 pairs side by side."""
        key = f"{self._stamp} sprite {self.size} {','.join(map(str, rows))}"
        return self._store.get(key, lambda: self._sprite(rows))

    def picture(self, row: int, side: int) -> bytes:
        """Return the whole image of a row as PNG; side 0 is before, 1 after."""
        file = (self._pairs.before, self._pairs.after)[side]
        image = to_uint8(file.read([int(self._pairs.places[row, side])]).images)[0]
        return encode(image.permute(1, 2, 0).numpy())

    def _sprite(self, rows: Sequence[int]) -> bytes:
        height, width = self.size
        channels = self._pairs.before.image_shape[0]
        lines = math.ceil(len(rows) / COLUMNS)
        columns = min(COLUMNS, len(rows))
        sheet = np.zeros((lines * 2 * height, columns * width, channels), np.uint8)
        place = 0
        for part in self._parts(rows):
            sides = [self._thumbnails(side.images) for side in self._pairs.read(part)]
            for before, after in zip(*sides, strict=True):
                top, left = place // COLUMNS * 2 * height, place % COLUMNS * width
                sheet[top : top + 2 * height, left : left + width] = np.concatenate(
                    [before, after]
                )
                place += 1
        return encode(sheet, self.kind)

    def _parts(self, rows: Sequence[int]) -> Iterator[Sequence[int]]:
        size = max(1, MAX_VALUES // (2 * math.prod(self._pairs.before.image_shape)))
        yield from (rows[start : start + size] for start in range(0, len(rows), size))

    def _thumbnails(self, images: Tensor) -> np.ndarray:
        """Return ``[B, height, width, C]`` uint8."""
        if not self.exact:
            images = interpolate(images, self.size, mode="bilinear", antialias=True).clamp(0, 1)
        return to_uint8(images).permute(0, 2, 3, 1).numpy()


def encode(pixels: np.ndarray, kind: str = "image/png") -> bytes:
    """Encode ``[H, W, C]`` uint8, fast rather than small."""
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    buffer = io.BytesIO()
    if kind == "image/png":
        picture.save(buffer, "PNG", compress_level=1)
    else:
        picture.save(buffer, "JPEG", quality=90, subsampling=0)
    return buffer.getvalue()
