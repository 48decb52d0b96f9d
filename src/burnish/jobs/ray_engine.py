"""Actors of a Ray cluster at one job: one per GPU, or one per few cores where there is none.

An actor opens the plan from the job's folder, and makes one shard at a time, which it keeps there.
Through Ray go the numbers of shards and what went wrong, but no images. Whatever dies, the shards
that are finished stay: another actor makes the shard of a dead one, and another driver goes on
with the job of a dead one.
"""

import contextlib
import os
import socket
import sys
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from burnish.errors import InputError
from burnish.files import read_json
from burnish.jobs.engines import raise_failed
from burnish.jobs.job import PLAN, Job, Shard
from burnish.jobs.plan import Plan, Tick
from burnish.jobs.ray_cluster import cluster, first_line, living_nodes, needs, room
from burnish.jobs.worker import open_plan

# How often the cluster is looked after, in seconds.
TICK = 1.0
# A shard that kills so many actors on nodes that live has failed.
MAX_DEATHS = 3
# After so many seconds without any actor, say so.
PATIENCE = 60.0
# So long may a network file system not show what another node has written.
LAG = 120.0
SHARE = "choose an --out (or a BURNISH_CACHE) on storage that all nodes share"


class Worker:
    """One actor."""

    def open(self, folder: str, plan: dict[str, Any]) -> tuple[str, str]:
        """Open a job; return the id of this node, and what is wrong, empty if nothing."""
        import ray

        node, host = ray.get_runtime_context().get_node_id(), socket.gethostname()
        try:
            if not (Path(folder) / PLAN).is_file() or read_json(Path(folder) / PLAN) != plan:
                return node, f"node {host} does not see {folder}; {SHARE}"
            self.job = Job(Path(folder), plan)
            self.plan = open_plan(Path(folder))
            self.shards = self.plan.shards()
        except (InputError, OSError) as error:
            return node, f"node {host}: {error}"
        return node, ""

    def make(self, number: int) -> tuple[str, str]:
        """Make a shard; return ``made``, ``busy`` or ``failed``, and why it failed."""
        shard = self.shards[number]
        try:
            for _ in self.plan.make(self.job.claim([shard]), self.job, lambda _: None):
                return "made", ""
        except InputError as error:
            return "failed", str(error)
        if self.job.is_done(shard):
            return "made", ""
        time.sleep(TICK)  # another process makes it; if that dies, it is ours
        return "busy", ""


def work_on_ray(plan: Plan, job: Job, shards: Sequence[Shard], tick: Tick) -> None:
    """Let actors make shards until all are made; replace those that die.

    Raises:
        InputError: Shards cannot be made, actors cannot be started or keep dying, or they do not
            see the job's folder.
    """
    if plan.device.startswith("cuda:"):
        raise InputError(f"Ray chooses the GPUs; give --device cuda and not {plan.device}")
    if plan.device == "cuda":
        torch.cuda.empty_cache()  # an actor may get the GPU that planning has measured on
    with cluster() as ray:
        pool = _Pool(ray, plan, job, shards, tick)
        try:
            pool.run()
        finally:
            pool.close()
    _await(job, [shard for shard in shards if shard not in pool.failed])
    raise_failed(dict(sorted(pool.failed.items())), len(shards))


@dataclass(eq=False)
class _Actor:
    handle: Any
    node: str = ""
    """Known once it has opened the job."""
    shard: Shard | None = None
    """None until it has opened the job."""


class _Pool:
    """The actors of a job; each has exactly one call under way."""

    def __init__(
        self, ray: Any, plan: Plan, job: Job, shards: Sequence[Shard], tick: Tick
    ) -> None:
        self.ray, self.plan, self.job, self.tick = ray, plan, job, tick
        self.queue = deque(shard for shard in shards if not job.is_done(shard))
        self.failed: dict[Shard, InputError] = {}
        self.calls: dict[Any, _Actor] = {}
        self.deaths = defaultdict[Shard, list[str]](list)
        self.in_vain, self.most = 0, 1
        """Deaths since a shard was settled, and the most actors that were wanted."""
        self.patience = time.monotonic() + PATIENCE

    def run(self) -> None:
        """Make all shards that can be made."""
        while self.job.exists() and (self.queue or any(one.shard for one in self.calls.values())):
            self._adjust()
            done, _ = self.ray.wait(list(self.calls), timeout=TICK)
            for call in done:
                self._take(call, self.calls.pop(call))
            if time.monotonic() > self.patience:
                self.patience = float("inf")
                each = needs(living_nodes(self.ray), self.plan.device)
                wanted = ", ".join(f"{name} {amount}" for name, amount in each.items())
                print(f"waiting for a Ray node with {wanted} free", file=sys.stderr)

    def close(self) -> None:
        """End all actors."""
        for actor in self.calls.values():
            self._kill(actor)
        self.calls.clear()

    def _adjust(self) -> None:
        """Start the actors that are missing; give up those that wait for room and have no work.

        Those that find no room wait without being in the way, and tell an autoscaler to make some.
        """
        nodes = living_nodes(self.ray)
        each = needs(nodes, self.plan.device)
        num_busy = sum(actor.shard is not None for actor in self.calls.values())
        wanted = min(
            self.plan.job.workers or max(1, room(nodes, each)), num_busy + len(self.queue)
        )
        self.most = max(self.most, wanted)
        remote = self.ray.remote(Worker).options(
            num_cpus=each["CPU"], num_gpus=each.get("GPU", 0), max_restarts=0
        )
        while len(self.calls) < wanted:
            handle = remote.remote()
            call = handle.open.remote(str(self.job.folder.absolute()), self.job.plan)
            self.calls[call] = _Actor(handle)
        for call, actor in reversed(list(self.calls.items())):
            if len(self.calls) > wanted and actor.shard is None:
                self._kill(self.calls.pop(call))

    def _take(self, call: Any, actor: _Actor) -> None:
        """Hear what an actor says, and give it a shard."""
        shard = actor.shard
        try:
            answer, text = self.ray.get(call)
        except self.ray.exceptions.RayError as error:
            self._lost(actor, error)
            return
        if shard is None:
            actor.node, self.patience = answer, float("inf")
            if text and self.job.exists():
                self._kill(actor)
                raise InputError(text)
        elif answer == "busy":
            self.queue.append(shard)
        else:
            self.in_vain = 0
            self.tick(shard.num_images)
            if answer == "failed":
                self.failed[shard] = InputError(text)
        while self.queue:
            actor.shard = self.queue.popleft()
            if not self.job.is_done(actor.shard):
                self.calls[actor.handle.make.remote(actor.shard.number)] = actor
                return
            self.tick(actor.shard.num_images)  # made by others
        self._kill(actor)

    def _lost(self, actor: _Actor, error: Exception) -> None:
        """Give the shard of an actor that broke to another one, unless it has broken several."""
        self._kill(actor)  # it may only be out of reach
        alive, shard = living_nodes(self.ray), actor.shard
        # What ends with its node is not at fault. It may take a while until a node counts as dead.
        self.in_vain += actor.node in alive or not actor.node
        if shard is not None:
            self.deaths[shard].append(actor.node)
            if sum(node in alive for node in self.deaths[shard]) < MAX_DEATHS:
                self.queue.append(shard)
            else:
                self.failed[shard] = InputError(f"{MAX_DEATHS} workers broke: {_reason(error)}")
                self.in_vain = 0
                self.tick(shard.num_images)
        if self.in_vain > MAX_DEATHS * self.most:
            raise InputError(f"Ray workers keep breaking: {_reason(error)}")

    def _kill(self, actor: _Actor) -> None:
        with contextlib.suppress(Exception):
            self.ray.kill(actor.handle)


def _await(job: Job, shards: Sequence[Shard]) -> None:
    """Wait until shards that other nodes have made are seen here.

    Raises:
        InputError: They are not.
    """
    latest = time.monotonic() + LAG
    while job.exists() and not all(map(job.is_done, shards)):
        if time.monotonic() > latest:
            raise InputError(f"shards that Ray has made are not seen in {job.folder}; {SHARE}")
        os.listdir(job.folder)  # makes a network file system look again
        time.sleep(TICK)


def _reason(error: Exception) -> str:
    """Return in a few words why an actor broke."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):
        return f"{type(cause).__name__}: {first_line(cause)}"
    return (
        f"{first_line(error)} Maybe memory is short (give a smaller --batch-size), or a node "
        "lacks what burnish needs (install the same burnish on all)"
    )
