"""How soon `burnish view` shows its first pairs, and what memory it takes: up to 100,000 pairs.

    python benchmarks/gallery.py --real test.parquet --out results/speed-gallery.json

The pairs are real 32x32 images (``--real``; else noise), repeated, and the same slightly moved;
with a ledger, or without one, so that the gallery has to find the distances itself. The server is
a process of its own with an empty cache. "Served" is what a client without a screen waits for: the
page, the data and the sprite of the first 48 pairs. "Shown" is what Chromium waits for from going
to the address until the pictures in sight are decoded; left out where there is no Chromium.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import tyro

from burnish.files import card_path, ledger_path, provenance, write_json
from burnish.gallery.app import PAGE
from burnish.gallery.sprites import PER_SPRITE
from burnish.samples import to_uint8
from burnish.storage.formats import open_samples

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

# Resolves to the time since navigation began, once every picture in sight is decoded.
SHOWN = """
const urls = () => new Set([...grid.tiles.values()].map(
  (tile) => tile.pictures[0].style.backgroundImage.slice(5, -2)));
const wait = async () => {
  while (typeof grid === "undefined" || !grid.tiles.size || urls().has("")) {
    await new Promise((done) => setTimeout(done, 5));
  }
  for (const url of urls()) { const image = new Image(); image.src = url; await image.decode(); }
  return performance.now() / 1000;
};
return wait();
"""
SORT = """
const start = performance.now();
change({ sort: "change", descending: "1" });
return (performance.now() - start) / 1000;
"""
NUM_JUMPS = 50


def main(
    sizes: tuple[int, ...] = (10_000, 100_000), real: Path | None = None, out: Path | None = None
) -> None:
    """Show galleries of these sizes and measure."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = _images(real)
        for size in sizes:
            before, after = _pairs(folder, images, size)
            for ledger in (True, False):
                if not ledger:
                    ledger_path(after).unlink()
                    card_path(after).unlink()
                rows.append({"pairs": size, "ledger": ledger, **_measure(folder, before, after)})
                print(json.dumps(rows[-1]))
            before.unlink()
            after.unlink()
    result = {
        "command": f"python {' '.join(sys.argv)}", "images": str(real or "noise"), "rows": rows,
        "bytes_torch": _torch(), "cores": os.cpu_count(), "load": os.getloadavg()[0],
        **provenance(),
    }  # fmt: skip
    if out:
        write_json(out, result)


def _torch() -> int:
    """Return what torch alone takes when it is imported."""
    # Of the process itself: what getrusage says of a child begins with its parent's memory.
    code = "import torch, pathlib; print(pathlib.Path('/proc/self/status').read_text())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return _high_water(done.stdout)


def _images(real: Path | None) -> np.ndarray:
    if real is None:
        return np.random.default_rng(0).integers(0, 256, (2000, 32, 32, 3), np.uint8)
    file = open_samples(real)
    images = file.read(range(min(2000, len(file)))).images
    return to_uint8(images).permute(0, 2, 3, 1).contiguous().numpy()


def _pairs(folder: Path, images: np.ndarray, size: int) -> tuple[Path, Path]:
    """Write both files, the ledger and the card."""
    before, after = (folder / f"{side}-{size}.npz" for side in ("before", "after"))
    random = np.random.default_rng(1)
    many = np.resize(images, (size, *images.shape[1:]))
    labels = np.arange(size) % 10
    np.savez(before, arr_0=many, arr_1=labels)
    moved = many // 8 * 7 + random.integers(0, 30, (size, 1, 1, 1), np.uint8)
    np.savez(after, arr_0=moved, arr_1=labels)
    realness = random.normal(0, 2, size)
    gain = random.normal(2, 1, size)
    ledger = {
        "id": np.arange(size), "label": labels, "objective_before": realness,
        "objective_after": realness + gain, "realness_before": realness,
        "realness_after": realness + gain, "l2_moved": random.uniform(0, 1, size),
        "linf_moved": random.uniform(0, 1, size), "num_steps": random.integers(0, 11, size),
        "worse": gain < 0, "stopped": np.where(gain > 2, "real enough", "all steps made"),
    }  # fmt: skip
    pq.write_table(pa.table(ledger), ledger_path(after))
    write_json(card_path(after), {"input": str(before), "settings": {"eps": 1.0}})
    return before, after


def _measure(folder: Path, before: Path, after: Path) -> dict[str, Any]:
    cache = tempfile.mkdtemp(dir=folder)
    files = [str(after)] if card_path(after).is_file() else [str(before), str(after)]
    began = time.perf_counter()
    server = subprocess.Popen(
        [sys.executable, "-m", "burnish", "view", *files, "--no-open"],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "BURNISH_CACHE": cache},
    )  # fmt: skip
    assert server.stdout
    url = server.stdout.readline().split()[0]
    found: dict[str, Any] = {"seconds_start": time.perf_counter() - began}
    process = psutil.Process(server.pid)
    try:
        found["bytes_start"] = process.memory_info().rss
        found["seconds_served"], found["bytes_data"] = _served(url)
        while json.loads(_get(url, "change.json"))["share"] < 1:
            time.sleep(0.1)
        found["seconds_all_distances"] = time.perf_counter() - began - found["seconds_start"]
        found |= _shown(url)
        found["bytes_peak"] = _peak(server.pid)
        kept = [path.stat().st_size for path in Path(cache).rglob("*") if path.is_file()]
        found["bytes_cache"] = sum(kept)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()
    return found


def _served(url: str) -> tuple[float, int]:
    began = time.perf_counter()
    for name in PAGE:
        _get(url, name)
    size = len(_get(url, "data.json"))
    _get(url, f"sprite?rows=0-{PER_SPRITE - 1}")
    return time.perf_counter() - began, size


def _get(url: str, path: str) -> bytes:
    client = http.client.HTTPConnection(url.split("/")[2], timeout=60)
    client.request("GET", f"/{path}")
    reply = client.getresponse()
    body = reply.read()
    client.close()
    assert reply.status == 200, (path, reply.status)
    return body


def _shown(url: str) -> dict[str, Any]:
    """Look at the first page, the same sorted, and at many places far apart."""
    from browser import Browser

    try:
        opened = Browser(1280, 800)
    except BaseException as reason:  # pytest.skip raises something of its own
        if type(reason).__name__ != "Skipped":
            raise
        return {}
    with opened as page:
        page.open("about:blank")
        page.open(url)
        found: dict[str, Any] = {"seconds_shown": page.run(SHOWN)}
        page.wait("data.columns.change")
        found["seconds_sorting"] = page.run(SORT)
        began = time.perf_counter()
        page.run(SHOWN)
        found["seconds_sorted_shown"] = time.perf_counter() - began
        tiles = []
        for jump in range(NUM_JUMPS):
            share = jump * 7 % NUM_JUMPS / NUM_JUMPS
            script = "grid.scroller.scrollTop = arguments[0] * grid.element.clientHeight;"
            page.run(f"{script} grid.draw(); {SHOWN}", share)
            tiles.append(page.run("return document.querySelectorAll('.tile').length"))
        page.tool("HeapProfiler.collectGarbage")
        heap = page.run("return performance.memory.usedJSHeapSize")
        return {**found, "most_tiles": max(tiles), "bytes_javascript": heap}


def _peak(pid: int) -> int:
    """Return the most memory that a process has held, as Linux counts it (ru_maxrss)."""
    return _high_water(Path(f"/proc/{pid}/status").read_text())


def _high_water(status: str) -> int:
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    tyro.cli(main)
