"""Which code made a file: the facts that every result and sidecar carries."""

import json
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from burnish import __version__
from burnish.checkpoint import write_aside

__all__ = ["provenance", "sidecar_of", "write_json"]


def provenance() -> dict[str, str | None]:
    """Return versions and, in a git checkout of burnish, the commit ("-dirty" if changed)."""
    return {
        "burnish": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "commit": _commit(),
    }


def sidecar_of(path: Path) -> Path:
    """Return the JSON file beside a file of samples that says how they were made.

    Its name has all of the other's, so that ``r.npz`` and ``r.parquet`` each keep their own.
    """
    return path.with_name(f"{path.name}.card.json")


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write values as indented JSON at full precision, aside and then renamed."""
    with write_aside(path) as aside:
        aside.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n")


def _commit() -> str | None:
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        # An installed copy may lie inside somebody else's checkout; that commit would be a lie.
        if not (here.parents[1] / ".git").exists():
            return None
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
