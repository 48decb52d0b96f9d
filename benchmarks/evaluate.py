"""Time and memory of `burnish evaluate` beside torch-fidelity and clean-fid.

    python benchmarks/evaluate.py --out results/speed-evaluate.json
    python benchmarks/evaluate.py --num-images 10000 --rounds 1 --sizes \\
        --out results/speed-evaluate-10000.json
    python benchmarks/evaluate.py --num-images 50000 --rounds 1 --sizes --stop-after 1.6 \\
        --tools burnish torch-fidelity --images '../shared/data/cifar10/train-*.parquet' \\
        --out results/speed-evaluate-50000.json

**Features.** Every tool reads the same folder of PNGs (test images of CIFAR-10) by its own code
and runs Inception by its own code, in turns, each turn a process of its own. The weights are those
of the extra ``inception``, the only ones that need no network: torch-fidelity's class gets them as
burnish does, unchanged otherwise; clean-fid, which downloads a TorchScript program, gets the
package's TorchScript program of the same network. Loading and two first images are not counted.

**Metrics.** What follows the network is measured at full size, on features of 10,000 and 50,000
images against 10,000: rectified mixtures with 60 directions, since those of 50,000 real images
would take each tool half an hour and more. They lie in a file that is mapped into memory.
clean-fid has no precision and recall. The peers go up to ``--peers-up-to`` images.
``burnish:intervals`` has standard errors, too; KID is then over all pairs, not of subsets.

With ``--stop-after 1.6`` a peer is stopped once its process has used 1.6 times the CPU seconds of
burnish's turn. Its row then says ``"stopped": true``, and the ratio is a lower bound.

CPU seconds stand beside wall seconds: on a busy machine only the former can be compared.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

import numpy as np
import tyro

from burnish.files import provenance, write_json

ROOT = Path(__file__).parents[1]
DIMENSIONS, NUM_REFERENCE, K = 2048, 10_000, 3


def main(
    out: Path | None = None,
    num_images: int = 256,
    rounds: int = 3,
    sizes: tuple[int, ...] = (10_000, 50_000),
    peers_up_to: int = 10_000,
    images: str = str(ROOT / "../shared/data/cifar10/test-00000-of-00001.parquet"),
    tools: tuple[str, ...] = ("burnish", "torch-fidelity", "burnish:clean", "clean-fid"),
    stop_after: float | None = None,
) -> None:
    """Measure all, and print it.

    Args:
        out: Where to write the numbers.
        num_images: Images per turn.
        rounds: Turns of each tool at features.
        sizes: Numbers of generated images whose metrics are measured.
        peers_up_to: The largest of them that peers are measured at.
        images: Where the images come from.
        tools: Tools whose features are measured, each of burnish's before its peer.
        stop_after: Stop peers after this many times the CPU seconds of burnish's turn before.
    """
    features: list[dict[str, Any]] = []
    metrics: list[dict[str, Any]] = []
    load = os.getloadavg()
    with TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures"
        run("write", images, pictures, num_images)
        for _ in range(rounds):
            ours = 0.0
            for tool in tools:
                peer = not tool.startswith("burnish")
                limit = int(stop_after * ours) if stop_after and peer else 0
                one = run("features", tool, pictures, limit)
                ours = ours if peer else one["cpu_seconds"]
                features.append({"tool": tool, **one})
                if one.get("stopped"):
                    print(f"{tool:16} stopped after {one['cpu_seconds']:.0f} CPU s", flush=True)
                    continue
                print(
                    f"{tool:16} {num_images / one['seconds']:6.1f} images/s, "
                    f"{num_images / one['cpu_seconds']:6.1f} per CPU second, "
                    f"{one['peak_bytes'] / 2**20:6.0f} MiB",
                    flush=True,
                )
        stored = [
            make(Path(folder) / f"{count}.npy", count, seed)
            for seed, count in enumerate((NUM_REFERENCE, max(sizes)) if sizes else ())
        ]
        for size in sizes:
            for what in ("neighbors", "fid", "kid"):
                for tool in ("burnish", "burnish:intervals", "torch-fidelity", "clean-fid"):
                    if (tool == "clean-fid" and what == "neighbors") or (
                        not tool.startswith("burnish") and size > peers_up_to
                    ):
                        continue
                    found = run("metrics", tool, what, *stored, size)
                    metrics.append({"tool": tool, "what": what, "num_images": size, **found})
                    print(
                        f"{size:6,} {what:10} {tool:16} {found['seconds']:6.1f} s, "
                        f"{found['cpu_seconds']:6.1f} CPU s, "
                        f"{found['extra_bytes'] / 2**20:6.0f} MiB beside the features, "
                        f"{json.dumps(found['values'])}",
                        flush=True,
                    )
    print(summary := summarize(features, num_images))
    if out:
        write_json(out, {
            "command": " ".join(["python", *sys.argv]), "load": [load, os.getloadavg()],
            "cpus": os.cpu_count(), "num_images": num_images, "summary": summary,
            "features": features, "metrics": metrics, **provenance(),
        })  # fmt: skip


def summarize(features: list[dict[str, Any]], num_images: int) -> dict[str, float]:
    """Return the gain over each peer, the median over pairs of turns."""
    found = {}
    for ours, theirs in (("burnish", "torch-fidelity"), ("burnish:clean", "clean-fid")):
        if not {ours, theirs} <= {one["tool"] for one in features}:
            continue
        for key in ("seconds", "cpu_seconds"):
            times = [[one[key] for one in features if one["tool"] == tool]
                     for tool in (ours, theirs)]  # fmt: skip
            ratios = [b / a for a, b in zip(*times, strict=True)]
            found[f"{theirs}, times the {key} of {ours}"] = round(float(np.median(ratios)), 2)
    return found


def run(*arguments: object) -> dict[str, Any]:
    """Call this file in a process of its own; return the JSON of its last line."""
    command = [sys.executable, "-W", "ignore", __file__, "--part", *map(str, arguments)]
    start = time.perf_counter(), cpu_seconds()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode == -signal.SIGXCPU:
        return {"seconds": time.perf_counter() - start[0],
                "cpu_seconds": cpu_seconds() - start[1], "stopped": True}  # fmt: skip
    done.check_returncode()
    return json.loads(done.stdout.splitlines()[-1])


def make(path: Path, count: int, seed: int) -> Path:
    """Write features that are like those of Inception: at least 0, most of them small."""
    rng, shared = np.random.default_rng(seed), np.random.default_rng(99)
    directions = shared.standard_normal((60, DIMENSIONS), np.float32) / 8
    rows = np.lib.format.open_memmap(path, "w+", np.float32, (count, DIMENSIONS))
    for start in range(0, count, 1000):
        part = rows[start : start + 1000]
        z = rng.standard_normal((len(part), 60), np.float32) * (1 + 0.03 * seed)
        z[:, :10] += 2 * rng.integers(0, 2, (len(z), 10))
        noise = rng.standard_normal(part.shape, np.float32)
        part[:] = np.maximum(z @ directions + 0.3 * noise - 0.2, 0)
    rows.flush()
    return path


class Clock:
    """Wall and CPU seconds of a block, with those of its child processes, and peak memory."""

    def __enter__(self) -> "Clock":
        self.start = time.perf_counter(), cpu_seconds()
        self.found: dict[str, Any] = {}
        return self

    def __exit__(self, *error: object) -> None:
        wall, cpu = self.start
        self.found = {
            "seconds": time.perf_counter() - wall,
            "cpu_seconds": cpu_seconds() - cpu,
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }


def cpu_seconds() -> float:
    """Return those of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def anonymous() -> int:
    """Return the bytes of memory of this process that are no part of a file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def write(images: str, folder: str, count: str) -> dict[str, Any]:
    """Write the first images as PNGs."""
    from PIL import Image

    from burnish.samples import to_uint8
    from burnish.storage.formats import open_samples

    few = Path(f"{folder}-few")
    Path(folder).mkdir()
    few.mkdir()
    place = 0
    for batch in open_samples(images, 250).rows(0, int(count)):
        for one in to_uint8(batch.images).permute(0, 2, 3, 1).numpy():
            for target in (Path(folder), *([few] if place < 2 else [])):
                Image.fromarray(one).save(target / f"{place:05}.png")
            place += 1
    return {}


def features(tool: str, folder: str, limit: str) -> dict[str, Any]:
    """Extract the features of all images of a folder as a tool does it.

    ``limit`` are the CPU seconds after which the system ends this process; 0 for none.
    """
    import torch

    if tool.startswith("burnish"):
        from burnish.metrics.extraction import extract
        from burnish.metrics.features import load_extractor
        from burnish.storage.formats import open_samples

        extractor = load_extractor(tool.replace("burnish", "inception-v3-compat"))

        def make(folder: str) -> None:
            for _ in extract(open_samples(folder, 250), extractor):
                pass
    elif tool == "torch-fidelity":
        from torch_fidelity.utils import extract_featuresdict_from_input_id

        from burnish.metrics.inception import load_inception

        network = load_inception().eval()
        options = {"cuda": False, "verbose": False, "samples_find_deep": False}

        def make(folder: str) -> None:
            with torch.no_grad():
                extract_featuresdict_from_input_id(1, network, input1=folder, **options)
    else:
        from cleanfid.fid import get_folder_features

        from burnish.metrics.inception import packaged_weights

        path = packaged_weights()
        assert path is not None, "the weights come with the extra inception"
        program = torch.jit.load(path).eval()

        def make(folder: str) -> None:
            get_folder_features(
                folder, lambda x: program((x - 128) / 128).flatten(1), num_workers=2,
                device=torch.device("cpu"), mode="clean", verbose=False,
            )  # fmt: skip

    make(f"{folder}-few")
    if seconds := int(limit):
        seconds += int(time.process_time()) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 60))
    with Clock() as clock:
        make(folder)
    return clock.found


def metrics(tool: str, what: str, reference: str, generated: str, size: str) -> dict[str, Any]:
    """Compute one group of metrics of features as a tool does it."""
    import torch

    import burnish.metrics.estimates  # noqa: F401  (modules are no memory of the metrics)

    real, fake = np.load(reference, mmap_mode="r"), np.load(generated, mmap_mode="r")[: int(size)]
    peak, done = [0], Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], anonymous())

    compute = {
        "burnish": _burnish, "burnish:intervals": _intervals, "torch-fidelity": _fidelity,
        "clean-fid": _clean,
    }[tool]  # fmt: skip
    before, thread = anonymous(), Thread(target=watch)
    thread.start()
    with Clock() as clock:
        values = compute(what, fake, real, torch)
    done.set()
    thread.join()
    return {**clock.found, "extra_bytes": max(peak[0] - before, 0), "values": values}


def _burnish(what: str, fake: Any, real: Any, torch: Any) -> dict[str, float]:
    from burnish.metrics.formulas import frechet_distance, kernel_distance, precision_recall
    from burnish.metrics.moments import MomentSum

    if what == "neighbors":
        return precision_recall(generated=fake, reference=real, num_neighbors=K)
    if what == "kid":
        return {"kid": kernel_distance(generated=fake, reference=real)}
    sides = []
    for rows in (fake, real):
        total = MomentSum()
        for start in range(0, len(rows), 250):
            total.add(rows[start : start + 250])
        sides.append(total.moments())
    return {"fid": frechet_distance(generated=sides[0], reference=sides[1])}


def _intervals(what: str, fake: Any, real: Any, torch: Any) -> dict[str, float]:
    """Compute the same with standard errors, as ``burnish evaluate`` does."""
    from burnish.metrics.estimates import Estimator
    from burnish.metrics.moments import moments_of

    keys = {"neighbors": ("precision", "recall", "density", "coverage")}.get(what, (what,))
    found = Estimator(moments_of(real), real, num_neighbors=K, keys=keys)(fake)
    values = {key: one.value for key, one in found.items()}
    return values | {f"{key}_std_error": one.std_error for key, one in found.items()}


def _fidelity(what: str, fake: Any, real: Any, torch: Any) -> dict[str, float]:
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    sides = [torch.from_numpy(np.array(rows)) for rows in (fake, real)]
    if what == "neighbors":
        return prc_features_to_metric(*sides, prc_neighborhood=K, save_cpu_ram=True, verbose=False)
    if what == "kid":
        return kid_features_to_metric(*sides, verbose=False)
    moments = [fid_features_to_statistics(rows) for rows in sides]
    return fid_statistics_to_metric(*moments, verbose=False)


def _clean(what: str, fake: Any, real: Any, torch: Any) -> dict[str, float]:
    from cleanfid.fid import fid_from_feats, kernel_distance

    np.random.seed(0)
    sides = [np.array(rows) for rows in (fake, real)]
    compute = kernel_distance if what == "kid" else fid_from_feats
    return {what: float(compute(*sides))}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--part"]:
        part = {"write": write, "features": features, "metrics": metrics}[sys.argv[2]]
        print(json.dumps(part(*sys.argv[3:])))
    else:
        tyro.cli(main)
