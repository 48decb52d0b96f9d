"""Try ways to climb that are in neither paper, each at the same number of looks at the guide.

    python experiments/ideas.py --run runs/cifar10 --data DATA --out results/cifar10-ideas.json

A look is a forward and a backward pass of one image through a guide. Like `tune.py` this is for
choosing: seeds 500000 on, the judge "tuner", the validation rows; nothing of it is reported on.
"""

import math
from collections.abc import Callable
from pathlib import Path

import torch
import tyro
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad
from tqdm import tqdm
from tune import ground

from burnish.ascent.loop import L2Ball
from burnish.files import provenance, write_json
from burnish.guide.load import load_guide
from burnish.guide.model import Guide, own
from burnish.samples import Samples

# (images, step) -> gradient [B, C, H, W]
Gradient = Callable[[Tensor, int], Tensor]
# (gradient, what is remembered) -> direction; it may remember more
Direction = Callable[[Tensor, dict[str, Tensor]], Tensor]


def climb(
    images: Tensor,
    gradient: Gradient,
    eps: float,
    sizes: list[float],
    direction: Direction = lambda gradient, memory: gradient,
) -> Tensor:
    """Climb with steps of the given lengths inside an L2 ball."""
    ball, center, memory = L2Ball(eps), images, {}
    for step, size in enumerate(sizes):
        ahead = ball.normalize(direction(ball.normalize(gradient(images, step)), memory))
        images = ball.project(images + size * ahead, center).clamp(0, 1)
    return images


def constant(length: float, num_steps: int) -> list[float]:
    """Step sizes that are equal."""
    return [length / num_steps] * num_steps


def shrinking(length: float, num_steps: int) -> list[float]:
    """Step sizes that fall linearly; the whole way is as long."""
    weights = [num_steps - step for step in range(num_steps)]
    return [length * weight / sum(weights) for weight in weights]


def cosine(length: float, num_steps: int) -> list[float]:
    """Step sizes that fall like half a cosine; the whole way is as long."""
    weights = [1 + math.cos(math.pi * (step + 0.5) / num_steps) for step in range(num_steps)]
    return [length * weight / sum(weights) for weight in weights]


def momentum(decay: float) -> Direction:
    """Sum of unit gradients, older ones weighing less (Dong et al. 2018)."""

    def direction(gradient: Tensor, memory: dict[str, Tensor]) -> Tensor:
        memory["sum"] = decay * memory.get("sum", torch.zeros_like(gradient)) + gradient
        return memory["sum"]

    return direction


def adam(gradient: Tensor, memory: dict[str, Tensor]) -> Tensor:
    """Divide by the running root mean square of each value (Kingma & Ba 2015), decay 0.9."""
    count = memory.get("count", torch.zeros(())) + 1
    square = 0.9 * memory.get("square", torch.zeros_like(gradient)) + 0.1 * gradient**2
    memory |= {"count": count, "square": square}
    root = (square / (1 - 0.9**count)).sqrt()
    return gradient / (root + root.flatten(1).mean(1).view(-1, 1, 1, 1))


def smooth(gradient: Tensor, memory: dict[str, Tensor]) -> Tensor:
    """Half the gradient, half its mean over 3 x 3 pixels: high frequencies weigh less."""
    del memory
    return gradient + avg_pool2d(pad(gradient, (1, 1, 1, 1), mode="replicate"), 3, 1)


def of_views(guides: list[Guide], labels: Tensor, views: list[str]) -> Gradient:
    """Return the mean gradient of the own logit over guides and over views of the images."""

    def gradient(images: Tensor, step: int) -> Tensor:
        points = images.detach().requires_grad_()
        total = torch.zeros(len(images))
        for guide in guides:
            for view in views:
                total = total + own(guide(seen(points, view, step)), labels)
        return torch.autograd.grad(total.sum(), points)[0]

    return gradient


def seen(images: Tensor, view: str, step: int) -> Tensor:
    """Return a view of the images: themselves, mirrored, or shifted by a pixel."""
    if view == "mirror" or (view == "by turns" and step % 2):
        return images.flip(3)
    if view == "shift":
        down, right = ((0, 1), (1, 0), (0, -1), (-1, 0))[step % 4]
        return pad(images, (1, 1, 1, 1), mode="replicate")[
            :, :, 1 + down : images.shape[2] + 1 + down, 1 + right : images.shape[3] + 1 + right
        ]
    return images


def ideas(guides: dict[str, Guide], eps: float, looks: int) -> dict[str, Callable[..., Tensor]]:
    """Return name -> ``(images, labels) -> images``; ``guides`` begins with the joint model."""
    joint, *others = guides.values()
    length, half = 1.5 * eps, looks // 2

    def way(
        sizes: list[float],
        views: list[str] | None = None,
        direction: Direction | None = None,
        by: list[Guide] | None = None,
    ) -> Callable[..., Tensor]:
        extra = {} if direction is None else {"direction": direction}

        def refine(images: Tensor, labels: Tensor) -> Tensor:
            gradient = of_views(by or [joint], labels, views or ["itself"])
            return climb(images, gradient, eps, sizes, **extra)

        return refine

    steps = constant(length, looks)
    found = {
        "as it is": way(steps),
        "half as many steps": way(constant(length, half)),
        "shrinking steps": way(shrinking(length, looks)),
        "cosine steps": way(cosine(length, looks)),
        "image and mirror, half the steps": way(constant(length, half), ["itself", "mirror"]),
        "image or mirror, by turns": way(steps, ["by turns"]),
        "image and shift, half the steps": way(constant(length, half), ["itself", "shift"]),
        "momentum 0.5": way(steps, direction=momentum(0.5)),
        "momentum 0.9": way(steps, direction=momentum(0.9)),
        "adam": way(steps, direction=adam),
        "smoothed gradient": way(steps, direction=smooth),
    }
    for name, other in zip(list(guides)[1:], others, strict=True):
        found[f"mean with {name}, half the steps"] = way(constant(length, half), by=[joint, other])
    return found


def main(
    run: Path,
    out: Path,
    data: str = "",
    others: tuple[Path, ...] = (),
    num_images: int = 2000,
    eps: tuple[float, ...] = (1.0,),
    looks: int = 10,
    judge: str = "tuner",
) -> None:
    """Try them all.

    Args:
        run: Folder of a trained experiment: consistency model, guide, judge.
        out: JSON.
        data: Where the real images are, if not where the experiment says.
        others: Files of further guides, to climb the mean with.
        num_images: From seed 500000 on.
        eps: Radii of the L2 ball; the way is 1.5 times as long.
        looks: Per image.
        judge: Which of the run's judges scores.
    """
    base, score, seeds = ground(run, data, judge, num_images)
    paths = [run / "joint" / "model.safetensors", *others]
    guides = {path.parents[1].name: load_guide(str(path)).frozen("bfloat16") for path in paths}
    for guide in guides.values():
        guide.network.fit(base[0].images)  # pyright: ignore[reportCallIssue]
    rows = [{"idea": "no refinement", "eps": 0.0, **score(base)}]
    for radius in eps:
        bar = tqdm(ideas(guides, radius, looks).items(), f"eps {radius}")
        for name, refine in bar:
            refined = [Samples(refine(b.images, b.labels), b.labels, b.ids) for b in base]
            rows.append({"idea": name, "eps": radius, **score(refined)})
            bar.write(f"{radius:5} {name:40} {rows[-1]['fid']:.4f} {rows[-1]['recall']:.3f}")
    write_json(out, {"seeds": seeds, "looks": looks, "rows": rows, **provenance()})


if __name__ == "__main__":
    tyro.cli(main)
