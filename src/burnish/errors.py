"""The one kind of error that is the user's to mend, and the suggestion that goes with it."""

import difflib
from collections.abc import Iterable

__all__ = ["InputError", "unknown"]


class InputError(ValueError):
    """Something given to burnish is not usable; the message says what, where and what to do.

    The command line prints the message on one line and exits with code 2.
    """


def unknown(kind: str, name: str, choices: Iterable[str]) -> InputError:
    """Return the error for a misspelt name, with the nearest known one.

    Args:
        kind: What the name stands for, e.g. ``"preset"``.
        name: What was given.
        choices: The names that exist.
    """
    choices = sorted(choices)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    some = ", ".join(choices[:40]) + ", ..." * (len(choices) > 40)
    hint = f"did you mean {near[0]!r}?" if near else f"choose from: {some}"
    return InputError(f"unknown {kind} {name!r}; {hint}")
