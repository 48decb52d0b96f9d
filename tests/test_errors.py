"""An unknown name is answered with the nearest known one, or with a list."""

import pytest

from burnish.errors import unknown


@pytest.mark.parametrize(
    ("name", "choices", "hint"),
    [
        ("jiont", ["joint", "bigroc"], "did you mean 'joint'? Known: joint, bigroc"),
        ("BIGROC", {"joint": 1, "bigroc": 2}, "did you mean 'bigroc'? Known: joint, bigroc"),
        ("xyz", ["joint", "PATH"], "choose from: joint, PATH"),
        ("PTH", ["joint", "PATH"], "choose from: joint, PATH"),
        ("xyz", [], "there is none to choose from"),
        ("n100", [f"n{i}" for i in range(99)], "did you mean 'n10'?"),
        ("judge", ["judge"], "choose from: judge"),  # what is refused is not recommended
        ("xyz", "a" * 41, "choose from: " + "a, " * 40 + "..."),
        ("xyz", ["a" * 98] * 9, "choose from: " + ("a" * 98 + ", ") * 5 + "..."),
    ],
)
def test_hint_of_an_unknown_name(name, choices, hint):
    assert str(unknown("preset", name, choices)) == f"unknown preset {name!r}; {hint}"
