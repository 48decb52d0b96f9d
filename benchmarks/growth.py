"""Time and peak memory of `burnish refine` as the file grows: 1,000 to 100,000 images of 32x32.

    python benchmarks/growth.py --out results/speed-growth.json --plot docs/images/growth.png

Every job is a process of its own on an ``.npz`` of its own, with a small guide of random weights
and two steps per image, so that reading, writing and bookkeeping weigh more than in earnest.
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib
import torch
import tyro
from matplotlib import pyplot

from burnish.checkpoint import save_model
from burnish.files import provenance, write_json
from burnish.guide.load import load_guide
from burnish.jobs.refine import plan_refine
from burnish.networks.build import build
from burnish.refinement.presets import settings_for
from burnish.samples import Samples, from_uint8
from burnish.storage.formats import write_samples

SHAPE = (3, 32, 32)
NETWORK = {"name": "resnet", "in_channels": 3, "num_classes": 10, "width": 16, "num_blocks": 1}


def main(
    out: Path | None = None,
    plot: Path | None = None,
    sizes: tuple[int, ...] = (1_000, 3_000, 10_000, 30_000, 100_000),
) -> None:
    """Run one job per size, show what each took, and draw it."""
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        guide = Path(folder) / "guide.safetensors"
        torch.manual_seed(0)
        # Thresholds that some images reach at once, some later and some never.
        card = {"network": NETWORK, "realness": {"quantiles": [-0.1, 0.0, 0.1]}}
        save_model(guide, build(NETWORK), card)
        for size in sizes:
            source = Path(folder) / f"{size}.npz"
            write_samples(source, noise(size), size)
            command = [sys.executable, __file__, "--job", str(source), str(guide)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            source.unlink()
            row = rows[-1]
            print(
                f"{row['num_images']:7,} images  {row['seconds']:6.1f} s  "
                f"{row['num_images'] / row['seconds']:6.0f} images/s  "
                f"{row['peak_bytes'] / 2**20:6.0f} MiB at most",
                flush=True,
            )
    first, last = rows[0], rows[-1]
    print(f"memory of the largest to the smallest: {last['peak_bytes'] / first['peak_bytes']:.3f}")
    if out:
        write_json(out, {"rows": rows, "threads": torch.get_num_threads(), **provenance()})
    if plot:
        draw(rows, plot)


def noise(size: int, batch_size: int = 500) -> Any:
    """Yield batches of random images with labels."""
    generator = torch.Generator().manual_seed(size)
    for start in range(0, size, batch_size):
        ids = torch.arange(start, min(size, start + batch_size))
        pixels = torch.randint(256, (len(ids), *SHAPE), dtype=torch.uint8, generator=generator)
        yield Samples(from_uint8(pixels), ids % 10, ids)


def job(source: Path, guide_path: Path) -> None:
    """Refine one file and say what it took; the parent starts a process for each."""
    guide = load_guide(str(guide_path))
    settings = settings_for(guide, "joint", eps=1.0, num_steps=2)
    began = time.perf_counter()
    out = source.with_name("refined.npz")
    facts = plan_refine(source, guide, out, settings=settings, compile="never").run()
    # Kibibytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    row = {
        "num_images": facts["num_images"],
        "seconds": time.perf_counter() - began,
        "peak_bytes": peak,
        "mean_num_steps": facts["mean_num_steps"],
        "batch_size": facts["batch_size"],
        "precision": facts["precision"],
    }
    print(json.dumps(row))


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw memory and time over the number of images."""
    matplotlib.use("Agg")
    figure, (memory, duration) = pyplot.subplots(1, 2, figsize=(7, 2.6), layout="constrained")
    sizes = [row["num_images"] for row in rows]
    memory.plot(sizes, [row["peak_bytes"] / 2**20 for row in rows], "o-", color="#30638e")
    memory.set(xscale="log", xlabel="images", ylabel="peak memory, MiB")
    memory.set_ylim(0, 1.2 * max(row["peak_bytes"] for row in rows) / 2**20)
    duration.plot(sizes, [row["seconds"] for row in rows], "o-", color="#d1495b")
    duration.set(xscale="log", yscale="log", xlabel="images", ylabel="seconds")
    for axes in (memory, duration):
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--job"]:
        os.environ.setdefault("TQDM_DISABLE", "1")
        job(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        tyro.cli(main)
