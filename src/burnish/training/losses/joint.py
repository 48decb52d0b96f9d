"""Adversarial training of the joint classifier-discriminator (Golan et al. 2024).

For real images (x, y) and generated ones (u, v), both attacked:

    L = BCE(sigmoid f_y(x'), 1) + BCE(sigmoid f_v(u'), 0) + CE(f(x'), y) + CE(f(u'), v)

The attack on the real pushes f_y down inside a small ball: real images must keep looking real
however they are nudged. The attack on the generated pushes f_v up, without a bound but with few
steps: what the model itself would make of a fake must not fool it. Those steps grow in number, by
the clock as in the paper, or whenever the model tells the two apart (running AUC, Yin et al. 2025,
"DAT"). An attacked fake is frozen once it looks more real, over all classes, than the attacked
real image beside it: pushing on would teach the model to reject what is real by its own measure.

Attacks ascend the logit itself. Through the loss, sigma(f_v) / B times the same gradient, a
confident model would hand its attacker a vanishing one.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import cross_entropy

from burnish.ascent.loop import L2Ball, last, pgd
from burnish.errors import InputError, unknown
from burnish.guide.model import OBJECTIVES, Guide
from burnish.samples import Samples
from burnish.training.config import AttackConfig, GrowthConfig

__all__ = ["JointLoss", "area_under_curve", "attack_fake", "attack_real"]

TERMS = ("bce_real", "bce_fake", "ce_real", "ce_fake")


class JointLoss:
    """The joint loss with its growing attack, ``(guide, (real, fake), step) -> (loss, numbers)``.

    Args:
        real_attack: On real images; its ``num_steps`` stays.
        fake_attack: On generated images; its ``num_steps`` is where it starts.
        growth: How the fake attack grows.
        early_stop: Freeze fakes that look more real than the real ones beside them.
        freeze_batch_norm: Use the running statistics in the loss too.
        weights: Factor of each of the four terms; 1 where not given.
        precision: Of the attacks inside the network, see :class:`burnish.networks.Frozen`.

    Raises:
        InputError: There is no term of such a name, or an attack is to start at a random point of
            an infinite ball.
    """

    def __init__(
        self,
        real_attack: AttackConfig,
        fake_attack: AttackConfig,
        growth: GrowthConfig,
        early_stop: bool = True,
        freeze_batch_norm: bool = False,
        weights: Mapping[str, float] | None = None,
        precision: str = "float32",
    ) -> None:
        for term in weights or {}:
            if term not in TERMS:
                raise unknown("term of the joint loss", term, TERMS)
        for attack in (real_attack, fake_attack):
            if attack.random_start and math.isinf(attack.eps):
                raise InputError("an attack with random_start needs a finite eps")
        self.real_attack, self.fake_attack, self.growth = real_attack, fake_attack, growth
        self.early_stop, self.freeze_batch_norm = early_stop, freeze_batch_norm
        self.precision, self._frozen = precision, None
        self.weights = {term: (weights or {}).get(term, 1.0) for term in TERMS}
        self.uses_fakes = any(self.weights[term] for term in ("bce_fake", "ce_fake"))
        self.num_steps = fake_attack.num_steps
        self.running_auc, self._grown_at = 0.5, 0

    def state_dict(self) -> dict[str, float]:
        """Return where the growth of the attack stands."""
        return {
            "num_steps": self.num_steps,
            "running_auc": self.running_auc,
            "grown_at": self._grown_at,
        }

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from a saved state."""
        self.num_steps, self._grown_at = int(state["num_steps"]), int(state["grown_at"])
        self.running_auc = state["running_auc"]

    def __call__(
        self, model: nn.Module, batch: tuple[Samples, Samples], step: int
    ) -> tuple[Tensor, dict[str, float]]:
        """Attack, then return the loss on what the attacks made, and what is worth a log line."""
        real, fake = batch
        assert real.labels is not None and fake.labels is not None
        guide = model.module if hasattr(model, "module") else model
        assert isinstance(guide, Guide)
        # Attacks see the network as a user will: in eval mode, weights held still.
        frozen = self._freeze(guide)
        real_images = attack_real(frozen, real, self.real_attack)
        if not self.uses_fakes:
            return self._of_real_alone(model, guide, real_images, real.labels)
        with torch.no_grad():
            threshold = frozen(real_images).amax(1) if self.early_stop else None
            clean_fake = frozen.realness(fake.images, fake.labels)
        fake_images, steps = attack_fake(frozen, fake, self.fake_attack, self.num_steps, threshold)
        model.train(not self.freeze_batch_norm)

        logits = model(torch.cat([real_images, fake_images]))
        of_real, of_fake = logits[: len(real)], logits[len(real) :]
        real_level = guide.realness_of(of_real, real.labels)
        fake_level = guide.realness_of(of_fake, fake.labels)
        terms = {
            "bce_real": bce(real_level, torch.ones_like(real_level)),
            "bce_fake": bce(fake_level, torch.zeros_like(fake_level)),
            "ce_real": cross_entropy(of_real, real.labels),
            "ce_fake": cross_entropy(of_fake, fake.labels),
        }
        auc = area_under_curve(real_level.detach(), fake_level.detach())
        self._grow(auc, step)
        numbers = {
            "attack_steps": float(self.num_steps),
            "attack_steps_made": steps.float().mean().item(),
            "auc": auc,
            "running_auc": self.running_auc,
            "realness_real": real_level.detach().mean().item(),
            "realness_fake": clean_fake.mean().item(),
            "realness_attacked_fake": fake_level.detach().mean().item(),
            "robust_accuracy": (of_real.argmax(1) == real.labels).float().mean().item(),
        }
        return self._weighted(terms, numbers)

    def _of_real_alone(
        self, model: nn.Module, guide: Guide, images: Tensor, labels: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        """Without terms on fakes this is plain adversarial training (Madry et al. 2018)."""
        model.train(not self.freeze_batch_norm)
        logits = model(images)
        level = guide.realness_of(logits, labels)
        terms = {
            "bce_real": bce(level, torch.ones_like(level)),
            "ce_real": cross_entropy(logits, labels),
        }
        hits = (logits.argmax(1) == labels).float().mean().item()
        return self._weighted(terms, {"robust_accuracy": hits})

    def _weighted(
        self, terms: dict[str, Tensor], numbers: dict[str, float]
    ) -> tuple[Tensor, dict[str, float]]:
        loss = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        return loss, {name: term.item() for name, term in terms.items()} | numbers

    def _freeze(self, guide: Guide) -> Guide:
        if self._frozen is None:
            self._frozen = guide.frozen(self.precision)
        else:
            self._frozen.refresh(guide)
        return self._frozen

    def _grow(self, auc: float, step: int) -> None:
        # About the last 20 batches; one batch's AUC is too noisy to grow by.
        self.running_auc += 0.05 * (auc - self.running_auc)
        growth = self.growth
        if growth.by == "clock":
            wanted = self.fake_attack.num_steps + (step + 1) // growth.every
            self.num_steps = min(growth.max_steps, wanted)
        elif growth.by == "auc" and self.running_auc >= growth.threshold:
            if step + 1 - self._grown_at >= growth.every and self.num_steps < growth.max_steps:
                self.num_steps, self._grown_at = self.num_steps + 1, step + 1


def attack_real(guide: Guide, real: Samples, attack: AttackConfig) -> Tensor:
    """Make real images look fake: push the own-class logit down inside the ball."""
    labels, objective = real.labels, OBJECTIVES[attack.objective]
    assert labels is not None
    steps = pgd(
        lambda images: -objective(guide(images), labels),
        real.images,
        L2Ball(attack.eps),
        attack.step_size,
        attack.num_steps,
        random_start=attack.random_start,
    )
    return last(steps, real.images)


def attack_fake(
    guide: Guide,
    fake: Samples,
    attack: AttackConfig,
    num_steps: int,
    threshold: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Make generated images look real: push the own-class logit up.

    Args:
        guide: In eval mode.
        fake: Generated images with the labels they were made for.
        attack: Radius and step size.
        num_steps: At most so many steps.
        threshold: ``[B]``; an image whose largest logit exceeds its entry is frozen. (The sigmoid
            is monotone, so comparing logits is comparing probabilities.)

    Returns:
        The attacked images and the steps each one made, ``[B]`` int64.
    """
    labels = fake.labels
    assert labels is not None
    largest = torch.empty(0)

    def objective(images: Tensor) -> Tensor:
        nonlocal largest
        logits = guide(images)
        largest = logits.detach().amax(1)
        return OBJECTIVES[attack.objective](logits, labels)

    def stop(values: Tensor) -> Tensor:
        del values
        assert threshold is not None
        return largest > threshold

    images, made = fake.images, torch.zeros_like(labels)
    iterates = pgd(
        objective,
        fake.images,
        L2Ball(attack.eps),
        attack.step_size,
        num_steps,
        random_start=attack.random_start,
        stop=None if threshold is None else stop,
    )
    for iterate in iterates:
        images, made = iterate.images, made + iterate.moved
    return images, made


def area_under_curve(positive: Tensor, negative: Tensor) -> float:
    """Return P(positive > negative) + P(equal) / 2 over all pairs: the area under the ROC."""
    difference = positive[:, None] - negative[None, :]
    return ((difference > 0).double() + 0.5 * (difference == 0).double()).mean().item()
