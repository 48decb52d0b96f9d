"""What a training holds between steps: weights, averages, moments, and the best so far."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from burnish.networks.shared_norm import share_batch_norms
from burnish.training import ranks
from burnish.training.settings import TrainingConfig


class Fitting:
    """Everything that a saved state holds."""

    def __init__(
        self, model: nn.Module, loss: Any, config: TrainingConfig, accelerator: Accelerator,
        shared_norms: bool = True,
    ) -> None:  # fmt: skip
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=config.learning_rate, betas=(config.momentum, 0.999),
            weight_decay=config.weight_decay,
        )  # fmt: skip
        average = AveragedModel(model, multi_avg_fn=_averaging(config.ema_decay), use_buffers=True)
        self.average = average.to(accelerator.device)
        if shared_norms and ranks.count() > 1:
            model = share_batch_norms(model, accelerator.device)
        self.plain, self.loss = model, loss
        """The network itself; ``model`` is what exchanges its gradients with other processes."""
        self.model: nn.Module
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.model.train()
        self.parts: dict[str, Any] = {
            "model": self.plain, "ema": self.average, "optimizer": self.optimizer, "loss": loss,
            "scaler": accelerator.scaler,
        }  # fmt: skip
        self.config, self.step = config, 0
        self.best: dict[str, float] = {"score": -math.inf, "step": -1}
        self.best_state: dict[str, Tensor] | None = None

    def compare(self, score: float) -> None:
        """Keep the averaged weights if no validation had so high a score."""
        if score > self.best["score"]:
            self.best = {"score": score, "step": self.step}
            weights = self.average.module.state_dict()
            self.best_state = {name: value.detach().clone() for name, value in weights.items()}

    def is_stale(self) -> bool:
        """Return whether as many validations as the config's ``patience`` brought nothing."""
        waited = self.step - max(self.best["step"], 0)
        return 0 < self.config.patience * self.config.validate_every <= waited

    def best_model(self) -> nn.Module:
        """Return the averaged model, with the weights that were kept if any were."""
        if self.best_state is not None:
            self.average.module.load_state_dict(self.best_state)
        return self.average.module.eval()

    def state_dict(self) -> dict[str, Any]:
        """Return all of it, as it is saved."""
        parts = {
            name: part.state_dict() if hasattr(part, "state_dict") else {}
            for name, part in self.parts.items()
        }
        return {"step": self.step, **parts, "best": self.best, "best_state": self.best_state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state; raises various errors if it is of something else."""
        step, best, weights = state["step"], state["best"], state["best_state"]
        if type(step) is not int or not 0 <= step <= self.config.num_steps:
            raise ValueError(f"step {step!r}")
        for name, part in self.parts.items():
            if name == "optimizer":
                # Its settings are the config's.
                groups = part.state_dict()["param_groups"]
                part.load_state_dict({"state": state[name]["state"], "param_groups": groups})
            elif hasattr(part, "load_state_dict"):
                part.load_state_dict(state[name])
        for parameter, moments in self.optimizer.state.items():
            if {moments[name].shape for name in ("exp_avg", "exp_avg_sq")} != {parameter.shape}:
                raise ValueError("moments of other weights")
            moments["step"] += 0.0  # is a number
        if weights is not None:
            self.average.module.load_state_dict(weights)
            self.average.load_state_dict(state["ema"])
        self.step, self.best_state = step, weights
        self.best = {"score": float(best["score"]), "step": int(best["step"])}


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Return the learning rate of a step: linear warmup times cosine or step decay."""
    warmup = min(1.0, (step + 1) / max(1, config.warmup_steps))
    if config.decay == "cosine":
        decay = 0.5 * (1 + math.cos(math.pi * min(1.0, step / config.num_steps)))
    else:
        decay = 0.1 ** sum(step >= milestone for milestone in config.milestones)
    return config.learning_rate * (warmup * decay)


def _averaging(decay: float) -> Callable[[Any, Any, Any], None]:
    """Return the update average <- d average + (1 - d) weights; counters of batch norm are copied.

    In update n, d = min(decay, (1 + n) / (10 + n)): the random first weights must not linger.
    """

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        n = int(count)
        weight = 1 - min(decay, (1 + n) / (10 + n))
        for old, new in zip(averaged, current, strict=True):
            if old.is_floating_point():
                old.lerp_(new.to(old.dtype), weight)
            else:
                old.copy_(new)

    return update
