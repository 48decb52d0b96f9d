"""``dataset.json`` of EDM and StyleGAN: the labels of a folder or zip of images.

``{"labels": [["00000/img00000000.png", 6], ...]}``, or ``{"labels": null}``. burnish adds
``classes`` (the names of the labels) and ``ids``, where there are such; other readers skip them.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from burnish.errors import InputError
from burnish.storage.sample_file import printable

NAME = "dataset.json"
MAX_BYTES = 2**28


class Facts(NamedTuple):
    """What is known of images, in their order."""

    labels: Tensor | None
    ids: Tensor | None
    classes: list[str] | None


def read_facts(path: Path, content: bytes, names: Sequence[str]) -> Facts:
    """Read the labels of these images.

    Args:
        path: The folder or zip, for messages.
        content: The bytes of ``dataset.json``.
        names: The images, relative to the folder or zip.

    Raises:
        InputError: It is damaged, an image has no label, or a label is no class.
    """
    where = f"{path}: {NAME}"
    try:
        held = json.loads(content)
        listed = held["labels"]
        pairs = [] if listed is None else [(name, label) for name, label in listed]
        label_of: dict[str, Any] = {name.replace("\\", "/"): label for name, label in pairs}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        said = 'write {"labels": [["a.png", 0], ...]} or {"labels": null}'
        raise InputError(f"{where} is not one of EDM; {said}") from error
    if len(label_of) < len(pairs):
        raise InputError(f"{where} names an image twice; keep one label of each")
    labels = None
    if listed is not None:
        labels = torch.empty(len(names), dtype=torch.int64)
        for row, name in enumerate(names):
            label = label_of.get(name)
            if type(label) is not int or not 0 <= label < 2**63:
                found = (
                    "no label" if name not in label_of else f"the label {printable(label)[:40]}"
                )
                raise InputError(
                    f"{where} has {found} for {printable(name)}; it needs a class number"
                )
            labels[row] = label
    ids, classes = held.get("ids"), held.get("classes")
    whole = isinstance(ids, list) and all(type(i) is int and abs(i) < 2**63 for i in ids)
    if ids is not None and not (whole and len(ids) == len(names)):
        raise InputError(f"{where}: ids must be {len(names)} integers, one per image")
    if classes is not None and not is_names(classes):
        raise InputError(f"{where}: classes must be a list of names")
    return Facts(labels, None if ids is None else torch.tensor(ids), classes)


def is_names(values: object) -> bool:
    """Return whether these are names of classes."""
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def facts_text(
    names: Iterator[str], labels: Sequence[int] | None, ids: Sequence[int] | None,
    classes: Sequence[str] | None,
) -> Iterator[str]:  # fmt: skip
    """Yield a ``dataset.json`` piece by piece; a list of all pairs would cost memory."""
    if labels is None:
        yield '{"labels": null'
    else:
        pairs = (json.dumps([name, label]) for name, label in zip(names, labels, strict=True))
        yield '{"labels": ['
        yield next(pairs)
        yield from chain.from_iterable((", ", pair) for pair in pairs)
        yield "]"
    if classes is not None:
        yield f', "classes": {json.dumps(list(classes))}'
    if ids is not None:
        yield ', "ids": ['
        yield str(ids[0])
        yield from (f", {number}" for number in ids[1:])
        yield "]"
    yield "}"
