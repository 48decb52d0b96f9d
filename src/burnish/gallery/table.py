"""The table: what the page sorts and filters by, one number per pair and column."""

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from burnish.gallery.sprites import COLUMNS, Sprites
from burnish.gallery.store import Store, stamp
from burnish.report.figures import amplification
from burnish.report.pairs import Pairs

# Columns of the ledger by what the page calls them; "gain" and "label" are made of others.
LEDGER = {
    "change": ("l2_moved", "change (L2)"),
    "gain": ("", "gain in realness"),
    "realness_before": ("realness_before", "realness before"),
    "realness_after": ("realness_after", "realness after"),
    "objective_before": ("objective_before", "objective before"),
    "objective_after": ("objective_after", "objective after"),
    "linf_moved": ("linf_moved", "largest change of a pixel"),
    "num_steps": ("num_steps", "steps"),
    "worse": ("worse", "got worse"),
}
# JavaScript holds whole numbers exactly up to here.
SAFE = 2**53


def describe(pairs: Pairs, sprites: Sprites) -> dict[str, Any]:
    """Return what the page has to know: columns as base64 of little-endian float32, and facts."""
    ids = pairs.ids.tolist()
    names, classes = pairs.before.names, pairs.before.classes or pairs.after.classes or []
    numbered = all(name.isdigit() for name in classes)
    # The page shows how large a difference is, not its sign: there is room for twice as much.
    first = [side.images / 2 for side in pairs.read(range(min(16, len(pairs))))]
    stops, stopped = np.unique(_stops(pairs), return_inverse=True)
    return {
        "version": sprites.version,
        "count": len(pairs),
        "shape": list(pairs.before.image_shape),
        "thumbnail": list(sprites.size),
        "exact": sprites.exact,
        "per_sprite": sprites.per_sprite,
        "sprite_columns": COLUMNS,
        "factor": amplification(*first),
        "files": [pairs.before.path.name, pairs.after.path.name],
        "left_out": [len(pairs.before) - len(pairs), len(pairs.after) - len(pairs)],
        "ids": ids if max(map(abs, ids)) < SAFE else list(map(str, ids)),
        "names": [names[place] for place in pairs.places[:, 0]] if names else None,
        "classes": [] if numbered else classes,
        "stops": stops.tolist(),
        "columns": [
            {"key": key, "label": label, "values": packed(values)}
            for key, label, values in _columns(pairs, stopped)
        ],
        "card": _facts(pairs.card),
    }


def packed(values: np.ndarray) -> str:
    """Return numbers as base64 of float32."""
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


def _columns(pairs: Pairs, stopped: np.ndarray) -> list[tuple[str, str, np.ndarray]]:
    columns: list[tuple[str, str, np.ndarray]] = []
    if pairs.labels is not None:
        columns.append(("label", "class", pairs.labels.numpy()))
    ledger = pairs.ledger
    if ledger is None:
        return columns
    for key, (name, label) in LEDGER.items():
        if key == "gain":
            values = ledger["realness_after"] - ledger["realness_before"]
        elif name in ledger and ledger[name].dtype.kind in "iufb":
            values = ledger[name]
        else:
            continue
        columns.append((key, label, values))
    return [*columns, ("stopped", "stopped", stopped)]


def _stops(pairs: Pairs) -> np.ndarray:
    return np.zeros(0, "U1") if pairs.ledger is None else pairs.ledger["stopped"].astype(str)


def _facts(card: dict[str, Any]) -> dict[str, Any]:
    """Return the few facts of a card that a page can show in a line."""
    guide = card.get("guide")
    name = guide.get("name") if isinstance(guide, dict) else guide
    settings = card.get("settings")
    return {
        "guide": str(name) if name else None,
        "refiner": bool(card.get("refiner")),
        "settings": settings if isinstance(settings, dict) else {},
        "threshold": card.get("threshold"),
    }


class Changes:
    """The L2 distance of each pair where no ledger knows it, found in a thread of its own.

    Attributes:
        share: How much is done, 0 to 1.
        values: ``[N]``, complete once ``share`` is 1.
    """

    def __init__(self, pairs: Pairs, store: Store) -> None:
        self.share, self.values = 0.0, np.full(len(pairs), np.nan, "f4")
        self._pairs, self._store = pairs, store
        self.error = ""
        self._free, self._paused = threading.Condition(), 0

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Wait, so that something more urgent has the processor."""
        with self._free:
            self._paused += 1
        try:
            yield
        finally:
            with self._free:
                self._paused -= 1
                self._free.notify_all()

    def start(self) -> threading.Thread:
        """Begin; the thread ends with the process."""
        thread = threading.Thread(target=self.run, name="changes", daemon=True)
        thread.start()
        return thread

    def run(self) -> None:
        """Find all distances, or take them from the store."""
        key = f"{stamp([self._pairs.before.path, self._pairs.after.path])} changes"
        try:
            kept = np.frombuffer(self._store.get(key, self._find), "<f4")
        except Exception as error:  # shown on the page; an image may be broken
            self.error = str(error)
            return
        self.values, self.share = kept, 1.0

    def _find(self) -> bytes:
        size = max(1, 2**21 // int(np.prod(self._pairs.before.image_shape)))
        for start in range(0, len(self._pairs), size):
            with self._free:
                self._free.wait_for(lambda: not self._paused)
            rows = range(start, min(start + size, len(self._pairs)))
            before, after = (side.images for side in self._pairs.read(rows))
            self.values[start : rows.stop] = torch.linalg.vector_norm(
                (after - before).flatten(1), dim=1
            )
            self.share = 0.999 * rows.stop / len(self._pairs)
        return self.values.astype("<f4").tobytes()
