"""Diffusion models of EDM and consistency models of ECT, in pickles that hold their own code.

The code is not read: the settings in the file say which network it is, and ours is of the same
names. Karras et al. 2022 (EDM), https://arxiv.org/abs/2206.00364; Geng et al. 2024 (ECT),
"Consistency Models Made Easy", https://arxiv.org/abs/2406.14548.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from burnish.errors import InputError, shown
from burnish.foreign.values import Persistent, Stub
from burnish.generators.base import Generator
from burnish.generators.diffusion import SOLVERS, solve
from burnish.generators.unet import Scalings
from burnish.networks.build import outline
from burnish.networks.edm import EDMUNet
from burnish.networks.edm_config import EDMConfig
from burnish.networks.fit import fitted
from burnish.schema import read
from burnish.seeds import Streams

# The middle level of ECT's two steps on CIFAR-10.
SIGMA_BETWEEN = 0.821
MAX_DEPTH = 12


class EDMModel(nn.Module):
    r"""A U-Net of EDM with scalings around it: a denoiser, or a consistency function of ECT.

    .. math:: c_{skip} x + c_{out} F(c_{in} x, \ln(\sigma) / 4, y)

    Args:
        config: Of the network.
        scalings: The range of noise levels.
        consistent: Take the scalings of a consistency function.
    """

    def __init__(self, config: EDMConfig, scalings: Scalings, consistent: bool) -> None:
        super().__init__()
        self.model, self.scalings, self.consistent = EDMUNet(config), scalings, consistent

    def forward(self, noisy: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        """Return the clean image's estimate in float64; ``sigma [B]``, ``labels [B]`` or None."""
        images, level, scalings = noisy.float(), sigma.float(), self.scalings
        factors = (scalings.boundary if self.consistent else scalings.denoiser)(level)
        c_skip, c_out, c_in = (c.view(-1, 1, 1, 1) for c in (*factors, scalings.c_in(level)))
        found = self.model(images * c_in, level.log() / 4, labels).float()
        return (c_skip * images + c_out * found).to(noisy.dtype)


class EDMGenerator(Generator):
    """EDM's deterministic sampler, or ECT's with one or two steps.

    Args:
        model: The network; set to eval mode.
        num_steps: Steps per image; two network calls each, but for the last, with Heun's method.
        solver: ``heun`` or ``euler``; without effect on ECT.
        card: What is known of it.
    """

    def __init__(
        self, model: EDMModel, num_steps: int, solver: str, card: Mapping[str, Any]
    ) -> None:
        config, heun = model.model.config, solver == "heun" and not model.consistent
        if num_steps < 1 or (model.consistent and num_steps > 2):
            most = "1 or 2 steps" if model.consistent else "1 step or more"
            raise InputError(f"this model takes {most}, not {num_steps}")
        super().__init__(model, 2 * num_steps - 1 if heun else num_steps, card)
        self.model, self.num_steps, self.solver = model, num_steps, solver
        self.num_classes = config.label_dim or None
        self.image_shape = (config.img_channels, config.img_resolution, config.img_resolution)

    def draw(self, noise: Streams, count: int, labels: Tensor | None) -> Tensor:
        """Return images ``[count, C, H, W]`` in [0, 1]; all outside the network is float64."""
        del count
        scalings = self.model.scalings
        start = scalings.sigma_max * noise.normal(self.image_shape).to(self.device).double()
        if not self.model.consistent:
            sigmas = [*scalings.schedule(self.num_steps, self.num_steps), 0.0]
            return solve(self.model, start, sigmas, labels, self.solver).clamp(-1, 1) / 2 + 0.5
        images = self.model(start, start.new_full((len(start),), scalings.sigma_max), labels)
        for sigma in [SIGMA_BETWEEN] * (self.num_steps - 1):
            images = images + sigma * noise.normal(self.image_shape).to(self.device)
            images = self.model(images, images.new_full((len(images),), sigma), labels)
        return images.clamp(-1, 1) / 2 + 0.5


def edm_generator(
    ema: Persistent, num_steps: int | None, solver: str | None, card: Mapping[str, Any]
) -> EDMGenerator:
    """Return the generator of what an EDM or ECT pickle holds under ``ema``.

    Raises:
        InputError: It is another network, or its tensors do not fit its settings.
    """
    if ema.class_name not in ("EDMPrecond", "ECMPrecond"):
        raise InputError(
            f"its network is a {shown(ema.class_name)}; EDMPrecond (EDM) and ECMPrecond (ECT) are "
            "read here, so sample it with its own code and refine the images"
        )
    consistent = ema.class_name == "ECMPrecond"
    if consistent and solver is not None:
        raise InputError("a consistency model takes no solver; leave out --solver")
    if solver not in (None, *SOLVERS):
        raise InputError(f"solver must be {' or '.join(SOLVERS)}")
    values = ema.state.get("_init_kwargs") if isinstance(ema.state, dict) else None
    if not isinstance(values, dict):
        raise InputError("its settings (_init_kwargs) are missing")
    given = {str(name): value for name, value in values.items()}
    try:
        config = read(EDMConfig, given, "its settings")
    except (ValueError, TypeError) as error:
        raise InputError(str(error)) from error
    scalings = _scalings(given, 0.003 if consistent else 0.002)
    state: dict[str, Tensor] = {}
    _gather(ema, "", state, 0)
    blank = outline(lambda: EDMModel(config, scalings, consistent), "its network")
    model: Any = fitted(blank, lambda: EDMModel(config, scalings, consistent), state)
    kind = "consistency model" if consistent else "diffusion model"
    card = {**card, "kind": kind, "family": "edm", "model": config.model_type}
    return EDMGenerator(model, num_steps or (1 if consistent else 18), solver or "heun", card)


def _scalings(given: dict[str, Any], lowest: float) -> Scalings:
    """Return the range that is sampled: EDM's usual one, within what the network supports."""
    low, high = given.get("sigma_min", 0.0), given.get("sigma_max", float("inf"))
    data = given.get("sigma_data", 0.5)
    if any(type(number) not in (int, float) for number in (low, high, data)):
        raise InputError("its sigma_min, sigma_max and sigma_data must be numbers")
    values = {"sigma_min": max(lowest, low), "sigma_max": min(80.0, high), "sigma_data": data}
    return read(Scalings, values, "its settings")


def _gather(module: Any, prefix: str, state: dict[str, Tensor], depth: int) -> None:
    """Put the tensors of a tree of modules under their names, floats as float32."""
    inner = module.state if isinstance(module, Persistent | Stub) else None
    if not isinstance(inner, dict) or depth > MAX_DEPTH:
        raise InputError(f"{shown(prefix or 'ema')} in it is no module")
    for kind in ("_parameters", "_buffers", "_modules"):
        part = inner.get(kind) or {}
        if not isinstance(part, dict):
            raise InputError(f"{shown(prefix)}{kind} is no dictionary")
        for name, value in part.items():
            full = f"{prefix}{name}"
            if value is None:
                continue
            if kind == "_modules":
                _gather(value, f"{full}.", state, depth + 1)
            elif not isinstance(value, Tensor) or not value.is_floating_point():
                raise InputError(f"{shown(full)} in it is no tensor of floats")
            else:
                state[full] = value.detach().float()
