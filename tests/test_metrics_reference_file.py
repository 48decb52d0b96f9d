"""Files of statistics: those of other tools are read, ours are read by them, bad ones refused."""

import os
import pickle

import numpy as np
import pytest

from burnish.errors import InputError
from burnish.hub import shipped
from burnish.jobs.evaluate import plan_evaluate
from burnish.metrics.evaluate import compare
from burnish.metrics.reference import Reference, reference_of
from burnish.metrics.reference_file import holds_statistics, read_statistics

ROWS = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
MU, SIGMA = ROWS.mean(0, dtype=np.float64), np.cov(ROWS.astype(np.float64).T)
STATISTICS = {"mu": MU, "sigma": SIGMA}


class Runs:
    """A pickle that would run a command."""

    def __reduce__(self):
        return os.system, ("touch /tmp/never",)


def written(path, members):
    if path.suffix == ".npz":
        np.savez_compressed(path, **members)
    else:
        protocol, content = members
        path.write_bytes(pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("edm.npz", STATISTICS),
        ("adm.npz", STATISTICS | {"mu_s": np.ones(2), "sigma_s": np.eye(2)}),
        ("ttur.npz", {"mu": MU.astype(np.float32), "sigma": SIGMA}),
        ("clean-kid.npz", {"feats": ROWS}),
        ("edm2.pkl", (4, {"num_images": 30, "fid": STATISTICS, "fd_dinov2": {}})),
        ("edm2-old.pkl", (2, {"fid": STATISTICS})),
    ],
)
def test_files_of_other_tools_are_read(tmp_path, name, members):
    path = written(tmp_path / name, members)
    assert holds_statistics(path)
    found = Reference.load(path)
    np.testing.assert_allclose(found.moments.mu, MU, rtol=1e-6)
    np.testing.assert_allclose(found.moments.sigma, SIGMA, rtol=1e-12)
    assert (found.features is None) == ("feats" not in members)
    assert (found.spatial is None) == (name != "adm.npz")
    assert found.num_images == (30 if name == "edm2.pkl" else None)
    scores = compare(ROWS[:20], None, found, None, protocol="edm")
    assert scores["fid"] > 0 and scores["kid"] is None


def test_dinov2_has_statistics_of_its_own_in_files_of_edm2(tmp_path):
    both = {"fid": STATISTICS, "fd_dinov2": {"mu": MU + 1, "sigma": SIGMA}}
    path = written(tmp_path / "edm2.pkl", (4, both))
    for name, shift in (("inception-v3-compat", 0), (None, 0), ("dinov2-vitl14", 1)):
        assert np.array_equal(read_statistics(path, name).moments.mu, MU + shift)


@pytest.mark.parametrize(
    ("name", "members", "message"),
    [
        ("a.npz", {"mu": MU}, "mu and sigma are not"),
        ("a.npz", {"mu": MU, "sigma": np.eye(3)}, "mu and sigma are not"),
        ("a.npz", STATISTICS | {"mu_s": np.ones(2)}, "mu_s and sigma_s are not"),
        ("a.npz", STATISTICS | {"features": np.full((9, 4), np.nan)}, "features must hold finite"),
        ("a.npz", STATISTICS | {"features": np.ones((9, 5))}, "features of shape"),
        ("a.npz", {"feats": np.full((9, 4), np.inf, np.float32)}, "feats must hold finite"),
        ("a.npz", {"feats": ROWS[:1]}, "at least 2 images"),
        ("a.pkl", (4, {"fid": {"mu": MU}}), "sigma is no array"),
        ("a.pkl", (4, {"fid": {"mu": MU, "sigma": np.eye(3)}}), "mu and sigma are not"),
        ("a.pkl", (4, {"fid": {"mu": MU * np.nan, "sigma": SIGMA}}), "must hold finite"),
        ("a.pkl", (4, {"other\x1b[31m": STATISTICS}), "no statistics 'fid'"),
        ("a.pkl", (4, [1, 2]), "no statistics 'fid'"),
        ("a.pkl", (4, {"fid": Runs()}), "system"),
    ],
)
def test_other_files_are_refused_on_one_line(tmp_path, name, members, message):
    path = written(tmp_path / name, members)
    with pytest.raises(InputError) as caught:
        Reference.load(path)
    said = str(caught.value)
    assert message in said and str(path) in said
    assert said.isprintable() and said.count(str(path)) == 1


def test_what_is_saved_is_read_by_other_tools(tmp_path):
    from pytorch_fid.fid_score import compute_statistics_of_path

    spatial = ROWS[:, :2]
    made = reference_of([(ROWS, spatial)], None, source="real", num_images=30)
    made.save(path := tmp_path / "real.npz")
    mu, sigma = compute_statistics_of_path(str(path), None, 1, 4, "cpu")  # type: ignore[arg-type]
    np.testing.assert_allclose(mu, MU)
    np.testing.assert_allclose(sigma, SIGMA)
    with np.load(path) as file:  # as ADM's evaluator and EDM2 do, without pickles
        assert {"mu", "sigma", "mu_s", "sigma_s"} <= set(file) and file["sigma_s"].shape == (2, 2)
    again = Reference.load(path)
    assert again.spatial is not None and made.spatial is not None
    assert np.array_equal(again.spatial.sigma, made.spatial.sigma)


@pytest.mark.parametrize("protocol", ["edm2", "clean", "torch-fidelity"])
def test_evaluation_by_a_protocol_from_files(tmp_path, protocol):
    """What is computed of a file of EDM2, or of real images, is what is saved and read again."""
    images = np.random.default_rng(1).integers(0, 256, (40, 28, 28, 1), np.uint8)
    np.savez(tmp_path / "made.npz", arr_0=images)
    np.savez(tmp_path / "real.npz", arr_0=images[::-1] // 2)
    plain, real, kept = "fashion_mnist/plain", str(tmp_path / "real.npz"), tmp_path / "kept.npz"
    first = plan_evaluate(
        tmp_path / "made.npz", real, plain, protocol=protocol, save_reference=kept
    ).run()
    again = plan_evaluate(tmp_path / "made.npz", str(kept), plain, protocol=protocol).run()
    assert first["fid"] == again["fid"] > 0 and first["kid"] == again["kid"]
    assert (first["kid"] is None) == (protocol == "edm2") and again["protocol"] == protocol
    held = read_statistics(shipped("reference")[plain]).moments
    content = {"fid": {"mu": held.mu, "sigma": held.sigma}}
    edm2 = str(written(tmp_path / "edm2.pkl", (4, content)))
    found = [plan_evaluate(tmp_path / "made.npz", name, plain, protocol=protocol).run()["fid"]
             for name in (plain, edm2)]  # fmt: skip
    assert found[0] == found[1]


def test_statistics_of_another_size_are_refused_before_scoring(tmp_path):
    np.savez(tmp_path / "made.npz", arr_0=np.zeros((3, 28, 28, 1), np.uint8))
    path = written(tmp_path / "edm2.pkl", (4, {"fid": STATISTICS}))
    with pytest.raises(InputError, match="is of 4 features, but fashion_mnist/plain gives"):
        plan_evaluate(tmp_path / "made.npz", str(path), "fashion_mnist/plain", protocol="edm2")
    with pytest.raises(InputError, match="is of 4 features, but fashion_mnist/plain gives"):
        plan_evaluate(tmp_path / "made.npz", "fashion_mnist/plain", validation=str(path))
