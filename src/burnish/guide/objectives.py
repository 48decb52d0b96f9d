r"""What the ascent maximizes: functions of a classifier's logits and a class, one value per image.

Each is minus a loss. With logits :math:`f`, label :math:`y` and the logistic function
:math:`\sigma`:

* ``logit``: :math:`f_y`, the negative energy of the pair (image, label)
* ``ce``: :math:`f_y - \mathrm{logsumexp}(f)`, minus the cross-entropy
* ``bce``: :math:`\log \sigma(f_y)`, minus the loss of calling the image generated
* ``ce_minus_bce``: ``ce`` :math:`- \log \sigma(-f_y)`
* ``ce_plus_bce``: ``ce`` + ``bce``
* ``logsumexp``: :math:`\mathrm{logsumexp}(f)`, the negative energy of the image alone

Two identities tie them together: :math:`f_y = \log\sigma(f_y) - \log\sigma(-f_y)`, and
:math:`f_y` is ``ce`` plus ``logsumexp``.

Sources: Golan, Ganz & Elad 2024, "Enhancing Consistency-Based Image Generation via
Adversarialy-Trained Classification and Energy-Based Discrimination",
https://arxiv.org/abs/2405.16260. Grathwohl et al. 2020, "Your Classifier is Secretly an Energy
Based Model and You Should Treat it Like One", equations 4 and 5, https://arxiv.org/abs/1912.03263.

To add an objective, add a function here; every command and the library then know its name.
"""

from collections.abc import Callable

from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid

from burnish.errors import unknown

# (logits [B, K], labels [B]) -> values [B]
LogitObjective = Callable[[Tensor, Tensor], Tensor]


def class_logit(logits: Tensor, labels: Tensor) -> Tensor:
    """Return each image's logit of its own class, ``[B]``."""
    return logits.gather(1, labels[:, None])[:, 0]


def _ce(logits: Tensor, labels: Tensor) -> Tensor:
    return -cross_entropy(logits, labels, reduction="none")


def _bce(logits: Tensor, labels: Tensor) -> Tensor:
    return logsigmoid(class_logit(logits, labels))


def _ce_minus_bce(logits: Tensor, labels: Tensor) -> Tensor:
    return _ce(logits, labels) - logsigmoid(-class_logit(logits, labels))


def _ce_plus_bce(logits: Tensor, labels: Tensor) -> Tensor:
    return _ce(logits, labels) + _bce(logits, labels)


def _logsumexp(logits: Tensor, labels: Tensor) -> Tensor:
    del labels
    return logits.logsumexp(1)


OBJECTIVES: dict[str, LogitObjective] = {
    "logit": class_logit,
    "ce": _ce,
    "bce": _bce,
    "ce_minus_bce": _ce_minus_bce,
    "ce_plus_bce": _ce_plus_bce,
    "logsumexp": _logsumexp,
}


def objective_of(objective: str | LogitObjective) -> LogitObjective:
    """Return the objective of a name; a callable is its own objective.

    Raises:
        InputError: There is no objective of that name.
    """
    if callable(objective):
        return objective
    if objective not in OBJECTIVES:
        raise unknown("objective", objective, OBJECTIVES)
    return OBJECTIVES[objective]
