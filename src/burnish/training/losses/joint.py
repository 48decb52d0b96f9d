"""The loss of the joint classifier-discriminator, and how its attack grows.

Golan, Ganz & Elad 2024, "Enhancing Consistency-Based Image Generation via Adversarialy-Trained
Classification and Energy-Based Discrimination", https://arxiv.org/abs/2405.16260. For real images
(x, y) and generated ones (u, v), attacked to x' and u':

    L = BCE(sigmoid f_y(x'), 1) + BCE(sigmoid f_v(u'), 0) + CE(f(x'), y) + CE(f(u'), v)

The attack on the real lowers f_y inside a small ball. The attack on the generated raises f_v,
without a bound but with few steps: what the model itself would make of a generated image must not
fool it. Those steps grow in number, by the clock as in the paper, or when the model tells the two
apart by running AUC, as in Yin et al. 2025, "Joint Discriminative-Generative Modeling via Dual
Adversarial Training", https://arxiv.org/abs/2510.13872.

An attacked generated image is stopped once its largest logit reaches that of the attacked real
image beside it: going on would teach the model to reject what is real by its own measure.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import cross_entropy

from burnish.errors import unknown
from burnish.guide.model import Guide
from burnish.samples import Samples
from burnish.training.attacks import attack_generated, attack_real
from burnish.training.config import AttackConfig, GrowthConfig

__all__ = ["TERMS", "AttackGrowth", "JointLoss", "area_under_curve"]

TERMS = ("bce_real", "bce_generated", "ce_real", "ce_generated")


class AttackGrowth:
    """The number of steps of the attack on generated images.

    Args:
        config: When it grows.
        num_steps: Where it starts.
    """

    def __init__(self, config: GrowthConfig, num_steps: int) -> None:
        self.config, self.first, self.num_steps = config, num_steps, num_steps
        self.running_auc, self.grown_at = 0.5, 0

    def update(self, auc: float, step: int) -> None:
        """Take the AUC of a step, from 0 on, and grow by at most one step."""
        # About the last 20 batches; one batch's AUC is too noisy to grow by.
        self.running_auc += 0.05 * (auc - self.running_auc)
        config = self.config
        if config.by == "clock":
            wanted = self.first + (step + 1) // config.every
            self.num_steps = min(config.max_steps, wanted)
        elif config.by == "auc" and self.running_auc >= config.threshold:
            if step + 1 - self.grown_at >= config.every and self.num_steps < config.max_steps:
                self.num_steps, self.grown_at = self.num_steps + 1, step + 1

    def state_dict(self) -> dict[str, float]:
        """Return where the growth stands."""
        return {
            "num_steps": self.num_steps,
            "running_auc": self.running_auc,
            "grown_at": self.grown_at,
        }

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from a saved state."""
        self.num_steps, self.grown_at = int(state["num_steps"]), int(state["grown_at"])
        self.running_auc = state["running_auc"]


class JointLoss:
    """The joint loss, ``(guide, (real, generated), step) -> (loss, numbers)``.

    Args:
        real_attack: On real images; its ``num_steps`` stays.
        generated_attack: On generated images; its ``num_steps`` is where it starts.
        growth: How the attack on generated images grows.
        early_stop: Stop generated images that look as real as the real ones beside them.
        freeze_batch_norm: Use the running statistics in the loss too.
        weights: Factor of each of the four terms; 1 where not given.
        precision: Of the attacks inside the network, see :class:`burnish.networks.frozen.Frozen`.

    Raises:
        InputError: There is no term of such a name.
    """

    def __init__(
        self,
        real_attack: AttackConfig,
        generated_attack: AttackConfig,
        growth: GrowthConfig,
        early_stop: bool = True,
        freeze_batch_norm: bool = False,
        weights: Mapping[str, float] | None = None,
        precision: str = "float32",
    ) -> None:
        for term in weights or {}:
            if term not in TERMS:
                raise unknown("term of the joint loss", term, TERMS)
        self.real_attack, self.generated_attack = real_attack, generated_attack
        self.growth = AttackGrowth(growth, generated_attack.num_steps)
        self.early_stop, self.freeze_batch_norm = early_stop, freeze_batch_norm
        self.weights = {term: (weights or {}).get(term, 1.0) for term in TERMS}
        self.precision = precision
        self._frozen: Guide | None = None

    def state_dict(self) -> dict[str, float]:
        """Return the state of the growth."""
        return self.growth.state_dict()

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from a saved state."""
        self.growth.load_state_dict(state)

    def __call__(
        self, model: nn.Module, batch: tuple[Samples, Samples], step: int
    ) -> tuple[Tensor, dict[str, float]]:
        """Attack, then return the loss on what the attacks made, and the numbers to log."""
        real, generated = batch
        assert real.labels is not None and generated.labels is not None
        guide = model.module if hasattr(model, "module") else model
        assert isinstance(guide, Guide)
        # Attacks see the network as a user will: in eval mode, with constant weights.
        frozen = self._freeze(guide)
        real_images = attack_real(frozen, real, self.real_attack)
        if not (self.weights["bce_generated"] or self.weights["ce_generated"]):
            return self._of_real_alone(model, guide, real_images, real.labels)
        with torch.no_grad():
            threshold = frozen(real_images).amax(1) if self.early_stop else None
            clean_level = frozen.realness(generated.images, generated.labels)
        generated_images, steps = attack_generated(
            frozen, generated, self.generated_attack, self.growth.num_steps, threshold
        )
        model.train(not self.freeze_batch_norm)

        logits = model(torch.cat([real_images, generated_images]))
        of_real, of_generated = logits[: len(real)], logits[len(real) :]
        real_level = guide.realness_of(of_real, real.labels)
        generated_level = guide.realness_of(of_generated, generated.labels)
        terms = {
            "bce_real": bce(real_level, torch.ones_like(real_level)),
            "bce_generated": bce(generated_level, torch.zeros_like(generated_level)),
            "ce_real": cross_entropy(of_real, real.labels),
            "ce_generated": cross_entropy(of_generated, generated.labels),
        }
        auc = area_under_curve(real_level.detach(), generated_level.detach())
        self.growth.update(auc, step)
        numbers = {
            "attack_steps": float(self.growth.num_steps),
            "attack_steps_made": steps.float().mean().item(),
            "auc": auc,
            "running_auc": self.growth.running_auc,
            "realness_real": real_level.detach().mean().item(),
            "realness_generated": clean_level.mean().item(),
            "realness_attacked_generated": generated_level.detach().mean().item(),
            "robust_accuracy": _accuracy(of_real, real.labels),
        }
        return self._weighted(terms, numbers)

    def _of_real_alone(
        self, model: nn.Module, guide: Guide, images: Tensor, labels: Tensor
    ) -> tuple[Tensor, dict[str, float]]:
        """Without terms on generated images this is adversarial training (Madry et al. 2018)."""
        model.train(not self.freeze_batch_norm)
        logits = model(images)
        level = guide.realness_of(logits, labels)
        terms = {
            "bce_real": bce(level, torch.ones_like(level)),
            "ce_real": cross_entropy(logits, labels),
        }
        return self._weighted(terms, {"robust_accuracy": _accuracy(logits, labels)})

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


def area_under_curve(positive: Tensor, negative: Tensor) -> float:
    """Return P(positive > negative) + P(equal) / 2 over all pairs: the area under the ROC."""
    difference = positive[:, None] - negative[None, :]
    return ((difference > 0).double() + 0.5 * (difference == 0).double()).mean().item()


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return (logits.argmax(1) == labels).float().mean().item()
