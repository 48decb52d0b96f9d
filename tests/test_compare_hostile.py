"""burnish compare believes no result that is broken, hostile or contradicts itself."""

import json

import numpy as np
import pytest
from compare_setup import BASE, REAL, made, pair, run, write

from burnish.metrics.fingerprint import fingerprint
from burnish.metrics.influence import influence_path
from burnish.report.comparison import compare

__all__ = ["made", "pair"]  # fixtures

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


def marked(result):
    """Give a changed card its fingerprint again."""
    result["fingerprint"] = fingerprint(result["card"])


def halved(value, std_error, low, high):
    """Return an interval that is half as wide, and does not contradict itself."""
    return {"std_error": std_error / 2, "low": (value + low) / 2, "high": (value + high) / 2}


CONTRADICTIONS = {
    "share above 1": (lambda r: r.update(recall=1.5), "recall is 1.5, and must be from 0 to 1"),
    "negative distance": (lambda r: r.update(fid=-5), "fid is -5, and must be 0 or more"),
    "negative spread": (lambda r: r.update(inception_score_std=-1), "_std is -1, and cannot be"),
    "other than its interval": (lambda r: r.update(fid=900), "fid is 900, but its interval ["),
    "KID far from its interval": (lambda r: r.update(kid=50), "kid is 50, but its interval ["),
    "value outside": (
        lambda r: r["intervals"]["fid"].update(value=900), "fid is 900, outside of its interval",
    ),
    "bound above 1": (
        lambda r: r["intervals"]["recall"].update(high=1.5), "recall must be from 0 to 1, unlike",
    ),
    "error too large": (
        lambda r: r["intervals"]["fid"].update(std_error=9e9), "a standard error of 9e+09",
    ),
    "error too small": (
        lambda r: r["intervals"]["fid"].update(std_error=0), "fid has a standard error of 0,",
    ),
    "of any size": (
        lambda r: (
            r.update(fid=1e300),
            r["intervals"]["fid"].update(value=1e300, std_error=1e290, low=0, high=3e300),
        ),
        "fid has a standard error of 1e+290, which does not fit",
    ),
    "share of any value": (
        lambda r: r["intervals"]["recall"].update(low=0, high=1),
        "recall has a standard error of",
    ),
    "share that is not sure at all": (
        lambda r: r["intervals"]["recall"].update(std_error=1e200),
        "recall has a standard error of 1e+200, which does not fit",
    ),
    "share too sure": (
        lambda r: r["intervals"]["coverage"].update(std_error=1e-6),
        "coverage has a standard error of 1e-06, which does not fit",
    ),
    "NaN": (lambda r: r.update(fid=float("nan")), "it holds NaN as 'fid'"),
    "infinite": (lambda r: r.update(fid=float("inf")), "it holds Infinity as 'fid'"),
    "negative count": (lambda r: r.update(num_images=-1), "num_images must be a count"),
    "other count": (lambda r: r.update(num_images=77), "num_images is 77, and 200 in its card"),
    "negative count in the card": (
        lambda r: (r["card"].update(num_reference_images=-3), marked(r)),
        "card: num_reference_images must be a count",
    ),
    "error of others": (
        lambda r: r["intervals"]["fid"].update(halved(**r["intervals"]["fid"])),
        "the influences on fid have a standard error of",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_result_that_contradicts_itself_is_refused_by_name(pair, capsys, name):
    change, said = CONTRADICTIONS[name]
    found = json.loads(pair[1].read_text())
    change(found)
    pair[1].write_text(json.dumps(found))
    assert run(*pair) == 2
    error = capsys.readouterr().err
    assert pair[1].stem in error and said in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("scale", "real"), [(0, REAL), (1e-8, REAL), (1.3, REAL[:1].repeat(9, 0)), (1.3, REAL[:5])]
)
def test_results_of_odd_images_are_believed(tmp_path, scale, real):
    odd = write(tmp_path / "odd.json", scale * BASE + 1, real=real)
    compare([odd, odd])
    compare([odd, write(tmp_path / "same.json", real[:1].repeat(200, 0), real=real)])


def test_influences_are_not_overwritten(pair, capsys):
    before = influence_path(pair[1]).read_bytes()
    assert run(*pair, "--out", influence_path(pair[1]), "--force") == 2
    assert "replace its own input" in capsys.readouterr().err
    assert influence_path(pair[1]).read_bytes() == before


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
