"""Pairs of images: two files of samples of which each image of one belongs to one of the other."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from burnish.errors import InputError, shown
from burnish.files import card_path, ledger_path, read_json
from burnish.report.checks import check_ledger
from burnish.samples import Samples
from burnish.storage.formats import open_samples
from burnish.storage.parts import find_parts
from burnish.storage.sample_file import SampleFile

LEDGER_COLUMNS = (
    "id", "label", "realness_before", "realness_after", "l2_moved", "num_steps", "stopped",
)  # fmt: skip
# A demo calls them so.
DEMO = ("generated.npz", "refined.npz")


@dataclass(frozen=True)
class Pairs:
    """Images before and after; row ``i`` of everything is the same image.

    Args:
        before: The images as they were.
        after: What has become of them.
        places: int64 ``[N, 2]``, where the images lie in the two files.
        ledger: The columns of the ledger, each ``[N]``; None if there is none.
        card: What is known of the refinement; empty if nothing is.
    """

    before: SampleFile
    after: SampleFile
    places: np.ndarray
    ledger: dict[str, np.ndarray] | None = None
    card: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.places)

    @property
    def ids(self) -> Tensor:
        """The ids of the images before, ``[N]``."""
        return self.before.ids[torch.from_numpy(self.places[:, 0])]

    @property
    def labels(self) -> Tensor | None:
        """The classes, ``[N]``: those that the ledger names, or else those in the files."""
        if self.ledger is not None:
            return torch.from_numpy(self.ledger["label"].astype(np.int64))
        for side, file in enumerate((self.before, self.after)):
            if file.labels is not None:
                return file.labels[torch.from_numpy(self.places[:, side])]
        return None

    def read(self, rows: Sequence[int]) -> tuple[Samples, Samples]:
        """Return the images of these rows, before and after, in the given order."""
        places = self.places[list(rows)]
        return self.before.read(places[:, 0].tolist()), self.after.read(places[:, 1].tolist())


def find_pairs(path: Path) -> Pairs | None:
    """Return the pairs of a refined file beside its card, or of the folder of a demo; else None.

    Raises:
        InputError: The card names no input, or it is not there; or the files do not fit together.
    """
    if card_path(path).is_file():
        card = read_json(card_path(path))
        if not isinstance(card.get("input"), str):
            raise InputError(f"{path}: no card of a refinement beside it; its card names no input")
        named = Path(card["input"])
        for before in (named, path.parent / named.name):
            with suppress(InputError, OSError):  # of a name that is too long
                find_parts(before)
                break
        else:
            lost = f"made from {shown(card['input'])}, which is not there"
            raise InputError(f"{path}: {lost}; put it beside {path.name}")
        return read_pairs(before, path, **tiles_of_card(card))
    before, after = (path / name for name in DEMO)
    return read_pairs(before, after) if before.is_file() and after.is_file() else None


def tiles_of_card(card: dict[str, Any]) -> dict[str, int]:
    """Return the ``tile`` and ``padding`` of a card whose input is a grid; empty if it is none."""
    found = {name: card.get(name) for name in ("tile", "padding")}
    known = {name: value for name, value in found.items() if type(value) is int and value >= 0}
    return known if known.get("tile") else {}


def read_pairs(
    before_path: Path, after_path: Path, *, tile: int | None = None, padding: int = 2
) -> Pairs:
    """Pair the images of two files, by name where both name their images, or else by id.

    The ledger and the card beside ``after_path`` are read if they are there. Images that only one
    of the files holds are left out, but not where there is a ledger. The images before may be the
    tiles of a grid, see :func:`burnish.open_samples`.

    Raises:
        InputError: No image is in both files, or the files are of other shapes.
    """
    before = open_samples(before_path, tile=tile, padding=padding)
    after = open_samples(after_path)
    if before.image_shape != after.image_shape:
        shapes = f"{list(after.image_shape)}, not {list(before.image_shape)}"
        raise InputError(f"{after_path}: images of shape {shapes} as {before_path} holds")
    by_name = before.names is not None and after.names is not None
    keys = [list(f.names or []) if by_name else f.ids.tolist() for f in (before, after)]
    place_of = dict(zip(keys[1], range(len(after)), strict=True))
    found = [(place, place_of[key]) for place, key in enumerate(keys[0]) if key in place_of]
    path, kind = ledger_path(after_path), "names" if by_name else "ids"
    whole = len(found) == len(before) == len(after)
    if not found or (path.is_file() and not whole):
        raise InputError(f"{after_path}: not of the same {kind} as {before_path}")
    if len(place_of) < len(after) or len(set(keys[0])) < len(before):
        raise InputError(f"{after_path}, {before_path}: {kind} occur twice; make them unique")
    places = np.array(found, np.int64)
    ids = before.ids[torch.from_numpy(places[:, 0])].tolist()
    ledger = _read_ledger(path, ids) if path.is_file() else None
    card = read_json(card_path(after_path)) if card_path(after_path).is_file() else {}
    return Pairs(before, after, places, ledger, card)


def _read_ledger(path: Path, ids: list[int]) -> dict[str, np.ndarray]:
    """Return all columns, with rows in the order of ``ids``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Neither this nor to_pylist imports pandas, where it is installed, for 70 MB.
        with pq.ParquetFile(path) as file:
            table = file.read()
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: no readable parquet ({str(error).splitlines()[0]})") from error
    if missing := [name for name in LEDGER_COLUMNS if name not in table.column_names]:
        raise InputError(f"{path}: no ledger of a refinement; it lacks {', '.join(missing)}")
    for column in table.schema:
        if pa.types.is_nested(column.type):
            raise InputError(f"{path}: its column {column.name} holds more than one value a row")
    columns = {name: np.array(table[name].to_pylist()) for name in table.column_names}
    held = columns["id"]
    if held.dtype.kind != "i" or not np.array_equal(np.sort(held), np.sort(ids)):
        raise InputError(f"{path}: its ids are not those of the images")
    check_ledger(columns, str(path))
    order = np.argsort(held, kind="stable")[np.argsort(np.argsort(ids, kind="stable"))]
    return {name: values[order] for name, values in columns.items()}
