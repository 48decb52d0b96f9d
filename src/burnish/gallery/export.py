"""The gallery as static files, for a web host without code or to be opened from a folder.

Pages that are opened from a folder may not fetch, so data come as scripts: ``data.js``, and for
each pair that has a path or nearest images ``detail-ROW.js``.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from burnish.errors import InputError
from burnish.files import check_target, write_aside
from burnish.gallery.app import PAGE, Gallery, page
from burnish.gallery.table import packed
from burnish.jobs.progress import progress

# Paths found in one go.
BATCH = 32
MARK = "<!-- data -->"


def export(gallery: Gallery, out: Path, num_paths: int = 100) -> None:
    """Write a gallery to a folder that is new or empty.

    Args:
        gallery: What is shown.
        out: The folder.
        num_paths: Pairs whose path and nearest real images are written, from the first on.

    Raises:
        InputError: The folder holds something, or cannot be written.
    """
    check_target(out)
    if out.suffix:
        raise InputError(f"{out}: the name of a folder is needed, one without suffix")
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise InputError(f"{out}: not an empty folder; empty it or choose another name")
    count = len(gallery.pairs)
    num_paths = min(num_paths, count)
    if num_paths:
        gallery.climbs.prepare()
    if gallery.climbs.missing and gallery.nearest is None:
        num_paths = 0
    with write_aside(out) as aside:
        for name in PAGE:
            target = aside / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(page(name).body)
        html = (aside / "index.html").read_text(encoding="utf-8")
        script = '<script src="files/data.js" defer></script>'
        (aside / "index.html").write_text(html.replace(MARK, script), encoding="utf-8")
        data = {**gallery.data(), **_static(gallery), "num_details": num_paths}
        _script(aside / "files" / "data.js", "window.GALLERY", data)
        _pictures(gallery, aside / "files")
        for row, detail in _details(gallery, num_paths):
            _script(aside / "files" / f"detail-{row}.js", f"window.DETAILS[{row}]", detail)


def _static(gallery: Gallery) -> dict[str, Any]:
    found: dict[str, Any] = {"static": True, "pending": False, "change": ""}
    if gallery.changes is not None:
        gallery.changes.run()
        if gallery.changes.error:
            raise InputError(gallery.changes.error)
        found["change"] = packed(gallery.changes.values)
    return found


def _script(path: Path, name: str, values: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{name} = {json.dumps(values, allow_nan=False)};\n", encoding="utf-8")


def _pictures(gallery: Gallery, folder: Path) -> None:
    count, sprites = len(gallery.pairs), gallery.sprites
    starts = range(0, count, sprites.per_sprite)
    parts = [range(start, min(start + sprites.per_sprite, count)) for start in starts]
    suffix = "png" if sprites.exact else "jpg"
    for number, rows in enumerate(progress("export", parts, count)):
        (folder / f"sprite-{number}.{suffix}").write_bytes(sprites.sprite(rows))
        if not sprites.exact:
            for row in rows:
                for side, name in enumerate(("before", "after")):
                    target = folder / f"{name}-{row}.png"
                    target.write_bytes(sprites.picture(row, side))


def _details(gallery: Gallery, count: int) -> Iterator[tuple[int, dict[str, Any]]]:
    for start in range(0, count, BATCH):
        rows = range(start, min(start + BATCH, count))
        paths = [None] * len(rows) if gallery.climbs.missing else gallery.climbs(rows)
        for row, path in zip(rows, paths, strict=True):
            near = gallery.nearest(row) if gallery.nearest else None
            yield row, {"path": path, "nearest": near}
