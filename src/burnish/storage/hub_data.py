"""Data sets of the Hugging Face hub, as ``hub:OWNER/NAME`` or ``hub:OWNER/NAME:SPLIT``.

``datasets``, where it is installed, downloads them and keeps them as arrow streams, which are
then read like any others; it turns files of parquet into such, too. Without it, parquet files of
the hub open as ``hf://datasets/...``.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from burnish.errors import InputError
from burnish.files import cache_folder
from burnish.storage.arrow import ArrowTable
from burnish.storage.sample_file import SampleFile
from burnish.storage.table import TableFile

PREFIX = "hub:"


def open_hub(name: str, batch_size: int) -> SampleFile:
    """Open a data set of the hub; the split is ``train`` unless named.

    Raises:
        InputError: ``datasets`` is not installed, or cannot load it.
    """
    return TableFile(Path(name), batch_size, ArrowTable(hub_files(name)))


def hub_files(name: str) -> list[Path]:
    """Return the arrow streams of such a data set; raises as :func:`open_hub` does."""
    repository, _, split = name.removeprefix(PREFIX).partition(":")
    instead = f"read parquet files as hf://datasets/{repository}/..."
    return _streams(name, instead, repository, split=split or "train")


def as_arrow(parquet: Sequence[Path]) -> list[Path]:
    """Return parquet files as arrow streams, which are written to the cache folder once.

    Raises:
        InputError: ``datasets`` is not installed, or cannot read them.
    """
    instead = "save them as folders or .tar"
    files = [str(one.absolute()) for one in parquet]
    where = str(cache_folder() / "datasets")
    return _streams(
        str(parquet[0]), instead, "parquet", data_files=files, split="train", cache_dir=where
    )


def _streams(name: str, instead: str, kind: str, **options: Any) -> list[Path]:
    try:
        datasets: Any = importlib.import_module("datasets")
    except ImportError as error:
        raise InputError(
            f"{name} needs the package datasets; pip install datasets, or {instead}"
        ) from error
    try:
        found = datasets.load_dataset(kind, **options)
        return [Path(one["filename"]) for one in found.cache_files]
    except Exception as error:  # of many libraries below
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{name} cannot be loaded: {reason}") from error
