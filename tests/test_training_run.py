"""Folders of trainings: names, claims, logs and states, damaged ones among them."""

from pathlib import Path

import pytest
import torch

from burnish.errors import InputError
from burnish.training.run import Run, Stage


def begun(folder):
    stage = Stage(folder)
    stage.claim({"seed": 1, "data_sha256": "a"})
    stage.save_state({"step": 2, "model": {"weight": torch.arange(3)}})
    return stage


def test_names_of_everything_in_a_run():
    run = Run(Path("runs/digits"))
    stages = [run.features("plain"), run.teacher, run.consistency, run.generator, run.joint,
              run.self_distillation]  # fmt: skip
    names = ["features-plain", "teacher", "consistency", "generator", "joint", "self-distillation"]
    assert [str(stage.folder) for stage in stages] == [f"runs/digits/{name}" for name in names]
    assert str(run.joint.model) == "runs/digits/joint/model.safetensors"
    assert str(run.beside("other").consistency.pipeline) == "runs/other/consistency/pipeline"
    assert str(run.generated) == "runs/digits/generated.npz"


def test_a_state_comes_back_as_it_was_saved(tmp_path):
    stage, device = Stage(tmp_path / "it"), torch.device("cpu")
    assert stage.load_state(device) is None
    state = begun(stage.folder).load_state(device)
    assert state is not None
    assert state["step"] == 2 and torch.equal(state["model"]["weight"], torch.arange(3))


@pytest.mark.parametrize("settings", [{"seed": 2, "data_sha256": "a"}, {"seed": 1}, {}])
def test_a_folder_of_other_settings_is_refused(tmp_path, settings):
    stage = begun(tmp_path)
    stage.claim({"data_sha256": "a", "seed": 1})
    with pytest.raises(InputError, match="other settings or data"):
        stage.claim(settings)


def test_a_training_without_a_saved_state_has_nothing_to_protect(tmp_path):
    stage = Stage(tmp_path)
    stage.claim({"seed": 1})
    stage.claim({"seed": 2})
    assert stage.config.read_text() == '{\n  "seed": 2\n}\n'


def test_a_state_that_would_run_code_is_not_loaded(tmp_path):
    stage = begun(tmp_path)
    torch.save({"step": Path("x")}, stage.state)
    with pytest.raises(InputError, match=r"state\.pt is damaged"):
        stage.load_state(torch.device("cpu"))


@pytest.mark.parametrize("text", [b"", b"junk"])
def test_damaged_files_say_so(tmp_path, text):
    stage = begun(tmp_path)
    stage.state.write_bytes(text)
    with pytest.raises(InputError, match=r"state\.pt is damaged"):
        stage.load_state(torch.device("cpu"))
    stage.config.write_bytes(text)
    with pytest.raises(InputError, match=r"config\.json is damaged or lost"):
        stage.claim({})


def test_damaged_and_later_lines_of_the_log_are_dropped(tmp_path):
    stage = Stage(tmp_path)
    for step in (1, 2, 3):
        stage.write_log(step, {"loss": step / 2})
    lines = stage.log.read_text().splitlines(keepends=True)
    stage.log.write_bytes(b'{}\n{"step": }\n\xff\n' + stage.log.read_bytes() + b'{"step": 1')
    stage.cut_log(2)
    assert stage.log.read_text() == "".join(lines[:2])
    assert lines[0] == '{"step": 1, "loss": 0.5}\n'
