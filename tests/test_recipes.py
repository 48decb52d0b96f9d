"""Recipes: what they share between experiments, and the generator that absorbs its refinement."""

import dataclasses
import json
import math
import shutil

import pytest
import torch

from burnish.errors import InputError
from burnish.generators.consistency import ConsistencyModel
from burnish.storage import open_samples, write_samples
from burnish.training.config import (
    AbsorbConfig,
    AttackConfig,
    ConsistencyConfig,
    DataConfig,
    Experiment,
    GrowthConfig,
    JointConfig,
    TeacherConfig,
    TrainingConfig,
)
from burnish.training.recipes import load_real, train_absorb, train_consistency, train_joint
from burnish.training.recipes.joint import _fakes, _fakes_of
from burnish.training.recipes.parts import network_arguments

SHORT = TrainingConfig(num_steps=2, batch_size=8, mixed_precision="no", learning_rate=1e-3)
EXPERIMENT = Experiment(
    name="first",
    data=DataConfig("digits", "0-99", "100-199"),
    consistency=ConsistencyConfig(
        "training",
        {"widths": [8, 8]},
        teacher=TeacherConfig(training=SHORT),
        training=SHORT,
    ),
    joint=JointConfig(
        {"name": "resnet", "width": 4, "num_blocks": 1},
        num_fakes=20,
        training=SHORT,
        fake_attack=AttackConfig(math.inf, 0.1, 1, False),
        growth=GrowthConfig("never"),
        refine={"eps": 1.0, "num_steps": 3, "stop_quantile": 1.0},
    ),
    absorb=AbsorbConfig(24, 7000, dataclasses.replace(SHORT, num_steps=60, learning_rate=3e-3)),
)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Return the folder of runs, with one experiment trained in it."""
    out = tmp_path_factory.mktemp("runs")
    real, held_out = load_real(EXPERIMENT)
    train_consistency(EXPERIMENT, real, out / "first", "cpu")
    train_joint(EXPERIMENT, real, held_out, out / "first", "cpu")
    return out


def test_a_finished_teacher_is_taken_over(out):
    teacher = dataclasses.replace(EXPERIMENT.consistency.teacher, of="first")
    consistency = dataclasses.replace(
        EXPERIMENT.consistency, method="distillation", teacher=teacher
    )
    before = (out / "first" / "teacher" / "state.pt").stat().st_mtime_ns
    other = dataclasses.replace(EXPERIMENT, name="second", consistency=consistency)
    train_consistency(other, load_real(other)[0], out / "second", "cpu")
    assert (out / "second" / "consistency" / "pipeline").is_dir()
    assert not (out / "second" / "teacher").exists()
    assert (out / "first" / "teacher" / "state.pt").stat().st_mtime_ns == before
    # Another teacher under that name is refused, not overwritten.
    longer = dataclasses.replace(teacher, training=dataclasses.replace(SHORT, num_steps=3))
    consistency = dataclasses.replace(consistency, teacher=longer)
    with pytest.raises(InputError, match="other settings"):
        third = dataclasses.replace(EXPERIMENT, name="third", consistency=consistency)
        train_consistency(third, load_real(third)[0], out / "third", "cpu")


def test_fakes_of_several_generators_come_in_turns(out):
    one = open_samples(out / "first" / "fakes.npz")
    for name in ("left", "right"):
        (out / name).mkdir()
        (out / name / "fakes.npz").write_bytes((out / "first" / "fakes.npz").read_bytes())
    joint = dataclasses.replace(EXPERIMENT.joint, fakes_of=("left", "right"))
    both = _fakes(dataclasses.replace(EXPERIMENT, joint=joint), out / "other", "cpu")
    assert one.labels is not None
    assert both.labels.tolist() == one.labels.repeat_interleave(2).tolist()
    assert both.source == "generated images of left, right"


def test_generated_images_follow_their_settings(out, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(out / "first" / "consistency" / "pipeline", run / "consistency" / "pipeline")

    def made(**settings):
        return _fakes_of(dataclasses.replace(EXPERIMENT.joint, **settings), run, "cpu")

    first = made(num_fakes=6)
    written = (run / "fakes.npz").stat().st_mtime_ns
    assert made(num_fakes=6).sha256() == first.sha256()
    assert (run / "fakes.npz").stat().st_mtime_ns == written
    assert len(made(num_fakes=8)) == 8
    assert made(num_fakes=6, fake_seed=77).sha256() != first.sha256()
    # Another generator: the absorbed one in its place.
    card = run / "consistency" / "pipeline" / "card.json"
    card.write_text(card.read_text() + "\n")
    note = json.loads((run / "fakes.json").read_text())
    made(num_fakes=6, fake_seed=77)
    assert json.loads((run / "fakes.json").read_text()) != note
    # What somebody put there by hand stays.
    (run / "fakes.json").unlink()
    assert made(num_fakes=9).sha256() == made(num_fakes=6).sha256()


def test_a_finished_run_refuses_other_images(out):
    data, held_out = load_real(EXPERIMENT)
    other = dataclasses.replace(data, images_uint8=255 - data.images_uint8)
    with pytest.raises(InputError, match="other settings or data"):
        train_joint(EXPERIMENT, other, held_out, out / "first", "cpu")


@pytest.mark.parametrize(
    "wrong", [{"in_channels": 3}, {"num_classes": 4}, {"num_classes": "many"}]
)
def test_networks_for_other_data_are_refused(wrong):
    with pytest.raises(InputError, match=f"{next(iter(wrong))} is"):
        network_arguments({"name": "judge", **wrong}, load_real(EXPERIMENT)[0])


def test_fakes_of_other_classes_are_refused(out, tmp_path):
    data, held_out = load_real(EXPERIMENT)
    samples = data.samples(slice(0, 20))
    strange = dataclasses.replace(samples, labels=data.labels[:20] + 90)
    write_samples(tmp_path / "strange.npz", [strange], 20)
    joint = dataclasses.replace(EXPERIMENT.joint, fakes=str(tmp_path / "strange.npz"))
    with pytest.raises(InputError, match="beyond those of the real images"):
        train_joint(
            dataclasses.replace(EXPERIMENT, joint=joint), data, held_out, tmp_path / "it", "cpu"
        )


def test_absorbing_makes_one_step_land_nearer_to_the_refined_images(out):
    run = out / "first"
    pipeline = train_absorb(EXPERIMENT, run, "cpu")
    refined = next(iter(open_samples(run / "absorbed" / "refined.npz"))).images

    def distance(folder):
        made = ConsistencyModel.load(folder).sample(range(7000, 7024))
        return (made.images - refined).square().mean().item()

    before = distance(run / "consistency" / "pipeline")
    assert 0 < distance(pipeline) < 0.7 * before


def test_absorbing_needs_both_models(tmp_path):
    with pytest.raises(InputError, match="train the consistency model and the guide"):
        train_absorb(EXPERIMENT, tmp_path, "cpu")
    with pytest.raises(InputError, match="flip must be false"):
        AbsorbConfig(training=TrainingConfig(flip=True))


def test_refined_images_of_the_first_seeds(out):
    """The image with id i is the one that sampling gives for seed first_seed + i."""
    run = out / "first"
    train_absorb(EXPERIMENT, run, "cpu")
    base = next(iter(open_samples(run / "absorbed" / "base.npz"))).images
    made = ConsistencyModel.load(run / "consistency" / "pipeline").sample(range(7000, 7024))
    assert torch.allclose(base, made.images, atol=0.5 / 255 + 1e-6)
