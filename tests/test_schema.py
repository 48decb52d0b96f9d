"""Settings are read from plain values; what is misspelt, mistyped or out of range is refused."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from burnish.errors import InputError
from burnish.schema import Range, check, load_yaml, plain, read, settings_of


@dataclass(frozen=True)
class Inner:
    rate: Annotated[float, Range(0, above=True)] = 0.5
    """How fast."""
    steps: tuple[int, ...] = ()
    flip: bool = False

    def __post_init__(self) -> None:
        check(self)


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
        ({"count": "many"}, "here: count: expected int, not 'many'"),
        ({"count": 1.5}, "count: expected int"),
        ({"count": True}, "count: expected int"),
        ({"flip": 1}, "flip: expected bool"),
        ({"rate": "fast"}, "rate: expected float, not 'fast'"),
        ({"rate": True}, "rate: expected float"),
        ({"rate": 0}, "here: rate must be above 0, not 0"),
        ({"rate": math.nan}, "rate must be above 0"),
        ({"rate": math.inf}, "rate must be above 0"),
        ({"inner": {"rate": -1}}, "here: inner: rate must be above 0"),
        ({"top": 1.5}, "top must be at most 1"),
        ({"top": "high"}, "top: expected float"),
        ({"steps": 5}, "steps: expected a list"),
        ({"steps": ["a"]}, "steps: expected int"),
        ({"mode": "fsat"}, "mode: .*did you mean 'fast'"),
        ({"mode": ["fast"]}, "mode"),
        ({"inner": None}, "inner: expected keys and values"),
        ({"weights": ["a"]}, "weights: expected keys and values"),
        ({"weights": {"a": "much"}}, "weights: a: expected float"),
        ({"folder": 3}, "folder: expected Path"),
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


def write(folder, **files):
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder / "it.yaml"


def test_a_file_extends_another_key_by_key_but_for_its_name(tmp_path):
    path = write(
        tmp_path,
        base="name: first\na: {x: 1, y: [1, 2], z: {u: 1, v: 2}}\nb: 3\n",
        middle="extends: base.yaml\na: {z: {v: 5}}\n",
        it="extends: middle.yaml\na: {y: [3]}\n",
    )
    assert load_yaml(path) == {"name": "", "a": {"x": 1, "y": [3], "z": {"u": 1, "v": 5}}, "b": 3}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [", "it.yaml is not YAML"),
        ("name: 2020-13-45", "it.yaml is not YAML"),
        ("extends: none.yaml", "no file .*none.yaml"),
        ("extends: it.yaml", "extends itself, by way of it.yaml"),
        ("extends: back.yaml", "extends itself, by way of back.yaml"),
        ("extends: [it.yaml]", "expected the name of a file"),
        ("extends: list.yaml", "list.yaml: expected keys and values"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, text, reason):
    path = write(tmp_path, it=text, list="[1]", back="extends: it.yaml")
    with pytest.raises(InputError, match=reason) as caught:
        load_yaml(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="no file"):
        load_yaml(tmp_path / "none.yaml")


def test_an_empty_file_has_no_keys(tmp_path):
    assert load_yaml(write(tmp_path, it="")) == {}
