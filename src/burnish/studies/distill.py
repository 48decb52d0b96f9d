"""Distill: a network that makes in one pass the images that a guide's ascent makes.

The guide refines images once. Nine tenths of them, before and after, teach the network; the rest
say what share of the change it explains.
"""

import os
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from burnish.checkpoint import load_model, save_model
from burnish.errors import InputError
from burnish.files import check_target, path_sha256, read_json, write_json
from burnish.guide.load import load_guide
from burnish.guide.model import Guide
from burnish.hub import SHIPPED
from burnish.jobs.options import JobOptions
from burnish.jobs.plan import resolve_device
from burnish.jobs.refine import plan_refine
from burnish.jobs.sides import images_of, split_rows
from burnish.refinement.learned import (
    FILE_NAME,
    beside,
    guide_sha256,
    load_learned,
)
from burnish.refinement.presets import settings_for
from burnish.refinement.refiner import check_fit
from burnish.refinement.settings import RefineSettings
from burnish.refinement.speed import choose_precision
from burnish.samples import Samples
from burnish.schema import plain
from burnish.seeds import stream
from burnish.storage.datasets import load_dataset
from burnish.storage.formats import write_samples
from burnish.studies.distill_options import DistillOptions, network_of, training_of
from burnish.studies.distill_speed import expected_seconds, time_both
from burnish.training.recipes.refiner import Pairs, train_refiner
from burnish.training.run import Stage

# Fewer teach nothing, and a tenth of them says nothing.
MIN_IMAGES = 100
# Below this share a network that looks at no guide has missed most of what the guide does.
POOR = 1 / 3
NUM_TIMED, BATCH_SIZE = 64, 100


class Opened(NamedTuple):
    """What a plan has opened: the guide, and some of the images."""

    guide: Guide
    some: Samples


@dataclass(frozen=True)
class DistillPlan:
    """A refiner that is to be distilled."""

    out: Path
    samples: str
    samples_sha256: str
    num_images: int
    guide: str
    guide_sha256: str
    settings: RefineSettings
    options: DistillOptions
    precision: Any
    device: str
    seconds: float
    """How long it is expected to take."""
    opened: Opened = field(repr=False, compare=False)

    def describe(self) -> dict[str, Any]:
        """Return the plan as values for JSON."""
        names = [one.name for one in fields(self) if one.name != "opened"]
        return {name: plain(getattr(self, name)) for name in names}

    def kept(self) -> dict[str, Any]:
        """Return what the refiner follows from; it stands in the folder of the work."""
        free = ("out", "samples", "guide", "device", "seconds")
        return {key: value for key, value in self.describe().items() if key not in free}

    def run(self) -> dict[str, Any]:
        """Refine, train and write the refiner; nothing finished is done again.

        Returns:
            Its card, and the ``seconds`` per 1,000 images of both, by ``guide`` and ``learned``.
        """
        folder, options = work_folder(self.out), self.options
        write_json(folder / "distill.json", self.kept())
        generated, refined = folder / "generated.npz", folder / "refined.npz"
        if not generated.exists():
            side = images_of(self.samples, BATCH_SIZE)
            write_samples(generated, side.read(0, side.num_images), side.num_images)
        guide = self.opened.guide
        plan_refine(
            generated, self.guide, refined, settings=self.settings, labels=options.labels,
            precision=self.precision, device=self.device, job=JobOptions(),
        ).run()  # fmt: skip
        pairs = Pairs(*(load_dataset(str(one), label=_unlabeled) for one in (generated, refined)))
        order = torch.randperm(
            self.num_images, generator=stream(options.training_seed, "distill/split")
        )
        num_held_out, stage = max(1, self.num_images // 10), Stage(folder)
        train_refiner(
            network_of(options, pairs.generated.images_uint8.shape[1]),
            training_of(options, self.precision), guide, self.settings,
            pairs[order[num_held_out:]], pairs[order[:num_held_out]], stage,
            facts={"generated": self.samples, "generated_sha256": self.samples_sha256},
            device=self.device,
        )  # fmt: skip
        network, card = load_model(stage.model)
        save_model(self.out, network, card)
        learned = load_learned(str(self.out), guide, None, network.in_channels)  # pyright: ignore
        return {**card, "seconds": time_both(guide, learned, self.opened.some, self.precision)}


def plan_distill(
    samples: str, guide: str, out: Path | None = None, *, options: DistillOptions | None = None,
    device: str = "auto", **overrides: Any,
) -> DistillPlan:  # fmt: skip
    """Plan to distill a refiner.

    Args:
        samples: Generated images, a file or folder; ``PATH[0-999]`` for some of its rows.
        guide: Name or path.
        out: The refiner, a ``.safetensors``; None for ``refiner.safetensors`` beside the guide.
            What is needed to go on after an interruption lies in a folder of that name.
        options: How.
        device: Where to compute.
        overrides: Fields of :class:`~burnish.refinement.settings.RefineSettings`: what the guide's
            own settings, or those of the preset, are overridden by.

    Raises:
        InputError: Something is missing, too small or does not fit together, or the folder holds
            another distillation.
    """
    options, device = options or DistillOptions(), resolve_device(device)
    loaded = load_guide(guide).to(device)
    out = out or _default_out(guide)
    _check_out(out, samples, guide)
    # It learns all moves; what to keep is decided when it is used.
    settings = replace(settings_for(loaded, options.preset, **overrides), keep_better=False)
    if settings.num_steps == 0 or settings.eps == 0:
        raise InputError("there is nothing to learn from no steps; give eps and num_steps above 0")
    side = images_of(samples, BATCH_SIZE)
    if side.num_images < max(MIN_IMAGES, 2 * options.batch_size):
        raise InputError(
            f"{samples}: {side.num_images} images are too few to learn from; give "
            f"{max(MIN_IMAGES, 2 * options.batch_size)} at least, better some thousands"
        )
    some = next(iter(side.read(0, min(NUM_TIMED, side.num_images))))
    if some.labels is None and options.labels == "given":
        raise InputError(f"{samples} has no labels; distill with --labels pseudo")
    check_fit(loaded, some, some.labels if options.labels == "given" else None)
    shape, kept = tuple(some.images.shape[1:]), work_folder(out) / "distill.json"
    found = read_json(kept) if kept.exists() else {}
    precision = found.get("precision") or choose_precision(loaded, shape, 32)
    plan = DistillPlan(
        out, samples, _sha256(samples), side.num_images, guide, guide_sha256(loaded), settings,
        options, precision, device, 0.0, Opened(loaded, some),
    )  # fmt: skip
    differing = [key for key, value in plan.kept().items() if found and found.get(key) != value]
    if differing:
        raise InputError(
            f"{kept.parent} holds another distillation, with other {differing[0]}; give another "
            "--out, or delete it"
        )
    seconds = expected_seconds(loaded, some, side.num_images, settings, options, precision)
    return replace(plan, seconds=seconds)


def work_folder(out: Path) -> Path:
    """Return the folder of what is needed to go on after an interruption."""
    return out.with_suffix("")


def _unlabeled(images: Tensor) -> Tensor:
    """Return classes for images without labels: none is asked for them."""
    return torch.zeros(len(images), dtype=torch.int64)


def _sha256(samples: str) -> str:
    path, rows = split_rows(samples)
    return f"{path_sha256(Path(path)) if Path(path).exists() else path}{rows}"


def _default_out(guide: str) -> Path:
    path = Path(guide)
    if not path.exists() or SHIPPED in path.resolve().parents:
        raise InputError(f"give --out PATH.safetensors; {guide} is no file to put {FILE_NAME} by")
    return beside(path)


def _check_out(out: Path, samples: str, guide: str) -> None:
    if out.suffix != ".safetensors":
        raise InputError(f"{out}: a learned refiner is a .safetensors file; give such a name")
    folder = work_folder(out)
    check_target(out, samples, guide)
    check_target(folder / "distill.json")
    full = folder.is_dir() and any(not one.name.startswith(".") for one in folder.iterdir())
    for path in [out] * out.exists() + [folder] * full:
        if not (folder / "distill.json").exists():
            raise InputError(f"{path} is there already; give another --out, or delete it")
    if any(folder.resolve() in (one, *one.parents) for one in _paths(samples, guide)):
        raise InputError(f"{folder} is to be filled, and holds what is read; give another --out")


def _paths(*sources: str) -> list[Path]:
    return [Path(os.path.realpath(split_rows(source)[0])) for source in sources]
