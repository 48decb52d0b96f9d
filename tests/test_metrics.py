"""Metrics against closed forms, a second implementation, and the invariances they promise."""

import inspect
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kernel_mmd
from torch_fidelity.metric_prc import calculate_precision_recall_full

from burnish.errors import InputError
from burnish.metrics import formulas, inception
from burnish.metrics.evaluate import evaluate
from burnish.metrics.features import (
    FidelityExtractor,
    NetworkExtractor,
    weights_sha256,
)
from burnish.metrics.formulas import (
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_recall,
)
from burnish.metrics.load import load_extractor
from burnish.metrics.metric import METRICS, metric
from burnish.metrics.moments import Moments, MomentSum
from burnish.metrics.reference import Reference, make_reference
from burnish.samples import Samples, to_uint8


def normal(seed, *shape, shift=0.0):
    return (np.random.default_rng(seed).standard_normal(shape) + shift).astype(np.float32)


def moments(*batches):
    total = MomentSum()
    for batch in batches:
        total.add(batch)
    return total.moments()


class TinyFeatures(torch.nn.Module):
    """Works in float64, so that the size of a batch leaves no trace in its float32 features."""

    def __init__(self, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        draw = {"generator": generator, "dtype": torch.float64}
        self.body = torch.nn.Parameter(torch.randn(48, 6, **draw))
        self.head = torch.nn.Parameter(torch.randn(6, 4, **draw))
        self.dropout = torch.nn.Dropout(0.5)

    def forward_features(self, images):
        return (images.double().flatten(1) @ self.body).float()

    def forward_head(self, features):
        return (self.dropout(features).double() @ self.head).float()


def tiny(seed=0):
    module = TinyFeatures(seed)
    return NetworkExtractor(module, "tiny", weights_sha256(module))


def batches(count, size, seed=1, low=0.0):
    generator = torch.Generator().manual_seed(seed)
    images = low + (1 - low) * torch.rand(count, 3, 4, 4, generator=generator)
    whole = Samples(images, torch.arange(count) % 4, torch.arange(count))
    return [whole[i : i + size] for i in range(0, count, size)]


def reference_of(count=90, seed=2, **kwargs):
    return make_reference(
        batches(count, 32, seed), tiny(), source="noise", num_images=count, **kwargs
    )


def test_moments_are_those_of_numpy_in_float64_however_batched():
    # A mean of 1000 standard deviations: sums of squares, or float32, would lose the covariance.
    x = normal(0, 300, 5, shift=1000)
    for parts in ([x], np.split(x, [1, 2, 7, 200])):
        found = moments(*parts)
        assert found.mu.dtype == found.sigma.dtype == np.float64
        assert found.count == 300
        np.testing.assert_allclose(found.mu, x.astype(np.float64).mean(0), rtol=1e-12)
        np.testing.assert_allclose(found.sigma, np.cov(x.astype(np.float64).T), atol=1e-10)


def test_fid_is_that_of_torch_fidelity():
    generated, reference = normal(1, 400, 8), normal(2, 300, 8, shift=0.3) * 1.5
    statistics = [
        fid_features_to_statistics(torch.from_numpy(x).double()) for x in (generated, reference)
    ]
    theirs = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    ours = frechet_distance(generated=moments(generated), reference=moments(reference))
    assert ours == pytest.approx(theirs, rel=1e-6)


def test_fid_closed_forms():
    shift, a, b = np.array([3.0, 0, 1]), np.array([4.0, 0, 9]), np.array([1.0, 2, 16])
    rotation = np.linalg.qr(normal(3, 3, 3).astype(np.float64))[0]
    exact = 10 + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    # A common rotation makes the covariances dense and leaves the distance.
    for turn in (np.eye(3), rotation):
        first = Moments(turn @ shift, turn @ np.diag(a) @ turn.T)
        second = Moments(np.zeros(3), turn @ np.diag(b) @ turn.T)
        found = frechet_distance(generated=first, reference=second)
        assert found == pytest.approx(exact, rel=1e-12)
    # With itself 0, also where fewer images than dimensions leave the covariance singular.
    for count in (200, 10):
        same = moments(100 * normal(4, count, 40))
        zero = frechet_distance(generated=same, reference=same)
        assert 0 <= zero < 1e-12 * np.trace(same.sigma)


def test_kid_is_the_unbiased_mmd():
    generated, reference = normal(5, 60, 7, shift=0.5), normal(6, 60, 7)
    theirs = kernel_mmd(
        generated.astype(np.float64),
        reference.astype(np.float64),
        kid_kernel="poly",
        kid_kernel_poly_degree=3,
        kid_kernel_poly_gamma=None,
        kid_kernel_poly_coef0=1,
    )
    exact = kernel_distance(generated=generated, reference=reference)
    assert exact == pytest.approx(theirs, rel=1e-10)
    # Unequal sizes, term by term.
    few = reference[:9].astype(np.float64)

    def mean_kernel(x, y, same):
        values = [
            (u @ v / 7 + 1) ** 3
            for i, u in enumerate(x)
            for j, v in enumerate(y)
            if not (same and i == j)
        ]
        return sum(values) / len(values)

    wide = generated.astype(np.float64)
    direct = mean_kernel(wide, wide, True) + mean_kernel(few, few, True)
    direct -= 2 * mean_kernel(wide, few, False)
    assert kernel_distance(generated=generated, reference=few) == pytest.approx(direct, rel=1e-9)


def test_kid_of_subsets_estimates_the_same_and_is_zero_in_mean_for_equals():
    generated, reference = normal(7, 400, 4, shift=0.5), normal(8, 500, 4)
    exact = kernel_distance(generated=generated, reference=reference)
    subsets = {"subset_size": 100, "num_subsets": 100}
    parts = [
        kernel_distance(generated=generated, reference=reference, **subsets, seed=seed)
        for seed in (0, 0, 1)
    ]
    assert parts[0] == parts[1] != parts[2]
    assert parts[0] == pytest.approx(exact, rel=0.1)
    # A biased estimate would be about 0.2 here; the standard error of this mean is 0.01.
    equals = [
        kernel_distance(generated=normal(seed, 100, 4), reference=normal(seed + 1, 100, 4))
        for seed in range(100, 300, 2)
    ]
    assert abs(np.mean(equals)) < 0.03


def score(probabilities, **settings):
    return tuple(inception_score(probabilities=probabilities, **settings).values())


def test_inception_score():
    eye = np.eye(5, dtype=np.float32)
    balanced = np.tile(eye, (200, 1))
    by_class = np.repeat(eye, 200, axis=0)
    assert score(np.tile(balanced.mean(0), (50, 1)))[0] == pytest.approx(1, abs=1e-6)
    assert score(balanced, num_splits=1) == pytest.approx((5, 0), abs=1e-12)
    # Splits of a class-sorted file in its own order would hold one class each and score 1.
    assert all(4.9 < score(rows, num_splits=5)[0] <= 5 for rows in (balanced, by_class))
    logits = torch.from_numpy(3 * normal(9, 120, 6))
    probabilities = logits.double().softmax(1).numpy()
    theirs = isc_features_to_metric(logits, splits=1, shuffle=False)["inception_score_mean"]
    assert score(probabilities, num_splits=1)[0] == pytest.approx(theirs, rel=1e-9)
    with pytest.raises(InputError, match="splits"):
        score(eye, num_splits=10)


def test_precision_and_recall_are_not_swapped():
    wide, tight = normal(10, 300, 4), 0.1 * normal(11, 300, 4)
    found = precision_recall(generated=tight, reference=wide)
    assert found["precision"] > 0.95 and found["recall"] < 0.1 and found["coverage"] < 0.2
    found = precision_recall(generated=wide, reference=tight)
    assert found["precision"] < 0.1 and found["recall"] > 0.95 and found["density"] < 0.1


@pytest.mark.parametrize("block", [1024, 17])
def test_precision_and_recall_in_blocks_and_in_float64(monkeypatch, block):
    monkeypatch.setattr(formulas, "BLOCK", block)
    generated, reference = normal(12, 90, 5, shift=0.4), normal(13, 70, 5)
    precision, recall = calculate_precision_recall_full(
        torch.from_numpy(generated).double(), torch.from_numpy(reference).double(), 4
    )
    found = precision_recall(generated=generated, reference=reference, num_neighbors=4)
    assert (found["precision"], found["recall"]) == pytest.approx((precision, recall), abs=1e-6)

    def distances(x, y):
        return np.linalg.norm(x[:, None].astype(float) - y[None], axis=2)

    radii = np.sort(distances(reference, reference))[:, 4]
    inside = distances(generated, reference) <= radii
    assert found["density"] == pytest.approx(inside.sum() / 90 / 4)
    assert found["coverage"] == inside.any(0).mean()
    # Exact in float32 as numbers, not as squares: steps of 1/1024 beside a far outlier.
    grid = 4096 + np.round(1024 * np.clip(normal(14, 60, 3), -3, 3)).astype(np.float32) / 1024
    grid[0] = -4096
    same = precision_recall(generated=grid, reference=grid)
    assert same["precision"] == same["recall"] == same["coverage"] == 1
    apart = precision_recall(generated=grid[1:] + np.float32(8), reference=grid)
    assert apart["precision"] == 0
    # A border belongs to its ball, whatever the products round to: the first of equally spaced
    # points reaches as far outwards as to its third neighbour. (The mean is no float.)
    for seed in range(20):
        step = np.round(100 * normal(seed, 1, 9))
        found = precision_recall(
            generated=np.array([[-3], [-90], [-95], [-99]]) * step,
            reference=np.array([[0], [1], [2], [3], [4], [5], [7]]) * step,
        )
        assert found["precision"] == 1 / 4


def test_evaluate_does_not_depend_on_batches_or_order():
    reference = reference_of()
    whole = evaluate(batches(100, 64), reference, tiny())
    for parts in (batches(100, 7), batches(100, 7)[::-1]):
        other = evaluate(parts, reference, tiny())
        assert other.keys() == whole.keys()
        for key, value in whole.items():
            near = pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
            assert other[key] == near, key


def test_evaluate_says_everything_about_its_numbers():
    result = evaluate(batches(50, 32, low=0.3), reference_of(), tiny())
    assert set(result) == {
        *("feature_extractor", "feature_extractor_sha256", "num_images", "reference"),
        *("num_reference_images", "num_reference_features", "num_neighbors", "settings"),
        *("fid", "kid", "inception_score", "inception_score_std", "warnings"),
        *("precision", "recall", "density", "coverage"),
    }
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert (result["num_images"], result["num_reference_images"]) == (50, 90)
    assert result["feature_extractor_sha256"] == tiny().sha256 != tiny(1).sha256
    assert ["poorly determined" in note for note in result["warnings"]] == [True]
    # The numbers are those of the formulas, of images rounded to the nearest level.
    images = torch.cat([batch.images for batch in batches(50, 32, low=0.3)])
    features, probabilities = tiny()(torch.round(255 * images).byte())
    assert features.dtype == torch.float32 and probabilities is not None
    sides = {"generated": features.numpy(), "reference": reference_of().features}
    fid = frechet_distance(generated=moments(sides["generated"]), reference=reference_of().moments)
    assert result["fid"] == pytest.approx(fid)
    assert result["kid"] == pytest.approx(kernel_distance(**sides))
    found = inception_score(probabilities=probabilities.numpy())
    assert {key: result[key] for key in found} == pytest.approx(found)
    found = precision_recall(**sides)
    assert {key: result[key] for key in found} == found


def test_evaluate_refuses_what_it_cannot_score():
    reference = reference_of()
    for nothing in ([], batches(1, 1)):
        with pytest.raises(InputError, match="at least 2 generated"):
            evaluate(nothing, reference, tiny())
    with pytest.raises(InputError, match="made with 'tiny'"):
        evaluate(batches(20, 8), reference, tiny(1))
    broken = TinyFeatures()
    sound = weights_sha256(broken)
    broken.body.data[0, 0] = torch.nan
    with pytest.raises(InputError, match="'tiny' gave NaN"):
        evaluate(batches(20, 8), reference, NetworkExtractor(broken, "tiny", sound))
    with pytest.raises(InputError, match="announced"):
        make_reference(batches(20, 8), tiny(), source="noise", num_images=21)
    # Three images make a FID, but no balls of three neighbours and not ten splits.
    few = evaluate(batches(3, 3), reference, tiny())
    assert few["precision"] is None and few["kid"] is not None
    assert few["settings"]["inception_score_splits"] == 3
    assert any("neighbors" in note for note in few["warnings"])


def test_evaluate_of_tensors_samples_and_features_is_the_same():
    real, made = batches(90, 32, seed=2), batches(100, 64)
    wanted = evaluate(made, reference_of(), tiny())
    images = [torch.cat([batch.images for batch in side]) for side in (made, real)]
    rows = [tiny()(to_uint8(side)).features for side in images]
    keys = [one.key for one in METRICS if one.needs != "probabilities"]
    for generated, reference, extractor in (
        (images[0], images[1], tiny()),
        (made, real[::-1], tiny()),
        (rows[0], rows[1].numpy(), None),
        (rows[0], reference_of(), None),
    ):
        found = evaluate(generated, reference, extractor)
        assert {key: found[key] for key in keys} == pytest.approx(
            {key: wanted[key] for key in keys}, rel=1e-9
        )
        assert found["num_reference_images"] == 90
        assert found["feature_extractor"] == (extractor and "tiny")
        assert (found["inception_score"] is None) == (extractor is None)
        assert len(found["warnings"]) == 0


def test_evaluate_takes_the_extractor_of_a_shipped_reference():
    images = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    found = evaluate(images, "fashion_mnist/plain")
    assert found["feature_extractor"] == "fashion_mnist/plain"
    assert found["num_reference_images"] == 10000 and found["fid"] > 10


@pytest.mark.parametrize(
    ("generated", "message"),
    [
        (torch.zeros(4, 3, 4, 4), "need a feature extractor"),
        (np.full((4, 6), np.nan, np.float32), "NaN"),
        (np.zeros((4, 5), np.float32), "differ in D"),
    ],
)
def test_evaluate_refuses_features_that_do_not_fit(generated, message):
    with pytest.raises(InputError, match=message):
        evaluate(generated, normal(0, 9, 6))


def test_every_metric_is_an_entry_of_the_list():
    result = evaluate(batches(20, 20), reference_of(), tiny())
    for one in METRICS:
        assert hasattr(formulas, one.formula) and one.explanation.endswith(".")
        assert isinstance(result[one.key], float)
        assert one.std_key is None or isinstance(result[one.std_key], float)
    source = Path(inspect.getfile(metric)).read_text()
    assert not re.search(r"import (torch|numpy)|from (torch|numpy)", source)


def test_texts_of_metrics_have_three_digits():
    fid = metric("fid")
    assert [fid.text(x) for x in (12.3456, 0.012345, 0.0, None)] == [
        "12.35", "0.0123", "0.00", "\N{EN DASH}",
    ]  # fmt: skip
    assert (fid.heading, metric("recall").heading) == ("FID ↓", "Recall ↑")
    assert metric("recall").text(0.71251) == "0.713"


def test_references_are_what_was_saved(tmp_path):
    made, path = reference_of(max_features=20), tmp_path / "reference.npz"
    made.save(path, features_dtype="float16")
    found = Reference.load(path, extractor=tiny())
    np.testing.assert_array_equal(found.moments.sigma, made.moments.sigma)
    assert (found.source, found.num_images) == ("noise", 90)
    assert found.features is not None and made.features is not None
    assert found.features.shape == (20, 6) and found.features.dtype == np.float32
    np.testing.assert_allclose(found.features, made.features, rtol=1e-3)
    assert list(tmp_path.iterdir()) == [path]
    np.savez(path, mu=np.zeros(6), sigma=np.eye(6))  # as other tools write it
    result = evaluate(batches(20, 20), path, tiny())
    assert result["kid"] is None and len(result["warnings"]) == 3
    path.write_text("no archive")
    with pytest.raises(InputError, match="mu and sigma"):
        Reference.load(path)


def test_extractors_insist_on_uint8_shape_and_evaluation_mode():
    module = TinyFeatures().train()
    extractor = NetworkExtractor(module, "tiny", "0", image_shape=(3, 4, 4))
    images = torch.full((2, 3, 4, 4), 200, dtype=torch.uint8)
    assert extractor(images).features.shape == (2, 6)
    with pytest.raises(TypeError, match="uint8"):
        extractor(images.float() / 255)
    with pytest.raises(InputError, match="shape"):
        extractor(images[:, :1])
    module.train()
    with pytest.raises(RuntimeError, match="training mode"):
        extractor(images)


def test_weights_that_cannot_be_loaded(monkeypatch, tmp_path):
    def offline(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(inception, "packaged_weights", lambda: None)
    with pytest.raises(InputError) as caught:
        load_extractor("inception-v3-compat")
    message = str(caught.value)
    assert str(tmp_path) in message and "cifar10/plain" in message
    assert "\n" not in message and "no route to host" in message
    with pytest.raises(InputError, match=r"did you mean 'inception-v3-compat"):
        load_extractor("inception-v3")


def test_other_weights_than_the_known_ones_are_not_opened(monkeypatch, tmp_path):
    program = tmp_path / "default_1.pt"
    torch.jit.script(torch.nn.Identity()).save(program)
    monkeypatch.setattr(inception, "packaged_weights", lambda: program)
    with pytest.raises(InputError, match="other weights"):
        FidelityExtractor("inception-v3-compat")


def test_inception_is_the_packaged_program():
    """Their TorchScript computes the same features by itself, of images we resize and scale."""
    from torch_fidelity.interpolate_compat_tensorflow import (
        interpolate_bilinear_2d_like_tensorflow1x as resize,
    )

    torch.manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    extractor = FidelityExtractor("inception-v3-compat")
    found = extractor(images)
    assert found.features.shape == (2, 2048)
    assert found.probabilities is None  # the package's file lacks the layer of the score
    path = inception.packaged_weights()
    assert path is not None
    theirs = torch.jit.load(path)
    with torch.inference_mode():
        scaled = (resize(images.float(), size=(299, 299), align_corners=False) - 128) / 128
        wanted = theirs(scaled).flatten(1)
    torch.testing.assert_close(found.features, wanted, atol=1e-4, rtol=0)
    # Gray images are the same thrice.
    gray = extractor(images[:, :1]).features
    torch.testing.assert_close(gray, extractor(images[:, :1].repeat(1, 3, 1, 1)).features)
    if not inception.multiplies_float16(torch.device("cpu")):
        with pytest.raises(InputError, match="float16"):
            FidelityExtractor("inception-v3-compat:float16")
        return
    half = FidelityExtractor("inception-v3-compat:float16")
    assert half.sha256 != extractor.sha256 and half.name == "inception-v3-compat:float16"
    off = (half(images).features - wanted).norm() / wanted.norm()
    assert 0 < off < 0.02


def test_inception_from_a_file_of_tensors(monkeypatch):
    """What torch-fidelity fetches has the last layer, so the Inception Score can be had."""
    state = inception.blank_inception(["2048"]).state_dict()
    monkeypatch.setattr(inception, "packaged_weights", lambda: None)
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda *_, weights_only: state)
    extractor = FidelityExtractor("inception-v3-compat")
    found = extractor(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    assert found.probabilities is not None and found.probabilities.shape == (1, 1008)
    assert found.probabilities.sum().item() == pytest.approx(1, abs=1e-5)
