"""Train and measure cifar10-large in stretches: as much as fits, and the next call goes on.

    python experiments/large.py 9 --data 'cifar10/train-*.parquet'

Each stage is a command of burnish. Shortly before the minutes are over, the one at work is ended
by SIGTERM; given again, it resumes from its last saved state. A table says what is done, how fast
it was and what is left. After the last stage come the tables of ``tables/cifar10-large.yaml``.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import tyro

from burnish.documents import load_yaml

HERE, NAME = Path(__file__).parent, "cifar10-large"
STAGES = (("consistency", ""), ("consistency", "-cd"), ("joint", ""), ("joint", "-robust"),
          ("joint", "-wide"), ("joint", "-wide-robust"))  # fmt: skip
# Seconds that a state in the making and the end of a process take, and that a start is worth.
ENDING, LEAST = 15.0, 30.0


class Progress(NamedTuple):
    """How far a training is."""

    stage: str
    done: int
    num_steps: int
    steps_per_second: float
    finished: bool


def main(
    minutes: tyro.conf.Positional[float], data: str = "cifar10", runs: Path = Path("runs"),
    results: Path = Path("results"), experiments: Path = HERE, device: str = "auto",
) -> None:  # fmt: skip
    """Go on for some minutes.

    Args:
        minutes: After which everything has ended.
        data: The 50,000 training images, by name or pattern.
        runs: Folder of trained models, and of images and scores, in ``cache``.
        results: Folder of the tables.
        experiments: Folder of ``cifar10-large*.yaml`` and ``tables``.
        device: cpu, cuda or auto.
    """
    deadline = time.monotonic() + 60 * minutes
    for command in _commands(data, runs, results, experiments, device):
        left = deadline - time.monotonic() - ENDING
        if left < LEAST:
            break
        code = _run(command, left)
        if code:
            if code != 128 + 15:
                sys.exit(code)
            break
    _show(list(_progress(runs, experiments)))


def _commands(
    data: str, runs: Path, results: Path, experiments: Path, device: str
) -> Iterator[list[str]]:
    """Yield what is to be done, each when all before it is done."""
    for what, suffix in STAGES:
        if _is_finished(runs / f"{NAME}{suffix}" / what):
            continue
        file = str(experiments / f"{NAME}{suffix}.yaml")
        yield ["train", what, file, "--data", data, "--out", str(runs), "--device", device]
    tables, real = experiments / "tables" / f"{NAME}.yaml", runs / f"{NAME}-real.npz"
    if not real.exists():
        _copy(data, real)
    for name in load_yaml(tables)["tables"]:
        out = results / f"{NAME}-{name}.json"
        if not out.exists():
            places = {"real": real, "runs": runs, "cache": runs / "cache", "out": out}
            flags = [word for flag, path in places.items() for word in (f"--{flag}", str(path))]
            yield ["measure", str(tables), name, *flags, "--device", device]


def _copy(data: str, path: Path) -> None:
    """Write images to one file."""
    from burnish.storage.datasets import load_dataset
    from burnish.storage.formats import write_samples

    images = load_dataset(data).samples()
    write_samples(path, [images], len(images))


def _run(command: list[str], seconds: float) -> int:
    """Run burnish, at most for so long; return its exit code."""
    process = subprocess.Popen([sys.executable, "-m", "burnish", *command])
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.terminate()
        return process.wait()


def _progress(runs: Path, experiments: Path) -> Iterator[Progress]:
    for what, suffix in STAGES:
        described = load_yaml(experiments / f"{NAME}{suffix}.yaml")[what]
        stages = {what: described["training"]}
        if what == "consistency" and not described["teacher"].get("of"):
            stages = {"teacher": described["teacher"]["training"], **stages}
        for stage, training in stages.items():
            folder = runs / f"{NAME}{suffix}" / stage
            log = folder / "log.jsonl"
            lines = log.read_text().splitlines() if log.exists() else []
            logged = [one for one in map(json.loads, lines) if "steps_per_second" in one]
            last = logged[-1] if logged else {"step": 0, "steps_per_second": 0.0}
            yield Progress(
                f"{NAME}{suffix}/{stage}", last["step"], training["num_steps"],
                last["steps_per_second"], _is_finished(folder),
            )  # fmt: skip


def _is_finished(stage: Path) -> bool:
    return any((stage / name).exists() for name in ("model.safetensors", "pipeline"))


def _show(rows: list[Progress]) -> None:
    if shutil.which("nvidia-smi"):
        subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], check=False)
    print(f"{'stage':34}{'steps':>8}{'of':>8}{'steps/s':>9}{'minutes left':>14}")
    for row in rows:
        speed = row.steps_per_second
        left = (row.num_steps - row.done) / speed / 60 if speed else float("nan")
        ahead = "done" if row.finished else f"{left:.1f}" if speed else "?"
        print(f"{row.stage:34}{row.done:8}{row.num_steps:8}{speed:9.2f}{ahead:>14}")


if __name__ == "__main__":
    tyro.cli(main)
