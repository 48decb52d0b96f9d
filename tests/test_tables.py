"""Tables: honest statistics, controls with known answers, nothing computed twice."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from burnish.checkpoint import save_model
from burnish.errors import InputError
from burnish.generators.consistency import ConsistencyModel
from burnish.generators.unet import build_unet
from burnish.metrics.ranks import rank_correlation
from burnish.networks import build
from burnish.samples import Samples, to_uint8
from burnish.storage import open_samples
from burnish.studies import Workshop, agreement, load_tables, measure, summary, workshop
from burnish.studies.baselines import Control, apply_control, blur, resample_counts, sharpen

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
TABLES = """
data: tiny
judges: {one: runs/one.safetensors, two: runs/two.safetensors}
reference: noise
seeds: [0-11, 12-23]
tables:
  all:
    title: everything
    rows:
      base: &base {generator: runs/generator}
      two steps: {<<: *base, num_steps: 2}
      joint: &joint
        <<: *base
        guide: runs/guide.safetensors
        refine: {preset: joint, eps: 0.5, num_steps: 2}
        published: "9 → 8"
      dose: {<<: *joint, sweep: {eps: [0.25, 0.5, 1.0, 2.0]}, labels: pseudo}
      none: {<<: *base, control: {name: none}}
      blur: {<<: *base, control: {name: blur, sigma: 0.7}}
      equal: {<<: *base, guide: runs/guide.safetensors, control: {name: resample}}
"""


def script(name):
    spec = importlib.util.spec_from_file_location(name, EXPERIMENTS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_rank_correlation():
    # 1 - 6 sum d^2 / (N (N^2 - 1)) with differences 1, 1, 0, 1, 1; only the order matters.
    assert rank_correlation([1, 2, 3, 4, 5], [20, 10, 300, 5000, 4000]) == pytest.approx(0.8)
    assert rank_correlation([1, 2, 3], [9, 8, -1]) == pytest.approx(-1)
    # Ranks 1.5 1.5 3 4 and 1 2 3.5 3.5: Pearson's is 4 / 4.5 by hand.
    assert rank_correlation([5, 5, 6, 7], [0, 1, 2, 2]) == pytest.approx(4 / 4.5)
    assert rank_correlation([1, 2], [3, 3]) is None and rank_correlation([1], [2]) is None
    with pytest.raises(ValueError, match="2 and of 1"):
        rank_correlation([1, 2], [1])


def test_filters_of_flat_images_edges_and_impulses():
    flat = torch.linspace(0, 1, 256).view(-1, 1, 1, 1).expand(-1, 3, 6, 5)
    assert torch.equal(to_uint8(blur(flat, 1.3)), to_uint8(flat))
    assert torch.equal(to_uint8(sharpen(flat, 1.3, 2.0)), to_uint8(flat))
    impulse = torch.zeros(1, 1, 15, 15)
    impulse[..., 7, 7] = 1
    spread = blur(impulse, 1.0)
    assert spread.sum() == pytest.approx(1, abs=1e-6)
    assert torch.allclose(spread, spread.mT)
    assert float(spread[0, 0, 7, 8] / spread[0, 0, 7, 7]) == pytest.approx(np.exp(-0.5))
    # Either side of an edge moves away from it, as far as the blur moved it towards it.
    edge = torch.full((1, 1, 8, 8), 0.25)
    edge[..., 4:] = 0.75
    torch.testing.assert_close(sharpen(edge, 0.6, 1.0), 2 * edge - blur(edge, 0.6))


def test_resampling_makes_classes_equal_and_nothing_new():
    classes = torch.tensor([0] * 70 + [1] * 25 + [3] * 5)[torch.randperm(100)]
    counts = resample_counts(classes)
    taken = torch.repeat_interleave(classes, counts)
    assert sorted(taken.bincount().tolist()) == [0, 33, 33, 34]
    for one in (0, 1, 3):
        of_class = counts[classes == one]
        assert of_class.max() - of_class.min() <= 1
    images = torch.rand(100, 1, 2, 2)
    whole = Samples(images, classes, torch.arange(100))
    parts = list(apply_control([whole[:30], whole[30:]], Control("resample"), classes))
    ids = torch.cat([part.ids for part in parts])
    assert torch.equal(ids, torch.repeat_interleave(torch.arange(100), counts))
    assert torch.equal(torch.cat([part.images for part in parts]), images[ids])


def results_of(fids):
    """Results of two judges on two ranges, from ``fids[judge][span] = [base, row, ...]``."""
    return [
        {"judge": judge, "seeds": str(span), "row": f"row {i}", "fid": fid, "fid_base": here[0]}
        | {"kid": None, "inception_score": 1.0, "precision": 0.5, "recall": float(i)}
        for judge, spans in fids.items()
        for span, here in enumerate(spans)
        for i, fid in enumerate(here)
    ]


def test_changes_and_correlations_are_taken_range_by_range():
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


@pytest.mark.parametrize("path", sorted((EXPERIMENTS / "tables").glob("*.yaml")))
def test_our_tables_load(path):
    assert load_tables(path).data == path.stem


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("num_steps: 2}\n      joint", "num_stpes: 2}\n      joint", "did you mean 'num_steps'"),
        ("preset: joint, eps", "preset: joint, epss", "joint: refine: .*did you mean 'eps'"),
        ("eps: 0.5", "eps: far", "joint: refine: eps: expected float"),
        ("name: blur", "name: blurr", "blur: control: name: .*did you mean 'blur'"),
        ("sigma: 0.7", "sigma: -1", "sigma and amount must be"),
        ("{name: none}}", "{name: none}, refine: {eps: 1}}", "none: refine and sweep need"),
        ("0-11", "11-0", "backwards"),
        ("data: tiny", "", "data is missing"),
    ],
)
def test_what_is_wrong_in_a_description_is_said_in_one_line(tmp_path, old, new, said):
    path = tmp_path / "tiny.yaml"
    assert old in TABLES
    path.write_text(TABLES.replace(old, new))
    with pytest.raises(InputError, match=said) as error:
        load_tables(path)
    assert "\n" not in str(error.value)


@pytest.fixture
def world(tmp_path):
    """A generator, a guide, two judges and real images, all random and tiny."""
    runs = tmp_path / "models"
    unet = build_unet(8, 1, 3, widths=(8, 16), norm_num_groups=4)
    torch.nn.init.normal_(unet.conv_out.weight, std=0.3)
    ConsistencyModel(unet).save(runs / "generator")
    network = {"name": "resnet", "in_channels": 1, "num_classes": 3, "width": 4, "num_blocks": 1}
    save_guide(runs, network)
    for name, size in (("one", 3), ("two", 5)):
        network = {"name": "judge", "in_channels": 1, "num_classes": 3, "widths": [4, 6]}
        network |= {"num_features": 4, "kernel_size": size}
        card = {"network": network, "name": name, "data": "noise"}
        save_model(runs / f"{name}.safetensors", build(network), card)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    np.savez(tmp_path / "real.npz", arr_0=pixels, arr_1=np.arange(40) % 3)
    (tmp_path / "tiny.yaml").write_text(TABLES)
    return tmp_path


def save_guide(runs, network):
    card = {"network": network, "realness": {"quantiles": [-9.0, 9.0]}}
    save_model(runs / "guide.safetensors", build(network), card)


def test_a_table_is_measured_once_and_rendered(world, monkeypatch):
    made = []
    for name in ("sample_file", "refine_file", "evaluate_file", "make_reference"):
        original = getattr(workshop, name)

        def counted(*args, name=name, original=original, **kwargs):
            made.append(name)
            return original(*args, **kwargs)

        monkeypatch.setattr(workshop, name, counted)
    monkeypatch.chdir(world)
    tables = load_tables(world / "tiny.yaml")

    def run():
        made.clear()
        place = Workshop(world / "work", world / "models", tables.precision)
        return measure(tables, "all", place, world / "real.npz")

    found = run()
    # Per range: 2 base files; joint and 4 doses; 10 rows by 2 judges.
    assert made.count("sample_file") == 4 and made.count("refine_file") == 10
    assert made.count("evaluate_file") == 40 and made.count("make_reference") == 2
    assert run() == found and not made
    # What was cut off is made again, and nothing else.
    victim = next((world / "work").glob("*.ledger.parquet")).name.split(".")[0]
    for path in (world / "work").glob(f"{victim}.*"):
        path.unlink()
    run()
    assert sorted(made) == ["evaluate_file", "evaluate_file", "refine_file"]
    # Another guide under the same name changes the rows that ask it, and no others.
    save_guide(
        world / "models", {"name": "resnet", "in_channels": 1, "num_classes": 3, "width": 4}
    )
    run()
    assert made.count("refine_file") == 10 and "sample_file" not in made

    rows = {(r["row"], r["seeds"], r["judge"]): r for r in found["results"]}
    assert list(found["rows"])[3] == "dose, eps 0.25" and len(rows) == 40
    metrics = ("fid", "kid", "inception_score", "precision", "recall")
    for seeds in ("0-11", "12-23"):
        base, none = (rows[name, seeds, "one"] for name in ("base", "none"))
        assert [none[metric] for metric in metrics] == [base[metric] for metric in metrics]
        assert rows["blur", seeds, "one"]["fid_base"] == base["fid"]
        assert rows["two steps", seeds, "one"]["fid_base"] != base["fid"]
    assert found["rows"]["joint"]["settings"]["step_size"] == pytest.approx(0.375)
    assert found["rows"]["joint"]["guide"] == "runs/guide.safetensors"
    assert str(world) not in json.dumps(found)
    assert found["summary"]["two"]["none"]["fid_change"] == {"mean": 0.0, "std": 0.0}

    (world / "results").mkdir()
    content = {"command": "python measure.py", **found}
    (world / "results" / "tiny-all.json").write_text(json.dumps(content))
    (world / "results" / "other.json").write_text("{}")
    script("page").main()
    page = (world / "docs" / "results.md").read_text()
    assert "## tiny: everything" in page and "| 9 → 8 |" in page
    mean = found["summary"]["one"]["blur"]["fid"]["mean"]
    assert f"| blur | {mean:.3f} ± " in page
    assert (world / "docs/images/tiny-all.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_missing_shows_before_any_work(world):
    tables = load_tables(world / "tiny.yaml")
    place = Workshop(world / "work", world / "models")
    with pytest.raises(InputError, match="unknown table 'al'; did you mean 'all'"):
        measure(tables, "al", place)
    with pytest.raises(InputError, match="no statistics ship with runs/one"):
        measure(tables, "all", place)
    (world / "models" / "guide.safetensors").unlink()
    place = Workshop(world / "work", world / "models")  # the other has read it already
    with pytest.raises(InputError, match=r"no model at .*guide.safetensors"):
        measure(tables, "all", place, world / "real.npz")
    assert not list((world / "work").iterdir())


def test_pairs_show_the_seeds_asked_for(world):
    tables = load_tables(world / "tiny.yaml")
    place = Workshop(world / "work", world / "models")
    rows = tables.tables["all"].rows
    base, refined = (place.images(rows[name], "0-11") for name in ("base", "joint"))
    pairs, out = script("pairs"), world / "images" / "pairs.png"
    pairs.main(base, refined, out, seeds="3-5")
    assert out.read_bytes().startswith(b"\x89PNG")
    assert open_samples(refined).ids.tolist() == list(range(12))
    with pytest.raises(InputError, match="no image of seed 12"):
        pairs.main(base, refined, out, seeds="10-12")
