"""Adapt: a joint guide for the images of one generator, from a guide that has not seen them.

Both sides are split at random: most images are trained on, a few validate the training, and the
rest find the dose (:mod:`burnish.studies.dose.tune`). The training is that of a joint guide, begun
from another guide's weights, with attacks that step along the preconditioned gradient as the
refinement will.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import torch

from burnish.ascent.step import value_and_gradient
from burnish.checkpoint import load_beside, load_model, save_model
from burnish.errors import InputError
from burnish.files import read_json, write_json
from burnish.guide.load import load_guide
from burnish.guide.model import Guide
from burnish.jobs.plan import resolve_device
from burnish.jobs.refine import plan_refine
from burnish.refinement.speed import choose_precision
from burnish.report.page import write_report
from burnish.schema import plain
from burnish.storage.datasets import Dataset
from burnish.storage.formats import write_samples
from burnish.studies.adapt_options import AdaptOptions, scale_of, training_of
from burnish.studies.adapt_sides import check_folder, check_sides, load_side, opinion, split
from burnish.studies.checkup.shortcuts import find_shortcuts
from burnish.studies.dose.files import read_tuning, write_tuning
from burnish.studies.dose.scorer import load_extractors
from burnish.studies.dose.tune import TuneOptions, tune
from burnish.training.recipes.joint import JointData, train_guide
from burnish.training.run import Stage

# Radii that are tried, for images of 32x32x3 values.
RADII = (0.5, 1.0, 1.5, 2.0, 3.0)
# The energy of the image alone: towards its class, images lose variety.
OBJECTIVE = "logsumexp"
# Gradients of a batch that a step was seen to cost: two attacks on real images, about eight on
# generated ones, the training pass over both, and its share of validation.
GRADIENTS_PER_STEP = 18
PRECISIONS = ("float32", "bfloat16")


class Opened(NamedTuple):
    """What a plan has opened; ``tuning`` are the generated and the real images for the dose."""

    data: JointData
    tuning: tuple[Dataset, Dataset]


@dataclass(frozen=True)
class AdaptPlan:
    """A guide that is to be adapted."""

    out: Path
    samples: str
    samples_sha256: str
    real: str
    real_sha256: str
    start: str
    start_sha256: str | None
    options: AdaptOptions
    features: tuple[str, ...]
    scale: float
    num_steps: int
    precision: Any
    device: str
    seconds: float
    """How long the training is expected to take."""
    warnings: tuple[str, ...]
    """Trivial differences of the two sides, which a guide would learn instead of realism."""
    opened: Opened = field(repr=False, compare=False)

    def describe(self) -> dict[str, Any]:
        """Return the plan as values for JSON."""
        names = [one.name for one in fields(self) if one.name != "opened"]
        return {name: plain(getattr(self, name)) for name in names}

    def kept(self) -> dict[str, Any]:
        """Return what the guide follows from; it stands in ``OUT/adapt.json``."""
        free = ("out", "device", "seconds", "warnings")
        return {key: value for key, value in self.describe().items() if key not in free}

    def run(self) -> dict[str, Any]:
        """Train, find the dose, write the guide and a page; nothing finished is done again.

        Returns:
            What :func:`burnish.studies.dose.tune.tune` found; ``{}`` if no dose was to be found.
        """
        write_json(self.out / "adapt.json", self.kept())
        config = training_of(self.options, self.start, self.scale, self.num_steps, self.precision)
        facts = {
            "data": self.real, "data_sha256": self.real_sha256,
            "generated": self.samples, "generated_sha256": self.samples_sha256,
        }  # fmt: skip
        stage, name = Stage(self.out / "joint"), self.out.resolve().name
        train_guide(config, self.opened.data, stage, name=name, facts=facts, device=self.device)
        found = self._tune(load_guide(stage.model)) if self.options.num_tuning else {}
        network, card = load_model(stage.model)
        card["adapted_from"] = {"guide": self.start, "sha256": self.start_sha256}
        card["shortcuts"] = list(self.warnings)
        card["refine"] = found.get("chosen") or {}
        if found:
            card["tuning"] = {key: found[key] for key in ("verdict", "words")}
        guide = self.out / "guide.safetensors"
        save_model(guide, network, card, beside=load_beside(stage.model))
        shown = [stage.folder]
        if card["refine"]:
            shown.append(self.out / "held-out" / "refined.npz")
            write_samples(
                self.out / "generated.npz", [self.opened.tuning[0].samples(slice(100))], 100
            )
            plan_refine(self.out / "generated.npz", str(guide), shown[1], device=self.device).run()
        shown += [self.out / "tuning.json"] * bool(found)
        write_report(shown, self.out / "report.html")
        return found

    def _tune(self, guide: Guide) -> dict[str, Any]:
        path = self.out / "tuning.json"
        if found := self._tuned(path, guide):
            return found
        sides = [self.out / "held-out" / f"{side}.npz" for side in ("generated", "real")]
        for side, data in zip(sides, self.opened.tuning, strict=True):
            write_samples(side, [data.samples()], len(data))
        options = TuneOptions(
            eps=tuple(round(eps * self.scale, 3) for eps in RADII), num_steps=(5,),
            stop_quantile=(1.0,), precondition=("spectrum",), precision=self.precision,
            match_spectrum=(self.options.match_spectrum,), objective=(OBJECTIVE,),
        )  # fmt: skip
        found = tune(sides[0], guide, str(sides[1]), self.features, options, device=self.device)
        write_tuning(path, found)
        return found

    def _tuned(self, path: Path, guide: Guide) -> dict[str, Any] | None:
        """Return what tune found before a kill, if the file is whole and of this very guide."""
        try:
            found = read_tuning(path)
            return found if found["guide"]["sha256"] == guide.card["sha256"] else None
        except (InputError, KeyError, TypeError):
            return None


def plan_adapt(
    samples: str, real: str, start: str, out: Path, *, features: Sequence[str] = (),
    options: AdaptOptions | None = None, device: str = "auto",
) -> AdaptPlan:  # fmt: skip
    """Plan to adapt a guide.

    Args:
        samples: Generated images, a file or folder; ``PATH[0-999]`` for some of its rows.
        real: Real images likewise, or the name of a data set.
        start: Guide to start from, by name or file, or ``timm/NAME``.
        out: Folder of the guide and of everything that is made on the way.
        features: Feature extractors to find the dose with, see :mod:`burnish.studies.dose.tune`.
        options: How.
        device: Where to train.

    Raises:
        InputError: Something is missing, too small or does not fit together, or the folder holds
            another adaptation.
    """
    options, device = options or AdaptOptions(), resolve_device(device)
    check_folder(out, samples, real, start)
    kept = _read_kept(out / "adapt.json")
    guide = load_guide(start).to(device)
    pseudo = opinion(guide) if options.labels == "pseudo" else None
    generated, given = (load_side(source, pseudo) for source in (samples, real))
    check_sides(samples, generated, real, given)
    hashes = generated.sha256(), given.sha256()
    seen, validation, tuning = split(generated, options)
    real_seen, real_validation, real_tuning = split(given, options)
    data = JointData(real_seen, real_validation, seen, validation)
    shape = tuple(given.images_uint8.shape[1:])
    if options.num_tuning:
        # Or it would fail at the end.
        load_extractors(features, seen.images_uint8[:1], device, "adapt")
    precision = kept.get("precision") or choose_precision(guide, shape, options.batch_size)
    seconds = GRADIENTS_PER_STEP * _gradient_seconds(guide, shape, options.batch_size, precision)
    num_steps = kept.get("num_steps") or options.num_steps
    if options.minutes and not kept:
        num_steps = max(1, int(60 * options.minutes / seconds))
    plan = AdaptPlan(
        out, samples, hashes[0], real, hashes[1], start, guide.card.get("sha256"), options,
        tuple(features), scale_of(shape), num_steps, precision, device, num_steps * seconds,
        tuple(find_shortcuts(seen.images_uint8[:500], real_seen.images_uint8[:500])),
        Opened(data, (tuning, real_tuning)),
    )  # fmt: skip
    differing = [key for key, value in plan.kept().items() if kept and kept.get(key) != value]
    if differing:
        raise InputError(
            f"{out} holds another adaptation, with other {differing[0]}; give another --out"
        )
    return plan


def _read_kept(path: Path) -> dict[str, Any]:
    """Return what an adaptation that was begun in this folder follows from; empty for none."""
    if not path.exists():
        return {}
    kept = read_json(path)
    num_steps, precision = kept.get("num_steps"), kept.get("precision")
    if type(num_steps) is not int or num_steps < 1 or precision not in PRECISIONS:
        raise InputError(f"{path} is damaged; give another --out")
    return kept


def _gradient_seconds(
    guide: Guide, shape: tuple[int, ...], batch_size: int, precision: str
) -> float:
    """Return how long a gradient of a batch takes, the least of three."""
    objective, device = guide.frozen(precision).objective(), next(guide.parameters()).device
    images = torch.full((batch_size, *shape), 0.5, device=device)
    labels, times = torch.zeros(batch_size, dtype=torch.int64, device=device), []
    for _ in range(4):
        began = time.perf_counter()
        value_and_gradient(objective, images, labels)[1].sum().item()
        times.append(time.perf_counter() - began)
    return min(times[1:])
