"""The public names: plain tensors in, plain tensors out."""

import pytest
import torch

import burnish
from burnish.refinement.presets import settings_for


def generated(num_images=6):
    return burnish.load_generator("fashion_mnist").sample(range(num_images))


def test_three_lines_refine_plain_tensors_and_raise_their_realness():
    made = generated()
    guide = burnish.load_guide("fashion_mnist")
    better = burnish.refine(made.images, labels=made.labels, guide=guide)
    assert better.shape == made.images.shape and better.min() >= 0 and better.max() <= 1
    with torch.no_grad():
        before, after = (
            guide.realness(made.images, made.labels),
            guide.realness(better, made.labels),
        )
    assert bool((after > before).all())


def test_a_name_a_guide_and_a_refiner_give_the_same_images():
    made = generated()
    guide = burnish.load_guide("fashion_mnist")
    by_name = burnish.refine(made.images, labels=made.labels, guide="fashion_mnist", num_steps=2)
    assert torch.equal(
        by_name, burnish.refine(made.images, labels=made.labels, guide=guide, num_steps=2)
    )
    refiner = burnish.Refiner(guide, settings_for(guide, num_steps=2))
    (refined,) = refiner([made], made.labels)
    assert torch.equal(by_name, refined.samples.images)


def test_an_image_does_not_depend_on_the_images_beside_it():
    made = generated()
    whole = burnish.refine(made.images, labels=made.labels, guide="fashion_mnist")
    alone = burnish.refine(made.images[3:4], labels=made.labels[3:4], guide="fashion_mnist")
    assert torch.equal(whole[3:4], alone)


def test_labels_may_be_chosen_by_the_guide():
    made = generated()
    guide = burnish.load_guide("fashion_mnist")
    with torch.no_grad():
        opinion = guide(made.images).argmax(1)
    by_opinion = burnish.refine(made.images, labels=opinion, guide=guide)
    assert torch.equal(burnish.refine(made.images, labels="pseudo", guide=guide), by_opinion)


def test_a_module_can_be_the_guide_and_a_function_the_objective():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(28 * 28, 10))
    made = generated(3)
    arguments = {"labels": [0, 1, 2], "guide": burnish.Guide(net), "eps": 0.5}
    by_name = burnish.refine(made.images, **arguments, objective="logit")

    def class_logit(logits, labels):
        return logits.gather(1, labels[:, None])[:, 0]

    by_function = burnish.refine(made.images, **arguments, objective=class_logit)
    assert torch.equal(by_name, by_function)


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ({"labels": "psuedo"}, "did you mean 'pseudo'"),
        ({"labels": [0, 1]}, "labels of shape"),
        ({"labels": [0, 1, 10]}, "label 10"),
        ({"labels": [0, 1, 2], "epz": 1.0}, "did you mean 'eps'"),
        ({"labels": [0, 1, 2], "preset": "bigrock"}, "did you mean 'bigroc'"),
    ],
)
def test_wrong_arguments_are_named(arguments, fragment):
    with pytest.raises(burnish.InputError, match=fragment):
        burnish.refine(torch.rand(3, 1, 28, 28), guide="fashion_mnist", **arguments)


def test_every_public_name_is_there_and_others_are_not():
    for name in burnish.__all__:
        assert getattr(burnish, name) is not None
    with pytest.raises(AttributeError):
        burnish.no_such_name  # noqa: B018
