"""The evaluation, its references and extractors: what goes in, what comes out, what is refused."""

import inspect
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from burnish.errors import InputError
from burnish.metrics import formulas
from burnish.metrics.evaluate import evaluate
from burnish.metrics.features import NetworkExtractor, load_extractor, weights_sha256
from burnish.metrics.metric import METRICS, metric
from burnish.metrics.moments import Moments, MomentSum, check_covariance
from burnish.metrics.protocol import PROTOCOLS
from burnish.metrics.reference import Reference, make_reference
from burnish.samples import Samples, to_uint8


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


def test_evaluate_does_not_depend_on_batches_or_order():
    reference = reference_of()
    whole = evaluate(batches(100, 64), reference, tiny())
    for parts in (batches(100, 7), batches(100, 7)[::-1]):
        other = evaluate(parts, reference, tiny())
        assert other.keys() == whole.keys()
        for key in whole["intervals"]:
            near = pytest.approx(whole["intervals"][key], rel=1e-5, abs=1e-9)
            assert other["intervals"][key] == near, key
        for key, value in whole.items():
            if key == "intervals":
                continue
            near = pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
            assert other[key] == near, key


def test_evaluate_says_everything_about_its_numbers():
    result = evaluate(batches(50, 32, low=0.3), reference_of(), tiny())
    assert set(result) == {
        *("feature_extractor", "feature_extractor_sha256", "num_images", "reference"),
        *("num_reference_images", "num_reference_features", "num_neighbors", "settings"),
        *("fid", "kid", "inception_score", "inception_score_std", "warnings", "protocol"),
        *("precision", "recall", "density", "coverage", "sfid", "mind", "cmmd", "fdr"),
        *("fid_infinity", "copying", "accuracy", "intervals", "card", "fingerprint"),
    }
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert (result["num_images"], result["num_reference_images"]) == (50, 90)
    assert result["feature_extractor_sha256"] == tiny().sha256 != tiny(1).sha256
    assert ["poorly determined" in note for note in result["warnings"]] == [True]
    # The numbers are those of the formulas, of images rounded to the nearest level.
    images = torch.cat([batch.images for batch in batches(50, 32, low=0.3)])
    features, probabilities, _ = tiny()(torch.round(255 * images).byte())
    assert features.dtype == torch.float32 and probabilities is not None
    sides = {"generated": features.numpy(), "reference": reference_of().features}
    total = MomentSum()
    total.add(sides["generated"])
    found = {
        "fid": formulas.frechet_distance(
            generated=total.moments(), reference=reference_of().moments
        ),
        "kid": formulas.kernel_distance(**sides),
        **formulas.inception_score(probabilities=probabilities.numpy()),
        **formulas.precision_recall(**sides),
    }
    assert {key: result[key] for key in found} == pytest.approx(found)


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
    keys = [one.key for one in METRICS if wanted[one.key] and one.needs != "probabilities"]
    keys.remove("accuracy")  # these have no labels
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
        evaluate(generated, np.eye(9, 6, dtype=np.float32))


def test_every_metric_is_an_entry_of_the_list():
    result = evaluate(batches(20, 20), reference_of(), tiny())
    for one in METRICS:
        is_formula = one.needs == "estimate" or hasattr(formulas, one.formula)
        assert is_formula and one.explanation.endswith(".")
        if one.key in ("cmmd", "fdr", "fid_infinity"):
            continue  # of CLIP alone, of a second real set, or if asked for
        reported = one.key in PROTOCOLS["burnish"].metrics
        assert isinstance(result[one.key], float) == reported
        assert one.std_key is None or isinstance(result[one.std_key], float) == reported
    source = Path(inspect.getfile(metric)).read_text()
    assert not re.search(r"import (torch|numpy)|from (torch|numpy)", source)


def test_texts_of_metrics_have_three_digits():
    fid = metric("fid")
    assert [fid.text(x) for x in (12.3456, 0.012345, 0.0, None)] == [
        "12.35", "0.0123", "0.00", "\N{EN DASH}",
    ]  # fmt: skip
    assert (fid.heading, metric("recall").heading) == ("FID ↓", "Recall ↑")
    assert metric("recall").text(0.71251) == "0.713"
    assert [fid.text(x) for x in (1e300, -4e12, 123456789.0)] == [
        "1e+300",
        "-4e+12",
        "123456789.00",
    ]


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


def test_the_images_of_a_reference_of_adm_give_its_features(tmp_path):
    images = torch.cat([batch.images for batch in batches(90, 32, 2)])
    made = reference_of()
    np.savez(
        tmp_path / "adm.npz", mu=made.moments.mu, sigma=made.moments.sigma,
        arr_0=to_uint8(images).permute(0, 2, 3, 1).contiguous().numpy(),
    )  # fmt: skip
    found = Reference.load(tmp_path / "adm.npz", extractor=tiny())
    assert found.features is not None and made.features is not None
    assert np.array_equal(found.features, made.features)
    assert found.num_images is None  # the moments may be of more images than these
    result = evaluate(batches(50, 32), found, tiny())
    assert result["kid"] is not None and result["recall"] is not None
    assert Reference.load(tmp_path / "adm.npz").features is None


def test_a_reference_of_another_size_is_refused_after_one_image():
    seen = []
    extractor = tiny()

    class Watched:
        name, sha256 = "watched", "0"

        def __call__(self, images_uint8):
            seen.append(len(images_uint8))
            return extractor(images_uint8)

    other = Reference(Moments(np.zeros(7), np.eye(7)), None, None, None, None, "other")
    with pytest.raises(InputError, match="'other' is of 7 features, but watched gives 6"):
        evaluate(batches(90, 32), other, Watched())
    assert seen == [1]


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 56, 56), (3, 28, 28)])
def test_shipped_extractors_take_images_of_their_own_size_only(shape):
    extractor = load_extractor("fashion_mnist/plain")
    with pytest.raises(InputError, match=rf"\[1, 28, 28\], not \[{shape[0]}, {shape[1]}"):
        extractor(torch.zeros(2, *shape, dtype=torch.uint8))


def test_covariances_in_float32_are_taken():
    rows = np.random.default_rng(0).normal(size=(40, 60)).astype(np.float32)  # of rank 39
    check_covariance(np.cov(rows.T).astype(np.float32).astype(np.float64))
    check_covariance(np.zeros((3, 3)))
    for wrong in (-np.eye(3), np.diag([1.0, 1.0, -0.01]), np.triu(np.ones((3, 3)))):
        with pytest.raises(InputError, match="sigma is no covariance"):
            check_covariance(wrong)
