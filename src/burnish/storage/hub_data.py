"""Data sets of the Hugging Face hub, as ``hub:OWNER/NAME`` or ``hub:OWNER/NAME:SPLIT``.

``datasets``, where it is installed, downloads them and keeps them as arrow streams, which are
then read like any others. Without it, parquet files of the hub open as ``hf://datasets/...``.
"""

import importlib
from pathlib import Path
from typing import Any

from burnish.errors import InputError
from burnish.storage.arrow import ArrowTable
from burnish.storage.sample_file import SampleFile
from burnish.storage.table import TableFile

PREFIX = "hub:"


def open_hub(name: str, batch_size: int) -> SampleFile:
    """Open a data set of the hub; the split is ``train`` unless named.

    Raises:
        InputError: ``datasets`` is not installed, or cannot load it.
    """
    repository, _, split = name.removeprefix(PREFIX).partition(":")
    try:
        datasets: Any = importlib.import_module("datasets")
    except ImportError as error:
        raise InputError(
            f"{name} needs the package datasets; pip install datasets, or read parquet files "
            f"as hf://datasets/{repository}/..."
        ) from error
    try:
        found = datasets.load_dataset(repository, split=split or "train")
        files = [Path(one["filename"]) for one in found.cache_files]
    except Exception as error:  # of many libraries below
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{name} cannot be loaded: {reason}") from error
    return TableFile(Path(name), batch_size, ArrowTable(files))
