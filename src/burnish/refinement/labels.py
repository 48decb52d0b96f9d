r"""Which class each image is refined towards.

* given: the label that the generator was conditioned on.
* pseudo: the guide's most likely class, :math:`\arg\max_k f_k(x)`, of the image before refinement.
* balanced: for unconditional generators, whose pseudo labels gather in a few classes. The mean
  logits :math:`m` of the set are subtracted: :math:`\arg\max_k (f_k(x) - m_k)`.
* quotas: every class gets the same number of images, chosen for the highest total
  :math:`\log p(y|x)`.

Pseudo and balanced labels are those of Ganz & Elad 2023, "BIGRoC: Boosting Image Generation via a
Robust Classifier", https://arxiv.org/abs/2108.03702. Exact quotas are ours.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from burnish.errors import unknown
from burnish.refinement.settings import LABELINGS
from burnish.samples import Samples

# Images that the mean logits of balanced labels are taken from, as in the released notebooks.
NUM_FOR_MEAN = 1000


@torch.no_grad()
def choose_labels(
    batches: Iterable[Samples], guide: Callable[[Tensor], Tensor], labeling: str
) -> Tensor:
    """Return the class to refine each image towards, ``[N]`` int64, by the guide's logits.

    Args:
        batches: All images, in order.
        guide: ``images [B, C, H, W] -> logits [B, K]``.
        labeling: ``pseudo``, ``balanced`` (with the mean of the first 1,000 images) or ``quotas``
            (equal ones).

    Raises:
        InputError: There is no such labeling.
    """
    if labeling not in LABELINGS[1:]:
        raise unknown("labeling", labeling, LABELINGS[1:])
    logits = torch.cat([guide(batch.images).cpu() for batch in batches])
    if labeling == "pseudo":
        return pseudo_labels(logits)
    if labeling == "balanced":
        return balanced_labels(logits, logits[:NUM_FOR_MEAN].mean(0))
    return assign_with_quotas(logits, equal_quotas(*logits.shape))


def pseudo_labels(logits: Tensor) -> Tensor:
    """Return the most likely class of each image, ``[N]``, from logits ``[N, K]``."""
    return logits.argmax(1)


def balanced_labels(logits: Tensor, mean_logits: Tensor) -> Tensor:
    """Return the class whose logit is farthest above its mean, ``[N]``.

    Args:
        logits: ``[N, K]``.
        mean_logits: ``[K]``.
    """
    return (logits - mean_logits).argmax(1)


def equal_quotas(num_images: int, num_classes: int) -> Tensor:
    """Split ``num_images`` into ``num_classes`` parts, ``[K]`` int64, that differ by at most 1."""
    quotas = torch.full((num_classes,), num_images // num_classes)
    quotas[: num_images % num_classes] += 1
    return quotas


def assign_with_quotas(logits: Tensor, quotas: Tensor, num_rounds: int = 600) -> Tensor:
    """Return labels ``[N]`` that meet exact class quotas at nearly the highest total log p(y|x).

    Maximizing ``sum_i log p(y_i|x_i)`` under quotas is an optimal transport problem. Sinkhorn's
    iteration solves its entropic form for one price per class, at a falling temperature. Images
    then choose the class of the highest ``log p - price``. Those whose best class leads by most
    choose first; where a class is full, the next best is taken.

    Source of the iteration: Cuturi 2013, "Sinkhorn Distances: Lightspeed Computation of Optimal
    Transport", https://arxiv.org/abs/1306.0895.

    Args:
        logits: ``[N, K]``.
        quotas: ``[K]`` int64, summing to N.
        num_rounds: Iterations of the prices.

    Raises:
        ValueError: The quotas do not sum to N.
    """
    if int(quotas.sum()) != len(logits):
        raise ValueError(f"quotas of {int(quotas.sum())} for {len(logits)} images")
    scores = logits.double().log_softmax(1)
    prices = torch.zeros(scores.shape[1], dtype=torch.float64)
    wanted = quotas.double().clamp(min=1e-9).log()
    for temperature in torch.logspace(0, -3, num_rounds, dtype=torch.float64):
        soft = ((scores - prices) / temperature).log_softmax(1)
        prices += temperature * (soft.logsumexp(0) - wanted)
    priced = scores - prices
    best = priced.topk(min(2, priced.shape[1]), dim=1).values
    order = (best[:, 0] - best[:, -1]).argsort(descending=True, stable=True)
    left = quotas.clone()
    labels = torch.empty(len(scores), dtype=torch.int64)
    for image in order.tolist():
        chosen = priced[image].masked_fill(left == 0, -torch.inf).argmax()
        left[chosen] -= 1
        labels[image] = chosen
    return labels
