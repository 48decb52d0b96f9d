"""Scoring a file of images against real ones, by name or by path."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from tqdm import tqdm

from burnish.errors import InputError, unknown
from burnish.files import check_target, provenance
from burnish.hub import shipped
from burnish.metrics.evaluate import evaluate
from burnish.metrics.features import FeatureExtractor
from burnish.metrics.load import load_extractor
from burnish.metrics.reference import Reference, make_reference
from burnish.samples import Samples, to_uint8
from burnish.storage.datasets import load_dataset
from burnish.storage.formats import open_samples
from burnish.storage.sample_file import SampleFile

__all__ = ["evaluate_file", "load_reference", "reference_path", "shown"]

DEFAULT_EXTRACTOR = "inception-v3-compat"
ROWS = re.compile(r"(.+)\[(\d+-\d+)\]")


def evaluate_file(
    generated: Path,
    reference: str,
    feature_extractor: str | None = None,
    *,
    num_neighbors: int = 3,
    batch_size: int = 250,
    device: str = "cpu",
    save_reference: Path | None = None,
) -> dict[str, Any]:
    """Return the metrics of a file of images, see :func:`burnish.metrics.evaluate`.

    Args:
        generated: The file.
        reference: The name of shipped statistics, an ``.npz`` with them, or real images.
        feature_extractor: Name or path; None takes the judge of shipped statistics.
        num_neighbors: k of precision and recall.
        batch_size: Images per network call.
        device: Where to compute.
        save_reference: Where to keep the statistics of real images.

    Raises:
        InputError: Something is missing or does not fit together.
    """
    file = open_samples(generated, batch_size)
    if num_neighbors < 1:
        raise InputError(f"num_neighbors must be at least 1, not {num_neighbors}")
    real_path = reference_path(reference)
    if reference not in shipped("reference") and not real_path.exists():
        if real_path.suffix:
            raise InputError(f"no such reference: there is no {real_path}")
        if not ROWS.fullmatch(reference):
            raise unknown("reference", reference, [*shipped("reference"), "PATH"])
    if save_reference:
        check_target(save_reference, generated, real_path)
        if save_reference.suffix != ".npz":
            raise InputError(f"{save_reference}: statistics are kept as .npz")
    if feature_extractor is None:
        feature_extractor = reference if reference in shipped("features") else DEFAULT_EXTRACTOR
    extractor = load_extractor(feature_extractor, device)
    try:
        extractor(to_uint8(next(iter(file)).images[:1]))
    except RuntimeError as error:
        shape = list(file.image_shape)
        raise InputError(f"{extractor.name} does not take images of shape {shape}") from error
    real = load_reference(reference, extractor, batch_size)
    if save_reference:
        real.save(save_reference)
    with tqdm(total=len(file), desc="evaluate", unit="image") as bar:
        result = evaluate(
            file,
            real,
            extractor,
            num_neighbors=num_neighbors,
            progress=lambda done: bar.update(done - bar.n),
        )
    return {"generated": str(generated), **result, **provenance()}


def reference_path(name: str) -> Path:
    """Return the path that a reference names, without its rows."""
    rows = ROWS.fullmatch(name)
    return Path(rows[1] if rows else name)


def load_reference(name: str, extractor: FeatureExtractor, batch_size: int = 250) -> Reference:
    """Return the reference of a name or path, made now if it is a set of real images.

    Some rows of a labelled set are meant by ``NAME_OR_PATH[first-last]``, e.g. ``digits[0-99]``.

    Raises:
        InputError: It does not exist, or was made with another extractor.
    """
    known = shipped("reference")
    if name in known or _holds_statistics(Path(name)):
        return Reference.load(known.get(name, Path(name)), extractor=extractor)
    if rows := ROWS.fullmatch(name):
        data = load_dataset(rows[1], rows[2])
        parts = (
            data.samples(slice(start, start + batch_size))
            for start in range(0, len(data), batch_size)
        )
        return make_reference(parts, extractor, source=name, num_images=len(data))
    file = open_samples(name, batch_size)
    return make_reference(shown(file), extractor, source=name, num_images=len(file))


def shown(file: SampleFile) -> Iterator[Samples]:
    """Yield the batches of a file of real images, with a progress bar."""
    with tqdm(total=len(file), desc="reference", unit="image") as bar:
        for batch in file:
            yield batch
            bar.update(len(batch))


def _holds_statistics(path: Path) -> bool:
    if path.suffix != ".npz" or not path.is_file():
        return False
    try:
        with ZipFile(path) as archive:
            return "mu.npy" in archive.namelist()
    except BadZipFile:
        return False
