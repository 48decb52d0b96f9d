"""Shares: which shards a process makes that knows only its own number."""

import os
import re
from typing import NamedTuple

from burnish.errors import InputError

# Ranks of torchrun and accelerate always run one command together. The tasks of an array may do
# something else each, so their variables are read only when asked.
RANKS = ("RANK", "WORLD_SIZE", "", "")
ARRAYS = (
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN",
     "SLURM_ARRAY_TASK_STEP"),
    ("SKYPILOT_JOB_RANK", "SKYPILOT_NUM_JOBS", "", ""),
)  # fmt: skip


class Share(NamedTuple):
    """Every ``size``-th shard, from the ``rank``-th on."""

    rank: int
    size: int


def find_share(share: str) -> Share:
    """Return the share that ``I/N`` means; of an empty text, that of a rank, or the whole.

    Args:
        share: ``I/N`` with I from 0 to N - 1; ``auto`` for what the environment says; or empty.

    Raises:
        InputError: It is no share, or ``auto`` finds none.
    """
    text = share
    if share in ("", "auto"):
        known = (*ARRAYS, RANKS) if share else (RANKS,)
        text = next(filter(None, (_from_environment(*names) for names in known)), "")
        if not text and not share:
            return Share(0, 1)
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if match and int(match[1]) < int(match[2]):
        return Share(int(match[1]), int(match[2]))
    hint = "write I/N, with I from 0 to N - 1"
    if share in ("", "auto"):
        said = f"says {text}" if text else "names no share"
        raise InputError(f"share {share!r}: the environment {said}; {hint}")
    raise InputError(f"share {share!r}: {hint}")


def _from_environment(rank: str, size: str, first: str, step: str) -> str:
    found, count = os.environ.get(rank, ""), os.environ.get(size, "")
    if found.isdecimal() and (least := os.environ.get(first, "")).isdecimal():
        by = os.environ.get(step, "")
        found = str((int(found) - int(least)) // (int(by) if by.isdecimal() and int(by) else 1))
    return f"{found}/{count}" if found and count else ""
