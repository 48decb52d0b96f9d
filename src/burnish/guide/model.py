"""A guide: any classifier, read also as a discriminator and as an energy.

With logits f(x) in R^K:

    classifier      p(y|x) = softmax(f(x))_y
    discriminator   D(x, y) = sigmoid(f_y(x)), the probability that x is real and of class y
    energy          E(x, y) = -f_y(x)  and  E(x) = -logsumexp f(x)

Classifier and discriminator share one head (Golan, Ganz & Elad 2024, "Enhancing Consistency-Based
Image Generation via Adversarialy-Trained Classification and Energy-Based Discrimination",
https://arxiv.org/abs/2405.16260): differences of logits say which class, their level says how
real. The energies are those of Grathwohl et al. 2020, "Your Classifier is Secretly an Energy Based
Model and You Should Treat it Like One", equations 4 and 5, https://arxiv.org/abs/1912.03263.
"""

import copy
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from torch import Tensor, nn

from burnish.ascent.spectrum import Filter, preconditioner, transport
from burnish.ascent.step import Objective
from burnish.errors import InputError, shown, unknown
from burnish.guide.card import ENERGIES, check_card
from burnish.guide.objectives import LogitObjective, class_logit, objective_of
from burnish.networks.frozen import Frozen


class Guide(nn.Module):
    """A classifier that steers images.

    Override :meth:`objective` in a subclass to climb anything else; refinement calls that method
    on a frozen copy of the guide.

    Args:
        network: ``images [B, C, H, W] in [0, 1] -> logits [B, K]``, normalization inside.
        card: What is known of it: ``name``, ``sha256``, the ``realness`` quantiles of real images,
            recommended settings under ``refine``, and ``network``, which rebuilds it.
        energy: ``logit`` or ``logsumexp``: what realness is.
        spectra: Of the ``real`` and of the ``generated`` images that it was trained on, see
            :mod:`burnish.ascent.spectrum`.

    Raises:
        InputError: There is no such energy, the network is none, or the card is faulty.
    """

    def __init__(
        self, network: nn.Module, card: dict[str, Any] | None = None, energy: str = "logit",
        spectra: Mapping[str, Tensor] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if not isinstance(network, nn.Module):
            raise InputError(f"a guide is made of a torch module, not {shown(network)}")
        check_card({} if card is None else card, "the card of the guide")
        if energy not in ENERGIES:
            raise unknown("energy", energy, ENERGIES)
        self.network, self.card, self.energy_name = network, card or {}, energy
        self.spectra = dict(spectra or {})
        channels, *sides = self.card.get("image_shape", [3, 8, 8])
        for side, values in self.spectra.items():
            shape = list(values.shape)
            free = "image_shape" not in self.card and len(shape) == 4 and shape[2] == shape[3]
            if not free and shape != [*sides, channels, channels]:
                raise InputError(f"the {side} spectrum of this guide is of shape {shape}")

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[B, K]``, float32 whatever the precision inside."""
        return self.network(images).float()

    def energy(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return E(x, y), or E(x) without labels; ``[B]``, low for plausible images."""
        logits = self(images)
        return -logits.logsumexp(1) if labels is None else -class_logit(logits, labels)

    def realness(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the discriminator's logit ``[B]``, high for images that look real."""
        return self.realness_of(self(images), labels)

    def realness_of(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return realness ``[B]`` from logits ``[B, K]`` that are known already."""
        of_class = self.energy_name == "logit"
        return class_logit(logits, labels) if of_class else logits.logsumexp(1)

    def objective(self, objective: str | LogitObjective = "logit") -> Objective:
        """Return what the ascent maximizes, ``(images, labels) -> (values [B], realness [B])``.

        Both come from one pass, so that asking how real images look costs nothing.

        Args:
            objective: A name of :data:`burnish.guide.objectives.OBJECTIVES`, or a function
                ``(logits [B, K], labels [B]) -> values [B]``.

        Raises:
            InputError: There is no objective of that name.
        """
        function = objective_of(objective)

        def assess(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            logits = self(images)
            values = function(logits, labels)
            if values.shape != labels.shape:
                found = list(values.shape)
                raise InputError(f"the objective must give one value per image, not {found}")
            return values, self.realness_of(logits, labels)

        return assess

    def frozen(self, precision: str = "float32") -> Self:
        """Return a copy of the same class that gives gradients for images only, and faster.

        Raises:
            ValueError: This is such a copy already.
        """
        if isinstance(self.network, Frozen):
            raise ValueError("this guide is a frozen copy; freeze the original")
        frozen = copy.copy(self)
        frozen.__dict__["_modules"] = self.__dict__["_modules"].copy()
        # Accelerate puts a forward on the instance that is bound to this guide, not to the copy.
        for name in ("forward", "_original_forward"):
            frozen.__dict__.pop(name, None)
        frozen.network = Frozen(self.network, precision)
        return frozen.eval()

    def refresh(self, guide: "Guide") -> None:
        """Take over the weights of the guide that this one is a frozen copy of."""
        assert isinstance(self.network, Frozen)
        self.network.refresh(guide.network)

    def realness_quantile(self, quantile: float | None) -> float | None:
        """Return the realness that a share ``quantile`` of real images stays below; None for None.

        It is interpolated between the quantiles in the card, equally spaced from 0 to 1.

        Raises:
            InputError: The card does not know the realness of real images.
        """
        if quantile is None:
            return None
        if "realness" not in self.card:
            raise InputError(
                "this guide does not know the realness of real images; no stop_quantile"
            )
        table = self.card["realness"]["quantiles"]
        place = quantile * (len(table) - 1)
        below = int(place)
        above = min(below + 1, len(table) - 1)
        return table[below] + (place - below) * (table[above] - table[below])

    def preconditioner(self) -> Filter:
        """Return what gradients are multiplied by, see :mod:`burnish.ascent.spectrum`.

        Raises:
            InputError: The guide does not know the spectrum of real images.
        """
        return self._preconditioner.to(next(self.parameters()).device)

    @cached_property
    def _preconditioner(self) -> Filter:
        return preconditioner(self._spectrum("real"))

    def matcher(self) -> Filter:
        """Return what gives images of its generator the spectrum of real ones; raises as above."""
        spectra = self._spectrum("generated"), self._spectrum("real")
        return transport(*spectra).to(next(self.parameters()).device)

    def _spectrum(self, side: str) -> Tensor:
        if side not in self.spectra:
            raise InputError(
                f"this guide does not know the spectrum of {side} images, so takes neither "
                "precondition nor match_spectrum; guides of burnish adapt and of burnish train do"
            )
        return self.spectra[side]

    @classmethod
    def from_pretrained(cls, source: str | Path) -> Self:
        """Load a guide from a folder or a hub id, see :func:`burnish.load_guide`."""
        from burnish.guide.load import load_guide

        guide = load_guide(source)
        return cls(guide.network, guide.card, guide.energy_name, guide.spectra).eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``model.safetensors``, ``config.json`` and a model card, as the hub expects them.

        Raises:
            InputError: The card does not say how to rebuild the network (``card["network"]``).
        """
        from burnish.guide.hub_files import write_hub_files

        write_hub_files(self, Path(folder))

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload what :meth:`save_pretrained` writes; return the address of the repository.

        Args:
            repo_id: ``owner/name``; created if it does not exist.
            options: Passed to ``huggingface_hub.upload_folder``, e.g. ``commit_message``.
        """
        from burnish.guide.hub_files import push, write_hub_files

        return push(lambda folder: write_hub_files(self, folder, repo_id), repo_id, **options)
