"""Samples cut from grids of tiles, as ``make_grid`` and ``save_image`` of torchvision draw them.

A grid of R rows and C columns of tiles of side t with padding p is ``R (t + p) + p`` high and
``C (t + p) + p`` wide. Tiles are read row by row. Places after the last image of a grid are left
empty by torchvision, in the color of the padding; they are no images.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from burnish.errors import InputError
from burnish.samples import from_uint8
from burnish.storage.folder import list_images
from burnish.storage.image_file import inspect, read_pixels
from burnish.storage.sample_file import SampleFile, printable


class Reader(SampleFile):
    """Tiles of one image, or of all images of a folder, in the order of their names."""

    def __init__(self, path: Path, batch_size: int, tile: int, padding: int) -> None:
        if tile < 1 or padding < 0:
            raise InputError(f"tiles of {tile} pixels, {padding} apart; give 1 or more, 0 or more")
        self.path, self._tile, self._padding = path, tile, padding
        self._files = [path / name for name in list_images(path)] if path.is_dir() else [path]
        shapes = [inspect(file, printable(file)) for file in self._files]
        self._channels = max(shape[0] for shape in shapes)
        self._last: tuple[int, Tensor] | None = None
        # Of each tile: the number of its grid, and its place in there.
        self._where: list[tuple[int, int]] = []
        for number in range(len(self._files)):
            count = (
                _num_filled(self._tiles(number), self._corner)
                if padding
                else len(self._tiles(number))
            )
            self._where += [(number, place) for place in range(count)]
        shape = (self._channels, tile, tile)
        super().__init__(path, batch_size, shape, num_images=len(self._where))

    def _images(self, places: Sequence[int]) -> Tensor:
        pixels = torch.empty(len(places), *self.image_shape, dtype=torch.uint8)
        for row, place in enumerate(places):
            number, own = self._where[place]
            pixels[row] = self._tiles(number)[own]
        return from_uint8(pixels)

    def _tiles(self, number: int) -> Tensor:
        """Return the tiles of one grid, uint8 ``[R * C, C, t, t]``; the last one is kept."""
        if self._last is None or self._last[0] != number:
            self._last = number, self._cut(self._files[number])
        return self._last[1]

    def _cut(self, file: Path) -> Tensor:
        name, step = printable(file), self._tile + self._padding
        _, height, width = inspect(file, name)
        for side in (height, width):
            if side < step or (side - self._padding) % step:
                raise InputError(
                    f"{name} is {height}x{width}: no grid of tiles of {self._tile} pixels with "
                    f"{self._padding} between; give other --tile and --padding"
                )
        pixels = read_pixels(file, name, (self._channels, height, width))
        self._corner = pixels[:, :1, :1]
        inner = pixels[:, self._padding :, self._padding :]
        tiles = inner.unfold(1, self._tile, step).unfold(2, self._tile, step)
        return tiles.permute(1, 2, 0, 3, 4).flatten(0, 1).contiguous()


def _num_filled(tiles: Tensor, corner: Tensor) -> int:
    """Return how many tiles come before the empty ones at the end."""
    filled = (tiles != corner).flatten(1).any(1).nonzero()
    return int(filled[-1]) + 1 if len(filled) else len(tiles)
