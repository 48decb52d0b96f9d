"""Measuring a table: nothing is computed twice, and what is missing is said first."""

import json

import numpy as np
import pytest
import torch

from burnish.checkpoint import save_model
from burnish.errors import InputError
from burnish.generators.consistency import ConsistencyModel
from burnish.generators.unet import build_unet
from burnish.networks.build import build
from burnish.studies.cache import Cache
from burnish.studies.measure import agreement, measure, summary
from burnish.studies.tables import load_tables

TABLES = """
data: tiny
features: {one: runs/one.safetensors, two: runs/two.safetensors}
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
      dose: {<<: *joint, sweep: {eps: [0.25, 1.0]}, labels: pseudo}
      none: {<<: *base, baseline: {name: none}}
      blur: {<<: *base, baseline: {name: blur, sigma: 0.7}}
      equal: {<<: *base, guide: runs/guide.safetensors, baseline: {name: resample}}
"""
GUIDE = {"name": "resnet", "in_channels": 1, "num_classes": 3, "width": 4, "num_blocks": 1}


def save_guide(runs, network):
    card = {"network": network, "realness": {"quantiles": [-9.0, 9.0]}}
    save_model(runs / "guide.safetensors", build(network), card)


@pytest.fixture
def world(tmp_path):
    """A generator, a guide, two feature extractors and real images, all random and tiny."""
    runs = tmp_path / "models"
    unet = build_unet(8, 1, 3, widths=(8, 16), norm_num_groups=4)
    torch.nn.init.normal_(unet.conv_out.weight, std=0.3)
    ConsistencyModel(unet).save(runs / "generator")
    save_guide(runs, GUIDE)
    for name, size in (("one", 3), ("two", 5)):
        network = {"name": "convnet", "in_channels": 1, "num_classes": 3, "widths": [4, 6]}
        network |= {"num_features": 4, "kernel_size": size}
        card = {"network": network, "name": name, "data": "noise"}
        save_model(runs / f"{name}.safetensors", build(network), card)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    np.savez(tmp_path / "real.npz", arr_0=pixels, arr_1=np.arange(40) % 3)
    (tmp_path / "tiny.yaml").write_text(TABLES)
    return tmp_path


def run(world):
    """Measure the table; return it, and how many files of each kind this made."""
    work = world / "work"
    before = {p: p.stat().st_mtime_ns for p in work.glob("*")} if work.exists() else {}
    tables = load_tables(world / "tiny.yaml")
    cache = Cache(work, world / "models", tables.precision)
    found = measure(tables, "all", cache, world / "real.npz")
    new = [p.name for p in work.glob("*") if before.get(p) != p.stat().st_mtime_ns]
    others = ("reference", "influence")
    return found, {
        "images": sum(n.endswith(".npz") and not any(o in n for o in others) for n in new),
        "ledgers": sum(n.endswith(".ledger.parquet") for n in new),
        "scores": sum(n.endswith(".json") and not n.endswith(".card.json") for n in new),
        "references": sum(n.startswith("reference") for n in new),
    }


def test_a_table_is_measured_once(world):
    found, made = run(world)
    # Per range: 2 generated files; joint and 2 doses; 3 baselines; 8 rows by 2 extractors.
    assert made == {"images": 16, "ledgers": 6, "scores": 32, "references": 2}
    again, made = run(world)
    assert again == found and not any(made.values())

    rows = {(r["row"], r["seeds"], r["features"]): r for r in found["results"]}
    assert list(found["rows"])[3] == "dose, eps 0.25" and len(rows) == 32
    metrics = ("fid", "kid", "inception_score", "precision", "recall")
    for seeds in ("0-11", "12-23"):
        base, none = (rows[name, seeds, "one"] for name in ("base", "none"))
        assert [none[metric] for metric in metrics] == [base[metric] for metric in metrics]
        assert rows["blur", seeds, "one"]["fid_baseline"] == base["fid"]
        assert rows["two steps", seeds, "one"]["fid_baseline"] != base["fid"]
        assert rows["joint", seeds, "one"]["nfe"] > 0 == base["nfe"]
    assert found["rows"]["joint"]["settings"]["step_size"] == pytest.approx(0.375)
    assert found["rows"]["joint"]["guide"] == "runs/guide.safetensors"
    assert str(world) not in json.dumps(found)
    assert found["summary"]["two"]["none"]["fid_change"] == {"mean": 0.0, "std": 0.0}


def test_only_what_is_missing_or_has_changed_is_made_again(world):
    run(world)
    victim = next((world / "work").glob("*.ledger.parquet")).name.split(".")[0]
    for path in (world / "work").glob(f"{victim}.*"):
        path.unlink()
    assert run(world)[1] == {"images": 1, "ledgers": 1, "scores": 2, "references": 0}
    # Another guide under the same name changes the rows that use it, and no others.
    save_guide(world / "models", {**GUIDE, "num_blocks": 2})
    assert run(world)[1] == {"images": 8, "ledgers": 6, "scores": 16, "references": 0}


def test_what_is_missing_is_reported_before_any_work(world):
    tables = load_tables(world / "tiny.yaml")
    cache = Cache(world / "work", world / "models")
    with pytest.raises(InputError, match="unknown table 'al'; did you mean 'all'"):
        measure(tables, "al", cache)
    with pytest.raises(InputError, match="no statistics ship with runs/one"):
        measure(tables, "all", cache)
    (world / "models" / "guide.safetensors").unlink()
    cache = Cache(world / "work", world / "models")  # the first one has loaded it
    with pytest.raises(InputError, match=r"no guide at .*guide.safetensors"):
        measure(tables, "all", cache, world / "real.npz")
    assert not (world / "work").exists()


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
