"""The data path of joint training from disk, beside torchvision's ImageFolder.

    python benchmarks/data.py                      # writes results/speed-data.json

Speed: batches of real images that burnish's workers make, and those of a DataLoader over
torchvision's ImageFolder with ToTensor; a folder of JPEG images of 64x64, two workers each.
Memory: the peak of a process (VmHWM) that opens folders of 1,000 to 100,000 images and reads the
same number of batches from each. The images are those of CIFAR-10, enlarged; the larger folders
hold hard links to the same files. Each measurement is a process of its own; sides take turns.
"""

import argparse
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BATCH_SIZE, NUM_BATCHES, NUM_IMAGES, ROUNDS = 128, 30, 10_000, 3
COUNTS = (1_000, 10_000, 100_000)


def make_images(parquet: str, folder: Path, count: int) -> None:
    """Write JPEG files of 64x64 into ten class folders; beyond 10,000, links to the first."""
    import pyarrow.parquet as pq
    from PIL import Image

    table = pq.read_table(parquet)
    images, labels = table.column("img"), table.column("label").to_pylist()
    for name in {f"{label:05d}" for label in labels}:
        (folder / name).mkdir(parents=True)
    first: list[Path] = []
    for place in range(count):
        row = place % NUM_IMAGES
        path = folder / f"{labels[row]:05d}" / f"image-{place:07d}.jpg"
        if place >= NUM_IMAGES:
            path.hardlink_to(first[row])
            continue
        with Image.open(io.BytesIO(images[row].as_py()["bytes"])) as image:
            image.convert("RGB").resize((64, 64), Image.Resampling.BICUBIC).save(path, quality=90)
        first.append(path)


def read_burnish(folder: str, num_batches: int) -> float:
    from burnish.storage.disk_dataset import open_dataset
    from burnish.training.batches import Ahead, Batches
    from burnish.training.config import TrainingConfig

    config = TrainingConfig(num_steps=num_batches + 5, batch_size=BATCH_SIZE)
    batches = Ahead(Batches(open_dataset(folder, 64), config), config.num_steps, num_workers=2)
    return timed(batches, num_batches)


def read_torchvision(folder: str, num_batches: int) -> float:
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import ToTensor

    loader = DataLoader(
        ImageFolder(folder, ToTensor()), BATCH_SIZE, shuffle=True, num_workers=2, drop_last=True
    )
    batches = iter(loader)
    return timed(lambda step: next(batches), num_batches)


def timed(batches, num_batches: int) -> float:
    """Return images per second, after five batches; the workers are then busy."""
    for step in range(5):
        batches(step)
    begin = time.perf_counter()
    for step in range(5, 5 + num_batches):
        batches(step)
    return num_batches * BATCH_SIZE / (time.perf_counter() - begin)


READERS = {"burnish": read_burnish, "torchvision": read_torchvision}


def memory(folder: str) -> dict[str, float]:
    """Open a folder and read three batches in this process; return peaks in MiB."""
    import torch  # noqa: F401 - counts as the library, not as the data

    from burnish.storage.disk_dataset import open_dataset
    from burnish.training.batches import Batches
    from burnish.training.config import TrainingConfig

    before = peak()
    data = open_dataset(folder, 64)
    batches = Batches(data, TrainingConfig(batch_size=BATCH_SIZE))
    for step in range(3):
        batches(step)
    return {"images": len(data), "imports_mib": before, "peak_mib": peak()}


def peak() -> float:
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return round(int(found[1]) / 1024, 1)


def child(*arguments: str):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cifar10", default="../shared/data/cifar10/train-00000-of-00002.parquet")
    parser.add_argument("--out", default="results/speed-data.json")
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        what, folder = options.child
        result = memory(folder) if what == "memory" else READERS[what](folder, NUM_BATCHES)
        return print(json.dumps(result))
    with tempfile.TemporaryDirectory() as made:
        folders = {
            count: Path(made) / str(count) for count in sorted({*options.counts, NUM_IMAGES})
        }
        for count, folder in folders.items():
            make_images(options.cifar10, folder, count)
        speeds: dict[str, list[float]] = {name: [] for name in READERS}
        loads = [os.getloadavg()[0]]
        for _ in range(ROUNDS):
            for name, found in speeds.items():
                found.append(round(child("--child", name, str(folders[NUM_IMAGES])), 1))
        loads.append(os.getloadavg()[0])
        peaks = [child("--child", "memory", str(folders[count])) for count in options.counts]
    result = {
        "command": "python benchmarks/data.py", "cpus": os.cpu_count(),
        "load_before_and_after": [round(load, 1) for load in loads],
        "images_per_second": speeds, "batch_size": BATCH_SIZE, "num_batches": NUM_BATCHES,
        "num_workers": 2, "memory": peaks,
    }  # fmt: skip
    Path(options.out).write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
