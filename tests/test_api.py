"""The public names: plain tensors in, plain tensors out."""

import pytest
import torch

import burnish
from burnish.refinement.presets import settings_for
from burnish.samples import Samples


def generated(num_images=6):
    made = burnish.load_generator("fashion_mnist").sample(range(num_images))
    assert made.labels is not None
    return made.images, made.labels


def test_three_lines_refine_plain_tensors_and_raise_their_realness():
    images, labels = generated()
    guide = burnish.load_guide("fashion_mnist")
    better = burnish.refine(images, labels=labels, guide=guide)
    assert better.shape == images.shape and better.min() >= 0 and better.max() <= 1
    with torch.no_grad():
        before, after = (guide.realness(one, labels) for one in (images, better))
    assert bool((after > before).all())


def test_a_name_a_guide_and_a_refiner_give_the_same_images():
    images, labels = generated()
    guide = burnish.load_guide("fashion_mnist")
    by_name = burnish.refine(images, labels=labels, guide="fashion_mnist", num_steps=2)
    assert torch.equal(by_name, burnish.refine(images, labels=labels, guide=guide, num_steps=2))
    refiner = burnish.Refiner(guide, settings_for(guide, num_steps=2))
    (refined,) = refiner([Samples(images, labels, torch.arange(6))], labels)
    assert torch.equal(by_name, refined.samples.images)


def test_an_image_does_not_depend_on_the_images_beside_it():
    images, labels = generated()
    whole = burnish.refine(images, labels=labels, guide="fashion_mnist")
    alone = burnish.refine(images[3:4], labels=labels[3:4], guide="fashion_mnist")
    assert torch.equal(whole[3:4], alone)


def test_labels_may_be_chosen_by_the_guide():
    images, _ = generated()
    guide = burnish.load_guide("fashion_mnist")
    with torch.no_grad():
        opinion = guide(images).argmax(1)
    by_opinion = burnish.refine(images, labels=opinion, guide=guide)
    assert torch.equal(burnish.refine(images, labels="pseudo", guide=guide), by_opinion)


def test_a_module_can_be_the_guide_and_a_function_the_objective():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(28 * 28, 10))
    images, _ = generated(3)
    arguments = {"labels": [0, 1, 2], "guide": burnish.Guide(net), "eps": 0.5}
    by_name = burnish.refine(images, **arguments, objective="logit")

    def class_logit(logits, labels):
        return logits.gather(1, labels[:, None])[:, 0]

    by_function = burnish.refine(images, **arguments, objective=class_logit)
    assert torch.equal(by_name, by_function)


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ({"labels": "psuedo"}, "did you mean 'pseudo'"),
        ({"labels": [0, 1]}, "labels of shape"),
        ({}, "give labels"),
        ({"labels": [0, 1, 2], "eps": "1"}, "eps must be a number"),
        ({"labels": [0, 1, 2], "num_steps": 1.5}, "num_steps must be a whole number"),
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


def test_a_module_is_taken_as_it_is_and_what_is_no_image_or_objective_is_named():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(28 * 28, 10))
    images, arguments = torch.rand(3, 1, 28, 28), {"labels": [0, 1, 2], "eps": 0.5}
    guided = burnish.refine(images, guide=burnish.Guide(net), **arguments)
    assert torch.equal(burnish.refine(images, guide=net, **arguments), guided)
    with pytest.raises(burnish.InputError, match="torch tensor"):
        burnish.refine(images.numpy(), guide=net, **arguments)  # pyright: ignore
    with pytest.raises(burnish.InputError, match="one value per image"):
        burnish.refine(images, guide=net, **arguments, objective=lambda logits, labels: logits)


def test_labels_out_of_range_are_named_however_many_images_there_are():
    images, _ = generated(20)
    with pytest.raises(burnish.InputError, match="label 99"):
        burnish.refine(images, labels=torch.full((20,), 99), guide="fashion_mnist")
