"""A Ray cluster: connecting to it, and what its nodes have."""

import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from burnish.errors import InputError

# Cores of an actor without GPU, at most; more make one network of small images hardly faster.
MAX_CPUS = 8
KNOCK_SECONDS = 10.0


@contextlib.contextmanager
def cluster() -> Iterator[Any]:
    """Give ``ray``, connected to the cluster of ``RAY_ADDRESS``, else to that of this machine.

    If there is none, one is started on this machine, and ended with the block.

    Raises:
        InputError: The cluster does not answer, or none can be started.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Below ``uv run``, Ray would pack up the project and install it anew for every worker.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    # Without it, Ray announces a change of its own.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        yield ray
        return
    before = signal.getsignal(signal.SIGTERM)
    where = os.environ.get("RAY_ADDRESS", "")
    reach(where)
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:
        what = f"connect to the Ray cluster {where} (RAY_ADDRESS)" if where else "start Ray here"
        raise InputError(f"cannot {what}: {first_line(error)}") from error
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, before)  # Ray has put its own in this place
    try:
        # There Ray says what has died, maybe in the middle of what a command prints.
        with contextlib.redirect_stdout(sys.stderr):
            yield ray
    finally:
        ray.shutdown()


def reach(address: str) -> None:
    """Knock at ``host:port`` or ``ray://host:port``; Ray itself would wait for minutes.

    Raises:
        InputError: Nobody is there, or it is no address.
    """
    if address in ("", "auto", "local"):
        return
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        with socket.create_connection((parts.hostname or "", parts.port or 0), KNOCK_SECONDS):
            pass
    except (OSError, ValueError) as error:
        raise InputError(
            f"no Ray cluster answers at {address} (RAY_ADDRESS): {first_line(error)}"
        ) from error


def living_nodes(ray: Any) -> dict[str, dict[str, float]]:
    """Return what each node has, such as ``CPU`` and ``GPU``, by its id."""
    return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}


def needs(nodes: Mapping[str, Mapping[str, float]], device: str) -> dict[str, int]:
    """Return what an actor needs of its node: a GPU, or a few cores, which every node has."""
    if device == "cuda":
        return {"CPU": 1, "GPU": 1}
    cores = [int(has["CPU"]) for has in nodes.values() if has.get("CPU", 0) >= 1]
    return {"CPU": min(MAX_CPUS, *cores) if cores else 1}


def room(nodes: Mapping[str, Mapping[str, float]], needs: Mapping[str, int]) -> int:
    """Return how many actors find room if nobody else is there."""
    return sum(
        min(int(has.get(name, 0) // amount) for name, amount in needs.items())
        for has in nodes.values()
    )


def first_line(error: Exception) -> str:
    """Return the first line of what an error says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
