"""Protocols: the arithmetic, draws and resizing of other tools, beside the tools themselves."""

import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import calculate_precision_recall_full

from burnish.errors import InputError
from burnish.metrics import formulas, inception, resize
from burnish.metrics.draws import kept
from burnish.metrics.evaluate import compare, evaluate
from burnish.metrics.features import FidelityExtractor
from burnish.metrics.metric import METRICS
from burnish.metrics.moments import MomentSum
from burnish.metrics.protocol import PROTOCOLS, ProtocolName, protocol
from burnish.metrics.reference import reference_of


def rows(seed, count, dim, shift=0.0):
    drawn = np.random.default_rng(seed).standard_normal((count, dim))
    return np.abs(drawn + shift).astype(np.float32)


def reference(features, how=PROTOCOLS["burnish"], spatial=None):
    return reference_of(
        [(features, spatial)], None, source="real", num_images=len(features),
        max_features=how.max_features, protocol=how,
    )  # fmt: skip


def test_the_list_of_protocols_is_sound():
    known = {metric.key for metric in METRICS}
    assert list(PROTOCOLS) == list(get_args(ProtocolName))
    for name, one in PROTOCOLS.items():
        assert one.name == name and one.explanation.endswith(".") and set(one.metrics) <= known
    with pytest.raises(InputError, match="did you mean 'torchmetrics'"):
        protocol("torchmetric")
    with pytest.raises(InputError, match="unknown protocol '5'"):
        evaluate(rows(0, 9, 2), rows(1, 9, 2), protocol=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(32, 32), (40, 24), (400, 310)])
def test_resizers_are_those_of_the_tools(shape):
    from cleanfid.resize import make_resizer
    from torch_fidelity.interpolate_compat_tensorflow import (
        interpolate_bilinear_2d_like_tensorflow1x as tf1,
    )
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import resize as torchvision_resize

    images = torch.randint(0, 256, (2, 3, *shape), dtype=torch.uint8)

    def each(library, quantize, side):
        call = make_resizer(library, quantize, "bicubic", (side, side))
        made = [call(one.permute(1, 2, 0).numpy()).transpose(2, 0, 1) for one in images]
        return torch.from_numpy(np.stack(made)).float()

    floats = images.float()
    wanted = {
        resize.tf1: tf1(floats, size=(299, 299), align_corners=False),
        resize.bicubic_clipped: each("PIL", False, 299),
        resize.half_pixel: torch.nn.functional.interpolate(
            floats, (299, 299), mode="bilinear", align_corners=False
        ),
        resize.bilinear_antialias: torchvision_resize(
            floats, [299, 299], InterpolationMode.BILINEAR, antialias=True
        ),
    }
    for resizer, theirs in wanted.items():
        assert (resizer(images, 299) - theirs).abs().max() < 5e-3, resizer.__name__
    assert torch.equal(resize.bicubic_uint8(images, 224), each("PIL", True, 224))
    overshot = resize.bicubic_antialias(images, 224)
    assert overshot.max() > 255 or shape[0] > 224  # neither clipped nor rounded
    assert (overshot.clamp(0, 255) - each("PIL", False, 224)).abs().max() < 5e-3
    # They differ among themselves by far more.
    assert (resize.tf1(images, 299) - resize.half_pixel(images, 299)).abs().max() > 10


def test_scaling_is_that_of_the_tools():
    levels = torch.tensor([0.0, 127.5, 128.0, 255.0])
    assert resize.centered(levels).tolist() == [-1, -0.00390625, 0, 0.9921875]
    assert resize.symmetric(levels).tolist() == pytest.approx([-1, 0, 1 / 255, 1], abs=1e-6)


def test_the_score_of_adm_has_splits_of_5000_in_order_and_a_short_last_one():
    logits = torch.from_numpy(rows(0, 12_345, 6))
    probabilities = logits.softmax(1).numpy()
    parts = [
        isc_features_to_metric(logits[i : i + 5000], splits=1, shuffle=False)
        for i in (0, 5000, 10_000)  # the last of 2,345 rows counts like the others
    ]
    how = asdict(PROTOCOLS["adm"].scores)
    found = formulas.inception_score(probabilities=probabilities, **how)
    theirs = np.mean([part["inception_score_mean"] for part in parts])
    assert found["inception_score"] == pytest.approx(theirs, rel=1e-5)
    # Where a probability is 0, ADM itself has NaN.
    sure = formulas.inception_score(probabilities=np.eye(4), num_splits=1, float32=True)
    assert sure["inception_score"] == pytest.approx(4, rel=1e-6)


def test_the_score_of_torch_fidelity_and_of_torchmetrics():
    logits = torch.from_numpy(rows(3, 103, 6))
    real, features = reference(rows(4, 9, 2)), rows(5, 103, 2)
    probabilities = logits.double().softmax(1).numpy()
    found = compare(features, probabilities, real, None, protocol="torch-fidelity")
    theirs = isc_features_to_metric(logits)  # 10 splits of 10 or 11 after RandomState(2020)
    assert found["inception_score"] == pytest.approx(theirs["inception_score_mean"], rel=1e-9)
    assert found["inception_score_std"] == pytest.approx(theirs["inception_score_std"], rel=1e-9)
    found = compare(features, probabilities, real, None, protocol="torchmetrics", seed=7)
    torch.manual_seed(7)
    chunks = logits[torch.randperm(103)].softmax(1).chunk(10)
    kl = [(p * (p / p.mean(0)).log()).sum(1).mean().exp() for p in chunks]
    assert len(chunks[-1]) == 4  # nine of 11, rounded up
    assert found["inception_score"] == pytest.approx(float(torch.stack(kl).mean()), rel=1e-5)
    assert found["inception_score_std"] == pytest.approx(float(torch.stack(kl).std()), rel=1e-4)


def test_subsets_of_the_kid_are_those_of_each_tool():
    from cleanfid.fid import kernel_distance

    generated, real = rows(6, 60, 5), rows(7, 80, 5, shift=0.3)
    small = {name: replace(how, subsets=replace(how.subsets, subset_size=20, num_subsets=7))
             for name, how in PROTOCOLS.items()}  # fmt: skip

    def ours(name, **settings):
        how = small[name]
        return compare(generated, None, reference(real, how), None, protocol=how, **settings)[
            "kid"
        ]

    theirs = kid_features_to_metric(
        torch.from_numpy(generated).double(), torch.from_numpy(real).double(),
        kid_subset_size=20, kid_subsets=7, rng_seed=2020, verbose=False,
    )  # fmt: skip
    mean = theirs["kernel_inception_distance_mean"]
    assert ours("torch-fidelity") == pytest.approx(mean, rel=1e-9)
    np.random.seed(3)
    wanted = kernel_distance(generated.astype(float), real.astype(float), 7, 20)
    assert ours("clean", seed=3) == pytest.approx(wanted, rel=1e-9)
    torch.manual_seed(3)
    parts = []
    for _ in range(7):
        y, x = (side[torch.randperm(len(side))[:20].numpy()] for side in (real, generated))
        parts.append(formulas.kernel_distance(generated=x, reference=y))
    assert ours("torchmetrics", seed=3) == pytest.approx(np.mean(parts), rel=1e-9)
    assert len({ours(name, seed=3) for name in ("burnish", "clean", "torchmetrics")}) == 3


def test_means_in_float32_are_those_of_numpy_however_batched():
    x = rows(8, 999, 3, shift=50)
    total = MomentSum("float32")
    for part in np.split(x, [1, 7, 400]):
        total.add(part)
    assert np.array_equal(total.moments().mu, x.mean(axis=0))
    assert not np.array_equal(total.moments().mu, x.astype(np.float64).mean(axis=0))
    np.testing.assert_allclose(total.moments().sigma, np.cov(x.astype(float).T), rtol=1e-9)


def test_edm_draws_50000_by_seed_and_ttur_leaves_out_what_fills_no_batch():
    for seed in (0, 5):
        order = np.arange(50_010)
        np.random.RandomState(seed).shuffle(order)
        found = np.arange(50_010)[kept(PROTOCOLS["edm"], 50_010, seed)]
        assert np.array_equal(found, np.sort(order[:50_000]))
    everything = np.arange(149)
    assert len(everything[kept(PROTOCOLS["edm"], 149, 0)]) == 149
    assert np.array_equal(everything[kept(PROTOCOLS["ttur"], 149, 0)], everything[:100])
    assert len(everything[:49][kept(PROTOCOLS["ttur"], 49, 0)]) == 49
    generated, real = rows(9, 149, 3), rows(10, 120, 3)
    ttur = compare(generated, None, reference(real, PROTOCOLS["ttur"]), None, protocol="ttur")
    exact = compare(generated[:100], None, reference(real[:100]), None)
    assert (ttur["num_images"], ttur["num_reference_images"]) == (100, 100)
    assert ttur["fid"] == pytest.approx(exact["fid"], rel=1e-9) and ttur["kid"] is None


def test_neighbors_of_adm_are_in_float16_and_those_of_torch_fidelity_in_float32():
    generated, real = rows(11, 150, 40), rows(12, 130, 40, shift=0.05)
    found = {
        name: compare(generated, None, reference(real, PROTOCOLS[name]), None, protocol=name)
        for name in ("adm", "torch-fidelity")
    }
    theirs = calculate_precision_recall_full(torch.from_numpy(generated), torch.from_numpy(real))
    ours = found["torch-fidelity"]
    assert (ours["precision"], ours["recall"]) == pytest.approx(theirs, abs=1e-6)

    # ADM: inputs, norms and product each rounded to half, sum in half; ties count.
    def squares(x, y):
        a, b = x.astype(np.float16), y.astype(np.float16)
        norms = [(np.square(z.astype(np.float32))).sum(1).astype(np.float16) for z in (a, b)]
        product = (a.astype(np.float32) @ b.astype(np.float32).T).astype(np.float16)
        return np.maximum(norms[0][:, None] - 2 * product + norms[1], 0)

    inside = squares(generated, real) <= np.sort(squares(real, real))[:, 3]
    assert found["adm"]["precision"] == pytest.approx(inside.any(1).mean(), abs=0.01)
    assert found["adm"]["precision"] >= ours["precision"] - 1e-9


def test_spatial_features_are_mixed_6_in_the_order_row_column_channel():
    images = torch.randint(0, 256, (1, 3, 40, 40), dtype=torch.uint8)
    extractor = FidelityExtractor("inception-v3-compat")
    seen = []
    layer = extractor._network.get_submodule("Mixed_6d.branch1x1")
    layer.register_forward_hook(lambda *args: seen.append(args[2].clone()))
    spatial = extractor(images).spatial
    assert spatial is not None and spatial.shape == (1, 2023)
    for h, w, c in ((0, 0, 0), (0, 1, 3), (5, 16, 6), (16, 16, 6)):
        assert spatial[0, (h * 17 + w) * 7 + c] == seen[0][0, c, h, w]
    assert spatial.min() >= 0 and spatial.max() > 0  # after the ReLU


def test_features_are_those_of_the_network_of_pytorch_fid(monkeypatch):
    from pytorch_fid import inception as theirs

    state = inception.load_inception().state_dict()
    monkeypatch.setattr(theirs, "load_state_dict_from_url", lambda *_, **__: state)
    images = torch.randint(0, 256, (2, 3, 48, 40), dtype=torch.uint8)
    with torch.inference_mode():
        wanted = theirs.InceptionV3([3]).eval()(images / 255)[0].flatten(1)
    found = FidelityExtractor("inception-v3-compat:pytorch-fid")(images).features
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


def test_the_names_of_resizers_are_other_extractors():
    images = torch.randint(0, 256, (1, 3, 40, 40), dtype=torch.uint8)
    one, other = (FidelityExtractor(f"inception-v3-compat{way}") for way in ("", ":clean"))
    assert one.sha256 != other.sha256 and other.name == "inception-v3-compat:clean"
    assert (one(images).features - other(images).features).norm() > 0.1
    with pytest.raises(InputError, match="unknown feature extractor"):
        FidelityExtractor("inception-v3-compat:cubic")


def test_sfid_is_the_distance_of_spatial_features_and_says_what_it_lacks():
    generated, real = rows(13, 50, 3), rows(14, 60, 3)
    spatial = rows(15, 50, 4), rows(16, 60, 4, shift=1)
    how = PROTOCOLS["adm"]
    found = compare(
        generated, None, reference(real, how, spatial[1]), None, protocol=how, spatial=spatial[0]
    )
    exact = compare(spatial[0], None, reference(spatial[1], how), None, protocol=how)
    assert found["sfid"] == pytest.approx(exact["fid"]) and found["sfid"] > 0.1
    assert exact["sfid"] is None and any("no sFID" in note for note in exact["warnings"])


def test_a_protocol_says_where_its_tool_would_print_something_else():
    generated, real = rows(17, 20, 2), reference(rows(18, 20, 2))
    for name, said in (
        ("edm", "takes 50,000 images"),
        ("edm2", "by --features dinov2-vit-l-14:edm2"),
    ):
        found = compare(generated, None, real, None, protocol=name)
        assert found["protocol"] == name and any(said in note for note in found["warnings"])
    images = torch.rand(4, 1, 28, 28)
    found = evaluate(images, "fashion_mnist/plain", protocol="clean")
    assert any("features of inception-v3-compat:clean" in note for note in found["warnings"])
    assert found["fid"] is not None and found["precision"] is None


ADM = {
    "VIRTUAL_imagenet128_labeled.npz admnet_guided_imagenet128.npz": {
        "inception_score": (141.4767, 0.2), "fid": (2.97329, 5e-3), "sfid": (5.09456, 5e-3),
        "precision": (0.78138, 1e-3), "recall": (0.5929, 1e-3),
    },
    "VIRTUAL_imagenet256_labeled.npz admnet_guided_upsampled_imagenet256.npz": {
        "inception_score": (215.837, 0.3), "fid": (3.9426, 5e-3), "sfid": (6.1404, 5e-3),
        "precision": (0.8265, 1e-3), "recall": (0.5309, 1e-3),
    },
}  # fmt: skip


@pytest.mark.parametrize("files", ADM)
def test_published_files_of_adm_have_their_numbers(files):
    """Numbers of the evaluator in TensorFlow; the allowances are what its versions differ by."""
    folder = os.environ.get("BURNISH_ADM_FILES", "")
    real, generated = (Path(folder) / name for name in files.split())
    if not (folder and real.exists() and generated.exists() and inception.full_weights().exists()):
        pytest.skip(
            f"set BURNISH_ADM_FILES to the folder of {files} (from the evaluations folder of "
            f"guided-diffusion), and put Inception's full weights at {inception.full_weights()}"
        )
    from burnish.jobs.evaluate import plan_evaluate

    found = plan_evaluate(generated, str(real), protocol="adm").run()
    for key, (value, allowed) in ADM[files].items():
        assert found[key] == pytest.approx(value, abs=allowed), key
