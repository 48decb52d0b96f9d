"""Tables: what may be described."""

from pathlib import Path

import pytest

from burnish.errors import InputError
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
        ("eps: 0.5", "eps: far", "joint: refine: eps: expected a number"),
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
