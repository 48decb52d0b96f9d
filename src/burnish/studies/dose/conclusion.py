"""What :mod:`burnish.studies.dose.tune` says, in words with the numbers."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from burnish.refinement.settings import RefineSettings
from burnish.schema import plain
from burnish.studies.dose.verdict import (
    Row,
    Rule,
    choose,
    disagreement,
    from_to,
    harms,
    holds,
    score,
    shortfalls,
)

Verdict = Literal["use", "leave", "disagree"]

GRAIN = (
    "Networks trained on the guide's own kind of images reward fine grain, which {} takes for "
    "damage: the steps probably add grain. Look at the images; try precondition spectrum, "
    "match_spectrum, a smaller eps, or a guide trained on images of this generator"
)
OTHERWISE = "Look at the images, and trust none of the numbers until it is clear what was added"


def conclude(rows: Sequence[Row], confirmation: Sequence[Row], rule: Rule) -> tuple[Verdict, str]:
    """Return the verdict and its reasons.

    Args:
        rows: Those that :func:`~burnish.studies.dose.verdict.choose` chose from.
        confirmation: As they are, and with the choice, both on other images; empty without choice.
        rule: Who decides.
    """
    before, *tried = rows
    chosen = choose(rows, rule)
    if chosen is not None:
        name = settings_in_words(chosen["settings"])
        first, after = confirmation
        if against := holds(after, first, rule):
            return "leave", (
                f"Leave these images as they are. {name} was chosen on one half of the images, "
                f"and does not hold on the other: {'; '.join(against)}."
            )
        found = changes_in_words(after, first, rule)
        return "use", f"Use these settings: {name}. On the half that did not choose, {found}."
    if found := disagreement(rows):
        row, lower, higher = found
        guess = OTHERWISE
        if all(name in rule.independent for name in higher):
            guess = GRAIN.format(" and ".join(higher))
        return "disagree", (
            f"The extractors disagree, so nothing is recommended. At "
            f"{settings_in_words(row['settings'])}, FD falls by {', '.join(lower)}, while FD or "
            f"KID rises by {', '.join(higher)}: {changes_in_words(row, before, rule)}. {guess}."
        )
    nearest = min(tried, key=lambda row: score(row, before, rule))
    why = harms(nearest, before, rule) or shortfalls(nearest, before, rule)
    return "leave", (
        f"Leave these images as they are: of {len(tried)} settings none is sure to help. Nearest "
        f"comes {settings_in_words(nearest['settings'])}: {'; '.join(why)}."
    )


def settings_in_words(settings: Mapping[str, Any]) -> str:
    """Return what differs from the defaults, as one short line."""
    defaults = plain(RefineSettings())
    found = {name: value for name, value in settings.items() if value != defaults.get(name)}
    return ", ".join(f"{name} {value}" for name, value in found.items())


def changes_in_words(row: Row, before: Row, rule: Rule) -> str:
    """Return all changes of a setting, those of the deciding extractors first."""
    deciding = rule.deciding(row)
    parts = []
    for name in [*deciding, *(name for name in row["scores"] if name not in deciding)]:
        numbers = [
            f"{called} {from_to(row, before, name, key)}"
            for key, called in (
                ("fid", "FD"), ("kid", "KID"), ("precision", "precision"), ("recall", "recall")
            )
            if row["scores"][name].get(key) is not None
        ]  # fmt: skip
        parts.append(f"by {name}: {', '.join(numbers)}")
    return "; ".join(parts)
