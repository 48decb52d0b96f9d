"""Inception: the published weights and no others, whole or in float16."""

import pytest
import torch

from burnish.errors import InputError
from burnish.metrics import inception
from burnish.metrics.evaluate import evaluate
from burnish.metrics.features import FidelityExtractor, load_extractor


def test_weights_that_cannot_be_loaded(monkeypatch, tmp_path):
    def offline(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("burnish.networks.fetched.unreachable", lambda url: "")
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


def test_inception_from_a_file_of_tensors(monkeypatch, tmp_path):
    """What torch-fidelity fetches has the last layer, so the Inception Score can be had."""
    torch.save(inception.blank_inception(["2048"]).state_dict(), tmp_path / "full.pth")
    monkeypatch.setattr(inception, "packaged_weights", lambda: None)
    monkeypatch.setattr(inception, "fetch", lambda url: tmp_path / "full.pth")
    extractor = FidelityExtractor("inception-v3-compat")
    found = extractor(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    assert found.probabilities is not None and found.probabilities.shape == (1, 1008)
    assert found.probabilities.sum().item() == pytest.approx(1, abs=1e-5)


def test_a_missing_inception_score_is_explained_and_full_weights_are_preferred(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("burnish.metrics.formulas.frechet_distance", lambda **_: 0.0)  # slow
    images = torch.rand(4, 3, 8, 8)
    extractor = FidelityExtractor("inception-v3-compat")
    result = evaluate(images, images, extractor)
    (note,) = [note for note in result["warnings"] if "Inception Score" in note]
    assert result["inception_score"] is None
    assert inception.SCORE_WEIGHTS in note and str(inception.full_weights()) in note
    inception.full_weights().parent.mkdir(parents=True)
    inception.full_weights().write_bytes(b"not the weights")
    with pytest.raises(InputError, match="has not the SHA-256 of its name"):
        FidelityExtractor("inception-v3-compat")
