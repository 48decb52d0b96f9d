"""The ascent against closed forms, against foolbox, and the promises that it makes per image."""
# pyright: reportPrivateImportUsage=false

import math
import warnings
from itertools import pairwise

import pytest
import torch

from burnish.ascent.loop import L2Ball, LinfBall, Unbounded, last, pgd, sgld

BALLS = [L2Ball(0.4), LinfBall(0.05), Unbounded(), L2Ball(math.inf)]
SHAPE = (1, 8, 8)


def distance(images, center, ball):
    order = math.inf if isinstance(ball, LinfBall) else 2
    return (images - center).flatten(1).norm(order, dim=1)


def linear(direction):
    return lambda images: (images * direction).flatten(1).sum(1)


def score(guide, labels):
    return lambda images: guide(images).log_softmax(1).gather(1, labels[:, None])[:, 0]


def climbs(objective, images, ball, num_steps=6, **options):
    """The same climb both ways; the raw step is about as long."""
    yield pgd(objective, images, ball, 0.1, num_steps, **options)
    yield sgld(objective, images, ball, 0.1, num_steps, **options)


def test_linear_path_is_exact_then_stays_on_the_ball():
    direction = torch.randn(3, *SHAPE, dtype=torch.float64)
    unit = direction / direction.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    start = torch.full((3, *SHAPE), 0.5, dtype=torch.float64)
    eps, step_size = 0.25, 0.04
    steps = list(pgd(linear(direction), start, L2Ball(eps), step_size, 9))
    assert [iterate.step for iterate in steps] == list(range(1, 10))
    for n, iterate in enumerate(steps, 1):
        expected = start + min(n * step_size, eps) * unit
        torch.testing.assert_close(iterate.images, expected, rtol=0, atol=1e-12)
        # The value is that of the point the step was taken from.
        before = start + min((n - 1) * step_size, eps) * unit
        torch.testing.assert_close(iterate.values, linear(direction)(before))
    # In the maximum norm every pixel takes the whole step.
    (first, *_, end) = pgd(linear(direction), start, LinfBall(eps), step_size, 9)
    torch.testing.assert_close(first.images, start + step_size * direction.sign())
    torch.testing.assert_close(end.images, start + eps * direction.sign())


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_quadratic_rises_strictly_to_its_known_maximum(ball):
    summit = torch.rand(4, *SHAPE) * 0.2 + 0.4
    start = (summit + 0.02 * torch.randn(4, *SHAPE)).clamp(0, 1)

    def objective(images):
        return 3 - (images - summit).square().flatten(1).sum(1)

    step_size = 0.002 if isinstance(ball, LinfBall) else 0.01
    for iterates in (
        pgd(objective, start, ball, step_size, 5),
        sgld(objective, start, ball, 0.2, 40),
    ):
        values = [objective(start)] + [objective(iterate.images) for iterate in iterates]
        for before, after in pairwise(values[:6]):
            assert bool((after > before).all())
    if not isinstance(ball, LinfBall):  # whose ball does not hold the summit
        torch.testing.assert_close(values[-1], torch.full((4,), 3.0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("ball", [*BALLS, L2Ball(0.01), L2Ball(3.0), LinfBall(0.3)], ids=str)
def test_never_outside_ball_or_box(ball, guide):
    generator = torch.Generator().manual_seed(1)
    inside = torch.rand(4, *SHAPE, generator=generator)
    beyond = torch.randn(4, *SHAPE, generator=generator)
    border = torch.stack([torch.zeros(SHAPE), torch.ones(SHAPE), inside[0].round()])
    images = torch.cat([inside, border, beyond])
    center = images.clamp(0, 1)
    objective = score(guide, torch.arange(len(images)) % 4)
    noise = {"noise_std": 0.1, "noise": lambda: torch.randn(images.shape)}
    for iterates in (
        pgd(objective, images, ball, 0.3, 6),
        pgd(objective, images, ball, 0.3, 6, random_start=math.isfinite(ball.eps)),
        sgld(objective, images, ball, 2.0, 6, **noise),
    ):
        for iterate in iterates:
            assert iterate.images.min() >= 0 and iterate.images.max() <= 1
            assert bool((distance(iterate.images, center, ball) <= ball.eps + 1e-6).all())
            assert not torch.equal(iterate.images, center)


def test_the_ball_of_an_image_beyond_the_box_is_around_the_border():
    images = torch.tensor([1.4, -0.3]).view(2, 1, 1, 1).expand(2, *SHAPE)
    inwards = linear(torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1).expand(2, *SHAPE))
    for iterates in climbs(inwards, images, LinfBall(0.25)):
        end = last(iterates, images)[:, 0, 0, 0]
        torch.testing.assert_close(end, torch.tensor([0.75, 0.25]))


def test_no_steps_yield_nothing_and_eps_zero_changes_no_bit(guide):
    images = torch.rand(5, *SHAPE)
    objective = score(guide, torch.arange(5) % 4)
    for ball in BALLS:
        for iterates in climbs(objective, images, ball, num_steps=0):
            assert last(iterates, images) is images
    for ball in (L2Ball(0.0), LinfBall(0.0)):
        for iterates in climbs(objective, images, ball):
            assert torch.equal(last(iterates, images), images)
        started = pgd(objective, images, ball, 0.1, 3, random_start=True)
        assert torch.equal(last(started, images), images)


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_an_image_alone_goes_the_way_it_goes_in_a_batch(ball, guide):
    guide = guide.double()
    images, labels = torch.rand(8, *SHAPE, dtype=torch.float64), torch.arange(8) % 4
    batch = climbs(score(guide, labels), images, ball)
    single = climbs(score(guide, labels[3:4]), images[3:4], ball)
    for together, alone in zip(batch, single, strict=True):
        expected = last(together, images)[3:4]
        torch.testing.assert_close(last(alone, images), expected, rtol=0, atol=1e-12)
        assert distance(expected, images[3:4], ball) > 0.01


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_without_a_gradient_an_image_stays(ball):
    images = torch.rand(2, *SHAPE)
    direction = torch.stack([torch.zeros(SHAPE), torch.randn(SHAPE)])
    for iterates in climbs(linear(direction), images, ball):
        found = last(iterates, images)
        torch.testing.assert_close(found[0], images[0], rtol=0, atol=1e-7)
        assert not torch.equal(found[1], images[1]) and bool(found.isfinite().all())


def test_a_stopped_image_stays_for_good():
    start = torch.full((3, *SHAPE), 0.5)
    asked = []

    def stop(values):
        # Image 0 never; image 1 from the third asking on; image 2 at the first one alone.
        asked.append(values)
        count = len(asked)
        return torch.tensor([False, count >= 3, count == 1])

    for iterates in climbs(linear(torch.full((3, *SHAPE), 0.1)), start, Unbounded(), stop=stop):
        asked.clear()
        steps = list(iterates)
        moved = torch.stack([iterate.moved for iterate in steps])
        assert moved.tolist() == [[True, n < 3, False] for n in range(1, 7)]
        assert torch.equal(steps[-1].images[2], start[2])
        assert torch.equal(steps[-1].images[1], steps[1].images[1])
        assert steps[-1].images[0].mean() > steps[1].images[1].mean() > 0.5


def test_when_all_are_stopped_the_climb_ends_inside_the_box():
    # Both leave the box in the first step, then stop; the end is clamped all the same.
    objective = linear(torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1).expand(2, *SHAPE))
    calls = []

    def stop(values):
        calls.append(values)
        return torch.full((2,), len(calls) > 1)

    start = torch.full((2, *SHAPE), 0.5)
    steps = list(sgld(objective, start, Unbounded(), 2.0, 50, stop=stop, clamp_each=False))
    assert len(steps) == 2 and steps[0].images.max() == 2.5
    assert torch.equal(steps[-1].images[:, 0, 0, 0], torch.tensor([0.0, 1.0]))
    assert not steps[-1].moved.any()


def test_random_start_is_uniform_in_the_ball_and_repeats():
    center = torch.full((4000, 1, 2, 2), 0.5, dtype=torch.float64)
    for ball in (L2Ball(0.4), LinfBall(0.4)):
        points = [ball.random_start(center, torch.Generator().manual_seed(s)) for s in (7, 7, 8)]
        assert torch.equal(points[0], points[1]) and not torch.equal(points[0], points[2])
        away = distance(points[0], center, ball)
        assert away.max() <= 0.4 + 1e-12
        # In d = 4 dimensions the share of the volume within r is (r / eps)^4: uniform in [0, 1].
        volume = (away / 0.4) ** 4
        quantiles = volume.quantile(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64))
        torch.testing.assert_close(
            quantiles, quantiles.new_tensor([0.1, 0.5, 0.9]), rtol=0, atol=0.03
        )
        torch.testing.assert_close(points[0].mean(0), center[0], rtol=0, atol=0.02)


def test_pgd_climbs_from_its_random_start_and_projects_around_the_image():
    image, ball = torch.zeros(1, *SHAPE), L2Ball(0.5)
    options = {"random_start": True, "generator": torch.Generator().manual_seed(3)}
    (only,) = pgd(linear(torch.ones(1, *SHAPE)), image, ball, 0.0, 1, **options)
    expected = ball.random_start(image, torch.Generator().manual_seed(3)).clamp(0, 1)
    torch.testing.assert_close(only.images, expected, rtol=0, atol=1e-7)
    assert 0 < distance(expected, image, ball) < 0.5
    with pytest.raises(ValueError, match="infinite"):
        pgd(linear(image), image, L2Ball(math.inf), 0.1, 1, random_start=True)


def test_sgld_is_the_raw_gradient_plus_the_noise_given():
    direction = 0.1 * torch.randn(2, *SHAPE, dtype=torch.float64)
    start = torch.full((2, *SHAPE), 0.5, dtype=torch.float64)
    noise = torch.randn(4, 2, *SHAPE, dtype=torch.float64)
    draws = iter(noise)
    noisy = {"noise_std": 0.01, "noise": lambda: next(draws)}
    (*_, end) = sgld(linear(direction), start, Unbounded(), 0.3, 4, **noisy)
    expected = start + 4 * 0.3 * direction + 0.01 * noise.sum(0)
    torch.testing.assert_close(end.images, expected, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="noise"):
        sgld(linear(direction), start, Unbounded(), 0.3, 4, noise_std=0.01)


def test_sgld_may_clamp_once_at_the_end():
    # Each step goes 0.4 of the way to 2: 0.9, 1.34, 1.604, ... where nothing clamps between.
    start = torch.full((1, *SHAPE), 0.9)

    def objective(images):
        return -(images - 2.0).square().flatten(1).sum(1)

    each = list(sgld(objective, start, Unbounded(), 0.2, 3))
    once = list(sgld(objective, start, Unbounded(), 0.2, 3, clamp_each=False))
    assert [round(i.images.max().item(), 3) for i in each] == [1.0, 1.0, 1.0]
    assert [round(i.images.max().item(), 3) for i in once] == [1.34, 1.604, 1.0]


@pytest.mark.parametrize("norm", ["L2", "Linf"])
def test_pgd_is_that_of_foolbox(norm, guide):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import foolbox  # which exports more than it lists

        images, labels = torch.rand(6, *SHAPE), torch.tensor([0, 1, 2, 3, 0, 1])
        images[0], images[1] = images[0].round(), images[1] * 0.02
        attack, ball, step_size = {
            "L2": (foolbox.attacks.L2ProjectedGradientDescentAttack, L2Ball(1.0), 0.3),
            "Linf": (foolbox.attacks.LinfProjectedGradientDescentAttack, LinfBall(0.06), 0.02),
        }[norm]
        theirs, _, _ = attack(abs_stepsize=step_size, steps=7, random_start=False)(
            foolbox.PyTorchModel(guide, bounds=(0, 1), device="cpu"),
            images,
            foolbox.criteria.TargetedMisclassification(labels),
            epsilons=ball.eps,
        )
    ours = last(pgd(score(guide, labels), images, ball, step_size, 7), images)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    # Long enough to reach the ball, or the projection would not have been compared.
    assert distance(ours, images, ball).max() > 0.99 * ball.eps
