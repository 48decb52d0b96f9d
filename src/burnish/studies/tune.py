"""Tune: choose the settings of refinement for a guide.

Choose on samples, real images and a feature extractor that are used for nothing else; scores on
these say nothing about other images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal

from burnish.errors import InputError
from burnish.files import provenance
from burnish.schema import Range, check

if TYPE_CHECKING:
    from burnish.guide.model import Guide
    from burnish.metrics.features import FeatureExtractor


@dataclass(frozen=True)
class TuneOptions:
    """The values to try, all combinations of them, and the rule."""

    eps: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0, 3.0)
    """Radii of the L2 ball in [0, 1] pixel units."""
    num_steps: tuple[int, ...] = (15,)
    """Steps per image, at most."""
    stop_quantile: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    """Quantiles of real images at which an image stops; not used for a guide without them."""
    objective: tuple[str, ...] = ()
    """Objectives; by default logit for a joint model and ce for any other classifier."""
    labels: Literal["given", "pseudo", "balanced", "quotas"] = "given"
    """The classes to refine towards."""
    max_recall_loss: Annotated[float, Range(0, 1)] = 0.02
    """How far the recall may fall."""
    precision: Literal["float32", "bfloat16", "auto"] = "auto"
    """Inside the guide."""
    batch_size: Annotated[int, Range(1)] = 100
    """Images per network call."""

    def __post_init__(self) -> None:
        check(self)
        if not (self.eps and self.num_steps):
            raise InputError("eps and num_steps need at least one value each")


def tune(
    samples: Path, guide: "str | Path | Guide", real: str,
    features: "str | FeatureExtractor | None" = None, options: TuneOptions | None = None, *,
    device: str = "auto",
) -> dict[str, Any]:  # fmt: skip
    """Sweep the settings of refinement and :func:`choose` among them.

    Args:
        samples: Generated images.
        guide: Name, path or loaded guide.
        real: Real images or their statistics, as for ``burnish evaluate --reference``.
        features: Name, path or loaded feature extractor; by default that of the statistics.
        options: What to try.
        device: Where to compute.

    Returns:
        A dict for JSON: ``chosen``, the settings that won, and ``rows``, the metrics with each
        setting. The first row, with ``refine`` None, is of the samples themselves; it wins if
        no setting lowers the FID, and ``chosen`` is None then.
    """
    from burnish.guide.load import load_guide
    from burnish.guide.model import Guide
    from burnish.jobs.evaluate import plan_evaluate
    from burnish.jobs.refine import plan_refine
    from burnish.refinement.presets import settings_for

    options = options or TuneOptions()
    guide = guide if isinstance(guide, Guide) else load_guide(guide)
    is_joint = "realness" in guide.card
    objectives = options.objective or ("logit" if is_joint else "ce",)
    quantiles = options.stop_quantile if is_joint else ()
    names = ("eps", "num_steps", "stop_quantile", "objective")
    values = product(options.eps, options.num_steps, quantiles or (None,), objectives)
    tries = [dict(zip(names, point, strict=True)) for point in values]
    settings = [settings_for(guide, "golan24-pgd", **tried) for tried in tries]
    with TemporaryDirectory() as folder:
        refined, reference = Path(folder) / "refined.npz", Path(folder) / "reference.npz"
        plan = plan_evaluate(samples, real, features, device=device, save_reference=reference)
        extractor = plan.opened.extractor
        rows: list[dict[str, Any]] = [{"refine": None, "nfe": 0.0, **plan.run()}]
        if rows[0]["recall"] is None:
            raise InputError(f"{samples} or {real}: too few images for a recall")
        for tried, setting in zip(tries, settings, strict=True):
            plan = plan_refine(
                samples, guide, refined, settings=setting, labels=options.labels,
                batch_size=options.batch_size, precision=options.precision, device=device,
            )  # fmt: skip
            nfe = plan.run()["mean_num_steps"]
            found = plan_evaluate(refined, str(reference), extractor, device=device).run()
            rows.append({"refine": tried, "nfe": nfe, **found, "generated": str(samples)})
    return {
        "samples": str(samples),
        "guide": guide.card.get("name"),
        "chosen": choose(rows, options.max_recall_loss)["refine"],
        "rows": rows,
        **provenance(),
    }


def choose(rows: Sequence[dict[str, Any]], max_recall_loss: float) -> dict[str, Any]:
    """Return the row with the lowest ``fid`` of those whose ``recall`` is high enough.

    It may be ``max_recall_loss`` below that of the first row, of the images before refinement.
    """
    floor = rows[0]["recall"] - max_recall_loss
    return min((row for row in rows if row["recall"] >= floor), key=lambda row: row["fid"])
