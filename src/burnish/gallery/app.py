"""The gallery as a web application: what the page asks for, and who may ask."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from burnish.errors import InputError
from burnish.gallery.climbs import Climbs
from burnish.gallery.commands import commands
from burnish.gallery.nearest import Nearest
from burnish.gallery.sprites import Sprites
from burnish.gallery.store import Store
from burnish.gallery.table import Changes, describe, packed
from burnish.report.pairs import Pairs, find_pairs, read_pairs
from burnish.storage.parts import find_parts
from burnish.web.message import Refused, Reply, Request, Route

# What the page consists of, and its content types.
PAGE = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    **{
        f"{name}.js": "text/javascript; charset=utf-8"
        for name in ("data", "view", "grid", "filters", "stage", "climb", "large", "main")
    },
}
KEEP = {"Cache-Control": "private, max-age=3600"}


def open_pairs(paths: Sequence[Path]) -> Pairs:
    """Open what ``burnish view`` is given: a refined file, the folder of a demo, or two files.

    Raises:
        InputError: It is something else, or the files do not fit together.
    """
    if len(paths) == 2:
        return read_pairs(*paths)
    if len(paths) != 1:
        raise InputError(f"{len(paths)} files; give one refined file, or one before and one after")
    find_parts(paths[0])  # raises where there is nothing
    pairs = find_pairs(paths[0])
    if pairs is None:
        raise InputError(
            f"{paths[0]}: no card of burnish refine beside it, and no folder of a demo; give the "
            "images before and those after"
        )
    return pairs


class Gallery:
    """Everything that the page shows of some pairs.

    Args:
        pairs: What is shown.
        guide: Name or path of the guide that refined them; None to look among those that ship.
        real: Real images, among which the nearest are looked for; None for none.
        features: Feature extractor to compare them by; None for pixels.
    """

    def __init__(
        self, pairs: Pairs, guide: str | None = None, real: Path | None = None,
        features: str | None = None,
    ) -> None:  # fmt: skip
        if features and not real:
            raise InputError("--features compares with real images; give --real, too")
        store = Store()
        self.pairs, self.sprites = pairs, Sprites(pairs, store)
        self.climbs = Climbs(pairs, guide)
        self.nearest = Nearest(pairs, real, features, store) if real else None
        self.changes = Changes(pairs, store) if pairs.ledger is None else None

    def data(self) -> dict[str, Any]:
        """Return what the page has to know before it shows anything."""
        return {
            **describe(self.pairs, self.sprites),
            "commands": commands(self.pairs, self.climbs.source),
            "no_path": self.climbs.missing,
            "nearest": self.nearest.by if self.nearest else "",
            "pending": self.changes is not None,
        }

    def change(self) -> dict[str, Any]:
        """Return how far the distances of pairs without a ledger are, and the distances."""
        if self.changes is None:
            return {"share": 1.0, "values": "", "error": ""}
        found, done = self.changes, self.changes.share == 1
        values = packed(found.values) if done else ""
        return {"share": found.share, "values": values, "error": found.error}

    def routes(self) -> list[Route]:
        """Return what the server serves."""
        data = cache(lambda: Reply.of_json(self.data()))
        if self.changes:
            self.changes.start()
        return [
            Route("GET", "/", lambda _: page("index.html")),
            Route("GET", "/data.json", lambda _: data()),
            Route("GET", "/change.json", lambda _: Reply.of_json(self.change())),
            Route("GET", "/sprite", self._sprite),
            Route("GET", "/image/{side}/{row}.png", self._image),
            Route("GET", "/path/{row}.json", lambda r: self._json(r, self._path)),
            Route("GET", "/nearest/{row}.json", lambda r: self._json(r, self._nearest)),
            Route("GET", "/{file}", lambda request: page(request.values["file"])),
        ]

    def _sprite(self, request: Request) -> Reply:
        rows = self._rows(request.query.get("rows", ""))
        return self._image_reply(lambda: self.sprites.sprite(rows), self.sprites.kind)

    def _image(self, request: Request) -> Reply:
        side = {"before": 0, "after": 1}.get(request.values["side"])
        if side is None:
            raise Refused(404, "there is no such page")
        row = self._row(request.values["row"])
        return self._image_reply(lambda: self.sprites.picture(row, side), "image/png")

    def _image_reply(self, make: Callable[[], bytes], kind: str) -> Reply:
        try:
            with self._first():
                return Reply(make(), kind, headers=KEEP)
        except InputError as error:  # an image that cannot be decoded
            raise Refused(500, " ".join(str(error).split())) from error

    @contextmanager
    def _first(self) -> Iterator[None]:
        """Let the search for distances wait while a picture is made."""
        if self.changes is None:
            yield
            return
        with self.changes.pause():
            yield

    def _json(self, request: Request, find: Callable[[int], Any]) -> Reply:
        row = self._row(request.values["row"])
        try:
            return Reply.of_json({"found": find(row), "error": ""})
        except InputError as error:
            return Reply.of_json({"found": None, "error": str(error)})

    def _path(self, row: int) -> dict[str, Any]:
        return self.climbs([row])[0]

    def _nearest(self, row: int) -> list[dict[str, Any]]:
        if self.nearest is None:
            raise InputError("Give real images by --real.")
        return self.nearest(row)

    def _row(self, text: str) -> int:
        if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or int(text) >= len(self.pairs):
            raise Refused(404, "there is no such pair")
        return int(text)

    def _rows(self, text: str) -> list[int]:
        """Read rows such as ``3,7-9``; at most as many as a sprite holds."""
        rows: list[int] = []
        most = self.sprites.per_sprite
        for part in text.split(",")[: most + 1]:
            first, _, last = part.partition("-")
            start, end = self._row(first), self._row(last or first)
            rows += range(start, min(end, start + most) + 1)
            if len(rows) > most or end < start:
                raise Refused(404, f"a sprite holds 1 to {most} pairs")
        return rows


def page(name: str) -> Reply:
    """Return a file of the page."""
    if name not in PAGE:
        raise Refused(404, "there is no such page")
    return Reply((files("burnish.gallery") / "page" / name).read_bytes(), PAGE[name])
