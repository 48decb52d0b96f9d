"""The loss of the joint classifier-discriminator, its attacks and how they grow.

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

Attacks ascend the logit itself. The gradient of the loss is the logit's times sigma(f_v) / B,
which vanishes for a confident model.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import cross_entropy

from burnish.ascent.balls import Ball, ball_of
from burnish.ascent.loop import climb
from burnish.guide.model import Guide
from burnish.guide.objectives import objective_of
from burnish.samples import Samples
from burnish.seeds import stream
from burnish.training import ranks
from burnish.training.config import TERMS, AttackConfig, GrowthConfig, JointConfig


class AttackGrowth:
    """The number of steps of the attack on generated images, ``num_steps``, from the given on."""

    def __init__(self, config: GrowthConfig, num_steps: int) -> None:
        self.config, self.first, self.num_steps = config, num_steps, num_steps
        self.running_auc, self.grown_at = 0.5, 0

    def update(self, auc: float, step: int) -> None:
        """Take the AUC of a step, from 0 on, and grow by at most one step."""
        # About the last 20 batches; one batch's AUC is too noisy to grow by.
        self.running_auc += 0.05 * (auc - self.running_auc)
        config = self.config
        if config.by == "clock":
            self.num_steps = min(config.max_steps, self.first + (step + 1) // config.every)
        elif config.by == "auc" and self.running_auc >= config.threshold:
            if step + 1 - self.grown_at >= config.every and self.num_steps < config.max_steps:
                self.num_steps, self.grown_at = self.num_steps + 1, step + 1

    def state_dict(self) -> dict[str, float]:
        """Return where the growth stands."""
        return {name: getattr(self, name) for name in ("num_steps", "running_auc", "grown_at")}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from a saved state."""
        self.num_steps, self.grown_at = int(state["num_steps"]), int(state["grown_at"])
        self.running_auc = float(state["running_auc"])


class JointLoss:
    """The joint loss, ``(guide, (real, generated), step) -> (loss, numbers)``; it has a growth.

    A batch may be a part of the step's: of the share of one of several processes, or one of the
    ``accumulate`` parts of that. Random starts are then drawn for the whole and taken in part, and
    the growth looks at the AUC of the whole. Parts of a step come one after the other.
    """

    def __init__(self, config: JointConfig) -> None:
        self.config = config
        self.weights = {term: config.weights.get(term, 1.0) for term in TERMS}
        self.growth = AttackGrowth(config.growth, config.generated_attack.num_steps)
        self.state_dict, self.load_state_dict = self.growth.state_dict, self.growth.load_state_dict
        self._frozen: Guide | None = None
        self._levels: list[tuple[Tensor, Tensor]] = []
        """Of the parts of this step so far, the realness of real and of generated images."""
        self._place = 0  # of the next part among those of this process

    def __call__(
        self, model: nn.Module, batch: tuple[Samples, Samples], step: int
    ) -> tuple[Tensor, dict[str, float]]:
        """Attack, then return the loss on what the attacks made, and the numbers to log."""
        (real, generated), config = batch, self.config
        # Torch wraps it where several processes train it.
        guide = cast(Guide, getattr(model, "module", model))
        assert real.labels is not None and generated.labels is not None
        live = config.batch_norm == "live"
        # Attacks see the network as a user will: in eval mode, with constant weights.
        frozen = self._frozen = self._frozen or guide.frozen(config.training.precision)
        frozen.refresh(guide)
        part = self._part(len(real), step)
        real_images, _ = _climb(frozen, real, config.real_attack, -1, None, part)
        if not (self.weights["bce_generated"] or self.weights["ce_generated"]):
            # Without terms on generated images this is adversarial training (Madry et al. 2018).
            of_real = model.train(live)(real_images)
            terms, _ = _terms(guide, of_real, real.labels, "real")
            return self._weighted(terms, {"robust_accuracy": _accuracy(of_real, real.labels)})
        with torch.no_grad():
            threshold = frozen(real_images).amax(1) if config.early_stop else None
            clean_level = frozen.realness(generated.images, generated.labels)
        attack = replace(config.generated_attack, num_steps=self.growth.num_steps)
        generated_images, steps = _climb(frozen, generated, attack, 1, threshold, part)
        logits = model.train(live)(torch.cat([real_images, generated_images]))
        of_real, of_generated = logits[: len(real)], logits[len(real) :]
        terms, real_level = _terms(guide, of_real, real.labels, "real")
        more, generated_level = _terms(guide, of_generated, generated.labels, "generated")
        numbers = self._grow(real_level, generated_level, step) | {
            "attack_steps_made": steps.float().mean().item(),
            "realness_real": real_level.mean().item(),
            "realness_generated": clean_level.mean().item(),
            "realness_attacked_generated": generated_level.mean().item(),
            "robust_accuracy": _accuracy(of_real, real.labels),
        }  # fmt: skip
        return self._weighted(terms | more, numbers)

    def _part(self, size: int, step: int) -> "_Part | None":
        """Return which part of the step's batch this is; None if it is the whole."""
        parts = ranks.count() * self.config.accumulate
        if parts == 1:
            return None
        place = ranks.index() * self.config.accumulate + self._place
        self._place = (self._place + 1) % self.config.accumulate
        # Drawn as the whole batch of one process draws: from the stream of the step.
        generator = stream(self.config.training.seed, f"step/{step}")
        return _Part(slice(place * size, (place + 1) * size), parts * size, generator)

    def _grow(self, real: Tensor, generated: Tensor, step: int) -> dict[str, float]:
        """Take the realness of a part; after the last one, let the attack grow by all of them."""
        self._levels.append((real, generated))
        if len(self._levels) < self.config.accumulate:
            return {}
        of_real, of_generated = (
            ranks.gather(torch.cat(side)) for side in zip(*self._levels, strict=True)
        )
        self._levels.clear()
        auc = area_under_curve(of_real, of_generated)
        self.growth.update(auc, step)
        return {"attack_steps": float(self.growth.num_steps), "auc": auc,
                "running_auc": self.growth.running_auc}  # fmt: skip

    def _weighted(
        self, terms: dict[str, Tensor], numbers: dict[str, float]
    ) -> tuple[Tensor, dict[str, float]]:
        terms = {name: terms[name] for name in TERMS if name in terms}
        loss = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        return loss, {name: term.item() for name, term in terms.items()} | numbers


def attack_real(guide: Guide, real: Samples, attack: AttackConfig) -> Tensor:
    """Return real images ``[B, C, H, W]`` made to look generated by a guide in eval mode."""
    return _climb(guide, real, attack, -1, None)[0]


def attack_generated(
    guide: Guide, generated: Samples, attack: AttackConfig, threshold: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return generated images ``[B, C, H, W]`` made to look real, and the steps each one made.

    An image whose largest logit has reached its entry of the threshold, ``[B]``, makes no further
    step. (The sigmoid is monotone, so comparing logits is comparing probabilities.)
    """
    return _climb(guide, generated, attack, 1, threshold)


class _Part(NamedTuple):
    """Some rows of a batch of ``total`` images, whose random starts one generator draws."""

    rows: slice
    total: int
    generator: torch.Generator


class _PartOfBall:
    """A ball whose random starts are those that the rows have in the whole batch."""

    def __init__(self, ball: Ball, part: _Part) -> None:
        self.eps, self.normalize, self.project = ball.eps, ball.normalize, ball.project
        self._ball, self._part = ball, part

    def random_start(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        whole = images.new_zeros(self._part.total, *images.shape[1:])
        drawn = self._ball.random_start(whole, generator or self._part.generator)
        return images + drawn[self._part.rows]


def _climb(
    guide: Guide, samples: Samples, attack: AttackConfig, sign: int, threshold: Tensor | None,
    part: _Part | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Raise the objective times ``sign`` by PGD inside the ball of an attack."""
    function = objective_of(attack.objective)

    def objective(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = guide(images)
        return sign * function(logits, labels), logits.detach().amax(1)

    assert samples.labels is not None and attack.step_size is not None
    precondition = guide.preconditioner() if attack.precondition == "spectrum" else None
    ball = ball_of(attack.norm, attack.eps)
    if part:
        ball = _PartOfBall(ball, part)
    return climb(
        objective, samples.images, samples.labels, ball=ball,
        step_size=attack.step_size, num_steps=attack.num_steps,
        random_start=attack.random_start, threshold=threshold, precondition=precondition,
    )  # fmt: skip


def area_under_curve(positive: Tensor, negative: Tensor) -> float:
    """Return P(positive > negative) + P(equal) / 2 over all pairs: the area under the ROC."""
    difference = positive[:, None] - negative[None, :]
    return ((difference > 0).double() + 0.5 * (difference == 0).double()).mean().item()


def _terms(
    guide: Guide, logits: Tensor, labels: Tensor, of: str
) -> tuple[dict[str, Tensor], Tensor]:
    """Return both terms of images that are ``real`` or ``generated``, and their realness."""
    level = guide.realness_of(logits, labels)
    target = torch.full_like(level, float(of == "real"))
    terms = {f"bce_{of}": bce(level, target), f"ce_{of}": cross_entropy(logits, labels)}
    return terms, level.detach()


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return (logits.argmax(1) == labels).float().mean().item()
