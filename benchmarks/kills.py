"""Kill jobs at random moments, repeat the same command, and compare the bytes.

    OMP_NUM_THREADS=1 python benchmarks/kills.py --out results/kills.json

Each case is a command. It runs once undisturbed. Then it is started again and again, and killed
at a moment drawn from a seed, until it completes; then anew, until the kills are used up. After
each completion the outputs must be the undisturbed ones, byte by byte (of the card, all but the
seconds), and nothing else may lie beside them. Most moments are spread over the whole run; others
wait for a state of OUT.job: a shard finished, the last one, ``result/``, the output itself.

Most commands are run by a fork of this process, which has the imports done: only so are there
many kills in reasonable time. Every fifth, and all with several processes, start from nothing.
"""

import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import torch
import tyro

import burnish.cli.main
from burnish.files import provenance, read_json, write_json
from burnish.guide import load
from burnish.jobs import evaluate, refine, sample
from burnish.jobs.options import JobOptions

PRELOADED = (load, evaluate, refine, sample)  # what a fork need not import
REFINE = (
    "refine source.npz --guide fashion_mnist --num-steps 2 --precision float32 --compile never "
    "--shard-size 64 --out"
)
EVALUATE = (
    "evaluate source.npz --reference real.npz --features fashion_mnist/plain --shard-size 64 "
    "--save-reference statistics.npz --json"
)
TRAIN = "train features digits.yaml --only plain --out runs"
RANKS = "-m torch.distributed.run --nproc-per-node 2 --master-port 29517 -m burnish "
# Moments of a kill and how often each is drawn.
MOMENTS = {"any": 6, "shard": 3, "last shard": 2, "result": 3, "output": 3, "deleted": 1}
WAYS_TO_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass
class Case:
    """A command, and how often it is killed."""

    name: str
    command: str
    out: str
    kills: int
    victim: str = "self"
    """Who dies: the process itself, a worker of it, or a rank."""
    fresh: bool = False
    """Whether every process starts from nothing."""
    row: dict[str, Any] = field(default_factory=dict)


CASES = [
    Case("refine, npz", f"{REFINE} a.npz", "a.npz", 30),
    Case("refine, quotas", f"{REFINE} q.npz --labels quotas", "q.npz", 12),
    Case("refine, parquet", f"{REFINE} b.parquet", "b.parquet", 12),
    Case("refine, folder", f"{REFINE} c", "c", 14),
    Case("refine, tar", f"{REFINE} d.tar", "d.tar", 8),
    Case("refine, zip", f"{REFINE} e.zip", "e.zip", 8),
    Case("refine, a worker of 2", f"{REFINE} w.npz --workers 2", "w.npz", 5, "worker", True),
    Case("refine, the parent of 2", f"{REFINE} p.npz --workers 2", "p.npz", 6, "self", True),
    Case("refine, a rank of 2", f"{REFINE} r.npz", "r.npz", 5, "rank", True),
    Case("sample, npz", "sample fashion_mnist --seeds 0-999 --shard-size 64 --out s.npz",
         "s.npz", 12),
    Case("evaluate", f"{EVALUATE} v.json", "v.json", 12),
    Case("train", TRAIN, "runs", 4),
]  # fmt: skip


class Running:
    """A command under way; its output lies in a file.

    Args:
        command: The words after ``burnish``.
        fresh: Start from nothing, instead of by a fork.
        ranks: Let torchrun start two of it.
    """

    def __init__(self, command: str, *, fresh: bool = False, ranks: bool = False) -> None:
        words = command.split()
        self.log = Path(".log")
        self.log.write_bytes(b"")
        if fresh or ranks:
            line = [sys.executable, *(RANKS if ranks else "-m burnish ").split(), *words]
            with self.log.open("wb") as log:
                started = subprocess.Popen(line, stdout=log, stderr=log, start_new_session=True)
            self.pid = started.pid
        else:
            self.pid = os.fork()
            if not self.pid:
                _run_forked(words, self.log)
        self.process = psutil.Process(self.pid)
        self.code: int | None = None

    def ended(self) -> bool:
        """Return whether it has ended; then ``code`` says how."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def wait(self, seconds: float = 900) -> int:
        """Wait for its end."""
        end = time.monotonic() + seconds
        while not self.ended():
            if time.monotonic() > end:
                raise SystemExit(f"it hangs: {self.log.read_text()[-500:]}")
            time.sleep(0.02)
        assert self.code is not None
        return self.code

    def below(self, victim: str) -> list[psutil.Process]:
        """Return its workers or ranks."""
        word = "spawn_main" if victim == "worker" else "burnish"
        found = self.process.children(recursive=victim == "rank")
        return [one for one in found if any(word in part for part in _words(one))]


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _run_forked(words: list[str], log: Path) -> None:
    code = 0
    try:
        os.setsid()
        file = os.open(log, os.O_WRONLY | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(file, stream)
        sys.argv = ["burnish", *words]
        burnish.cli.main.main()
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def state(out: str) -> dict[str, Any]:
    """Return what can be seen of a job from outside."""
    job, names = Path(f"{out}.job"), list[str]()
    if job.is_dir():
        try:
            names = os.listdir(job)
        except FileNotFoundError:
            names = []
    return {
        "shards": sum(re.fullmatch(r"(reference-)?\d+-\d+", name) is not None for name in names),
        "result": "result" in names,
        "output": Path(out).exists(),
        "deleted": any(name.startswith(f".{out}.job.") for name in os.listdir()),
    }


def wait_for(moment: str, run: Running, out: str, seconds: float, num_shards: int,
             draw: random.Random) -> bool:  # fmt: skip
    """Wait for the moment of a kill; return False if the command ends before."""
    began, first = time.monotonic(), state(out)["shards"]
    delay = draw.uniform(0, {"any": seconds, "shard": 1.5, "last shard": 0.3}.get(moment, 0.02))
    wanted = first + draw.randint(1, 6)
    reached = None
    while not run.ended():
        now, seen = time.monotonic(), state(out)
        if reached is None and (
            moment == "any"
            or (moment == "shard" and seen["shards"] >= wanted)
            or (moment == "last shard" and seen["shards"] == num_shards)
            or seen.get(moment) is True
        ):
            reached = began if moment == "any" else now
        if reached is not None and now - reached >= delay:
            return True
        time.sleep(0.002)
    return False


def outputs(before: set[str]) -> dict[str, Any]:
    """Return what a command has written: the bytes of files; cards without times."""
    found: dict[str, Any] = {}
    for path in sorted(Path().rglob("*")):
        name = str(path)
        if path.is_dir() or path.parts[0] in before or path.name == ".log":
            continue
        found[name] = path.read_bytes()
        if path.suffix == ".json":
            card = json.loads(found[name])
            found[name] = {key: card[key] for key in card if key not in ("seconds", "commit")}
        elif path.name == "log.jsonl" or name.endswith(("train.json", "state.pt")):
            found[name] = None
    return found


def clear(before: set[str]) -> None:
    """Remove all that a command has written."""
    from burnish.leftovers import remove

    for path in Path().iterdir():
        if path.name not in before:
            remove(path)


def kill(case: Case, run: Running, draw: random.Random) -> bool:
    """Kill the victim of a case; return whether there was one."""
    if case.victim == "self":
        children = run.process.children(recursive=True)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        _, alive = psutil.wait_procs(children, timeout=30)
        case.row["orphans"] += len(alive)
        return True
    found = run.below(case.victim)
    if found:
        draw.choice(found).kill()
        code = run.wait() if case.victim == "rank" else None
        case.row["codes"] = sorted({*case.row["codes"], *([code] if code else [])})
    return bool(found)


def do(case: Case, seed: int) -> None:
    """Run a case; its row tells what came of it."""
    draw, before = random.Random(f"{seed} {case.name}"), set(os.listdir()) | {".log"}
    ranks = case.victim == "rank"
    began = time.monotonic()
    run = Running(case.command, fresh=case.fresh, ranks=ranks)
    shards = 0
    while not run.ended():
        shards = max(shards, state(case.out)["shards"])
        time.sleep(0.005)
    seconds, wanted = time.monotonic() - began, outputs(before)
    if run.code or not wanted:
        raise SystemExit(f"{case.name}: {run.log.read_text()[-800:]}")
    moments = Counter[str]()
    row = case.row = {
        "command": f"burnish {case.command}", "killed": case.victim, "kills": 0, "starts": 0,
        "completions": 0, "equal": 0, "left_over": 0, "shards": shards, "orphans": 0, "codes": [],
    }  # fmt: skip
    while row["kills"] < case.kills or any(name not in before for name in os.listdir()):
        killing = row["kills"] < case.kills
        kind = draw.choices(list(MOMENTS), list(MOMENTS.values()))[0]
        kind = "any" if case.victim != "self" or case.name == "train" else kind
        row["starts"] += 1
        fresh = case.fresh or draw.random() < 0.2
        run = Running(case.command, fresh=fresh, ranks=ranks)
        while killing and wait_for(kind, run, case.out, seconds, shards, draw):
            if kill(case, run, draw):
                row["kills"] += 1
                moments[kind] += 1
                killing = row["kills"] < case.kills
            if run.ended():
                break
        if run.code is None:
            run.wait()
        if run.code == 0:
            found = outputs(before)
            row["completions"] += 1
            row["equal"] += found == wanted
            row["left_over"] += len(set(found) - set(wanted))
            if found != wanted:
                names = [name for name in {**found, **wanted}
                         if found.get(name) != wanted.get(name)]  # fmt: skip
                print(f"  DIFFERENT: {names[:5]}", flush=True)
            clear(before)
        elif run.code not in (-9, 1) or (run.code == 1 and not ranks):
            row["failures"] = row.get("failures", 0) + 1
            print(f"  code {run.code}: {run.log.read_text()[-500:]}", flush=True)
            if row["failures"] > 3:
                break
    row |= {"moments": dict(moments), "seconds": time.monotonic() - began}


def do_shares(seed: int) -> dict[str, Any]:
    """Let 1, 2 and 4 shares be done in any order, each started twice and killed once."""
    draw, before, wanted = random.Random(seed), set(os.listdir()) | {".log"}, None
    row: dict[str, Any] = {"command": f"burnish {REFINE} i.npz --share I/N", "kills": 0}
    row |= {"completions": 0, "equal": 0, "orders": []}
    for size in (1, 2, 4):
        order = draw.sample(range(size), size)
        for rank in order:
            run = Running(f"{REFINE} i.npz --share {rank}/{size}")
            if wait_for("shard", run, "i.npz", 0, 0, draw):
                os.kill(run.pid, signal.SIGKILL)
                run.wait()
                row["kills"] += 1
            assert Running(f"{REFINE} i.npz --share {rank}/{size}").wait() == 0
        found = outputs(before)
        wanted = wanted or found
        row["orders"].append(order)
        row["completions"] += 1
        row["equal"] += found == wanted
        clear(before)
    return row


def do_pairs(seed: int, pairs: int = 4) -> dict[str, Any]:
    """Give one command twice at once; kill one of every second pair."""
    draw, before = random.Random(seed), set(os.listdir()) | {".log"}
    row: dict[str, Any] = {"command": f"burnish {REFINE} t.npz", "kills": 0}
    row |= {"completions": 0, "equal": 0}
    wanted = None
    for pair in range(pairs):
        runs = [Running(f"{REFINE} t.npz") for _ in range(2)]
        if pair % 2 and wait_for("shard", runs[0], "t.npz", 0, 0, draw):
            os.kill(runs[0].pid, signal.SIGKILL)
            row["kills"] += 1
        codes = [run.wait() for run in runs]
        found = outputs(before)
        wanted = wanted or found
        row["completions"] += 1
        row["equal"] += found == wanted and codes[1] == 0
        clear(before)
    return row


def do_stops(seed: int) -> list[dict[str, Any]]:
    """Send the signals that ask to stop, early and in the middle; keep codes and last lines."""
    draw, before, rows = random.Random(seed), set(os.listdir()) | {".log"}, []
    for name in ("refine, npz", "sample, npz", "evaluate"):
        case = next(case for case in CASES if case.name == name)
        for number in WAYS_TO_STOP:
            for moment in ("any", "shard"):
                run = Running(case.command)
                if wait_for(moment, run, case.out, 1.0, 0, draw):
                    os.kill(run.pid, number)
                code, lines = run.wait(), re.split(r"[\r\n]+", run.log.read_text().strip())
                kept = state(case.out)["shards"]
                rows.append({"case": name, "signal": number.name, "moment": moment, "code": code,
                             "line": lines[-1], "shards_kept": kept})  # fmt: skip
                clear(before)
    return rows


def overhead(num_images: int, size: int = 64, rounds: int = 5) -> dict[str, Any]:
    """Return what a shard costs: processor time of a job in many shards against one, in turns."""
    settings = {"num_steps": 2, "precision": "float32", "compile": "never"}
    times: dict[int, list[float]] = {num_images: [], size: []}
    for _ in range(rounds):
        for shard_size, found in times.items():
            plan = refine.plan_refine(
                Path("source.npz"), "fashion_mnist", Path("o.npz"),
                job=JobOptions(force=True, shard_size=shard_size), **settings,
            )  # fmt: skip
            began = time.process_time()
            plan.run()
            found.append(time.process_time() - began)
    differences = [b - a for a, b in zip(*times.values(), strict=True)]
    per_shard = statistics.median(differences) / (-(-num_images // size) - 1)
    return {
        "images_per_shard": list(times), "processor_seconds": list(times.values()),
        "seconds_per_shard": per_shard, "share_of_half_a_minute": per_shard / 30,
    }  # fmt: skip


def main(
    out: Path = Path("results/kills.json"),
    only: tuple[str, ...] = (),
    seed: int = 0,
    num_images: int = 1000,
) -> None:
    """Do all cases, or those of these names, and keep what came of each."""
    out, here = out.absolute(), Path(__file__).resolve().parent
    torch.set_num_threads(1)
    for number in WAYS_TO_STOP:  # nohup, and the shell's &, have some ignored
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def keep(name: str, row: Any) -> None:
        found = read_json(out) if out.exists() else {}
        found |= {name: row, "threads": torch.get_num_threads(), **provenance()}
        write_json(out, found)
        print(name, row, flush=True)

    with TemporaryDirectory() as folder:
        digits = (here.parent / "experiments/digits.yaml").read_text()
        os.chdir(folder)
        Path("digits.yaml").write_text(digits)
        last = num_images - 1
        for name, seeds in (
            ("source", f"0-{last}"),
            ("real", f"{num_images}-{num_images + last}"),
        ):
            run = Running(f"sample fashion_mnist --seeds {seeds} --out {name}.npz")
            assert run.wait() == 0, run.log.read_text()
        for case in CASES:
            if not only or case.name in only:
                do(case, seed)
                keep(case.name, case.row)
        if not only or "refine, shares" in only:
            keep("refine, shares", do_shares(seed))
        if not only or "refine, two at once" in only:
            keep("refine, two at once", do_pairs(seed))
        if not only or "stops" in only:
            keep("stops", do_stops(seed))
        if not only or "overhead" in only:
            keep("overhead", overhead(num_images))


if __name__ == "__main__":
    tyro.cli(main)
