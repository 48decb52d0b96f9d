"""burnish compare: pairs what can be paired, marks what is not significant, refuses the rest."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch

from burnish.cli.main import main
from burnish.files import write_json
from burnish.metrics.evaluate import compare as score
from burnish.metrics.features import NetworkExtractor
from burnish.metrics.fingerprint import digest
from burnish.metrics.influence import influence_path, write_influences
from burnish.metrics.moments import moments_of
from burnish.metrics.reference import Reference
from burnish.report.comparison import compare

RNG = np.random.default_rng(0)
REAL, BASE = RNG.standard_normal((300, 6)), RNG.standard_normal((200, 6)) * 1.3
BETTER = 0.9 * BASE


def extractor(name):
    return NetworkExtractor(torch.nn.Identity(), name, name.ljust(64, "0"))


def write(path, rows, *, resizer="tf1", ids=None, real=REAL, **options):
    reference = Reference(moments_of(real), real, len(real), None, None, "real")
    found = {}
    result = score(
        rows, None, reference, extractor(f"inception:{resizer}"), influences=found, **options
    )
    ids = np.arange(len(rows)) if ids is None else ids
    write_influences(influence_path(path), ids, found, result["fingerprint"])
    write_json(path, {**result, "burnish": "0.1.0", "torch": "2"})
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    write(folder / "base.json", BASE)
    write(folder / "better.json", BETTER)
    return folder


@pytest.fixture
def pair(made, tmp_path):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path / "base.json", tmp_path / "better.json"


def run(*arguments):
    """Return the exit code of a command."""
    try:
        main(["compare", *map(str, arguments)])
    except SystemExit as error:
        return error.code
    return 0


def fid_change(found):
    (changes,) = found.changes
    assert changes["fid"]
    return changes["fid"]


def test_pairs_of_the_same_images_have_narrow_intervals(pair, tmp_path):
    paired = fid_change(compare(pair))
    assert paired.high < 0
    other = write(tmp_path / "other.json", BETTER, ids=np.arange(200) + 1)
    found = compare([pair[0], other])
    assert "other ids" in found.notes[0]
    assert fid_change(found).std_error > 2 * paired.std_error
    assert fid_change(found).difference == paired.difference
    influence_path(other).unlink()
    assert "no other.influence.npz" in compare([pair[0], other]).notes[0]
    # Without change nothing is significant.
    same = write(tmp_path / "same.json", BASE)
    changes = compare([pair[0], same]).changes[0].values()
    assert not any(change.is_significant for change in changes if change)


def test_what_is_not_paired_is_named(pair):
    path = influence_path(pair[1])
    members = dict(np.load(path))
    del members["fid"]
    members["recall"] = members["recall"][:100]
    np.savez(path, **members)
    found = compare(pair)
    assert "but those of FID, Recall are not" in found.notes[0]
    assert found.changes[0]["fid"] and found.changes[0]["recall"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"resizer": "clean"}, "feature_extractor is 'inception:tf1' and 'inception:clean'"),
        ({"real": REAL * 1.01}, "reference_digest"),
        ({"num_neighbors": 5}, "num_neighbors is 3 and 5"),
        ({"seed": 1}, "settings.seed is 0 and 1"),
        ({"rows": BASE[:100]}, "num_images is 200 and 100"),
    ],
)
def test_numbers_of_another_kind_are_refused_and_the_difference_is_named(
    tmp_path, pair, capsys, change, said
):
    changed = {**change}
    other = write(tmp_path / "b.json", changed.pop("rows", BASE), **changed)
    marks = [json.loads(path.read_text())["fingerprint"] for path in (pair[0], other)]
    assert marks[0] != marks[1]
    assert run(pair[0], other) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_other_kept_features_are_another_reference():
    moments = moments_of(REAL)
    assert digest(moments, REAL) == digest(moments, REAL[::-1] + 1e-9)
    for other in (REAL[:150], np.vstack([REAL[1:], BASE[:1]])):
        assert digest(moments, other) != digest(moments, REAL)


def test_formats(pair, tmp_path, capsys):
    assert run(*pair) == 0
    table = capsys.readouterr().out
    assert "| better |" in table and "\N{DAGGER}" in table and "paired" in table
    rows = list(csv.DictReader(_text(pair, tmp_path / "t.csv").splitlines()))
    (fid,) = (row for row in rows if (row["result"], row["metric"]) == ("better", "fid"))
    assert float(fid["difference_high"]) < 0 and fid["significant"] == "1"
    latex = _text(pair, tmp_path / "t.tex")
    assert r"\toprule" in latex and r"$^\dagger$" in latex
    assert run(*pair, "--format", "xls") == 2
    assert run(*pair, "--out", tmp_path / "t.csv") == 2  # exists


def _text(pair, out):
    assert run(*pair, "--out", out) == 0
    return out.read_text()


def test_names_cannot_leave_their_cell(tmp_path, pair):
    wild = write(tmp_path / "=a_|&<b>%.json", BETTER)
    for suffix, wanted in (("md", "=a_\\|&amp;&lt;b>%"), ("tex", r"=a\_|\&<b>\%"), ("csv", "'=a")):
        assert wanted in _text([pair[0], wild], tmp_path / f"n.{suffix}")


def test_names_do_not_command_the_terminal(tmp_path, pair, capsys):
    wild = write(tmp_path / "a\x1b[31m\nb.json", BETTER)
    for form in ("markdown", "latex", "csv"):
        assert run(pair[0], wild, "--format", form) == 0
        found = capsys.readouterr()
        assert "a?[31m?b" in found.out and "\x1b" not in found.out + found.err


HOSTILE = {
    "no card": lambda r: r.pop("card"),
    "changed card": lambda r: r["card"].update(num_images=10**6),
    "card of text": lambda r: r.update(card="x"),
    "fid of text": lambda r: r.update(fid="1"),
    "interval of text": lambda r: r["intervals"]["fid"].update(value="1"),
    "negative error": lambda r: r["intervals"]["fid"].update(std_error=-1),
    "intervals of a list": lambda r: r.update(intervals=[]),
    "interval of a list": lambda r: r["intervals"].update(fid=[1]),
    "control characters": lambda r: r.update(fid="\x1b[31m"),
    "deep card": lambda r: r.update(card=json.loads("[" * 50 + "]" * 50)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_results_end_in_one_line(pair, capsys, name):
    found = json.loads(pair[1].read_text())
    HOSTILE[name](found)
    pair[1].write_text(json.dumps(found))
    assert run(*pair) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "Traceback" not in error


@pytest.mark.parametrize("change", ["cut", "other", "pickle", "short", "nan", "wide", "bomb"])
def test_hostile_influences_end_in_one_line(pair, capsys, change):
    path = influence_path(pair[1])
    members = dict(np.load(path))
    if change == "other":
        members["card"] = np.array("0123")
    elif change == "pickle":
        members["fid"] = np.array([{}] * 200, dtype=object)
    elif change == "short":
        members["fid"] = members["fid"][:100]
    elif change == "nan":
        members["fid"][0] = np.nan
    elif change == "wide":  # its squares would be infinite
        members["fid"] = members["fid"].astype(np.float64) * 1e200
    elif change == "bomb":
        members["recall"] = np.zeros(10_000, np.float32)
    (np.savez_compressed if change == "bomb" else np.savez)(path, **members)
    if change == "cut":
        path.write_bytes(path.read_bytes()[:200])
    assert run(*pair) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "Traceback" not in error
