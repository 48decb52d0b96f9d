"""Images on disk that are read one by one, in any order, each at the same cost.

An index says where each image lies: in a file of its own (folders), or at a place of a file (tar,
EDM's zip, arrow, plain npz and npy). Files are opened for each read, so that the index may be
handed to other processes. Parquet packs images in groups, of which a single one cannot be read;
``datasets`` turns such files, and those of the hub, into arrow streams once.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from io import BytesIO
from itertools import accumulate
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from burnish.errors import InputError
from burnish.samples import to_uint8
from burnish.storage.arrays import ArrayFile, read_numbers
from burnish.storage.encoded import MAX_BYTES, PackedFile
from burnish.storage.folder import find_images
from burnish.storage.formats import open_samples
from burnish.storage.hub_data import PREFIX, as_arrow, hub_files
from burnish.storage.kinds import find_kind
from burnish.storage.parts import find_parts
from burnish.storage.remote import is_remote
from burnish.storage.sample_file import printable


class Part(ABC):
    """Images of one kind; ``labels`` is int64 ``[N]``, or None."""

    labels: Tensor | None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def content(self, place: int) -> bytes:
        """Return the bytes of an image as they lie on disk."""

    @abstractmethod
    def read(self, place: int) -> tuple[str, Path | BytesIO | Image.Image]:
        """Return the name of an image, for messages, and the image, encoded or decoded."""


class _Encoded(Part):
    def content(self, place: int) -> bytes:
        name, source = self.read(place)
        if isinstance(source, BytesIO):
            return source.getvalue()
        try:
            with source.open("rb") as file:
                return file.read(MAX_BYTES)
        except OSError as error:
            raise InputError(f"{name} cannot be read ({error.strerror}); put it back") from error

    @abstractmethod
    def read(self, place: int) -> tuple[str, Path | BytesIO]: ...


class _Folder(_Encoded):
    """The images of a folder; their names are kept as one text, which is small."""

    def __init__(self, path: Path) -> None:
        self.path = path
        names, facts = find_images(path)
        self.labels = facts.labels
        texts = [name.encode(errors="surrogateescape") for name in names]
        self._ends = np.array([0, *accumulate(map(len, texts))], np.int64)
        self._names = b"".join(texts)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def read(self, place: int) -> tuple[str, Path | BytesIO]:
        name = self._names[self._ends[place] : self._ends[place + 1]]
        text = name.decode(errors="surrogateescape")
        return f"{self.path}/{printable(text)}", self.path / text


class _Packed(_Encoded):
    """The encoded images of a tar or zip."""

    def __init__(self, file: PackedFile) -> None:
        self._file, self.labels = file, file.labels

    def __len__(self) -> int:
        return len(self._file)

    def read(self, place: int) -> tuple[str, Path | BytesIO]:
        return next(iter(self._file._encoded([place])))


class _Arrow(_Encoded):
    """The cells of arrow streams, found by where they lie in the files."""

    def __init__(self, path: Path, files: Sequence[Path]) -> None:
        from burnish.storage.arrow_index import index_arrow

        self._path, self._files = path, list(files)
        self._of, self._begins, self._sizes, self.labels = index_arrow(path, self._files)

    def __len__(self) -> int:
        return len(self._sizes)

    def read(self, place: int) -> tuple[str, Path | BytesIO]:
        name = f"{self._path}: image {place}"
        size = int(self._sizes[place])
        with self._files[self._of[place]].open("rb") as file:
            file.seek(int(self._begins[place]))
            content = file.read(size)
        if len(content) < size:
            raise InputError(f"{name} ends early; fetch the file again")
        return name, BytesIO(content)


class _Array(Part):
    """The pixels of an npz or npy whose numbers lie plainly in the file."""

    def __init__(self, file: ArrayFile) -> None:
        self._file, self.labels = file, file.labels
        streams = getattr(file, "_streams", None)
        pixels = streams._open_stream() if streams else None
        if pixels is None or pixels._open_at is None:
            raise InputError(
                f"{file.path} is compressed, or a .pt; images are only read from it in order. "
                "Write it as a plain .npz (numpy.savez)"
            )
        pixels.close()
        self._open_at, self._size = pixels._open_at, pixels._size
        self._shape, self._dtype = pixels._shape, pixels._dtype

    def __len__(self) -> int:
        return len(self._file)

    def content(self, place: int) -> bytes:
        with self._open_at(place * self._size) as stream:
            return stream.read(self._size)

    def read(self, place: int) -> tuple[str, BytesIO | Image.Image]:
        with self._open_at(place * self._size) as stream:
            shape = (1, *self._shape)
            numbers = read_numbers(self._file.path, stream, shape, self._dtype)
        pixels = to_uint8(self._file._to_images(numbers))[0].permute(1, 2, 0).numpy()
        gray = pixels.shape[2] == 1
        image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if gray else pixels))
        return f"{self._file.path}: image {place}", image


def open_parts(path: str | Path) -> list[Part]:
    """Open what :func:`~burnish.storage.formats.open_samples` would, for reading in any order.

    Raises:
        InputError: There is nothing of that kind, or single images cannot be read from it.
    """
    if is_remote(path) and not Path(path).exists():
        raise InputError(f"{printable(path)}: images are read in any order from local files only")
    if str(path).startswith(PREFIX) and not Path(path).exists():
        return [_Arrow(Path(path), hub_files(str(path)))]
    parts: list[Part] = []
    for one in find_parts(Path(path)):
        kind, found = find_kind(one, tiles=False)
        if kind == "":
            parts.append(_Folder(found))
        elif kind == ".parquet":
            files = find_parts(found)
            parts.append(_Arrow(found, as_arrow(files)))
        elif kind == ".arrow":
            from burnish.storage.arrow import data_files

            parts.append(_Arrow(found, data_files(found)))
        else:
            file = open_samples(found)
            packed = isinstance(file, PackedFile)
            if not packed and not isinstance(file, ArrayFile):
                raise InputError(f"{printable(found)}: single images of it cannot be read")
            parts.append(_Packed(file) if isinstance(file, PackedFile) else _Array(file))
    return parts
