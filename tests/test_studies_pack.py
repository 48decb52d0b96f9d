"""Packing a run: what is written can be loaded, and fits together."""

import json

import numpy as np
import pytest
import torch

from burnish.checkpoint import save_model
from burnish.errors import InputError
from burnish.generators.consistency import ConsistencyModel
from burnish.generators.load import load_generator
from burnish.generators.unet import build_unet
from burnish.guide.load import load_guide
from burnish.metrics.features import load_extractor
from burnish.metrics.reference import Reference
from burnish.networks.build import build
from burnish.studies.pack import pack


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    network = {"name": "resnet", "in_channels": 1, "num_classes": 3, "width": 4, "num_blocks": 1}
    spectra = {"real": torch.rand(8, 8, 1, 1)}
    path = folder / "joint" / "model.safetensors"
    save_model(path, build(network), {"network": network}, beside=spectra)
    network = {"name": "convnet", "in_channels": 1, "num_classes": 3, "widths": [4]}
    card = {"network": network, "name": "plain", "data": "noise"}
    save_model(folder / "features-plain" / "model.safetensors", build(network), card)
    unet = build_unet(8, 1, 3, widths=(8, 16), norm_num_groups=4)
    ConsistencyModel(unet).save(folder / "consistency" / "pipeline")
    return folder


def write_tuning(path, chosen):
    path.write_text(json.dumps({"chosen": chosen, "verdict": "use", "words": "Use them."}))
    return path


def test_a_packed_run_loads_in_half_precision(run, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), np.uint8)
    np.savez(tmp_path / "real.npz", arr_0=pixels)
    tuning = write_tuning(tmp_path / "tuning.json", {"eps": 1.5})
    out = tmp_path / "packed"
    written = pack(
        run, out, tuning=tuning, real=tmp_path / "real.npz", source="noise", features=["plain"]
    )
    assert sorted(written) == sorted(out.iterdir())
    guide, trained = (
        load_guide(out / "guide.safetensors"),
        load_guide(run / "joint/model.safetensors"),
    )
    assert guide.card["refine"] == {"eps": 1.5}
    assert torch.equal(guide.spectra["real"], trained.spectra["real"])
    for packed, whole in zip(guide.parameters(), trained.parameters(), strict=True):
        assert torch.equal(packed, whole.half().float())
    assert load_generator(str(out / "generator")).image_shape == (1, 8, 8)
    extractor = load_extractor(str(out / "features-plain.safetensors"))
    reference = Reference.load(out / "reference-plain.npz", extractor=extractor)
    assert reference.num_images == 20 and reference.source == "noise"
    with pytest.raises(InputError, match="takes images of shape"):
        extractor(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))


def test_without_real_images_the_guide_alone_is_packed(run, tmp_path):
    assert pack(run, tmp_path / "packed") == [tmp_path / "packed" / "guide.safetensors"]
    with pytest.raises(InputError, match="chose no setting"):
        pack(run, tmp_path / "other", tuning=write_tuning(tmp_path / "tuning.json", None))
    assert not (tmp_path / "other").exists()
