"""A guide judges images: any classifier, read also as a discriminator and an energy.

With logits f(x) in R^K:

    classifier      p(y|x) = softmax(f(x))_y
    discriminator   D(x, y) = sigmoid(f_y(x)), the probability that x is real and of class y
    energy          E(x, y) = -f_y(x)  and  E(x) = -logsumexp f(x)       (Grathwohl et al. 2020)

The first two share one head (Golan et al. 2024): differences of logits say which class, their
level says how real.
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import cross_entropy, logsigmoid

from burnish.errors import unknown
from burnish.networks import Frozen

__all__ = ["OBJECTIVES", "Assess", "Guide", "own"]

Assess = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def own(logits: Tensor, labels: Tensor) -> Tensor:
    """Return each image's logit of its own class, ``[B]``."""
    return logits.gather(1, labels[:, None])[:, 0]


# Each is minus a loss: l_CE = logsumexp f - f_y, l_BCE,1 = -log sigmoid(f_y) pulls towards "real",
# l_BCE,0 = -log(1 - sigmoid(f_y)) is the loss of calling the image fake. Two identities tie them
# together: f_y = l_BCE,0 - l_BCE,1 and f_y = -l_CE + logsumexp f.
OBJECTIVES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "logit": own,
    "ce": lambda logits, labels: -cross_entropy(logits, labels, reduction="none"),
    "bce": lambda logits, labels: logsigmoid(own(logits, labels)),
    "ce_minus_bce": lambda logits, labels: (
        -cross_entropy(logits, labels, reduction="none") - logsigmoid(-own(logits, labels))
    ),
    "ce_plus_bce": lambda logits, labels: (
        -cross_entropy(logits, labels, reduction="none") + logsigmoid(own(logits, labels))
    ),
    "logsumexp": lambda logits, labels: logits.logsumexp(1),
}


class Guide(nn.Module):
    """A classifier that steers.

    Args:
        network: ``images [B, C, H, W] in [0, 1] -> logits [B, K]``, normalisation inside.
        card: Facts about it: name, hash, ``realness`` quantiles of real images, settings of
            ``refine``.
        energy: ``logit`` or ``logsumexp``, what realness reads.
    """

    def __init__(
        self, network: nn.Module, card: dict[str, Any] | None = None, energy: str = "logit"
    ) -> None:
        super().__init__()
        if energy not in ("logit", "logsumexp"):
            raise unknown("energy", energy, ["logit", "logsumexp"])
        self.network, self.card, self.energy_name = network, card or {}, energy

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``[B, K]``, float32 whatever the precision inside."""
        return self.network(images).float()

    def energy(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return E(x, y), or E(x) without labels; ``[B]``, low = plausible."""
        logits = self(images)
        return -logits.logsumexp(1) if labels is None else -own(logits, labels)

    def realness(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the discriminator's logit ``[B]``, high = looks real."""
        return self.realness_of(self(images), labels)

    def realness_of(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return realness from logits that are at hand already."""
        return own(logits, labels) if self.energy_name == "logit" else logits.logsumexp(1)

    def objective(self, name: str) -> "Assess":
        """Return what the ascent maximises, as ``(images, labels) -> (values, realness)``.

        Both are ``[B]`` and come from one pass, so that asking how real images look by now costs
        nothing; realness carries no gradient.

        Raises:
            InputError: There is no objective of that name.
        """
        if name not in OBJECTIVES:
            raise unknown("objective", name, OBJECTIVES)
        function = OBJECTIVES[name]

        def assess(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            logits = self(images)
            return function(logits, labels), self.realness_of(logits.detach(), labels)

        return assess

    def frozen(self, precision: str = "float32") -> "Guide":
        """Return a copy that gives gradients with respect to images only, and faster.

        Raises:
            ValueError: This is such a copy already.
        """
        if isinstance(self.network, Frozen):
            raise ValueError("this guide is a frozen copy; freeze the original")
        return Guide(Frozen(self.network, precision), self.card, self.energy_name).eval()

    def refresh(self, guide: "Guide") -> None:
        """Take over the weights of the guide that this one is a frozen copy of."""
        assert isinstance(self.network, Frozen)
        self.network.refresh(guide.network)
