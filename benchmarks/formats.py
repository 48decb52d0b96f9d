"""Speed and memory of reading and writing each format of images, beside the plain library.

    python benchmarks/formats.py --num-images 100000 --out results/speed-formats.json

Images are 32x32 RGB with labels, half noise and half smooth, so that PNG has something to do. Each
measurement is a process of its own. The plain library does what one would write by hand: numpy,
Pillow, tarfile, zipfile or pyarrow, with one batch in memory, and it hands over float images, as
burnish does; it gets a fifth of the images. Seconds are those of the processor, as other programs
may run. Memory is the peak of the process, of N images against N / 100.
"""

import importlib
import io
import json
import multiprocessing
import resource
import shutil
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import tyro
from PIL import Image

from burnish.files import provenance, write_json
from burnish.samples import Samples, from_uint8
from burnish.storage.formats import open_samples, write_samples
from burnish.storage.kinds import FORMATS

BATCH = 256
SIDE = 32
WRITTEN = ("npz", "npy", "folder", "zip", "tar", "parquet")
READ = (*WRITTEN, "arrow", "pt")


def suffix(form: str) -> str:
    """Return the suffix of a format's path."""
    return "" if form in ("folder", "arrow") else f".{form}"


def pool() -> list[tuple[np.ndarray, np.ndarray]]:
    """Make some batches, uint8 ``[B, H, W, C]`` and labels; they are written again and again."""
    generator, made = np.random.default_rng(0), []
    for _ in range(8):
        pixels = generator.integers(0, 256, (BATCH, SIDE, SIDE, 3), np.uint8)
        pixels[::2] = pixels[::2, :1, :1] // 2 + np.arange(SIDE, dtype=np.uint8)[:, None]
        made.append((pixels, generator.integers(0, 10, BATCH)))
    return made


POOL = pool()
FLOATS = [
    from_uint8(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()) for pixels, _ in POOL
]


def numbers(count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield batches for the plain library."""
    for start in range(0, count, BATCH):
        pixels, labels = POOL[start // BATCH % len(POOL)]
        yield pixels[: count - start], labels[: count - start]


def samples(count: int) -> Iterator[Samples]:
    """Yield the same as samples."""
    for start, (_, labels) in zip(range(0, count, BATCH), numbers(count), strict=True):
        images = FLOATS[start // BATCH % len(POOL)][: count - start]
        ids = torch.arange(start, start + len(images))
        yield Samples(images, torch.from_numpy(labels), ids)


def png(pixels: np.ndarray) -> bytes:
    """Encode one image."""
    Image.fromarray(pixels).save(content := io.BytesIO(), "PNG", compress_level=6)
    return content.getvalue()


def floats(images: list[np.ndarray] | np.ndarray) -> torch.Tensor:
    """Return images as one uses them."""
    return torch.from_numpy(np.stack(list(images))).permute(0, 3, 1, 2).contiguous().float() / 255


def decoded(cells: Iterator[Any]) -> Iterator[torch.Tensor]:
    """Decode encoded images in batches."""
    while part := list(islice(cells, BATCH)):
        yield floats([np.array(Image.open(cell).convert("RGB")) for cell in part])


def plain_write(form: str, path: Path, count: int) -> None:
    """Write as by hand."""
    place = 0
    if form in ("npz", "npy"):
        target = path if form == "npy" else path.with_suffix(".tmp.npy")
        shape = (count, SIDE, SIDE, 3)
        array = np.lib.format.open_memmap(target, mode="w+", dtype=np.uint8, shape=shape)
        for pixels, _ in numbers(count):
            array[place : place + len(pixels)] = pixels
            place += len(pixels)
        if form == "npz":
            np.savez(path, array, np.arange(count) % 10)
        return
    if form == "folder":
        for label in range(10):
            (path / str(label)).mkdir(parents=True)
        for pixels, labels in numbers(count):
            for image, label in zip(pixels, labels, strict=True):
                (path / str(label) / f"{place:06d}.png").write_bytes(png(image))
                place += 1
    elif form == "zip":
        named = []
        with zipfile.ZipFile(path, "w") as archive:
            for pixels, labels in numbers(count):
                for image, label in zip(pixels, labels, strict=True):
                    named.append([f"{place // 1000:05d}/img{place:08d}.png", int(label)])
                    archive.writestr(named[-1][0], png(image))
                    place += 1
            archive.writestr("dataset.json", json.dumps({"labels": named}))
    elif form == "tar":
        with tarfile.open(path, "w") as archive:
            for pixels, labels in numbers(count):
                for image, label in zip(pixels, labels, strict=True):
                    for kind, content in (("png", png(image)), ("cls", str(label).encode())):
                        member = tarfile.TarInfo(f"{place:06d}.{kind}")
                        member.size = len(content)
                        archive.addfile(member, io.BytesIO(content))
                    place += 1
    elif form == "parquet":
        schema = pa.schema({"image": pa.struct({"bytes": pa.binary()}), "label": pa.int64()})
        with pq.ParquetWriter(path, schema) as writer:
            for pixels, labels in numbers(count):
                rows = {"image": [{"bytes": png(one)} for one in pixels], "label": labels}
                writer.write_table(pa.table(rows, schema))


def plain_read(form: str, path: Path) -> Iterator[torch.Tensor]:
    """Read as by hand."""
    if form in ("npz", "npy"):
        # numpy maps no npz; it is loaded whole.
        array = np.load(path, mmap_mode="r") if form == "npy" else np.load(path)["arr_0"]
        yield from (floats(array[i : i + BATCH]) for i in range(0, len(array), BATCH))
    elif form == "pt":
        images = torch.load(path, mmap=True)["images"]
        yield from (floats(images[i : i + BATCH].numpy()) for i in range(0, len(images), BATCH))
    elif form == "folder":
        yield from decoded(iter(sorted(path.rglob("*.png"), key=lambda file: file.name)))
    elif form == "zip":
        with zipfile.ZipFile(path) as archive:
            json.loads(archive.read("dataset.json"))
            names = sorted(name for name in archive.namelist() if name.endswith(".png"))
            yield from decoded(io.BytesIO(archive.read(name)) for name in names)
    elif form == "tar":
        with tarfile.open(path) as archive:
            files = ((m, archive.extractfile(m)) for m in archive)
            yield from decoded(f for m, f in files if f and m.name.endswith(".png"))
    elif form == "parquet":
        with pq.ParquetFile(path) as table:
            batches = table.iter_batches(BATCH, columns=["image"])
            yield from (decoded_cells(batch) for batch in batches)
    elif form == "arrow":
        for file in sorted(path.glob("*.arrow")):
            with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as stream:
                yield from (decoded_cells(batch) for batch in stream)


def decoded_cells(batch: pa.RecordBatch) -> torch.Tensor:
    """Decode a batch of a table."""
    cells = batch.column("image").field("bytes").to_pylist()
    return floats([np.array(Image.open(io.BytesIO(cell)).convert("RGB")) for cell in cells])


def prepare(form: str, path: Path, count: int) -> None:
    """Write what is read alone."""
    if form == "pt":
        images = np.concatenate([pixels for pixels, _ in numbers(count)])
        torch.save({"images": torch.from_numpy(images)}, path)
        return
    schema = pa.schema({"image": pa.struct({"bytes": pa.binary()}), "label": pa.int64()})
    path.mkdir()
    (path / "state.json").write_text('{"_data_files": [{"filename": "data.arrow"}]}')
    (path / "dataset_info.json").write_text("{}")
    with pa.OSFile(str(path / "data.arrow"), "wb") as sink, pa.ipc.new_stream(sink, schema) as out:
        for pixels, labels in numbers(count):
            rows = {"image": [{"bytes": png(one)} for one in pixels], "label": labels}
            out.write_table(pa.table(rows, schema))


def job(answer: Any, what: str, form: str, path: Path, count: int) -> None:
    """Do one thing and say what it took."""
    actions: dict[str, Callable[[], Any]] = {
        "write": lambda: write_samples(path, samples(count), count),
        "read": lambda: [len(part) for part in open_samples(path, BATCH)],
        "plain write": lambda: plain_write(form, path, count),
        "plain read": lambda: [len(part) for part in plain_read(form, path)],
        "prepare": lambda: prepare(form, path, count),
    }
    began = time.process_time()
    found = actions[what]()
    seconds = time.process_time() - began
    if "read" in what:
        assert sum(found) == count
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kibibytes on Linux, bytes on macOS.
    peak *= 1 if sys.platform == "darwin" else 1024
    answer.send({"seconds": seconds, "peak_bytes": peak})


def run(what: str, form: str, path: Path, count: int) -> dict[str, float]:
    """Run one job in a process of its own, forked: the imports are done."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=job, args=(theirs, what, form, path, count))
    process.start()
    theirs.close()
    took = ours.recv()
    process.join()
    return took


def main(
    out: Path | None = None, num_images: int = 20_000, formats: tuple[str, ...] = READ
) -> None:
    """Measure each format, print a table, and keep the numbers."""
    # Imported before the processes fork; otherwise the first job would pay for it.
    for name in FORMATS.values():
        importlib.import_module(name)
    small, rows = max(num_images // 100, BATCH), []
    print(f"{num_images} images of {SIDE}x{SIDE}; memory against {small} images")
    print("format   write/s  plain/s  ratio   read/s  plain/s  ratio   memory: write   read")
    with TemporaryDirectory() as folder:
        for form in formats:
            row: dict[str, Any] = {"format": form}
            for count in (small, num_images):
                for side in ("", "plain ") if count == num_images else ("",):
                    # The plain library's speed is as plain on fewer images.
                    count = count // 5 if side else count
                    path = Path(folder) / f"{side.strip()}{count}{suffix(form)}"
                    if form in WRITTEN:
                        took = run(f"{side}write", form, path, count)
                        row[f"{side}write {count}"] = took
                    else:
                        run("prepare", form, path, count)
                    row[f"{side}read {count}"] = run(f"{side}read", form, path, count)
                    if path.is_dir():
                        shutil.rmtree(path)
                    path.unlink(missing_ok=True)
                    path.with_suffix(".tmp.npy").unlink(missing_ok=True)
            rows.append(summary(row, num_images, small))
            print(line(rows[-1]), flush=True)
    if out:
        facts = {"num_images": num_images, "small": small, "side": SIDE, "batch_size": BATCH}
        threads = torch.get_num_threads()
        write_json(out, {**facts, "rows": rows, "threads": threads, **provenance()})


def summary(row: dict[str, Any], count: int, small: int) -> dict[str, Any]:
    """Return speeds in images per second, ratios to the plain library, growth of memory."""
    found: dict[str, Any] = {"format": row["format"]}
    for what in ("write", "read"):
        if f"{what} {count}" not in row:
            continue
        for side in ("", "plain "):
            images = count // 5 if side else count
            took = row[f"{side}{what} {images}"]
            found[f"{side}{what} images per second"] = images / took["seconds"]
            found[f"{side}{what} peak MiB"] = took["peak_bytes"] / 2**20
        least = row[f"{what} {small}"]["peak_bytes"]
        found[f"{what} memory, N to N / 100"] = row[f"{what} {count}"]["peak_bytes"] / least
        fast, plain = (found[f"{side}{what} images per second"] for side in ("", "plain "))
        found[f"{what} ratio"] = fast / plain
    return found


def line(row: dict[str, Any]) -> str:
    """Return a row of the table."""
    cells = [f"{row['format']:8}"]
    for what in ("write", "read"):
        for key in (f"{what} images per second", f"plain {what} images per second"):
            cells.append(f"{row[key]:8,.0f}" if key in row else " " * 8)
        cells.append(f"{row[f'{what} ratio']:6.2f}" if f"{what} ratio" in row else " " * 6)
    for what in ("write", "read"):
        key = f"{what} memory, N to N / 100"
        cells.append(f"{row[key]:12.3f}" if key in row else " " * 12)
    return " ".join(cells)


if __name__ == "__main__":
    tyro.cli(main)
