"""Which class each image is refined towards: given, pseudo or balanced (Ganz & Elad 2023).

* given: the label the generator was conditioned on.
* pseudo: the guide's own opinion, argmax_k f_k(x), asked once, on the image as it came.
* balanced: for unconditional generators, whose pseudo labels pile up on some classes. The mean
  logits m of the set are subtracted, argmax_k(f_k(x) - m_k); with quotas, every class gets its
  exact share of images.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from burnish.errors import unknown
from burnish.samples import Samples

__all__ = ["LABELINGS", "assign_with_quotas", "balanced_labels", "choose_labels", "pseudo_labels"]

LABELINGS = ("given", "pseudo", "balanced", "quotas")
NUM_FOR_MEAN = 1000


@torch.no_grad()
def choose_labels(
    batches: Iterable[Samples], guide: Callable[[Tensor], Tensor], labeling: str
) -> Tensor:
    """Return the class to refine each image towards, ``[N]``, from the guide's logits.

    Args:
        batches: All the images, in order.
        guide: ``images -> logits [B, K]``.
        labeling: ``pseudo``, ``balanced`` (means over the first 1,000 images, as in the paper's
            notebooks) or ``quotas`` (equal ones).
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
    """Return argmax_k(f_k - m_k), ``[N]``: the class an image is more like than others are."""
    return (logits - mean_logits).argmax(1)


def equal_quotas(num_images: int, num_classes: int) -> Tensor:
    """Split ``num_images`` into ``num_classes`` parts that differ by one at most."""
    quotas = torch.full((num_classes,), num_images // num_classes)
    quotas[: num_images % num_classes] += 1
    return quotas


def assign_with_quotas(logits: Tensor, quotas: Tensor, num_rounds: int = 600) -> Tensor:
    """Return labels ``[N]`` that meet exact class quotas at nearly the highest total log p(y|x).

    Maximising sum_i log p(y_i|x_i) under quotas is a transport problem. Its soft form is solved
    for one price per class by Sinkhorn's iteration, at a falling temperature; images then choose
    by f_k - price_k, the most decided first, and take their next choice where a class is full.

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
