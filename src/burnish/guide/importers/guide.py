"""A checkpoint of others as a guide: weights, normalization, and a card that says where from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from burnish.errors import InputError, shown, unknown
from burnish.foreign.reader import Checkpoint, read_checkpoint
from burnish.guide.importers.architectures import misfits
from burnish.guide.importers.layouts import ASKS_RELU, Layout, layout_of
from burnish.guide.importers.registry import FAMILIES, KNOWN, Known, Normalization
from burnish.guide.importers.state import Weights, choose, unwrap
from burnish.guide.model import Guide
from burnish.networks.build import build
from burnish.networks.fit import COUNTER, fault

LIBRARIES = ("timm", "torchvision")


@dataclass(frozen=True)
class Asked:
    """What the user says of a checkpoint; empty where it is to be found out."""

    family: str = ""
    """``FAMILY``, ``FAMILY/NAME``, ``timm/NAME`` or ``torchvision/NAME``."""
    mean: Sequence[float] = ()
    std: Sequence[float] = ()
    activation: str = ""
    index: int | None = None

    def __post_init__(self) -> None:
        family, _, name = self.family.partition("/")
        if self.family and family not in FAMILIES:
            raise unknown("family", family, FAMILIES)
        if name and family not in LIBRARIES and self.family not in KNOWN:
            known = [one for one in KNOWN if one.startswith(f"{family}/")]
            raise unknown(f"classifier of {family}", self.family, known)
        if bool(self.mean) != bool(self.std):
            raise InputError("--mean and --std belong together; give both")
        if len(self.mean) not in (0, 1, 3) or len(self.std) != len(self.mean):
            raise InputError("--mean and --std take one number, or one per channel")
        if not all(-1 <= one <= 1 for one in self.mean) or not all(
            0 < one <= 1 for one in self.std
        ):
            raise InputError(
                "means are from -1 to 1, deviations above 0 up to 1; pixels are in [0, 1]"
            )


def import_guide(path: Path, asked: Asked | None = None, known: str = "") -> Guide:
    """Read a checkpoint of others as a guide, in eval mode.

    The weights load strictly: every layer of the network is in the file, and everything in the
    file is used or named in ``card["origin"]["notes"]``.

    Args:
        path: The checkpoint.
        asked: What the user says of it.
        known: The name in the registry, if the file was fetched by it.

    Raises:
        InputError: It is no such checkpoint, does not fit, or leaves open what ``asked`` must say.
    """
    asked = asked or Asked()
    checkpoint = read_checkpoint(path)
    weights = unwrap(choose(checkpoint.content, asked.index, path), path)
    entry = _known(asked.family or known, checkpoint.sha256)
    family = asked.family or (entry.name if entry else weights.family)
    try:
        library = family if family.partition("/")[0] in LIBRARIES and "/" in family else ""
        layout = layout_of(weights.state, library)
        network = _complete(layout, entry, family, asked)
        (mean, std), said = _normalization(weights, entry, family, asked, layout)
        network |= {"mean": list(mean), "std": list(std)}
        model = build(network)
        state = {name: one for name, one in model.state_dict().items() if "normalize." in name}
        state |= layout.state
        if faults := misfits(model.state_dict(), state):
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            raise InputError(f"the weights do not fit: {faults[0]}{more}")
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if found := fault(state):
        raise InputError(f"{path}: {found}")
    counts = {n: x for n, x in model.state_dict().items() if n.endswith(COUNTER)}
    model.load_state_dict(counts | {name: _as(one, name) for name, one in state.items()})
    card = _card(path, checkpoint, entry, family, weights, layout, said)
    return Guide(model.eval(), card | {"network": network}).eval()


def describe(guide: Guide) -> str:
    """Return what was imported, and what was left out, in a few lines."""
    card, network = guide.card, guide.card["network"]
    origin = card["origin"]
    rest = {key: one for key, one in network.items() if key not in ("name", "mean", "std")}
    lines = [
        f"{shown(card['name'])}: {network['name']} with "
        + ", ".join(f"{k} {v}" for k, v in rest.items()),
        f"normalized by mean {network['mean']}, std {network['std']}, "
        f"as {origin['normalization_from']} has it",
        f"license: {card['license']}; trained against: {origin.get('threat', 'not stated')}",
        *origin["notes"],
    ]
    if origin["ignored"]:
        lines.append(f"not read: {', '.join(origin['ignored'])}")
    return "\n".join(lines)


def _as(values: torch.Tensor, name: str) -> torch.Tensor:
    return values if name.endswith(COUNTER) else values.float()


def _known(name: str, sha256: str) -> Known | None:
    if name in KNOWN:
        found = KNOWN[name]
        if found.sha256 and found.sha256 != sha256:
            raise InputError(f"this is not the file that is known as {name}: its SHA-256 differs")
        return found
    return next((one for one in KNOWN.values() if one.sha256 == sha256), None)


def _complete(layout: Layout, entry: Known | None, family: str, asked: Asked) -> dict[str, Any]:
    """Return the network with what its weights do not say."""
    network = dict(layout.network)
    kind = family.partition("/")[0]
    if network.get("preactivation") == "unknown":
        if not entry or not entry.preactivation:
            raise InputError(
                "where the shortcuts of a network with preactivation start cannot be told from "
                "its weights; --as robustbench/Rice2020Overfitting, if that is what it is"
            )
        network["preactivation"] = entry.preactivation
    if not layout.asks_activation:
        if asked.activation:
            raise InputError(f"the activation of {network['name']} is fixed; leave it out")
        return network
    given = asked.activation or (entry.activation if entry else "")
    if network["name"] == "library":
        if not given and kind in ("ares",):
            raise InputError(
                f"ResNets of ares come with two activations; --activation {ASKS_RELU}"
            )
        if given not in ("", "relu", "gelu"):
            raise unknown("activation", given, ["relu", "gelu"])
        return network | ({"gelu": True} if given == "gelu" else {})
    if not given and kind == "robustness":
        given = "relu"
    if not given:
        raise InputError(
            f"its activation cannot be told from the weights; --activation {ASKS_RELU}, or --as "
            "FAMILY/NAME if it is a known one"
        )
    return network | {"activation": given}


def _normalization(
    weights: Weights, entry: Known | None, family: str, asked: Asked, layout: Layout
) -> tuple[Normalization, str]:
    """Return by what images are normalized, and who says so."""
    given = (tuple(asked.mean), tuple(asked.std)) if asked.mean else None
    kind, _, name = family.partition("/")
    by_family = entry.normalization if entry else FAMILIES.get(kind)
    if kind == "timm" and name:
        by_family = _of_timm(name)
    found = [
        (weights.normalization, "the file"),
        (by_family, f"the registry ({family})"),
        (given, "the user"),
    ]
    known = [(one, who) for one, who in found if one is not None]
    if not known:
        raise InputError(
            "by what mean and deviation its images were normalized is not in the file; give "
            "--mean and --std as its authors say (0 and 1 for none), or --as FAMILY/NAME if known"
        )
    channels = layout.network["in_channels"]
    (mean, std), said = known[0]
    for (other, deviation), who in known[1:]:
        pairs = zip(
            _each(mean, 3) + _each(std, 3), _each(other, 3) + _each(deviation, 3), strict=True
        )
        if any(abs(a - b) > 1e-3 for a, b in pairs):
            raise InputError(
                f"{said} normalizes by {list(mean)}, {list(std)}, {who} by {list(other)}, "
                f"{list(deviation)}; leave out what is wrong"
            )
    if len(mean) not in (1, channels):
        raise InputError(f"its images have {channels} channels, but {len(mean)} means are given")
    if min(std) <= 0:
        raise InputError("a deviation of images in the file is not above 0")
    return (mean, std), said


def _each(values: Sequence[float], count: int) -> tuple[float, ...]:
    return tuple(values) * count if len(values) == 1 else tuple(values)


def _of_timm(name: str) -> Normalization | None:
    import timm

    settings: Any = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    return (tuple(settings.mean), tuple(settings.std)) if settings else None


def _card(
    path: Path, checkpoint: Checkpoint, entry: Known | None, family: str, weights: Weights,
    layout: Layout, said: str,
) -> dict[str, Any]:  # fmt: skip
    notes = [*weights.notes, *layout.notes, *([entry.note] if entry and entry.note else [])]
    origin: dict[str, Any] = {
        "file": path.name, "sha256": checkpoint.sha256, "family": family or "not stated",
        "normalization_from": said, "notes": notes, "ignored": list(checkpoint.ignored),
    }  # fmt: skip
    card: dict[str, Any] = {"name": path.stem, "kind": "classifier", "license": "not stated"}
    if entry:
        card |= {"name": entry.name, "license": entry.license, "data": entry.data}
        origin |= {"where": entry.where, "threat": entry.threat, "accuracy": entry.accuracy}
    if layout.side:
        card["image_shape"] = [layout.network["in_channels"], layout.side, layout.side]
    return card | {"origin": origin}
