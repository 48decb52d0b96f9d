"""What is said of a gain and its controls, on plain numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

# A control that gives this share of the gain, by all extractors that decide, accounts for it.
MOST = 0.8
CALLED = {"fid": "FD", "kid": "KID"}
GIVES = {
    "class frequencies": "taking the same images in other class frequencies",
    "blur": "a blur", "sharpen": "sharpening",
    "filter": "a linear filter to the spectrum of real images",
    "rejection": "dropping the quarter of lowest realness",
}  # fmt: skip


def account(result: Mapping[str, Any]) -> str:
    """Return in words what part of the gain each control explains, for the deciding extractors.

    Args:
        result: What :func:`burnish.studies.controls.explain.explained` returns.
    """
    said = [*filter(None, [_copies(result)])]
    names = [one["name"] for one in result["extractors"] if one["independent"]]
    names = names or [one["name"] for one in result["extractors"]]
    for name in names:
        said.append(_of(result, name))
    for control in result["shares"]:
        if accounts_for(result["shares"][control], names):
            what = GIVES.get(control, f"{control!r}")
            said.append(f"This is what {what} gives, not what refinement adds.")
    return " ".join(said)


def accounts_for(shares: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> bool:
    """Return whether a control gives most of every gain, by all of some extractors."""
    found = [shares[name][key] for name in names for key in CALLED if shares[name].get(key)]
    return bool(found) and all(one["share"] >= MOST for one in found)


def _copies(result: Mapping[str, Any]) -> str:
    same, repeats = result["unchanged"], result["repeated"]
    if same < 0.05 and repeats < 0.05:
        return ""
    return (
        f"Of the refined images {same:.0%} are baseline images without any change, and "
        f"{repeats:.0%} repeat others."
    )


def _of(result: Mapping[str, Any], name: str) -> str:
    first, after = (result["scores"][which][name] for which in ("baseline", "refined"))
    parts = []
    for key, called in CALLED.items():
        found = {c: shares[name].get(key) for c, shares in result["shares"].items()}
        moved = f"{called} goes from {first[key]:.4g} to {after[key]:.4g}"
        if not any(found.values()):
            parts.append(f"{moved}, which is no certain gain")
            continue
        told = ", ".join(
            f"{control} {s['share']:.0%} [{s['low']:.0%}, {s['high']:.0%}]"
            for control, s in found.items()
            if s
        )
        parts.append(f"{moved}; of that gain, alone: {told}")
    return f"By {name}, {'. '.join(parts)}."


def table(result: Mapping[str, Any]) -> str:
    """Return FD and KID of all sides and controls by every extractor, as a Markdown table."""
    names = [one["name"] for one in result["extractors"]]
    heads = [f"{called} by {name}" for name in names for called in CALLED.values()]
    lines = ["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for side, scores in result["scores"].items():
        cells = [f"{scores[name][key]:.4g}" for name in names for key in CALLED]
        lines.append(f"| {side} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
