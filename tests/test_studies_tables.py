"""Tables: what may be described, and how results are summarized."""

from pathlib import Path

import pytest

from burnish.errors import InputError
from burnish.studies.summary import agreement, summary
from burnish.studies.tables import load_tables

TABLES = """
data: tiny
features: {one: runs/one.safetensors}
seeds: [0-11, 12-23]
tables:
  all:
    rows:
      base: &base {generator: runs/generator}
      joint: &joint
        <<: *base
        guide: runs/guide.safetensors
        refine: {preset: joint, eps: 0.5, num_steps: 2}
      dose: {<<: *joint, sweep: {eps: [0.25, 0.5]}, labels: pseudo}
      none: {<<: *base, baseline: {name: none}}
      blur: {<<: *base, baseline: {name: blur, sigma: 0.7}}
"""


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[1] / "experiments" / "tables").glob("*.yaml"))
)
def test_the_tables_of_the_project_load(path):
    assert load_tables(path).data == path.stem


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("{generator: runs/generator}", "{generatr: runs}", "base: .*did you mean 'generator'"),
        ("preset: joint, eps", "preset: joint, epss", "joint: refine: .*did you mean 'eps'"),
        ("eps: 0.5", "eps: far", "joint: refine: eps: expected float"),
        ("name: blur", "name: blurr", "blur: baseline: name: .*did you mean 'blur'"),
        ("sigma: 0.7", "sigma: -1", "sigma must be at least 0"),
        ("{name: none}}", "{name: none}, refine: {eps: 1}}", "none: refine and sweep need"),
        ("blur, sigma: 0.7", "resample", "resample needs a guide"),
        ("[0.25, 0.5]", "[0.5, 0.5]", "two rows are called 'dose, eps 0.5'"),
        ("0-11", "11-0", "backwards"),
        ("data: tiny", "", "data is missing"),
    ],
)
def test_an_error_in_a_description_is_reported_in_one_line(tmp_path, old, new, said):
    path = tmp_path / "tiny.yaml"
    assert TABLES.count(old) == 1
    path.write_text(TABLES.replace(old, new))
    with pytest.raises(InputError, match=said) as error:
        load_tables(path)
    assert "\n" not in str(error.value)


def results_of(fids):
    """Results of extractors on ranges, from ``fids[features][range] = [baseline, row, ...]``."""
    return [
        {"features": features, "seeds": str(seeds), "row": f"row {i}", "fid": fid}
        | {"fid_baseline": here[0], "kid": None, "precision": 0.5, "recall": float(i)}
        for features, ranges in fids.items()
        for seeds, here in enumerate(ranges)
        for i, fid in enumerate(here)
    ]


def test_changes_and_correlations_are_taken_within_each_range_of_seeds():
    results = results_of({"a": [[8, 6, 7], [4, 2, 3]], "b": [[80, 60, 70], [40, 50, 60]]})
    found = summary(results)["a"]["row 1"]
    assert found["fid"] == pytest.approx({"mean": 4, "std": 8**0.5})
    assert found["fid_change"]["mean"] == pytest.approx((-0.25 - 0.5) / 2)
    assert "kid" not in found
    pair = agreement(results)["a, b"]
    # Same order on the first range, rho of (3, 1, 2) and (1, 2, 3) on the second.
    assert pair["fid"]["mean"] == pytest.approx((1 - 0.5) / 2)
    assert pair["recall"]["mean"] == 1
    assert "kid" not in pair and "precision" not in pair
