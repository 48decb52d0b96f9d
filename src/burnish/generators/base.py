"""The interface of every generator: ``sample(seeds, labels) -> Samples``."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from burnish.errors import InputError, unknown
from burnish.samples import Samples, whole_numbers
from burnish.seeds import Streams

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Sampling:
    """How a generator is to be sampled; None for its own way."""

    num_steps: int | None = None
    solver: str | None = None
    timesteps: Sequence[int] | None = None
    num_train_timesteps: int | None = None
    truncation: float | None = None

    def only(self, kind: str, *names: str) -> dict[str, Any]:
        """Return what was asked for.

        Args:
            kind: Of generator, for the message.
            names: The settings that it has.

        Raises:
            InputError: It has no such setting.
        """
        asked = {name: value for name, value in vars(self).items() if value is not None}
        for name in asked:
            if name not in names:
                flag = name.replace("_", "-")
                raise InputError(f"{kind} takes no {name}, or knows its own; leave out --{flag}")
        return asked


class Generator(ABC):
    """A network that makes one image per seed, with or without classes.

    Image i is a function of seed i, label i and the weights, whatever else is in the batch. A new
    kind sets ``num_classes`` (None without classes) and ``image_shape`` (C, H, W), and has a
    ``draw``.

    Args:
        network: The network; set to eval mode.
        nfe: Network function evaluations per image.
        card: Facts about its training, stored beside the weights.
    """

    num_classes: int | None
    image_shape: tuple[int, int, int]

    def __init__(self, network: nn.Module, nfe: int, card: Mapping[str, Any] | None) -> None:
        self.network = network.eval()
        self.nfe = self.num_steps = nfe
        self.card = dict(card or {})
        self.precision = "float32"

    @abstractmethod
    def draw(self, noise: Streams, count: int, labels: Tensor | None) -> Tensor:
        """Return images ``[count, C, H, W]`` in [0, 1] on the network's device.

        Args:
            noise: One random stream per image.
            count: Number of images.
            labels: ``[count]`` int64 on the device; None without classes.
        """

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.network.parameters()).device

    def to(self, device: torch.device | str) -> Self:
        """Move the network to a device; returns this generator."""
        self.network.to(device)
        return self

    def with_precision(self, precision: str) -> Self:
        """Compute in another precision inside the network; returns this generator.

        Convolutions and products of matrices take 16 bits; what :meth:`exact_parts` gives, norms
        and everything outside the network stay float32.

        Raises:
            InputError: There is no such precision.
        """
        if precision not in PRECISIONS:
            raise unknown("precision", precision, PRECISIONS)
        if precision != "float32" and self.precision == "float32":
            for module in self.exact_parts():
                _keep_exact(module)
        self.precision = precision
        return self

    def exact_parts(self) -> Iterable[nn.Module]:
        """Return modules of the network that compute in float32 in any precision."""
        return ()

    @torch.no_grad()
    def sample(self, seeds: Sequence[int], labels: Tensor | None = None) -> Samples:
        """Make one image per seed, on the CPU.

        Args:
            seeds: One integer per image, 0 or more; they become the ids of the samples.
            labels: ``[B]`` int64, the class of each image; None draws each class from the seed.

        Raises:
            InputError: There are more or fewer labels than seeds, a label is no class, or a seed
                is negative.
        """
        num_classes = self.num_classes
        if not len(seeds):
            raise InputError("give at least one seed")
        if int(whole_numbers(list(seeds), "seeds").min()) < 0:
            raise InputError("seeds start at 0")
        labels = None if labels is None else whole_numbers(labels, "labels")
        if labels is None and num_classes is not None:
            labels = Streams(seeds, "label").integers(num_classes)
        elif labels is not None:
            if num_classes is None:
                raise InputError("this generator has no classes; sample without labels")
            if labels.shape != (len(seeds),):
                raise InputError(f"{len(seeds)} seeds but labels of shape {list(labels.shape)}")
            if not bool(((labels >= 0) & (labels < num_classes)).all()):
                raise InputError(f"labels must be 0 .. {num_classes - 1}")
        on_device = None if labels is None else labels.to(self.device)
        low = self.precision != "float32"
        with torch.autocast(self.device.type, PRECISIONS[self.precision], enabled=low):
            images = self.draw(Streams(seeds, "noise"), len(seeds), on_device).float()
        if not bool(images.isfinite().all()):
            raise InputError(
                "the generator made images with NaN or infinite values"
                + f"; sample without --precision {self.precision}" * low
            )
        return Samples(images.cpu(), labels, torch.tensor(list(seeds)))

    def batches(
        self, seeds: Sequence[int], labels: Tensor | None = None, batch_size: int = 100
    ) -> Iterator[Samples]:
        """Yield the samples of many seeds, ``batch_size`` at a time."""
        for start in range(0, len(seeds), batch_size):
            part = slice(start, start + batch_size)
            yield self.sample(seeds[part], None if labels is None else labels[part])


def _keep_exact(module: nn.Module) -> None:
    """Let a module compute in float32, whatever is around it."""
    forward = module.forward

    def exact(*inputs: Tensor, **named: Any) -> Any:
        with torch.autocast(inputs[0].device.type, enabled=False):
            return forward(*(x.float() for x in inputs), **named)

    module.forward = exact
