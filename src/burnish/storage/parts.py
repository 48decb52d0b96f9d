"""Several files read as one: which files a path stands for, and their readers joined."""

import re
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor

from burnish.errors import InputError
from burnish.storage.sample_file import SampleFile, printable

_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MAX_PARTS = 100_000


def find_parts(path: Path) -> list[Path]:
    """Return the files of a path or pattern, in order; numbers in names count as numbers.

    A pattern has ``*``, ``?``, ``[...]`` or ``{000..012}`` in its last part. Hidden files and
    ledgers of burnish are left out. Of a brace, every file must be there.

    Raises:
        InputError: There is no such file, or the files are of several splits.
    """
    if path.exists():
        return [path]
    patterns = expand(path.name)
    found: dict[Path, None] = {}
    for pattern in patterns:
        matches = [path.parent / pattern]
        if any(sign in pattern for sign in "*?["):
            matches = sorted(path.parent.glob(pattern), key=_numbers_as_numbers)
        for part in matches:
            if not part.name.startswith(".") and not part.name.endswith(".ledger.parquet"):
                found[part] = None
    missing = [part for part in found if not part.exists()]
    if not found or missing:
        name = printable(missing[0] if missing else path)
        raise InputError(f"{name}: no such file or folder; check the path")
    parts = list(found)
    _check_splits(path, parts)
    return parts


def _check_splits(path: Path, parts: list[Path]) -> None:
    splits = {match[1] for part in parts if (match := re.match(r"(.+)-\d+-of-\d+", part.stem))}
    if len(splits) > 1:
        some = path.with_name(f"{min(splits)}-[0-9]*-of-*{path.suffix}")
        raise InputError(
            f"{printable(path)} holds the splits {', '.join(sorted(splits))}; "
            f"name one, e.g. '{printable(some)}'"
        )


def expand(name: str) -> list[str]:
    """Return the names that ``{000..012}`` stands for; as many digits as the first has."""
    braces = _BRACES.search(name)
    if not braces:
        return [name]
    first, last = int(braces[1]), int(braces[2])
    if not first <= last < first + _MAX_PARTS:
        raise InputError(
            f"{printable(name)}: cannot count from {first} to {last}; write {{000..012}}"
        )
    width = len(braces[1])
    numbers = (f"{number:0{width}d}" for number in range(first, last + 1))
    begin, end = name[: braces.start()], name[braces.end() :]
    return [full for number in numbers for full in expand(f"{begin}{number}{end}")]


def _numbers_as_numbers(path: Path) -> list[tuple[int, str]]:
    pieces = re.split(r"(\d+)", path.name)
    return [(int(p), p) if i % 2 else (0, p) for i, p in enumerate(pieces)]


class Joined(SampleFile):
    """The samples of several files, one file after the other.

    Gray images become RGB if other files hold color. Ids: if no file holds ids, the places in the
    whole; otherwise those of the files, where a file without ids counts from 0, as burnish
    writes them.
    """

    def __init__(self, path: Path, batch_size: int, files: Sequence[SampleFile]) -> None:
        self._files = files
        self._ends = list(accumulate(map(len, files)))
        first = files[0]
        for file in files:
            if file.image_shape[1:] != first.image_shape[1:]:
                held = f"images of {file.image_shape[1:]}, {first.path.name} of "
                raise InputError(f"{file.path}: {held}{first.image_shape[1:]}; keep one size")
            if (file.labels is None) != (first.labels is None):
                held = "some files have labels, some have none"
                raise InputError(f"{path}: {held} ({first.path.name}, {file.path.name})")
        labels = [file.labels for file in files if file.labels is not None]
        names = [name for file in files for name in file.names or ()]
        super().__init__(
            path,
            batch_size,
            image_shape=max(file.image_shape for file in files),
            num_images=self._ends[-1],
            labels=torch.cat(labels) if labels else None,
            ids=_join_ids(path, files),
            names=names if len(set(names)) == self._ends[-1] else None,
            classes=_join_classes(path, files),
        )

    def _images(self, places: Sequence[int]) -> Tensor:
        images = torch.empty(len(places), *self.image_shape)
        for number, rows in self._rows_by_file(places):
            first = self._ends[number] - len(self._files[number])
            own: Sequence[int] = [places[row] - first for row in rows]
            if isinstance(places, range):
                own = range(own[0], own[-1] + 1)
            images[rows] = self._files[number]._images(own)  # gray is spread over RGB
        return images

    def _rows_by_file(self, places: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
        """Yield the number of each file that is needed, and the rows of a batch that it fills."""
        of = torch.bucketize(torch.tensor(places), torch.tensor(self._ends), right=True)
        for number in of.unique().tolist():
            yield number, (of == number).nonzero().flatten().tolist()


def _join_ids(path: Path, files: Sequence[SampleFile]) -> Tensor | None:
    if not any(file.has_ids for file in files):
        return None
    ids = torch.cat([file.ids for file in files])
    if len(ids.unique()) < len(ids):
        raise InputError(
            f"{path}: the same ids are in several files (one without ids counts from 0); "
            "read the files one by one, or give them ids of their own"
        )
    return ids


def _join_classes(path: Path, files: Sequence[SampleFile]) -> list[str] | None:
    known = [file.classes for file in files if file.classes]
    if any(classes != known[0] for classes in known):
        raise InputError(f"{path}: the files name their classes differently; read them one by one")
    return known[0] if known else None
