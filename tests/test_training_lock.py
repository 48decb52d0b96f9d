"""Two trainings do not write to one folder, and a dead one bars nobody."""

import multiprocessing
import os
import signal

import pytest
from training_setup import SHORT, data_of, real_images

from burnish.errors import InputError
from burnish.training.config import FeaturesConfig
from burnish.training.experiment import Experiment, check_data
from burnish.training.lock import alone_in
from burnish.training.train import train


def hold(folder, held):
    with alone_in(folder):
        held.set()
        signal.pause()


def test_a_folder_in_which_another_process_trains_is_refused_until_that_dies(tmp_path):
    network = {"name": "convnet", "widths": [4], "num_features": 5}
    features = {"plain": FeaturesConfig(network, training=SHORT)}
    experiment = Experiment("it", data_of(real_images(tmp_path / "real.npz")), features)
    context = multiprocessing.get_context("fork")
    held = context.Event()
    stage = tmp_path / "it" / "features-plain"
    other = context.Process(target=hold, args=(stage, held), daemon=True)
    other.start()
    assert held.wait(20) and other.pid
    with pytest.raises(InputError, match="another burnish is training there"):
        train("features", experiment, out=tmp_path)
    assert [path.name for path in stage.iterdir()] == ["lock"]
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    (path,) = train("features", experiment, out=tmp_path)
    assert path.is_file()
    with alone_in(stage):  # given back at the end
        pass


def test_devices_and_pipes_are_no_data(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for source in ("/dev/zero", str(tmp_path / "pipe")):
        with pytest.raises(InputError, match="is a device or a pipe"):
            check_data(source)
    for source in ("digits", str(tmp_path), "part-*.tar", "hub:owner/name"):
        check_data(source)
