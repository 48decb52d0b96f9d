"""Settings are read from plain values; what is misspelt, mistyped or out of range is refused."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from burnish.errors import InputError
from burnish.schema import Range, check, plain, read, settings_of


@dataclass(frozen=True)
class Inner:
    rate: Annotated[float, Range(0, above=True)] = 0.5
    """How fast."""
    steps: tuple[int, ...] = ()
    flip: bool = False

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Needed:
    first: int
    second: dict[str, int]
    third: int = 0


@dataclass(frozen=True)
class Outer(Inner):
    count: int = 3
    """How many,
    over two lines."""
    mode: Literal["fast", "slow"] = "fast"
    top: Annotated[float | None, Range(high=1)] = 1.0
    inner: Inner = Inner()
    weights: dict[str, float] = field(default_factory=dict)
    folder: Path = Path("here")
    anything: Any = None


@pytest.mark.parametrize("values, names", [({}, "first, second"), ({"first": 1}, "second")])
def test_what_lacks_is_named_without_names_of_python(values, names):
    with pytest.raises(InputError, match=f"^x.json lacks {names}; add it, or name another file$"):
        read(Needed, values, "x.json")


def test_values_of_every_type_reach_their_place():
    found = read(
        Outer,
        {
            "rate": "1e-3",  # YAML takes 1e-3 for text, because it has no dot
            "steps": [1, 2], "flip": True, "count": 5, "mode": "slow", "top": None,
            "inner": {"rate": 2}, "weights": {"a": 1}, "folder": "there", "anything": [1, "x"],
        },
        "here",
    )  # fmt: skip
    assert found == Outer(
        0.001, (1, 2), True, 5, "slow", None, Inner(2.0), {"a": 1.0}, Path("there"), [1, "x"]
    )
    assert type(found.inner.rate) is float and read(Outer, {}, "here") == Outer()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"cuont": 1}, "here: .*did you mean 'count'"),
        ({"inner": {"raet": 1}}, "here: inner: .*did you mean 'rate'"),
        ({"count": "many"}, "here: count: expected a whole number, not 'many'"),
        ({"count": 1.5}, "count: expected a whole number"),
        ({"count": True}, "count: expected a whole number"),
        ({"flip": 1}, "flip: expected true or false"),
        ({"rate": "fast"}, "rate: expected a number, not 'fast'"),
        ({"rate": True}, "rate: expected a number"),
        ({"rate": 0}, "here: rate must be above 0, not 0"),
        ({"rate": math.nan}, "rate: expected a number, not nan"),
        ({"rate": math.inf}, "rate must be above 0"),
        ({"inner": {"rate": -1}}, "here: inner: rate must be above 0"),
        ({"top": 1.5}, "top must be at most 1"),
        ({"top": "high"}, "top: expected a number"),
        ({"steps": 5}, "steps: expected a list"),
        ({"steps": ["a"]}, "steps: expected a whole number"),
        ({"mode": "fsat"}, "mode: .*did you mean 'fast'"),
        ({"mode": ["fast"]}, "mode"),
        ({"count": 10**30}, "count: expected a whole number, not 1000"),
        ({"rate": 10**400}, "rate: expected a number"),
        ({"inner": {"steps": [10**30]}}, "inner: steps: expected a whole number"),
        ({"count": "x" * 10_000}, r"count: expected a whole number, not 'x+\.\.\.$"),
        ({"weights": {"a": math.nan}}, "weights: a: expected a number, not nan"),
        ({"inner": None}, "inner: expected keys and values"),
        ({"weights": ["a"]}, "weights: expected keys and values"),
        ({"weights": {"a": "much"}}, "weights: a: expected a number"),
        ({"folder": 3}, "folder: expected a path"),
        (["a"], "here: expected keys and values"),
    ],
)
def test_faults_name_their_place(values, reason):
    with pytest.raises(InputError, match=reason) as caught:
        read(Outer, values, "here")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("span", "inside", "outside"),
    [
        (Range(0, 1), [0, 0.5, 1], [-0.1, 1.1, math.nan]),
        (Range(0, 1, above=True, below=True), [0.5], [0, 1]),
        (Range(0), [0, 1e9], [math.inf, -1]),
        (Range(0, finite=False), [math.inf], [-math.inf, math.nan]),
        (Range(), [-5, 5], [math.inf, -math.inf, math.nan]),
    ],
)
def test_ranges(span, inside, outside):
    assert all(value in span for value in inside)
    assert not any(value in span for value in outside)


def test_fields_are_known_with_ranges_choices_and_help():
    found = {setting.name: setting for setting in settings_of(Outer)}
    assert list(found)[:4] == ["rate", "steps", "flip", "count"]
    assert found["rate"].range == Range(0, above=True) and found["rate"].help == "How fast."
    assert found["count"].help == "How many, over two lines." and found["count"].default == 3
    assert found["mode"].choices == ("fast", "slow")
    assert found["top"].optional and found["top"].type is float
    assert not found["rate"].optional and found["flip"].help == ""


def test_plain_values_are_strict_json():
    found = plain(Outer(rate=2.0, steps=(1, 2), top=None, anything={"a": (math.inf,)}))
    assert found["steps"] == [1, 2] and found["anything"] == {"a": ["inf"]}
    assert found["folder"] == "here" and found["inner"]["rate"] == 0.5 and found["top"] is None
