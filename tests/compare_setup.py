"""Results of evaluate to compare: some features, and the same ones nearer to the real ones."""

import shutil

import numpy as np
import pytest
import torch

from burnish.cli.main import main
from burnish.files import write_json
from burnish.metrics.evaluate import compare as score
from burnish.metrics.features import NetworkExtractor
from burnish.metrics.influence import influence_path, write_influences
from burnish.metrics.moments import moments_of
from burnish.metrics.reference import Reference

RNG = np.random.default_rng(0)
REAL, BASE = RNG.standard_normal((300, 6)), RNG.standard_normal((200, 6)) * 1.3
BETTER = 0.9 * BASE


def extractor(name):
    return NetworkExtractor(torch.nn.Identity(), name, name.ljust(64, "0"))


def write(path, rows, *, resizer="tf1", ids=None, real=REAL, **options):
    reference = Reference(moments_of(real), real, len(real), None, None, "real")
    found = {}
    result = score(
        rows, None, reference, extractor(f"inception:{resizer}"), influences=found, **options
    )
    ids = np.arange(len(rows)) if ids is None else ids
    write_influences(influence_path(path), ids, found, result["fingerprint"])
    write_json(path, {**result, "burnish": "0.1.0", "torch": "2"})
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    write(folder / "base.json", BASE)
    write(folder / "better.json", BETTER)
    return folder


@pytest.fixture
def pair(made, tmp_path):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path / "base.json", tmp_path / "better.json"


def run(*arguments):
    """Return the exit code of a command."""
    try:
        main(["compare", *map(str, arguments)])
    except SystemExit as error:
        return error.code
    return 0
