"""The choice of one of several guides: by AUC, against the realness of real images in its card."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import burnish
from burnish.errors import InputError
from burnish.files import card_path, read_json
from burnish.guide.load import load_guide
from burnish.guide.model import Guide
from burnish.hub import SHIPPED
from burnish.refinement.choice import NUM_IMAGES, auc_of, choose_guide, several, spread, words
from burnish.samples import Samples
from burnish.storage.datasets import load_dataset
from burnish.studies.baselines import blur

PAIR = ["cifar10-robust", "cifar10-all"]


class Level(nn.Module):
    """Logits that are the first pixel of each image, for every class."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (self.weight * images[:, 0, 0, :1]).expand(-1, 3)


def test_the_auc_is_that_of_all_pairs_of_a_generated_image_and_a_quantile():
    quantiles = [0.1, 0.3, 0.3, 0.5, 0.9]
    levels = torch.tensor([0.0, 0.3, 0.4, 1.0])
    guide = Guide(Level(), {"realness": {"quantiles": quantiles}}).eval()
    images = levels.view(-1, 1, 1, 1).expand(-1, 3, 2, 2).contiguous()
    samples = Samples(images, None, torch.arange(4))
    real = torch.tensor(quantiles)[:, None]
    pairs = (real > levels).float() + (real == levels).float() / 2  # 0.3 ties with two quantiles
    auc = auc_of(guide, samples, torch.tensor([0, 1, 2, 0]))
    assert auc == pytest.approx(pairs.mean().item())


def test_images_of_a_file_in_order_of_classes_all_have_a_say():
    places = spread(10_000)
    assert len(places) == len(set(places)) == NUM_IMAGES
    assert (places[0], places[-1]) == (0, 9999)
    gaps = [after - before for before, after in itertools.pairwise(places)]
    assert max(gaps) - min(gaps) <= 1
    assert spread(3) == [0, 1, 2]
    assert spread(2**25 + 4)[-1] == 2**25 + 3  # float32 does not know this place


@pytest.mark.parametrize("guide", ["cifar10", Path("a,b"), nn.Identity(), load_guide])
def test_one_guide_is_no_list(guide):
    assert several(guide) == []


@pytest.mark.parametrize(
    "guide, match",
    [
        *((guide, "name each guide once") for guide in ("a,", ",", "a,a", [], ["a", ""])),
        (["a", nn.Identity()], "not loaded ones"),
        ("cifar10,timm/resnet18", "name it alone"),
        ("x" * 300 + ",a,a", "name each guide once"),
    ],
)
def test_a_list_names_each_guide_once(guide, match):
    with pytest.raises(InputError, match=match):
        several(guide)


def test_one_name_in_a_list_is_taken_however_few_images_there_are(blurred: Samples):
    few = Samples(blurred.images[:2], None, torch.arange(2))
    assert choose_guide(["cifar10-all"], few, None).source == "cifar10-all"


def test_other_commands_say_that_they_take_one_guide():
    with pytest.raises(InputError, match="name one guide here"):
        load_guide("cifar10-all,cifar10-robust")


@pytest.mark.parametrize(
    "aucs, num_images, said",
    [
        ({"a": 0.61, "b": 0.53}, 1000, "best from real ones"),
        ({"a": 0.61, "b": 0.58}, 1000, "the others tell these images as well"),
        ({"a": 0.63, "b": 0.56}, 64, "the others tell these images as well"),
        ({"a": 0.43, "b": 0.41}, 256, "none tells these images from real ones"),
    ],
)
def test_how_sure_a_choice_is(aucs, num_images, said):
    assert re.search(said, words("a", aucs, num_images))


@pytest.fixture(scope="module")
def blurred() -> Samples:
    real = load_dataset("../shared/data/cifar10/test-*.parquet")[:64].samples(slice(None))
    return real.with_images(blur(real.images, 1.2))


def test_the_guide_with_the_higher_auc_is_taken_and_written_down(tmp_path: Path, blurred: Samples):
    aucs = {name: auc_of(load_guide(name), blurred, blurred.labels) for name in PAIR}
    best = max(PAIR, key=aucs.__getitem__)
    assert aucs[best] - min(aucs.values()) > 0.02  # else the images do not tell them apart
    for names in (PAIR, PAIR[::-1]):
        choice = choose_guide(names, blurred, blurred.labels)
        assert choice.source == best
        assert choice.aucs == {name: pytest.approx(aucs[name]) for name in names}
    out, alone = tmp_path / "out.npz", tmp_path / "alone.npz"
    burnish.write_samples(tmp_path / "in.npz", [blurred], len(blurred))
    common = ["--num-steps", "1", "--precision", "float32", "--compile", "never"]
    from burnish.cli.main import main

    for guide, path in ((",".join(PAIR), out), (best, alone)):
        main(["refine", f"{tmp_path}/in.npz", "--guide", guide, "--out", str(path), *common])
    with np.load(out) as one, np.load(alone) as other:
        assert (one["arr_0"] == other["arr_0"]).all()
    cards = [read_json(card_path(path)) for path in (out, alone)]
    assert cards[0]["choice"] == {name: pytest.approx(aucs[name], abs=0.02) for name in PAIR}
    assert cards[1]["choice"] is None
    assert cards[0]["guide"]["name"] == cards[1]["guide"]["name"]


def test_a_list_in_python_gives_what_the_chosen_guide_gives(blurred: Samples):
    best = str(choose_guide(PAIR, blurred, blurred.labels).source)
    options = {"labels": blurred.labels, "num_steps": 1}
    one, other = (burnish.refine(blurred.images, guide=guide, **options) for guide in (PAIR, best))
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    "guides, count, match",
    [
        (["cifar10-all", "cifar10-robust"], 63, "63 images are too few"),
        (["cifar10-all", "fashion_mnist"], 64, "fashion_mnist: this guide takes images of shape"),
        (["cifar10-all", "nothing"], 64, "nothing"),
        (["cifar10-all", str(SHIPPED / "cifar10-all/guide.safetensors")], 64, "the same guide"),
    ],
)
def test_guides_that_cannot_be_compared_are_named(blurred: Samples, guides, count, match):
    some = Samples(blurred.images[:count], None, torch.arange(count))
    with pytest.raises(InputError, match=match):
        choose_guide(guides, some, None)


def test_a_guide_without_realness_is_named(blurred: Samples):
    with pytest.raises(InputError, match="does not know how real images look"):
        auc_of(Guide(Level(), {}).eval(), blurred, None)


def test_tune_finds_the_dose_of_the_guide_that_it_chooses(tmp_path: Path):
    from burnish.studies.dose.tune import TuneOptions, tune

    test = "../shared/data/cifar10/test-00000-of-00001.parquet"
    real = load_dataset(test)[:200].samples(slice(None))
    burnish.write_samples(
        tmp_path / "in.npz", [real.with_images(blur(real.images, 1.2))], len(real)
    )
    options = TuneOptions(eps=(0.5,), num_steps=(1,), num_images=100, num_real=100)
    features = ("cifar10/plain", "cifar10/views")
    found = tune(tmp_path / "in.npz", PAIR, f"{test}[300-399]", features, options, device="cpu")
    best = max(PAIR, key=found["choice"].__getitem__)
    assert found["guide"]["sha256"] == load_guide(best).card["sha256"]
