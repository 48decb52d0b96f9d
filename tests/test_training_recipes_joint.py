"""The joint recipe: where generated images come from, what is refused, what the card says."""

import math
from dataclasses import replace

import pytest
import torch
from training_setup import SHORT, data_of, real_images

from burnish.ascent.spectrum import measure_spectrum
from burnish.checkpoint import load_model, save_model
from burnish.errors import InputError
from burnish.generators.latent import LatentModel
from burnish.guide.load import load_guide
from burnish.networks.build import build
from burnish.samples import Samples
from burnish.storage.datasets import load_dataset
from burnish.storage.formats import write_samples
from burnish.training.config import AttackConfig, GrowthConfig, JointConfig
from burnish.training.experiment import Experiment
from burnish.training.losses.joint import JointLoss
from burnish.training.recipes.joint import generated_images
from burnish.training.run import Run
from burnish.training.train import train

JOINT = JointConfig(
    {"name": "resnet", "width": 4, "num_blocks": 1},
    num_generated=20,
    training=SHORT,
    generated_attack=AttackConfig(eps=math.inf, step_size=0.1, num_steps=1, random_start=False),
    growth=GrowthConfig("never"),
    refine={"eps": 1.0, "num_steps": 3, "stop_quantile": 1.0},
)


def generator(run, seed=0):
    """Put an untrained GAN into a run."""
    network = {"name": "decoder", "in_channels": 1, "num_classes": 4, "image_size": 8,
               "latent_size": 5, "widths": [8, 4]}  # fmt: skip
    torch.manual_seed(seed)
    model = LatentModel(build(network), {"kind": "gan", "network": network})  # pyright: ignore[reportArgumentType]
    model.save(run.generator.model)
    return model


def trained(tmp_path, config=JOINT, count=48):
    data = data_of(real_images(tmp_path / "real.npz", count))
    return train("joint", Experiment("it", data, joint=config), out=tmp_path)


def test_generated_images_are_those_of_the_runs_generator(tmp_path):
    run = Run(tmp_path / "it")
    with pytest.raises(InputError, match="train the generator first"):
        generated_images(JOINT, run)
    expected = generator(run).sample(range(7, 27))
    found = generated_images(replace(JOINT, generated_seed=7), run)
    assert expected.labels is not None and torch.equal(found.labels, expected.labels)
    gap = (found.samples().images - expected.images).abs().max()
    assert gap <= 0.5 / 255 + 1e-6


def test_generated_images_are_made_again_when_what_they_follow_from_has_changed(tmp_path):
    run = Run(tmp_path / "it")
    generator(run)

    def made(count=6, seed=5):
        return generated_images(replace(JOINT, num_generated=count, generated_seed=seed), run)

    first, written = made(), run.generated.stat().st_mtime_ns
    assert made().sha256() == first.sha256() and run.generated.stat().st_mtime_ns == written
    assert len(made(count=8)) == 8
    assert made(seed=77).sha256() != first.sha256()
    assert made().sha256() == first.sha256()
    generator(run, seed=1)
    assert made().sha256() != first.sha256()


def test_a_file_of_generated_images_that_a_user_put_there_stays(tmp_path):
    run = Run(tmp_path / "it")
    generator(run)
    real_images(run.generated, 12)
    assert len(generated_images(JOINT, run)) == 12
    run.generator.model.unlink()
    assert len(generated_images(JOINT, run)) == 12


def test_generated_images_of_several_generators_come_in_turns(tmp_path):
    for name in ("left", "right"):
        real_images(tmp_path / name / "generated.npz", 12)
    config = replace(JOINT, generated_by=("left", "right"))
    both = generated_images(config, Run(tmp_path / "it"))
    one = load_dataset(str(tmp_path / "left" / "generated.npz"))
    assert both.labels.tolist() == one.labels.repeat_interleave(2).tolist()
    assert both.source == "generated images of left, right"


def test_the_guide_knows_how_it_was_made_and_how_it_is_best_used(tmp_path):
    generator(Run(tmp_path / "it"))
    (path,) = trained(tmp_path)
    card = load_model(path)[1]
    assert card["refine"] == JOINT.refine and card["config"]["refine"] == {}
    assert card["image_shape"] == [1, 8, 8] and len(card["realness"]["quantiles"]) == 101
    assert card["config"]["generated_attack"]["eps"] == "inf"
    assert load_guide(path)(torch.rand(2, 1, 8, 8)).shape == (2, 4)
    # How a finished guide is used may be said later; it is no part of its training.
    trained(tmp_path, replace(JOINT, refine={"eps": 2.0}))
    assert load_model(path)[1]["refine"] == {"eps": 2.0}


def test_training_may_start_from_a_finished_guide(tmp_path):
    generator(Run(tmp_path / "it"))
    (first,) = trained(tmp_path)
    start = tmp_path / "start.safetensors"
    first.rename(start)
    (tmp_path / "it" / "joint" / "state.pt").unlink()
    # Steps that are too small to move anything.
    still = replace(SHORT, learning_rate=1e-30)
    (path,) = trained(tmp_path, replace(JOINT, start_from=str(start), training=still))
    before, after = load_model(start)[0].state_dict(), load_model(path)[0].state_dict()
    weights = [name for name in before if name.endswith("weight")]
    assert weights and all(torch.equal(before[name], after[name]) for name in weights)


def test_a_guide_of_other_classes_gives_all_but_its_last_layer(tmp_path):
    generator(Run(tmp_path / "it"))
    network = {"name": "resnet", "width": 4, "num_blocks": 1, "in_channels": 1, "num_classes": 7}
    start = tmp_path / "start.safetensors"
    save_model(start, build(network), {"network": network})
    still = replace(SHORT, learning_rate=1e-30)
    (path,) = trained(tmp_path, replace(JOINT, start_from=str(start), training=still))
    before, (network, card) = load_model(start)[0].state_dict(), load_model(path)
    assert card["network"]["num_classes"] == 4
    assert torch.equal(network.state_dict()["stem.0.weight"], before["stem.0.weight"])
    assert load_guide(path)(torch.rand(2, 1, 8, 8)).shape == (2, 4)


def test_the_last_layer_may_begin_anew_and_nothing_else_does(tmp_path):
    generator(Run(tmp_path / "it"))
    network = {"name": "resnet", "width": 4, "num_blocks": 1, "in_channels": 1, "num_classes": 4}
    start = tmp_path / "start.safetensors"
    save_model(start, build(network), {"network": network})
    still = replace(SHORT, learning_rate=1e-30)
    config = replace(JOINT, start_from=str(start), fresh_head=True, training=still)
    (path,) = trained(tmp_path, config)
    before, after = load_model(start)[0].state_dict(), load_model(path)[0].state_dict()
    weights = [name for name, value in before.items() if value.ndim > 1]
    changed = [name for name in weights if not torch.equal(before[name], after[name])]
    assert changed == ["head.weight"] and len(weights) > 5


def test_a_guide_knows_the_spectra_and_may_train_on_matched_images(tmp_path, monkeypatch):
    generator(Run(tmp_path / "it"))
    seen, real = [], JointLoss.__call__

    def watched(self, guide, batch, step):
        seen.append(batch[1].images)
        return real(self, guide, batch, step)

    monkeypatch.setattr(JointLoss, "__call__", watched)
    attack = replace(JOINT.generated_attack, precondition="spectrum")
    config = replace(JOINT, match_spectrum=True, generated_attack=attack)
    (path,) = trained(tmp_path, config)
    guide = load_guide(path)
    assert guide.spectra["generated"].shape == guide.spectra["real"].shape == (8, 8, 1, 1)
    matched = measure_spectrum([guide.matcher()(images_of_run(tmp_path)).clamp(0, 1)])
    found = measure_spectrum(seen)
    gaps = [(found - spectrum).abs().sum() for spectrum in (matched, guide.spectra["generated"])]
    assert gaps[0] < gaps[1]


def images_of_run(folder):
    return load_dataset(str(folder / "it" / "generated.npz")).samples().images


def test_a_finished_guide_refuses_other_generated_images(tmp_path):
    generator(Run(tmp_path / "it"))
    trained(tmp_path)
    with pytest.raises(InputError, match="other settings or data"):
        trained(tmp_path, replace(JOINT, generated=str(tmp_path / "real.npz")))


@pytest.mark.parametrize(
    ("images", "label", "reason"),
    [
        (torch.rand(20, 1, 8, 8), 90, "beyond those of the real images"),
        (torch.rand(20, 3, 8, 8), 0, r"shape \[3, 8, 8\] for real images of shape \[1, 8, 8\]"),
    ],
)
def test_generated_images_that_do_not_fit_the_real_ones_are_refused(
    tmp_path, images, label, reason
):
    samples = Samples(images, torch.full((20,), label), torch.arange(20))
    path = write_samples(tmp_path / "strange.npz", [samples], 20)
    with pytest.raises(InputError, match=reason):
        trained(tmp_path, replace(JOINT, generated=str(path)))
