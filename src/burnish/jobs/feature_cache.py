"""Features that were computed once are not computed again: a cache of what extractors make.

An entry is one batch. Its name is a hash of everything that its bytes follow from: the pixels, the
extractor's own hash, and how this machine computes. So an entry can be missing, but never wrong:
whether the protocol, k, the reference or the name of the file has changed does not matter. An
entry that is damaged is made again. Beyond a size, those that were not used for longest go.

Only large networks are cached. Small ones take no longer than the reading of an entry.
"""

import hashlib
import os
import platform
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from burnish.errors import InputError
from burnish.files import cache_folder, write_aside
from burnish.metrics.features import CPU_BATCH_SIZE, FeatureExtractor, Features, NetworkExtractor

SIZE = "BURNISH_FEATURE_CACHE"
DEFAULT_GIB = 4.0
NAMES = ("features", "probabilities", "spatial")
# Entries of a batch hold a few megabytes; a larger file is none of ours.
LARGEST = 2**31


def cached(extractor: FeatureExtractor, *, spatial: bool, wanted: bool = True) -> FeatureExtractor:
    """Return the extractor, behind a cache if that pays.

    Args:
        extractor: Whatever makes features.
        spatial: Whether spatial features will be asked for; others are not kept.
        wanted: False for the extractor as it is.

    Raises:
        InputError: ``BURNISH_FEATURE_CACHE``, the limit in GiB, is no number.
    """
    limit = _limit()
    if not wanted or not limit or isinstance(extractor, NetworkExtractor):
        return extractor
    return CachedExtractor(extractor, cache_folder() / "features", limit, spatial)


def _limit() -> int:
    text = os.environ.get(SIZE, str(DEFAULT_GIB))
    try:
        return int(max(float(text), 0) * 2**30)
    except (ValueError, OverflowError):
        message = f"{SIZE} is the size of the cache in GiB, 0 for none; {text!r} is no number"
        raise InputError(message) from None


class CachedExtractor:
    """An extractor whose features are looked up first.

    Args:
        extractor: Makes what is not there.
        folder: Of the entries.
        limit: Bytes that they may take together.
        spatial: Whether spatial features are kept.
    """

    def __init__(
        self, extractor: FeatureExtractor, folder: Path, limit: int, spatial: bool
    ) -> None:
        self.name, self.sha256 = extractor.name, extractor.sha256
        self._extractor, self._folder, self._spatial = extractor, folder, spatial
        self._limit, self._size = limit, -1  # as yet unknown

    def __call__(self, images_uint8: Tensor) -> Features:
        """Return what the extractor makes of images, on the CPU."""
        path = self._path(images_uint8)
        found = _read(path, len(images_uint8), self._spatial)
        if found is None:
            made = self._extractor(images_uint8)
            spatial = made.spatial if self._spatial else None
            found = Features(made.features.cpu(), _cpu(made.probabilities), _cpu(spatial))
            with suppress(OSError, InputError):  # a cache that cannot be written is no fault
                self._keep(path, found)
        return found

    def _path(self, images_uint8: Tensor) -> Path:
        device = torch.device(getattr(self._extractor, "device", "cpu"))
        cpu = torch.backends.cpu.get_cpu_capability(), platform.machine()
        where = cpu if device.type == "cpu" else torch.cuda.get_device_name(device)
        facts = self.sha256, tuple(images_uint8.shape), torch.__version__, CPU_BATCH_SIZE, where
        # The last layer of Inception is not in its hash, and may come later.
        facts += (getattr(self._extractor, "lacks", ""),)
        digest = hashlib.sha256(repr(facts).encode())
        digest.update(images_uint8.cpu().contiguous().numpy().data)
        name = digest.hexdigest()
        return self._folder / name[:2] / f"{name}.safetensors"

    def _keep(self, path: Path, found: Features) -> None:
        tensors = {name: one for name, one in found._asdict().items() if one is not None}
        tensors = {name: one.contiguous() for name, one in tensors.items()}
        about = {"sha256": _sha256(tensors), "spatial": str(self._spatial)}
        with write_aside(path) as aside:
            aside.write_bytes(data := save(tensors, about))
        self._size = self._size + len(data) if self._size >= 0 else _prune(self._folder, None)
        if self._size > self._limit:
            self._size = _prune(self._folder, self._limit)


def _cpu(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.cpu()


def _sha256(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, values in sorted(tensors.items()):
        digest.update(f"{name} {values.dtype} {list(values.shape)} ".encode())
        digest.update(values.numpy().data)
    return digest.hexdigest()


def _read(path: Path, count: int, spatial: bool) -> Features | None:
    """Return an entry; None if it is missing, damaged, or lacks what is wanted."""
    try:
        if path.stat().st_size > LARGEST:
            return None
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys() if name in NAMES}
        os.utime(path)  # used just now
    except (OSError, SafetensorError):
        return None
    whole = "features" in tensors and all(
        one.ndim == 2 and len(one) == count and one.dtype == torch.float32
        for one in tensors.values()
    )
    lacks = spatial and about.get("spatial") != str(True)
    if not whole or lacks or about.get("sha256") != _sha256(tensors):
        return None
    if not spatial:
        tensors.pop("spatial", None)
    return Features(tensors["features"], *(tensors.get(name) for name in NAMES[1:]))


def _prune(folder: Path, limit: int | None) -> int:
    """Remove the entries that were not used for longest; return the bytes of the others.

    A tenth of the limit is made free, so that this happens rarely.
    """
    entries = []
    for path in folder.glob("*/*"):
        with suppress(OSError):  # another process may prune, too
            about = path.stat()
            entries.append((about.st_mtime, about.st_size, path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if limit is None or total <= 0.9 * limit:
            break
        with suppress(OSError):
            path.unlink()
        total -= size
    return total
