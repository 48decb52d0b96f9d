"""The ascent against closed forms, against foolbox, and what it promises for every image."""
# pyright: reportPrivateImportUsage=false

import math
import warnings

import pytest
import torch

from burnish.ascent.balls import L2Ball, LinfBall, Unbounded, ball_of
from burnish.ascent.loop import Slots, ascend, climb
from burnish.ascent.step import Step, value_and_gradient

BALLS = [L2Ball(0.4), LinfBall(0.05), Unbounded(), L2Ball(math.inf)]
SHAPE = (1, 8, 8)
PIXELS = math.prod(SHAPE)


def distance(images, center, ball):
    order = math.inf if isinstance(ball, LinfBall) else 2
    return (images - center).flatten(1).norm(order, dim=1)


def linear(direction):
    """The objective <direction, image>; by its labels for one direction per class."""

    def objective(images, labels):
        values = (images * direction[labels]).flatten(1).sum(1)
        return values, values

    return objective


def quadratic(summit):
    """Minus the squared distance to a summit; nothing but additions within an image."""

    def objective(images, labels):
        values = -(images - summit[labels]).square().flatten(1).sum(1)
        return values, values

    return objective


def class_score(guide):
    def objective(images, labels):
        values = guide(images).log_softmax(1).gather(1, labels[:, None])[:, 0]
        return values, values

    return objective


def run(objective, images, labels, step, num_steps, **options):
    """Climb one fixed batch; return its images after each step."""
    slots = Slots(images, len(images))
    slots.enter(range(len(images)), images, labels, range(len(images)))
    return [slots.images for _ in ascend(objective, slots, step, num_steps, **options)]


def both_updates(ball):
    return Step(ball, 0.1), Step(ball, 0.1, normalized=False)


def test_a_linear_objective_is_climbed_straight_to_the_border_of_the_ball():
    direction = torch.randn(3, *SHAPE, dtype=torch.float64)
    unit = direction / direction.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    start, labels = torch.full((3, *SHAPE), 0.5, dtype=torch.float64), torch.arange(3)
    eps, step_size = 0.25, 0.04
    images = run(linear(direction), start, labels, Step(L2Ball(eps), step_size), 9)
    assert len(images) == 9
    for n, found in enumerate(images, 1):
        expected = start + min(n * step_size, eps) * unit
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    # In the maximum norm every pixel takes the whole step.
    first, *_, end = run(linear(direction), start, labels, Step(LinfBall(eps), step_size), 9)
    torch.testing.assert_close(first, start + step_size * direction.sign())
    torch.testing.assert_close(end, start + eps * direction.sign())


@pytest.mark.parametrize("ball", [L2Ball(0.4), Unbounded(), L2Ball(math.inf)], ids=str)
def test_raw_gradients_of_a_quadratic_shrink_its_distance_by_a_fixed_factor(ball):
    summit = torch.rand(4, *SHAPE, dtype=torch.float64) * 0.2 + 0.4
    start, labels = summit + 0.01 * torch.randn_like(summit), torch.arange(4)
    step = Step(ball, 0.2, normalized=False)
    for n, found in enumerate(run(quadratic(summit), start, labels, step, 6), 1):
        expected = summit + 0.6**n * (start - summit)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_the_gradient_is_that_of_each_image_and_the_values_are_from_before_the_step(guide):
    images, labels = torch.rand(5, *SHAPE), torch.tensor([0, 1, 2, 3, 1])
    objective = class_score(guide)
    together = value_and_gradient(objective, images, labels)
    alone = [value_and_gradient(objective, images[i : i + 1], labels[i : i + 1]) for i in range(5)]
    for whole, parts in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(whole, torch.cat(parts), rtol=1e-4, atol=1e-6)
        assert not whole.requires_grad
    slots = Slots(images, 5)
    slots.enter(range(5), images, labels, range(5))
    before = images
    for iterate in ascend(objective, slots, Step(L2Ball(1.0), 0.1), 3):
        torch.testing.assert_close(iterate.values, objective(before, labels)[0].detach())
        before = slots.images


@pytest.mark.parametrize("ball", [*BALLS, L2Ball(0.01), L2Ball(3.0), LinfBall(0.3)], ids=str)
def test_no_image_leaves_the_ball_or_the_box(ball, guide):
    inside, beyond = torch.rand(4, *SHAPE), torch.randn(4, *SHAPE)
    border = torch.stack([torch.zeros(SHAPE), torch.ones(SHAPE), inside[0].round()])
    images = torch.cat([inside, border, beyond])
    labels, center = torch.arange(len(images)) % 4, images.clamp(0, 1)
    objective = class_score(guide)
    noisy = Step(ball, 2.0, normalized=False, noise_std=0.1)
    found = [
        *run(objective, images, labels, Step(ball, 0.3), 6),
        *run(objective, images, labels, noisy, 6,
             noise=lambda ids, steps, shape: torch.randn(len(ids), *shape)),
    ]  # fmt: skip
    if math.isfinite(ball.eps):
        options = {"ball": ball, "step_size": 0.3, "num_steps": 6, "random_start": True}
        found.append(climb(objective, images, labels, **options)[0])
    for end in found:
        assert end.min() >= 0 and end.max() <= 1
        assert bool((distance(end, center, ball) <= ball.eps + 1e-6).all())
        assert not torch.equal(end, center)


def test_images_are_clamped_before_the_ball_is_centered():
    images = torch.tensor([1.4, -0.3]).view(2, 1, 1, 1).expand(2, *SHAPE)
    inwards = torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1).expand(2, *SHAPE)
    for step in both_updates(LinfBall(0.25)):
        end = run(linear(inwards), images, torch.arange(2), step, 6)[-1]
        torch.testing.assert_close(end[:, 0, 0, 0], torch.tensor([0.75, 0.25]))


@pytest.mark.parametrize("ball", [L2Ball(0.0), LinfBall(0.0)], ids=str)
def test_a_ball_of_radius_zero_and_no_steps_change_no_bit(ball, guide):
    images, labels, objective = torch.rand(5, *SHAPE), torch.arange(5) % 4, class_score(guide)
    for step in both_updates(ball):
        assert torch.equal(run(objective, images, labels, step, 6)[-1], images)
    for num_steps, random_start in ((3, True), (0, False)):
        end, made = climb(
            objective, images, labels, ball=ball, step_size=0.1, num_steps=num_steps,
            random_start=random_start,
        )  # fmt: skip
        assert torch.equal(end, images) and made.tolist() == [num_steps] * 5


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_an_image_without_a_gradient_stays(ball):
    images = torch.rand(2, *SHAPE)
    direction = torch.stack([torch.zeros(SHAPE), torch.randn(SHAPE)])
    for step in both_updates(ball):
        found = run(linear(direction), images, torch.arange(2), step, 6)[-1]
        torch.testing.assert_close(found[0], images[0], rtol=0, atol=1e-7)
        assert not torch.equal(found[1], images[1]) and bool(found.isfinite().all())


# Steps of 1/16 per pixel from 1/2; means of such images are exact.
MEAN = torch.full((1, *SHAPE), 1 / PIXELS, dtype=torch.float64)


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (None, [6, 6, 6]),
        (0.625, [2, 2, 2]),  # reached exactly by two steps
        (0.626, [3, 3, 3]),
        (0.5, [0, 0, 0]),
        (torch.tensor([0.5, 0.75, 2.0], dtype=torch.float64), [0, 4, 6]),
    ],
)
def test_an_image_stops_once_it_has_reached_its_threshold(threshold, expected):
    start = torch.full((3, *SHAPE), 0.5, dtype=torch.float64)
    end, made = climb(
        linear(MEAN), start, torch.zeros(3, dtype=torch.int64), ball=Unbounded(), step_size=0.5,
        num_steps=6, threshold=threshold,
    )  # fmt: skip
    assert made.dtype == torch.int64 and made.tolist() == expected
    assert end.mean((1, 2, 3)).tolist() == [0.5 + n / 16 for n in expected]


def test_a_stopped_image_does_not_move_again_and_ends_in_the_box():
    # Without clamping, the first step leads out of the box; the second finds it has been enough.
    outwards = torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1).expand(2, *SHAPE)
    start = torch.full((2, *SHAPE), 0.5)
    step = Step(Unbounded(), 2.0, normalized=False, clamp=False)
    images = run(
        linear(outwards), start, torch.arange(2), step, 50, threshold=torch.tensor([90.0, 1e3])
    )
    assert images[0].min() == -1.5 and images[0].max() == 2.5
    assert bool((images[1][0] == 0).all()) and images[1].max() == 4.5
    for later in images[1:]:
        assert torch.equal(later[0], images[1][0])
    assert torch.equal(images[-1].amax((1, 2, 3)), torch.tensor([0.0, 1.0]))


def test_random_starts_are_uniform_in_the_ball_and_repeat():
    center = torch.full((4000, 1, 2, 2), 0.5, dtype=torch.float64)
    for ball in (L2Ball(0.4), LinfBall(0.4)):
        points = [ball.random_start(center, torch.Generator().manual_seed(s)) for s in (7, 7, 8)]
        assert torch.equal(points[0], points[1]) and not torch.equal(points[0], points[2])
        away = distance(points[0], center, ball)
        assert away.max() <= 0.4 + 1e-12
        # In d = 4 dimensions the share of the volume within r is (r / eps)^4: uniform in [0, 1].
        quantiles = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
        found = ((away / 0.4) ** 4).quantile(quantiles)
        torch.testing.assert_close(found, quantiles, rtol=0, atol=0.03)
        torch.testing.assert_close(points[0].mean(0), center[0], rtol=0, atol=0.02)


def test_a_climb_from_a_random_start_is_projected_around_the_image():
    image, label, ball = torch.zeros(1, *SHAPE), torch.tensor([0]), L2Ball(0.5)
    options = {"ball": ball, "step_size": 0.0, "num_steps": 1, "random_start": True}
    upwards = linear(torch.ones(1, *SHAPE))
    end, _ = climb(upwards, image, label, generator=torch.Generator().manual_seed(3), **options)
    expected = ball.random_start(image, torch.Generator().manual_seed(3)).clamp(0, 1)
    torch.testing.assert_close(end, expected, rtol=0, atol=1e-7)
    assert 0 < distance(expected, image, ball) < 0.5
    with pytest.raises(ValueError, match="infinite"):
        climb(upwards, image, label, **{**options, "ball": Unbounded()})


def test_sgld_adds_the_noise_of_each_image_and_step():
    direction = 0.1 * torch.randn(2, *SHAPE, dtype=torch.float64)
    start = torch.full((2, *SHAPE), 0.5, dtype=torch.float64)
    noise, asked = torch.randn(4, 2, *SHAPE, dtype=torch.float64), []

    def draw(ids, steps, shape):
        asked.append((list(ids), list(steps), tuple(shape)))
        return noise[steps[0]]

    step = Step(Unbounded(), 0.3, normalized=False, noise_std=0.01)
    end = run(linear(direction), start, torch.arange(2), step, 4, noise=draw)[-1]
    expected = start + 4 * 0.3 * direction + 0.01 * noise.sum(0)
    torch.testing.assert_close(end, expected, rtol=0, atol=1e-12)
    assert asked == [([0, 1], [n, n], SHAPE) for n in range(4)]


def test_images_are_clamped_after_each_step_or_once_at_the_end():
    # Each step goes 0.4 of the way to 2: 0.9, 1.34, 1.604, ... where nothing clamps between.
    start, target = torch.full((1, *SHAPE), 0.9), torch.full((1, *SHAPE), 2.0)
    for clamp, expected in ((True, [1.0, 1.0, 1.0]), (False, [1.34, 1.604, 1.0])):
        step = Step(Unbounded(), 0.2, normalized=False, clamp=clamp)
        images = run(quadratic(target), start, torch.tensor([0]), step, 3)
        assert [one.max().item() for one in images] == pytest.approx(expected, abs=1e-6)


SUMMITS = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(1))
CENTERS = torch.rand(13, *SHAPE, generator=torch.Generator().manual_seed(2))
LABELS = torch.arange(13) % 4
ENOUGH = -8.0  # some images reach it, each after steps of its own number


def through_slots(order, size, step, num_steps):
    """Climb images in some order, each taking the first slot that is free; return them by id."""
    slots, left, ends, made = Slots(CENTERS, size), list(order), {}, {}

    def fill():
        taken = slots.free()[: len(left)]
        ids = [left.pop(0) for _ in taken]
        if ids:
            slots.enter(taken, CENTERS[ids], LABELS[ids], ids)

    fill()
    for iterate in ascend(quadratic(SUMMITS), slots, step, num_steps, threshold=ENOUGH):
        for slot in iterate.finished:
            one = slots.ids[slot]
            ends[one], made[one] = slots.images[slot].clone(), slots.num_steps[slot]
        fill()
    return ends, made


@pytest.mark.parametrize("step", both_updates(L2Ball(2.0)), ids=["pgd", "sgld"])
def test_the_path_of_an_image_depends_on_no_neighbor_slot_or_number_of_images(step):
    step = Step(step.ball, 0.3 if step.normalized else 0.05, step.normalized)
    expected, steps = through_slots(range(13), 8, step, 6)
    assert len(expected) == 13 and len(set(steps.values())) > 2  # so that slots were refilled
    for order in (range(12, -1, -1), [5], [3, 9, 12], range(8)):
        ends, made = through_slots(order, 8, step, 6)
        assert set(ends) == set(order)
        for one in order:
            assert torch.equal(ends[one], expected[one]) and made[one] == steps[one]


def test_slots_say_who_entered_and_who_is_finished():
    slots = Slots(CENTERS, 3)
    slots.enter([0, 1], CENTERS[:2], LABELS[:2], [10, 11])
    seen = []
    for iterate in ascend(quadratic(SUMMITS), slots, Step(L2Ball(1.0), 0.1), 2):
        seen.append((iterate.entered, iterate.finished, slots.free()))
        if len(seen) == 1:
            slots.enter([2], CENTERS[2:3], LABELS[2:3], [12])
    assert seen == [([0, 1], [], [2]), ([2], [0, 1], [0, 1]), ([], [2], [0, 1, 2])]


def test_balls_by_name():
    assert ball_of("l2", 0.5) == L2Ball(0.5) and ball_of("linf", 0.5) == LinfBall(0.5)
    assert ball_of("none", None) == ball_of("l2", None) == Unbounded()
    assert ball_of("l2", math.inf) == L2Ball(math.inf)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_pgd_is_that_of_foolbox(norm, guide):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import foolbox  # which exports more than it lists

        images, labels = torch.rand(6, *SHAPE), torch.tensor([0, 1, 2, 3, 0, 1])
        images[0], images[1] = images[0].round(), images[1] * 0.02
        attack, ball, step_size = {
            "l2": (foolbox.attacks.L2ProjectedGradientDescentAttack, L2Ball(1.0), 0.3),
            "linf": (foolbox.attacks.LinfProjectedGradientDescentAttack, LinfBall(0.06), 0.02),
        }[norm]
        theirs, _, _ = attack(abs_stepsize=step_size, steps=7, random_start=False)(
            foolbox.PyTorchModel(guide, bounds=(0, 1), device="cpu"),
            images,
            foolbox.criteria.TargetedMisclassification(labels),
            epsilons=ball.eps,
        )
    options = {"ball": ball, "step_size": step_size, "num_steps": 7}
    ours, _ = climb(class_score(guide), images, labels, **options)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    # Long enough to reach the ball, or the projection would not have been compared.
    assert distance(ours, images, ball).max() > 0.99 * ball.eps
