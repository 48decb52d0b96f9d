"""The real images that are nearest to one of the gallery: by features, or by pixels."""

import base64
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from burnish.errors import InputError
from burnish.files import write_aside
from burnish.gallery.sprites import encode
from burnish.gallery.store import Store, stamp
from burnish.metrics.features import FeatureExtractor, load_extractor
from burnish.report.pairs import Pairs
from burnish.samples import to_uint8
from burnish.storage.formats import open_samples

# Pixels are compared at this size at most.
MAX_SIDE = 32
CHUNK_BYTES = 16 * 2**20


class Nearest:
    """Finds the nearest real images, by Euclidean distance.

    The features of all real images are kept in a file of the cache and read in chunks, so that
    memory does not grow with their number.

    Args:
        pairs: The gallery.
        real: Real images of the same shape: ``.npz``, ``.parquet`` or a folder.
        features: Name of a feature extractor; None compares pixels (in [0, 1], of images above 32
            pixels reduced to 32).
        store: Keeps the features.

    Raises:
        InputError: The images are of another shape, or there is no such feature extractor.
    """

    def __init__(self, pairs: Pairs, real: Path, features: str | None, store: Store) -> None:
        self._pairs, self._store, self._real = pairs, store, open_samples(real, 64)
        if self._real.image_shape != pairs.before.image_shape:
            shapes = f"{list(self._real.image_shape)}, not {list(pairs.before.image_shape)}"
            raise InputError(f"{real}: images of shape {shapes} as in the gallery")
        self._extractor: FeatureExtractor | None = load_extractor(features) if features else None
        self.by = self._extractor.name if self._extractor else "pixels"
        known = self._extractor.sha256 if self._extractor else "pixels"
        self._key = f"{stamp([self._real.path])} {known} features"
        self._lock, self._file = threading.Lock(), store.path(self._key)

    def __call__(self, row: int, count: int = 3) -> list[dict[str, Any]]:
        """Return the nearest real images to the image after of a row, nearest first."""
        with self._lock:
            query = self._describe(self._pairs.read([row])[1].images)[0]
            distances = np.concatenate([_distances(query, c) for c in self._chunks(len(query))])
            places = np.argsort(distances, kind="stable")[:count]
            images = self._real.read(places.tolist()).images
        labels = self._real.labels
        return [
            {
                "id": str(int(self._real.ids[place])),
                "label": None if labels is None else int(labels[place]),
                "distance": float(distances[place]),
                "image": _data_uri(image),
            }
            for place, image in zip(places, images, strict=True)
        ]

    def _describe(self, images: Tensor) -> np.ndarray:
        """Return ``[B, D]``: float32 features, or pixels as uint8."""
        levels = to_uint8(images)
        if self._extractor is not None:
            return self._extractor(levels).features.cpu().numpy().astype("<f4")
        height, width = images.shape[2:]
        if max(height, width) > MAX_SIDE:
            scale = MAX_SIDE / max(height, width)
            size = max(1, round(height * scale)), max(1, round(width * scale))
            levels = to_uint8(adaptive_avg_pool2d(images, size))
        return levels.flatten(1).numpy()

    def _chunks(self, size: int) -> Iterator[np.ndarray]:
        kind = np.dtype("u1" if self._extractor is None else "<f4")
        whole = len(self._real) * size * kind.itemsize
        path = self._file
        if not path.is_file() or path.stat().st_size != whole:
            with write_aside(path) as aside, aside.open("wb") as file:
                for batch in self._real:
                    file.write(self._describe(batch.images).tobytes())
        rows = max(1, CHUNK_BYTES // (4 * size))
        with path.open("rb") as file:
            while data := file.read(rows * size * kind.itemsize):
                yield np.frombuffer(data, kind).reshape(-1, size)


def _distances(query: np.ndarray, others: np.ndarray) -> np.ndarray:
    scale = 255 if query.dtype == np.uint8 else 1
    gaps = (others.astype("f4") - query.astype("f4")) / scale
    return np.sqrt(np.einsum("nd,nd->n", gaps, gaps))


def _data_uri(image: Tensor) -> str:
    side = max(image.shape[1:])
    if side > 256:
        height, width = (math.ceil(n * 256 / side) for n in image.shape[1:])
        image = adaptive_avg_pool2d(image, (height, width))
    pixels = to_uint8(image).permute(1, 2, 0).contiguous().numpy()
    return f"data:image/png;base64,{base64.b64encode(encode(pixels)).decode()}"
