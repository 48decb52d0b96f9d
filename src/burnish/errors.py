"""The error for wrong input, and the message for a misspelled name."""

import difflib
from collections.abc import Iterable
from typing import Any


class InputError(ValueError):
    """The user's input cannot be used; the message says what, where and what to do.

    The command line prints the message on one line and exits with code 2.
    """


def unknown(kind: str, name: str, choices: Iterable[str]) -> InputError:
    """Return the error for an unknown name, with the nearest known one or a list of all.

    Choices in capitals stand for other names (``"PATH"``) and are never suggested.
    """
    choices, name = list(choices), name if isinstance(name, str) else repr(name)
    by_lower = {choice.lower(): choice for choice in choices if not choice.isupper()}
    count = 40
    while len(", ".join(choices[:count])) > 500:
        count -= 1
    some = ", ".join(choices[:count]) + ", ..." * (len(choices) > count)
    hint = f"choose from: {some}" if choices else "there is none to choose from"
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    if near and by_lower[near[0]] != name:  # what is refused is not recommended
        hint = f"did you mean {by_lower[near[0]]!r}?"
        if len(choices) <= 10:
            hint += f" Known: {some}"
    return InputError(f"unknown {kind} {shown(name)}; {hint}")


def shown(value: Any) -> str:
    """Return a value as messages show it: its beginning, on one line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
