"""Several processes of this machine at one job, one per GPU."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from burnish.errors import InputError
from burnish.jobs.job import Job, Shard
from burnish.jobs.plan import Plan, Tick
from burnish.jobs.worker import open_plan

# How often workers are looked after, in seconds.
TICK = 0.2
# A worker that dies is replaced; so many deaths without a new shard between them end the job.
MAX_DEATHS = 3
FAILED = 3


def work_in_processes(plan: Plan, job: Job, shards: Sequence[Shard], tick: Tick) -> None:
    """Let processes make shards until all are made; replace those that die.

    Raises:
        InputError: Shards cannot be made, or workers keep dying.
    """
    context = multiprocessing.get_context("spawn")
    failures, numbers = context.SimpleQueue(), [shard.number for shard in shards]
    num_workers = plan.job.workers or 1

    def start(rank: int) -> BaseProcess:
        arguments = (rank, num_workers, job.folder.absolute(), numbers, failures)
        worker = context.Process(target=_work, args=arguments, name=f"worker {rank}", daemon=True)
        worker.start()
        return worker

    num_made, deaths = _num_made(job, shards), 0
    workers = [start(rank) for rank in range(min(num_workers, len(shards)))]
    try:
        while any(worker.exitcode not in (0, FAILED) for worker in workers):
            time.sleep(TICK)
            made = _num_made(job, shards)
            tick(made - num_made)
            num_made, deaths = made, 0 if made > num_made else deaths
            for rank, worker in enumerate(workers):
                if worker.exitcode in (None, 0, FAILED):
                    continue
                deaths += 1
                if deaths == MAX_DEATHS:
                    raise InputError(
                        f"workers keep ending with code {worker.exitcode}, maybe for lack of "
                        "memory; give fewer --workers or a smaller --batch-size"
                    )
                workers[rank] = start(rank)
        tick(_num_made(job, shards) - num_made)
        if not failures.empty():
            raise InputError(failures.get())
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _num_made(job: Job, shards: Sequence[Shard]) -> int:
    return sum(shard.num_images for shard in shards if job.is_done(shard))


def _work(
    rank: int, num_workers: int, folder: Path, numbers: Sequence[int], failures: Any
) -> None:
    """Make shards beside other workers; what goes wrong is put into ``failures``."""
    from burnish.jobs.engines import work

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one hears it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["LOCAL_RANK"] = str(rank)
    torch.set_num_threads(max(1, torch.get_num_threads() // num_workers))
    try:
        plan = open_plan(folder)
        with Job(folder, plan.frozen()) as job:
            shards = plan.shards()
            work(plan, job, [shards[number] for number in numbers], lambda _: None)
    except (InputError, OSError) as error:  # of the system: a full disk, for one
        failures.put(str(error))
        raise SystemExit(FAILED) from error


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)
