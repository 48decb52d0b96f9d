"""The contrastive loss, which pairs two views of one image: learning without labels.

Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual Representations" (SimCLR),
https://arxiv.org/abs/2002.05709. To find, among many images, the other view of the one before it,
a network must see what cropping, mirroring and recoloring leave: mostly what the image shows.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

__all__ = ["contrastive_loss", "matched"]


def contrastive_loss(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    r"""Return NT-Xent (Chen et al. 2020, equation 1), the mean over all 2N views.

    Each view :math:`i` has to find the other view :math:`j` of its image among the 2N - 1 views
    that are not itself:

    .. math:: -\log \frac{\exp(\cos(z_i, z_j) / \tau)}{\sum_{k \ne i} \exp(\cos(z_i, z_k) / \tau)}

    Args:
        first: ``[N, D]``, projections of one view of each image.
        second: ``[N, D]``, of the other view, in the same order.
        temperature: tau, above 0.
    """
    count = len(first)
    views = normalize(torch.cat([first, second]), dim=1)
    scores = (views @ views.T / temperature).fill_diagonal_(-math.inf)
    pairs = torch.arange(2 * count, device=scores.device).roll(count)
    return cross_entropy(scores, pairs)


def matched(first: Tensor, second: Tensor) -> float:
    """Return the share of images whose other view is the nearest by cosine among all others'.

    Args:
        first: ``[N, D]``, projections of one view of each image.
        second: ``[N, D]``, of the other view, in the same order.
    """
    nearest = (normalize(first, dim=1) @ normalize(second, dim=1).T).argmax(1)
    return (nearest == torch.arange(len(first), device=first.device)).double().mean().item()
