"""Many raters at one server of a survey, which is killed in the middle: is an answer lost?

    python benchmarks/survey.py --json results/speed-survey.json

Raters open their page, load both images of each pair, think about as long as people do (1.2 s)
and vote. Half way the server is killed by signal 9 and started again; raters repeat what was not
acknowledged, as the page does. Then some raters vote without thinking, for the throughput.
"""

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import psutil
import torch
import tyro

from burnish.files import provenance, write_json
from burnish.samples import Samples
from burnish.storage.formats import write_samples
from burnish.survey.answers import read_answers
from burnish.survey.make import make_study
from burnish.survey.options import SurveyOptions
from burnish.survey.study import Study, load_study

THINK = 1.2  # seconds for an answer: dgm-eval's participants took 1.0 to 1.4
RETRY = 0.5


class Connection:
    """One kept-alive connection; opened again when it breaks."""

    def __init__(self, port: int) -> None:
        self.port, self.streams = port, None

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        try:
            if self.streams is None:
                self.streams = await asyncio.open_connection("127.0.0.1", self.port)
            reader, writer = self.streams
            head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = int(re.findall(r"Content-Length: (\d+)", answer)[0])
            return int(answer[9:12]), await reader.readexactly(length)
        except (OSError, EOFError):  # asyncio's IncompleteReadError is an EOFError
            self.close()
            raise

    def close(self) -> None:
        if self.streams:
            self.streams[1].close()
        self.streams = None


class Load:
    """All raters, what they were told is safe, and how long each request took."""

    def __init__(self, study: Study, port: int) -> None:
        self.study, self.port = study, port
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.safe: set[tuple[int, int]] = set()
        self.repeated = 0

    async def timed(self, kind: str, connection: Connection, *request) -> bytes:
        """Ask until there is a reply; only the request that got it is timed."""
        while True:
            began = time.perf_counter()
            try:
                status, body = await connection.ask(*request)
            except (OSError, EOFError):
                self.repeated += 1
                await asyncio.sleep(RETRY)
                continue
            assert status == 200, (status, body)
            self.seconds[kind].append(time.perf_counter() - began)
            return body

    async def rate(self, place: int, until: float, think: float) -> None:
        rater, rng = self.study.raters[place], random.Random(place)
        first, second = Connection(self.port), Connection(self.port)
        await asyncio.sleep(rng.random() * think)
        await self.timed("page", first, "GET", f"/r/{rater.token}")
        await self.timed("script", first, "GET", "/survey.js")
        state = json.loads(await self.timed("state", first, "GET", f"/r/{rater.token}/state"))
        for trial in range(state["next"], len(rater.trials)):
            if time.perf_counter() > until:
                break
            paths = [f"/r/{rater.token}/{name}.png" for name in rater.trials[trial].images]
            began = time.perf_counter()
            pair = zip((first, second), paths, strict=True)
            await asyncio.gather(*(self.timed("image", one, "GET", path) for one, path in pair))
            self.seconds["both images"].append(time.perf_counter() - began)
            await asyncio.sleep(rng.lognormvariate(0, 0.5) * think)
            vote = {"trial": trial, "choice": rng.choice(("left", "right", "tie")),
                    "seconds": think, "nonce": f"nonce-{rng.getrandbits(64):016x}"}  # fmt: skip
            body = json.dumps(vote).encode()
            await self.timed("vote", first, "POST", f"/r/{rater.token}/answer", body)
            self.safe.add((place, trial))
        first.close()
        second.close()

    async def run(self, raters: range, seconds: float, think: float) -> float:
        began = time.perf_counter()
        await asyncio.gather(*(self.rate(place, began + seconds, think) for place in raters))
        return time.perf_counter() - began


def start(folder: Path, port: int = 0) -> tuple[subprocess.Popen, int, float]:
    """Return a server, its port, and the seconds until it listened."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "burnish", "survey", "serve", str(folder), f"--port={port}"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout
    found = 0
    for line in server.stdout:
        if ports := re.findall(r"http://127.0.0.1:(\d+)/", line):
            found = int(ports[0])
        if "so far" in line:
            break
    return server, found, time.perf_counter() - began


def make(folder: Path, raters: int) -> Study:
    """Make a study of 32 x 32 images of noise, which are the largest to send."""
    rng = np.random.default_rng(0)
    files = {}
    for name in ("baseline", "refined"):
        images = torch.from_numpy(rng.random((600, 3, 32, 32), np.float32))
        files[name] = write_samples(
            folder / f"{name}.npz",
            [Samples(images, torch.arange(600) % 10, torch.arange(600))],
            600,
        )
    make_study(files, folder / "study", SurveyOptions(raters=raters, pairs_per_rater=500))
    return load_study(folder / "study")


async def drive(load: Load, raters: int, seconds: float) -> tuple[dict, subprocess.Popen]:
    """Let raters vote; kill the server half way and start it again."""
    server, load.port, _ = start(load.study.folder)
    voting = asyncio.create_task(load.run(range(raters), seconds, THINK))
    await asyncio.sleep(seconds / 2)
    server.send_signal(signal.SIGKILL)
    server.wait()
    killed = len(load.safe)
    server, _, away = await asyncio.to_thread(start, load.study.folder, load.port)
    await voting
    return {"safe_when_killed": killed, "seconds_until_it_listened_again": away}, server


def spread(seconds: list[float]) -> dict[str, float]:
    found = np.array(seconds) * 1000
    names = {"median": 50, "p95": 95, "p99": 99, "max": 100}
    return {"count": len(found), **{k: float(np.percentile(found, q)) for k, q in names.items()}}


def main(
    raters: int = 50, seconds: float = 300, hurried: int = 8, json: Path | None = None
) -> None:
    """Measure.

    Args:
        raters: Raters at once.
        seconds: How long they vote.
        hurried: Raters who then vote without thinking, for 20 s.
        json: Where to write the numbers.
    """
    with tempfile.TemporaryDirectory() as folder:
        study = make(Path(folder), raters + hurried)
        load = Load(study, 0)
        killed, server = asyncio.run(drive(load, raters, seconds))
        idle = psutil.Process(server.pid)
        result = {
            "raters": raters, "seconds": seconds, "seconds_of_thought": THINK,
            "cores": os.cpu_count(), "load_average": os.getloadavg()[0],
            "niceness": os.nice(0), **killed,
            "requests_repeated": load.repeated,
            "milliseconds": {kind: spread(found) for kind, found in load.seconds.items()},
            "server_mebibytes": idle.memory_info().rss / 2**20,
        }  # fmt: skip
        fast = Load(study, load.port)
        took = asyncio.run(fast.run(range(raters, raters + hurried), 20, 0))
        result["hurried"] = {
            "raters": hurried, "votes_per_second": len(fast.safe) / took,
            "milliseconds": spread(fast.seconds["vote"]),
        }  # fmt: skip
        server.send_signal(signal.SIGINT)
        server.wait()
        kept = [(a.rater, a.trial) for a in read_answers(study)[0]]
        result |= {
            "votes_acknowledged": len(load.safe | fast.safe),
            "votes_lost": len((load.safe | fast.safe) - set(kept)),
            "votes_twice": len(kept) - len(set(kept)),
            **provenance(),
        }
    for name, value in result.items():
        print(name, value)
    if json:
        write_json(json, result)


if __name__ == "__main__":
    tyro.cli(main)
