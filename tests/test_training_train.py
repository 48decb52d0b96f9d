"""Words of the command line: what each trains, and which are refused."""

import subprocess
import sys

import pytest
from training_setup import SHORT, data_of, real_images

from burnish.errors import InputError
from burnish.training.config import FeaturesConfig, GeneratorConfig, JointConfig
from burnish.training.experiment import Experiment
from burnish.training.train import WORDS, train

NETWORK = {"name": "convnet", "widths": [4], "num_features": 5}
FEATURES = {name: FeaturesConfig(NETWORK, training=SHORT) for name in ("plain", "wide")}


def test_all_trains_features_the_generator_and_the_guide(tmp_path):
    experiment = Experiment(
        "it",
        data_of(real_images(tmp_path / "real.npz")),
        FEATURES,
        generator=GeneratorConfig("gaussian", latent_size=4),
        joint=JointConfig(
            {"name": "resnet", "width": 4, "num_blocks": 1}, num_generated=20, training=SHORT
        ),
    )
    finished = train("all", experiment, out=tmp_path / "runs")
    names = ["features-plain", "features-wide", "generator", "joint"]
    expected = [tmp_path / "runs" / "it" / name / "model.safetensors" for name in names]
    assert finished == expected and all(path.is_file() for path in finished)


def test_only_one_feature_extractor_is_trained(tmp_path):
    experiment = Experiment("it", data_of(real_images(tmp_path / "real.npz")), FEATURES)
    (path,) = train("features", experiment, out=tmp_path, only="wide")
    assert path.parent.name == "features-wide"
    assert not (tmp_path / "it" / "features-plain").exists()


def test_data_elsewhere_keep_the_name_that_the_experiment_gives_them(tmp_path):
    experiment = Experiment("it", data_of(tmp_path / "named.npz"), FEATURES)
    elsewhere = real_images(tmp_path / "elsewhere.npz")
    (path,) = train("features", experiment, data=str(elsewhere), out=tmp_path, only="plain")
    assert str(tmp_path / "named.npz") in (path.parent / "config.json").read_text()


@pytest.mark.parametrize(
    ("what", "only", "reason"),
    [
        ("feature", "", "did you mean 'features'"),
        ("joint", "plain", "does not go with joint"),
        ("features", "plane", "did you mean 'plain'"),
    ],
)
def test_wrong_words_are_refused_before_anything_is_read(tmp_path, what, only, reason):
    experiment = Experiment("it", data_of(tmp_path / "missing.npz"), FEATURES)
    with pytest.raises(InputError, match=reason):
        train(what, experiment, out=tmp_path, only=only)


def test_an_experiment_without_features_says_so(tmp_path):
    with pytest.raises(InputError, match="no section features"):
        train("features", Experiment("it"), out=tmp_path)


def test_words_and_settings_are_known_without_torch():
    code = (
        "import sys; import burnish.training.train, burnish.training.experiment; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert WORDS[-1] == "all"
