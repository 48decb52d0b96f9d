"""Engines: who makes the shards of a plan. They only start workers, which share nothing but files.

* This process is the default. Where two run the same command, they share the work by themselves.
* ``--workers N``: several processes of this machine (:mod:`burnish.jobs.workers`).
* ``--share I/N``, and ranks of torchrun: a fixed part of the shards (:mod:`burnish.jobs.shares`).
* ``--engine ray``: actors of a Ray cluster (:mod:`burnish.jobs.ray_engine`).

Whoever finishes last writes the outputs.
"""

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from burnish.errors import InputError
from burnish.jobs.job import PLAN, Job, Shard
from burnish.jobs.locks import FINISH
from burnish.jobs.plan import Plan, Tick, job_path
from burnish.jobs.shares import find_share
from burnish.leftovers import clear_deleted
from burnish.progress import bar

# How often other processes are looked after, in seconds.
TICK = 0.1


def run(plan: Plan) -> dict[str, Any]:
    """Do the work of a plan; return the card, or {} where other processes have not finished.

    Raises:
        InputError: Shards could not be made. All others are finished and kept.
    """
    share = find_share(plan.job.share)
    folder = job_path(plan.out)
    if plan.job.restart and share.size > 1:
        raise InputError(f"--restart and shares do not go together; delete {folder} instead")
    with Job(folder, plan.frozen(), restart=plan.job.restart) as job:
        plan = _claimed(plan, job)
        shards = plan.shards()
        try:
            return _run(plan, job, shards, shards[share.rank :: share.size])
        except BaseException as error:
            if job.exists() and (job.is_idle() or _is_vain(plan, job, shards, error)):
                job.delete()
            elif job.exists():
                kept = sum(map(job.is_done, shards))
                error.add_note(
                    f"{kept} of {len(shards)} shards are kept in {job.folder}; give the same "
                    "command to go on"
                )
            raise


def _is_vain(plan: Plan, job: Job, shards: Sequence[Shard], error: BaseException) -> bool:
    """Return whether the same command would end in the same error."""
    # Of several workers, the error may be that they died.
    alone = (plan.job.workers or 1) == 1 and plan.job.engine == "local"
    refused = isinstance(error, InputError) and not plan.mendable
    return refused and (alone or all(map(job.is_done, shards))) and job.is_alone()


def tidy(plan: Plan) -> None:
    """Remove what killed processes left of a job whose output is whole."""
    folder = job_path(plan.out)
    with contextlib.suppress(InputError):  # the folder of another job
        if (folder / PLAN).exists():
            with Job(folder, plan.frozen()) as job:
                plan.adopt(job.plan, folder)
                if job.is_alone():
                    job.delete()
    clear_deleted(folder)


def _claimed(plan: Plan, job: Job) -> Plan:
    """Return the plan with what the job has chosen; replace a job that has done nothing."""
    try:
        return plan.adopt(job.plan, job.folder)
    except InputError:
        if not job.is_idle():
            raise
    job.restart(plan.frozen())
    return plan


def _run(plan: Plan, job: Job, shards: Sequence[Shard], mine: Sequence[Shard]) -> dict[str, Any]:
    engine = _engine(plan)
    while True:
        done = sum(shard.num_images for shard in mine if job.is_done(shard))
        total = sum(shard.num_images for shard in mine)
        options = {"initial": done, "unit": "image", "smoothing": 0.1}
        with bar(None, plan.kind, total, **options) as shown:
            engine(plan, job, mine, shown.update)
        if job.exists() and not all(map(job.is_done, shards)):
            missing = sum(not job.is_done(shard) for shard in shards)
            print(
                f"{plan.out}: this share is done, {missing} of {len(shards)} shards are with "
                "others; whoever finishes last writes the output",
                file=sys.stderr,
            )
            return {}
        card = _finish(plan, job, shards)
        if card is not None:
            return card


def _engine(plan: Plan) -> Callable[[Plan, Job, Sequence[Shard], Tick], None]:
    if plan.job.engine == "ray":
        from burnish.jobs.ray_engine import work_on_ray

        return work_on_ray
    if (plan.job.workers or 1) > 1:
        from burnish.jobs.workers import work_in_processes

        return work_in_processes
    return work


def work(plan: Plan, job: Job, shards: Sequence[Shard], tick: Tick) -> None:
    """Make shards in this process, beside others that may be at the same job.

    They are made as one stream. If that breaks, they are made one by one, to find the bad ones.

    Raises:
        InputError: Some cannot be made.
    """
    failed: dict[Shard, InputError] = {}
    whole = True
    while job.exists() and (missing := _missing(job, shards, failed)):
        parts = [missing] if whole else [[shard] for shard in missing]
        made, whole = 0, True
        for part in parts:
            try:
                for _ in plan.make(job.claim(part), job, tick):
                    made += 1
            except FileNotFoundError:  # others have finished the job, where there are no locks
                if job.exists():
                    raise
            except InputError as error:
                if len(part) == 1:
                    failed[part[0]] = error
                whole = len(part) == 1
        if whole and not made:
            time.sleep(TICK)  # the rest is with others; if they die, it is ours
    raise_failed(failed, len(shards))


def raise_failed(failed: dict[Shard, InputError], num_shards: int) -> None:
    """Raise what went wrong with shards, if anything did."""
    if not failed:
        return
    shard, error = next(iter(failed.items()))
    if num_shards == 1:
        raise error
    raise InputError(f"{len(failed)} of {num_shards} shards failed; {shard.name}: {error}")


def _missing(job: Job, shards: Sequence[Shard], failed: dict[Shard, InputError]) -> list[Shard]:
    return [shard for shard in shards if shard not in failed and not job.is_done(shard)]


def _finish(plan: Plan, job: Job, shards: Sequence[Shard]) -> dict[str, Any] | None:
    """Write the outputs, once; None if a shard is damaged and must be made again."""
    job.lock(FINISH, wait=True)
    if not job.exists():  # another process has written them
        return plan.finished() or {}
    records = [job.record(shard) for shard in shards]
    whole = [record for record in records if record is not None]
    if len(whole) < len(records):
        job.unlock(FINISH)
        return None
    shutil.rmtree(job.result, ignore_errors=True)
    job.result.mkdir()
    card = plan.finish(job, whole)
    job.publish(plan.out)
    job.delete()
    return card
