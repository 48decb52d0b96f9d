"""The same ascent by others: attack libraries, and the loop that one writes by hand.

Each function prepares a task and returns a call that does it: images in, moved images out. The
libraries run as they come, with the network as they are given it.
"""

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

Run = Callable[[], Tensor]


@dataclass(frozen=True, eq=False)
class Task:
    """Targeted L2 PGD on the cross-entropy, without a random start."""

    network: nn.Sequential
    """In eval mode, ``images [B, C, H, W] in [0, 1] -> logits [B, K]``."""
    images: Tensor
    labels: Tensor
    eps: float = 1.0
    num_steps: int = 7

    @property
    def step_size(self) -> float:
        return 1.5 * self.eps / self.num_steps

    @property
    def device(self) -> torch.device:
        return self.images.device


def plain_loop(task: Task, autocast: bool = False) -> Run:
    def run() -> Tensor:
        images = task.images
        for _ in range(task.num_steps):
            images = images.detach().requires_grad_()
            with torch.autocast(task.device.type, torch.bfloat16, enabled=autocast):
                logits = task.network(images)
            loss = cross_entropy(logits.float(), task.labels, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, images)
            length = gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            moved = images.detach() - task.step_size * gradient / (length + 1e-12) - task.images
            images = (task.images + moved.renorm(2, 0, task.eps)).clamp(0, 1)
        return images

    return run


def with_torchattacks(task: Task) -> Run:
    import torchattacks

    attack = torchattacks.PGDL2(
        task.network, eps=task.eps, alpha=task.step_size, steps=task.num_steps, random_start=False
    )
    with contextlib.redirect_stdout(io.StringIO()):  # it announces the change
        attack.set_mode_targeted_by_function(lambda images, labels: labels)
    return lambda: attack(task.images, task.labels)


def with_foolbox(task: Task) -> Run:
    from foolbox.attacks.projected_gradient_descent import L2ProjectedGradientDescentAttack
    from foolbox.criteria import TargetedMisclassification
    from foolbox.models.pytorch import PyTorchModel

    model = PyTorchModel(task.network, bounds=(0, 1), device=task.device)
    attack = L2ProjectedGradientDescentAttack(
        abs_stepsize=task.step_size, steps=task.num_steps, random_start=False
    )
    aim = TargetedMisclassification(task.labels)
    # Calling the attack itself would add a forward pass, to see which images it fooled.
    return lambda: attack.run(model, task.images, aim, epsilon=task.eps)


def with_art(task: Task) -> Run:
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    with torch.no_grad():
        num_classes = task.network(task.images[:1]).shape[1]
    classifier = PyTorchClassifier(
        task.network, nn.CrossEntropyLoss(), tuple(task.images.shape[1:]), num_classes,
        clip_values=(0.0, 1.0), device_type="gpu" if task.device.type == "cuda" else "cpu",
    )  # fmt: skip
    attack = ProjectedGradientDescentPyTorch(
        classifier, norm=2, eps=task.eps, eps_step=task.step_size, max_iter=task.num_steps,
        targeted=True, num_random_init=0, batch_size=len(task.images), verbose=False,
    )  # fmt: skip
    images = task.images.cpu().numpy()
    aims = one_hot(task.labels, num_classes).cpu().numpy()
    return lambda: torch.from_numpy(attack.generate(images, aims))


PEERS: dict[str, Callable[[Task], Run]] = {
    "torchattacks": with_torchattacks,
    "foolbox": with_foolbox,
    "ART": with_art,
    "plain loop": plain_loop,
}
"""All in float32; what they are compared by is the fastest of them."""


def versions() -> dict[str, str]:
    names = ("torchattacks", "foolbox", "adversarial-robustness-toolbox", "torchvision")
    return {name: version(name) for name in names}
