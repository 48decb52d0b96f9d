"""Refinement of plain tensors in one call."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from burnish.errors import InputError, shown, unknown
from burnish.guide.load import load_guide
from burnish.guide.model import Guide
from burnish.refinement.choice import choose_guide, several, spread
from burnish.refinement.doubt import doubt
from burnish.refinement.labels import choose_labels
from burnish.refinement.learned import learned_settings, load_learned, make_refiner
from burnish.refinement.refiner import check_fit
from burnish.refinement.settings import LABELINGS, RefineSettings
from burnish.samples import Samples, whole_numbers
from burnish.schema import Range, read


def refine(
    images: Tensor,
    *,
    guide: str | Path | nn.Module | Sequence[str],
    labels: Tensor | Sequence[int] | str | None = None,
    preset: str | None = None,
    settings: RefineSettings | None = None,
    ids: Tensor | None = None,
    refiner: str | Path | None = None,
    precision: str = "float32",
    batch_size: int | None = None,
    **overrides: Any,
) -> Tensor:
    """Move images a few careful steps up the gradient of a guide.

    An image's result does not depend on the other images, their number or their order; except
    that they all have a say where a guide is chosen of several.

    Args:
        images: ``[B, C, H, W]`` in [0, 1].
        guide: A guide or another classifier of [0, 1] pixels, or the name, path or hub id of a
            guide, see :func:`burnish.load_guide`. The work is done on its device. Of a list of
            names, or names with commas between them, the guide that tells the images best from
            real ones is taken, see :func:`~burnish.refinement.choice.choose_guide`.
        labels: ``[B]``, the class to refine each image towards; or how to choose them by the
            guide: ``"pseudo"``, ``"balanced"`` or ``"quotas"``.
        preset: ``joint``, ``bigroc``, ``golan24-pgd`` or ``golan24-sgld``; None for ``joint`` with
            a guide that knows how real images look, and ``bigroc`` with any other classifier.
        settings: Resolved settings, in place of a preset and overrides.
        ids: ``[B]``, what the noise of SGLD depends on; None for 0 .. B - 1.
        refiner: A network that has learned to make the steps in one pass, as ``burnish distill``
            writes it: its file, or ``"learned"`` for ``refiner.safetensors`` beside the guide's.
        precision: ``float32`` or ``bfloat16`` inside the guide.
        batch_size: Images per call of the guide; None for 32 on a CPU and 512 on a GPU.
        overrides: Fields of :class:`~burnish.refinement.settings.RefineSettings`, such as ``eps``,
            ``num_steps``, ``keep_better`` and ``objective``: a name, or a function
            ``(logits [B, K], labels [B]) -> values [B]``.

    Returns:
        ``[B, C, H, W]`` in [0, 1], on the device of ``images``.

    Warns:
        UserWarning: The guide can hardly tell the images from real ones, or was made for others,
            and may make them worse.

    Raises:
        InputError: An input or a setting is missing, unknown or does not fit the guide.
    """
    if not isinstance(images, Tensor):
        raise InputError(f"images must be a torch tensor, not {type(images).__name__}")
    if not images.is_floating_point():
        raise InputError(
            f"images must be floats in [0, 1], not {images.dtype}; divide bytes by 255"
        )
    if not isinstance(settings, RefineSettings | None):
        raise InputError(f"settings must be RefineSettings, not {shown(settings)}")
    if batch_size is not None:
        read(Annotated[int, Range(1, 1e6)], batch_size, "batch_size")
    if labels is None:
        raise InputError('give labels: a class per image, or "pseudo", "balanced" or "quotas"')
    if sources := several(guide):
        if refiner is not None:
            raise InputError("a learned refiner is for one guide; name one")
        guide = _choose(sources, images, labels)
    source = guide if isinstance(guide, str | Path | nn.Module) else str(guide)
    if isinstance(source, nn.Module):
        guide = source if isinstance(source, Guide) else Guide(source.eval())
    else:
        guide = load_guide(source)
    learned = None
    if refiner is not None:
        learned = load_learned(str(refiner), guide, source, images.shape[1])
    if settings is None:
        settings = learned_settings(learned, guide, preset, **overrides)
    elif preset or overrides:
        raise InputError("give settings, or a preset with overrides, but not both")
    found = make_refiner(guide, settings, learned, precision=precision, batch_size=batch_size)
    ids = torch.arange(len(images)) if ids is None else whole_numbers(ids, "ids")
    samples = Samples(images.detach().float(), None, ids)
    if not len(images):
        return images
    check_fit(found.guide, samples, None)
    if isinstance(labels, str):
        if labels not in LABELINGS[1:]:
            raise unknown("labeling", labels, LABELINGS[1:])
        labels = choose_labels([samples.to(found.device)], found.logits, labels)
    targets = _targets(labels, len(images))
    check_fit(found.guide, samples, targets)
    if doubts := doubt(found, samples, targets):
        warnings.warn(doubts, stacklevel=2)
    (refined,) = found([samples], targets)
    return refined.samples.images.to(images.device)


def _targets(labels: Any, count: int) -> Tensor:
    """Return labels as int64 ``[count]`` on the CPU."""
    targets = whole_numbers(labels, "labels").cpu()
    if targets.shape != (count,):
        raise InputError(f"{count} images but labels of shape {list(targets.shape)}")
    return targets


def _choose(sources: Sequence[str], images: Tensor, labels: Any) -> Guide:
    """Return the one of several guides that tells the images best from real ones."""
    if not len(images):
        return load_guide(sources[0])
    index = spread(len(images))
    some = Samples(images.detach()[index].float().cpu(), None, torch.arange(len(index)))
    known = None if isinstance(labels, str) else _targets(labels, len(images))[index]
    return choose_guide(sources, some, known).guide
