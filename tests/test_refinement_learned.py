"""Learned refinement: one pass within the ball, what it learns, and what it refuses."""

import dataclasses

import pytest
import torch

import burnish
from burnish.ascent.spectrum import measure_spectrum
from burnish.checkpoint import save_model
from burnish.errors import InputError
from burnish.guide.model import Guide
from burnish.networks.residual import Residual
from burnish.refinement.learned import (
    Learned,
    LearnedRefiner,
    guide_sha256,
    learned_settings,
    load_learned,
)
from burnish.refinement.refiner import Refiner
from burnish.refinement.settings import RefineSettings
from burnish.samples import Samples
from burnish.schema import plain
from burnish.storage.datasets import load_dataset
from burnish.studies.baselines import blur
from burnish.training.config import TrainingConfig
from burnish.training.recipes.refiner import Pairs, train_refiner
from burnish.training.run import Stage

SETTINGS = RefineSettings(eps=1.0, step_size=0.3, num_steps=5)


def some_samples(count=13):
    images = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    images[0] = images[0].round()  # on the border of the box
    return Samples(images, torch.arange(count) % 4, 100 + torch.arange(count))


def moving(far=1.0):
    """Return a network with random weights, also in its last layer."""
    network = Residual(1, width=6, depth=3)
    *_, weight, _ = network.parameters()
    torch.nn.init.normal_(weight, std=far)
    return network


def refiner(guide, network, settings=SETTINGS, **options):
    return LearnedRefiner(guide, Learned("it", "", network, settings), settings, **options)


def refine(refiner, samples, sizes=()):
    starts = torch.tensor([0, *sizes]).cumsum(0).tolist()
    batches = [samples[a:b] for a, b in zip(starts, [*starts[1:], len(samples)], strict=True)]
    done = list(refiner(batches, samples.labels))
    columns = [part.ledger.columns() for part in done]
    joined = {name: [v for part in columns for v in part[name]] for name in columns[0]}
    return torch.cat([part.samples.images for part in done]), joined


def test_before_training_nothing_moves_and_after_it_the_ledger_is_the_guides(guide):
    samples = some_samples()
    images, ledger = refine(refiner(guide, Residual(1)), samples)
    assert torch.equal(images, samples.images) and set(ledger["worse"]) == {False}
    network = moving()
    images, ledger = refine(refiner(guide, network), samples)
    assert set(ledger["num_steps"]) == {1} and set(ledger["stopped"]) == {"one pass"}
    with torch.no_grad():
        before, after = (guide.realness(one, samples.labels) for one in (samples.images, images))
    for name, expected in (("before", before), ("after", after)):
        assert ledger[f"realness_{name}"] == pytest.approx(expected.tolist(), abs=1e-4)
        assert ledger[f"objective_{name}"] == ledger[f"realness_{name}"]
    keeping = dataclasses.replace(SETTINGS, keep_better=True)
    kept, rows = refine(refiner(guide, network, keeping), samples)
    worse = torch.tensor(ledger["worse"])
    assert 0 < worse.sum() < len(samples)
    assert torch.equal(kept, torch.where(worse.view(-1, 1, 1, 1), samples.images, images))
    assert torch.equal(torch.tensor([why == "kept as it was" for why in rows["stopped"]]), worse)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_bytes_of_an_image_depend_on_no_other_image(guide, precision):
    samples, network = some_samples(), moving()
    one = refiner(guide, network, precision=precision, batch_size=8)
    expected, ledger = refine(one, samples)
    assert not torch.equal(expected, samples.images)
    for count in (1, 2, 7):
        images, rows = refine(one, samples[:count])
        assert torch.equal(images, expected[:count])
        assert rows == {name: values[:count] for name, values in ledger.items()}
    order = torch.randperm(len(samples))
    images, _ = refine(one, samples[order], sizes=[1, 5, 2])
    assert torch.equal(images, expected[order])


@pytest.mark.parametrize(("norm", "column"), [("l2", "l2_moved"), ("linf", "linf_moved")])
def test_however_far_the_network_goes_images_stay_in_the_ball(guide, norm, column):
    settings = RefineSettings(norm=norm, eps=0.1, step_size=0.1)
    _, ledger = refine(refiner(guide, moving(100), settings), some_samples())
    assert max(ledger[column]) <= 0.1 + 1e-6 and max(ledger[column]) > 0.09
    images, ledger = refine(
        refiner(guide, moving(100), dataclasses.replace(settings, eps=0.0)), some_samples()
    )
    assert torch.equal(images, some_samples().images)


def test_the_ball_is_around_the_place_where_the_ascent_begins(guide):
    spectra = {"generated": [some_samples().images / 2], "real": [some_samples().images]}
    measured = {side: measure_spectrum(images) for side, images in spectra.items()}
    guide = Guide(guide.network, guide.card, spectra=measured).eval()
    settings = dataclasses.replace(SETTINGS, match_spectrum=True, eps=0.05)
    climbing, passing = Refiner(guide, settings), refiner(guide, moving(100), settings)
    start = climbing.start(some_samples().images)
    moved = (refine(passing, some_samples())[0] - start).flatten(1).norm(dim=1)
    assert not torch.equal(start, some_samples().images)
    assert moved.max() <= 0.05 + 1e-6 and moved.max() > 0.04
    path = list(passing.path(some_samples().images, torch.arange(13) % 4))
    assert torch.equal(path[0], start) and len(path) == 2


def test_it_learns_what_is_done_to_the_images(guide, tmp_path):
    """Of a linear filter, it explains nearly all on images that it has not seen."""
    given = load_dataset("digits")[:400]
    blurred = (255 * blur(given.samples().images, 0.7)).round().to(torch.uint8)
    pairs = Pairs(given, dataclasses.replace(given, images_uint8=blurred))
    config = TrainingConfig(
        num_steps=120, batch_size=32, learning_rate=5e-3, ema_decay=0.9, warmup_steps=10,
        validate_every=60, precision="float32", flip=True,
    )  # fmt: skip
    settings = dataclasses.replace(SETTINGS, eps=10.0)
    arguments = {"name": "residual", "in_channels": 1, "width": 8, "depth": 3}
    path = train_refiner(
        arguments, config, guide, settings, pairs[:360], pairs[360:], Stage(tmp_path / "it"),
        facts={},
    )  # fmt: skip
    learned = load_learned(str(path), guide, None, 1)
    passing = LearnedRefiner(guide, learned, learned.settings)
    made = passing.passed(pairs[360:].generated.samples().images)
    wanted = pairs[360:].refined.samples().images
    change = (wanted - pairs[360:].generated.samples().images).square().sum()
    assert (made - wanted).square().sum() < 0.1 * change
    assert learned.settings == settings


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"num_steps": 7}, "imitates num_steps 5, not 7"),
        ({"norm": "linf"}, "imitates norm l2, not linf"),
        ({"stop_quantile": 0.5}, "imitates stop_quantile None, not 0.5"),
        ({"preset": "bigroc", "eps": 1.0}, "imitates objective logit, not ce"),
    ],
)
def test_what_it_has_not_learned_is_refused(guide, asked, message):
    learned = Learned("it", "", Residual(1), SETTINGS)
    with pytest.raises(InputError, match=message):
        LearnedRefiner(guide, learned, learned_settings(learned, guide, **asked))


def test_what_it_can_obey_is_obeyed(guide):
    learned = Learned("it", "", Residual(1), SETTINGS)
    asked = learned_settings(learned, guide, eps=0.5, keep_better=True, num_steps=5)
    assert LearnedRefiner(guide, learned, asked).settings.eps == 0.5
    given = learned_settings(learned, guide, "golan24-pgd", eps=0.5, num_steps=5)
    assert LearnedRefiner(guide, learned, given).settings.step_size == pytest.approx(0.15)


def test_the_library_takes_it_by_its_file(guide, tmp_path):
    network = moving()
    arguments = {"name": "residual", "in_channels": 1, "width": 6, "depth": 3}
    card = {"network": arguments, "guide_sha256": guide_sha256(guide), "settings": plain(SETTINGS)}
    save_model(tmp_path / "it.safetensors", network, card)
    samples = some_samples()
    asked = {"guide": guide, "labels": samples.labels, "refiner": tmp_path / "it.safetensors"}
    found = burnish.refine(samples.images, **asked, eps=0.5)
    expected, _ = refine(
        refiner(guide, network.eval(), dataclasses.replace(SETTINGS, eps=0.5)), samples
    )
    assert torch.equal(found, expected) and not torch.equal(found, samples.images)
    with pytest.raises(InputError, match="this guide came from none"):
        burnish.refine(samples.images, **{**asked, "refiner": "learned"})
