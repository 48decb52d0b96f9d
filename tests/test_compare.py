"""burnish compare: pairs what can be paired, marks what is not significant, refuses the rest."""

import csv
import json

import numpy as np
import pytest
from compare_setup import BASE, BETTER, REAL, made, pair, run, write

from burnish.metrics.fingerprint import digest
from burnish.metrics.influence import influence_path
from burnish.metrics.moments import moments_of
from burnish.report.comparison import compare

__all__ = ["made", "pair"]  # fixtures


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
    assert "but those of FID, Recall are not: an .influence.npz lacks FID and" in found.notes[0]
    assert "holds a wrong number of values for Recall; evaluate again" in found.notes[0]
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
    # The end of the line before would take [x] for an option of its own.
    option = write(tmp_path / "[x].json", BETTER)
    assert "\n{}[x] &" in _text([pair[0], option], tmp_path / "o.tex")


def test_names_do_not_command_the_terminal(tmp_path, pair, capsys):
    wild = write(tmp_path / "a\x1b[31m\nb.json", BETTER)
    for form in ("markdown", "latex", "csv"):
        assert run(pair[0], wild, "--format", form) == 0
        found = capsys.readouterr()
        assert "a?[31m?b" in found.out and "\x1b" not in found.out + found.err
