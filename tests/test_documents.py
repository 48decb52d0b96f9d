"""YAML and JSON are read within bounds; files extend one another."""

import os
import tracemalloc

import pytest

from burnish.documents import load_json, load_yaml, parse_json
from burnish.errors import InputError


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


LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 20)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}\n" for i in range(1, 20)
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (LAUGHS, "stand for too many values"),
        (MERGES, "stand for too many values"),
        ("a: &a [*a]", "an alias stands for something that it lies in"),
        ("a: &a {b: *a}", "an alias stands for something that it lies in"),
        ("[" * 50_000, "nested too deep"),
        ("{a: " * 50_000, "nested too deep"),
        ("- " * 50_000 + "x", "nested too deep"),
        ("a: [" + "1," * 25_000 + "1]", "too many values"),
        ("a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 99)),
         "nested too deep"),
        ("#" * 2**20 + "\na: 1", "too large"),
        ("a: !!python/object/apply:os.system [exit]", "python/object/apply:os.system in line 1"),
        ("a: !!binary aGk=", "binary in line 1"),
        ("a: 2020-01-01", "timestamp in line 1; put text in quotes"),
        ("a: !!set {x}", "set in line 1"),
        ("a: !mine 1", "!mine in line 1"),
        ("a: 1\nb: 2\na: 3", "the key 'a' in line 3 is given twice"),
        ("1: a", "a key in line 1 is not text"),
        ("yes: a", "a key in line 1 is not text"),
        ("[1, 2]: a", "a key in line 1 is not text"),
        ("a: " + "9" * 30, "beyond 64 bits"),
        ("a: " + "9" * 5000, "is not YAML"),
        ("a: 0x" + "f" * 5000, "beyond 64 bits"),
        ('a: "\\e[2J"', "control characters"),
        ('a: "\\x00"', "control characters"),
        ("a: 1\n--- \nb: 2", "is not YAML"),
        ("a: *b", "is not YAML"),
    ],
)  # fmt: skip
def test_hostile_yaml_is_refused_in_little_memory(tmp_path, text, reason):
    path = write(tmp_path, it=text)
    tracemalloc.start()
    with pytest.raises(InputError, match=reason) as caught:
        load_yaml(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**27 and "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_aliases_and_merged_keys_are_read(tmp_path):
    path = write(tmp_path, it="a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: [*a, *a]")
    values = load_yaml(path)
    assert values["b"] == {"x": 1, "y": 3} and values["c"] == [{"x": 1, "y": 2}] * 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "is not JSON"),
        ("[" * 100 + "]" * 100, "nested too deep"),
        ("[" + "1," * 25_000 + "1]", "too many values"),
        ('{"a": NaN}', "it holds NaN"),
        ('{"a": {"b": [1], "c": NaN}}', "it holds NaN as 'c'"),
        ("[NaN]", "a number is NaN"),
        ('{"a": -Infinity}', "it holds -Infinity"),
        ('{"a": 1, "a": 2}', "'a' is given twice"),
        ('{"a": 1e400}', "infinite"),
        ("9" * 30, "beyond 64 bits"),
        ('"\\ud800"', "control characters"),
        ('"\\u001b[2J"', "control characters"),
        ('"' + "x" * 2**20 + '"', "too large"),
        ("", "is not JSON"),
    ],
)
def test_hostile_json_is_refused(text, reason):
    with pytest.raises(InputError, match=f"it.*{reason}") as caught:
        parse_json(text, "it")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "latin").write_bytes(b"a: \xff")
    for path, reason in [
        (tmp_path / "pipe", "is not a file"),
        (tmp_path, "is not a file"),
        (tmp_path / "none", "there is no file"),
        (tmp_path / "latin", "not text in UTF-8"),
    ]:
        for load in (load_json, load_yaml):
            with pytest.raises(InputError, match=reason):
                load(path)
