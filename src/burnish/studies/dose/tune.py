"""Tune: find the dose, the settings of refinement that help these images, or that none does."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from burnish.errors import InputError
from burnish.files import provenance
from burnish.refinement.settings import RefineSettings
from burnish.schema import Range, check, plain

if TYPE_CHECKING:
    from burnish.guide.model import Guide
    from burnish.metrics.features import FeatureExtractor
    from burnish.studies.dose.drawn import Drawn

MIN_IMAGES = 100
# It has the defaults of RefineSettings, so that what is written down is all there is.
PRESET = "golan24-pgd"


@dataclass(frozen=True)
class TuneOptions:
    """The values to try, all combinations of them, and the rule.

    Fields that hold several values are fields of RefineSettings and make the grid; what is left
    empty is the guide's own.
    """

    eps: tuple[float, ...] = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
    """Radii of the ball in [0, 1] pixel units."""
    num_steps: tuple[int, ...] = ()
    """Steps per image, at most."""
    stop_quantile: tuple[float, ...] = ()
    """Quantiles of real images at which an image stops."""
    objective: tuple[str, ...] = ()
    """Objectives."""
    precondition: tuple[str, ...] = ()
    """none, spectrum or both."""
    match_spectrum: tuple[bool, ...] = ()
    """false, true or both."""
    labels: Literal["given", "pseudo", "balanced", "quotas"] = "given"
    """The classes to refine towards."""
    refiner: str | None = None
    """A learned refiner to try beside the steps, as for refine."""
    num_images: Annotated[int, Range(MIN_IMAGES)] = 1000
    """Images to choose with, and as many others to confirm with; half of the images at most."""
    num_real: Annotated[int, Range(MIN_IMAGES)] = 5000
    """Real images to compare with, at most."""
    max_recall_loss: Annotated[float, Range(0, 1)] = 0.02
    """How far the recall by any extractor may fall."""
    max_precision_loss: Annotated[float, Range(0, 1)] = 0.02
    """How far the precision by any extractor may fall."""
    seed: int = 0
    """Seed of the draw of images."""
    precision: Literal["float32", "bfloat16", "auto"] = "auto"
    """Inside the guide."""

    def __post_init__(self) -> None:
        check(self)
        if not self.eps:
            raise InputError("eps needs at least one value")


GRID = [field.name for field in fields(TuneOptions) if isinstance(field.default, tuple)]


def tune(
    samples: Path, guide: "str | Path | Guide | Sequence[str]", real: str,
    features: "Sequence[str | FeatureExtractor]" = (), options: TuneOptions | None = None, *,
    device: str = "auto",
) -> dict[str, Any]:  # fmt: skip
    """Try settings of refinement on half of some images, choose, and confirm on the other half.

    Args:
        samples: Generated images; some of their rows as ``PATH[0-9999]``.
        guide: Name, path or loaded guide; or several names, as for ``burnish refine``.
        real: Real images, likewise, or the name of a data set.
        features: Names, paths or loaded feature extractors, two or more; by default all shipped
            ones for images of this shape, and Inception if its weights are installed.
        options: What to try, and the rule of :mod:`burnish.studies.dose.verdict`.
        device: Where to compute.

    Returns:
        A dict for JSON: ``verdict`` (use, leave or disagree), ``words`` (the reasons), ``chosen``
        (settings, None unless the verdict is use), ``rows`` (as they are, then each setting, with
        ``scores`` by extractor and what speaks ``against`` it) and ``confirmation`` (as they are
        and as chosen, on the other half), ``controls`` (what part of the gain cheap controls
        explain there; see :mod:`burnish.studies.controls.score`), and what they depend on.

    Raises:
        InputError: There are too few images to judge, both sides are the same, something does not
            fit together, or there are too few feature extractors.
    """
    from burnish.jobs.plan import resolve_device
    from burnish.refinement.choice import NUM_IMAGES, load_one, several
    from burnish.refinement.learned import load_learned
    from burnish.studies.controls.words import account
    from burnish.studies.dose.conclusion import conclude
    from burnish.studies.dose.scorer import is_independent, load_extractors
    from burnish.studies.dose.sweep import Sweep
    from burnish.studies.dose.verdict import Rule, choose, harms, shortfalls, too_much

    began, options = time.perf_counter(), options or TuneOptions()
    device = resolve_device(device)
    if options.refiner and several(guide):
        raise InputError("a learned refiner is for one guide; name one")
    drawn, reference = _draw(str(samples), real, options)
    some = next(drawn.batches(NUM_IMAGES))
    choice = load_one(guide, some, some.labels if options.labels == "given" else None, device)
    source, guide = choice.source, choice.guide
    tried = grid(guide, options)
    learned = None
    if options.refiner:
        learned = load_learned(options.refiner, guide, source, drawn.images_uint8.shape[1])
        tried.append({**_shortened(learned.settings), "refiner": options.refiner})
    extractors = load_extractors(features, drawn.images_uint8[:1], device, "tune")
    half = len(drawn) // 2
    sweep = Sweep(guide, extractors, drawn, tried, options.labels, options.precision, learned)
    with sweep.bar(drawn[:half], reference):
        sweep.measure_reference(reference)
        rows = sweep.rows(drawn[:half], tried)
        names = [one.name for one in extractors if is_independent(one)]
        rule = Rule(names, options.max_recall_loss, options.max_precision_loss)
        chosen = choose(rows, rule)
        confirmation: list[dict[str, Any]] = []
        if chosen is not None:
            confirmation = sweep.rows(drawn[half : 2 * half], [chosen["settings"]])
    for row in rows[1:]:
        spoken = harms(row, rows[0], rule) + shortfalls(row, rows[0], rule)
        row["against"] = [*spoken, *filter(None, [too_much(row, rows, rule)])]
    verdict, words = conclude(rows, confirmation, rule)
    controls = None
    if verdict == "use":
        controls = sweep.controls(drawn[half : 2 * half], reference)
        words = f"{words} {account(controls)}"
    return {
        "verdict": verdict,
        "words": words,
        "chosen": chosen["settings"] if chosen and verdict == "use" else None,
        "labels": options.labels,
        "samples": {"source": drawn.source, "sha256": drawn.sha256, "num_images": half},
        "real": {
            "source": reference.source, "sha256": reference.sha256, "num_images": len(reference)
        },
        "guide": {key: guide.card.get(key) for key in ("name", "kind", "sha256")},
        "choice": choice.aucs or None,
        "extractors": [
            {"name": one.name, "sha256": one.sha256, "independent": is_independent(one)}
            for one in extractors
        ],
        "rows": rows,
        "confirmation": confirmation,
        "controls": controls,
        "options": plain(options),
        "precision": sweep.precision,
        "batch_size": sweep.batch_size,
        "seconds": time.perf_counter() - began,
        **provenance(),
    }  # fmt: skip


def grid(guide: "Guide", options: TuneOptions) -> list[dict[str, Any]]:
    """Return the settings to try: fields of RefineSettings other than their defaults.

    All combinations of the values in the options are taken, with the guide's own settings for what
    is left open. The step size is left out: it follows from eps and num_steps.
    """
    from burnish.refinement.presets import settings_for

    settings = settings_for(guide, eps=options.eps[0])
    own, base = plain(settings), _shortened(settings)
    given = {name: getattr(options, name) or (own[name],) for name in GRID}
    return [{**base, **dict(zip(given, point, strict=True))} for point in product(*given.values())]


def _shortened(settings: RefineSettings) -> dict[str, Any]:
    """Return what differs from the defaults, without the step size that follows from the rest."""
    own, defaults = plain(settings), plain(RefineSettings())
    found = {name: value for name, value in own.items() if value != defaults[name]}
    if settings.update == "pgd":
        found.pop("step_size", None)
    return found


def _draw(samples: str, real: str, options: TuneOptions) -> "tuple[Drawn, Drawn]":
    from burnish.hub import shipped
    from burnish.studies.dose.drawn import check_two_sides, draw

    if real in shipped("reference"):
        raise InputError(f"{real} is statistics by one extractor; --real takes real images")
    if samples == real:
        raise InputError(f"{samples} is compared with itself; give real images as --real")
    drawn = draw(samples, 2 * options.num_images, options.seed, "tune/samples")
    reference = draw(real, options.num_real, options.seed, "tune/real")
    if len(drawn) < 2 * MIN_IMAGES:
        raise InputError(
            f"{samples}: {len(drawn)} images are too few to judge; at least {2 * MIN_IMAGES} are "
            f"needed, {MIN_IMAGES} to choose with and {MIN_IMAGES} to confirm"
        )
    if len(reference) < MIN_IMAGES:
        raise InputError(
            f"{real}: {len(reference)} real images are too few to judge; at least {MIN_IMAGES} "
            "are needed"
        )
    check_two_sides(samples, drawn.images_uint8, real, reference.images_uint8)
    return drawn, reference
