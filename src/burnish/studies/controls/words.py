"""What is said of a gain and its controls, on plain numbers."""

from collections.abc import Mapping
from typing import Any

from burnish.report.controls import CALLED, all_of_it, deciding, held_against


def account(result: Mapping[str, Any]) -> str:
    """Return in words what part of the gain each control explains, for the deciding extractors.

    Args:
        result: What :func:`burnish.studies.controls.score.score` returns.
    """
    said = [_pairing(result)] if "left_out" in result else []
    said += [
        f"{len(found['ids']):,} of {found['num_images']:,} {side} images are copies of real ones, "
        "pixel by pixel."
        for side, found in result.get("copies", {}).items()
    ]
    said += filter(None, [_unchanged(result)])
    said += [_of(result, name) for name in deciding(result)]
    said += all_of_it(result)
    if costs := result.get("more_steps"):
        said.append(_costs(**costs))
    return " ".join(said)


def _pairing(result: Mapping[str, Any]) -> str:
    apart = [name for name, is_paired in result["paired"].items() if not is_paired]
    said = "Paired: images with the same ids are compared"
    if "refined" in apart:
        said = "Not paired: baseline and refined share no ids, and count as two draws"
    if left := {name: count for name, count in result["left_out"].items() if count}:
        counts = ", ".join(f"{count:,} of {name}" for name, count in left.items())
        said += f"; left out, as not all sides have their ids: {counts}"
    if others := [name for name in apart if name != "refined"]:
        said += f"; images of their own, not paired: {', '.join(others)}"
    return f"{said}."


def _costs(num_steps: int, before: int, seconds: float, refine_seconds: float) -> str:
    said = (
        f"{num_steps} sampling steps in place of {before} take {seconds:.3g} s more per 1,000 "
        f"images; refining takes {refine_seconds:.3g} s"
    )
    if seconds <= 0:
        return f"{said}."
    equal = before + refine_seconds / (seconds / (num_steps - before))
    return f"{said}, as long as about {equal:.0f} steps."


def _unchanged(result: Mapping[str, Any]) -> str:
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
            f"{held_against(result, control)} {s['share']:.0%} [{s['low']:.0%}, {s['high']:.0%}]"
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
