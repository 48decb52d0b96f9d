"""Explain a gain: score baseline, refined and control images by several feature extractors."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

from burnish.errors import InputError
from burnish.files import provenance
from burnish.schema import Range, check

if TYPE_CHECKING:
    from burnish.metrics.features import FeatureExtractor

MIN_IMAGES = 100


@dataclass(frozen=True)
class ExplainOptions:
    """How many images are looked at."""

    num_images: Annotated[int, Range(MIN_IMAGES)] = 2000
    """Images of the baseline and refined sides, at most."""
    num_real: Annotated[int, Range(MIN_IMAGES)] = 5000
    """Real images to compare with, at most."""
    more_steps: Annotated[int | None, Range(2, 10_000)] = None
    """Also hold the gain against so many sampling steps: the seeds of BASELINE, images of burnish
    sample, are sampled again, and what that and refining cost is measured."""
    seed: int = 0
    """Seed of the draw of images."""

    def __post_init__(self) -> None:
        check(self)


def explain(
    baseline: str, refined: str, real: str, features: "Sequence[str | FeatureExtractor]" = (),
    options: ExplainOptions | None = None, *, guide: str | None = None,
    others: Mapping[str, str] | None = None, device: str = "auto",
) -> dict[str, Any]:  # fmt: skip
    """Say what part of the gain from baseline to refined images cheap controls explain.

    Args:
        baseline: Images as generated; some of their rows as ``PATH[0-9999]``.
        refined: The same images, refined by whatever means; likewise. Images with the same ids are
            compared; if there are none, both sides are taken for different images.
        real: Real images, likewise, or the name of a data set.
        features: As for :func:`burnish.studies.dose.tune.tune`.
        options: How many images.
        guide: By name or path; rates images for the control that rejects some, which is left out
            without it. It needs labels, or takes the guide's own. More steps need it, too.
        others: Name -> file of other images that the gain is to be compared with, such as those of
            more sampling steps at equal time.
        device: Where to compute.

    Returns:
        A dict for JSON: what :func:`burnish.studies.controls.score.score` finds, ``words`` that
        say it, ``copies`` (side -> ``ids`` of images that are real ones, pixel by pixel),
        ``left_out`` (side -> images without a counterpart on the other paired sides),
        ``more_steps`` (what they cost, see :mod:`burnish.studies.controls.more_steps`) and
        ``inputs``.

    Raises:
        InputError: Something does not fit together, or there are too few images.
    """
    import torch

    from burnish.guide.load import load_guide
    from burnish.jobs.plan import resolve_device
    from burnish.report.controls import GIVES
    from burnish.studies.controls.more_steps import MoreSteps
    from burnish.studies.controls.score import predict, score
    from burnish.studies.controls.sides import check_order, draw_sides
    from burnish.studies.controls.words import account
    from burnish.studies.dose.drawn import check_two_sides, draw, open_drawn
    from burnish.studies.dose.scorer import load_extractors

    options, device = options or ExplainOptions(), resolve_device(device)
    if baseline == refined:
        raise InputError(f"{baseline} is compared with itself; give the refined images, too")
    given = {"baseline": baseline, "refined": refined, **(others or {})}
    name = f"{options.more_steps} steps"
    own = len(given) == 2 + len(others or {}) and not {"real", name, *GIVES} & given.keys()
    if not own or any(one.startswith("baseline") for one in others or {}):
        taken = ", ".join(["baseline ...", "refined", "real", *GIVES])
        raise InputError(f"other images need names of their own, not one of {taken}")
    opened = {name: open_drawn(path) for name, path in given.items()}
    one = opened["baseline"].take(torch.tensor([0])).images_uint8
    extractors = load_extractors(features, one, device, "explain")
    sides = draw_sides(opened, options.num_images, options.seed)
    drawn = sides.drawn
    check_order(baseline, drawn["refined"])
    first, longer, costs = drawn["baseline"], None, None
    if options.more_steps:
        longer = MoreSteps(baseline, refined, options.more_steps, guide, device)
    reference = draw(real, options.num_real, options.seed, "explain/real")
    if len(reference) < MIN_IMAGES:
        said = f"{len(reference)} images are too few; {MIN_IMAGES} are needed"
        raise InputError(f"{reference.source}: {said}")
    levels = None if guide is None else predict(load_guide(guide).to(device), first)
    if longer:
        drawn[name], costs = longer(drawn["baseline"])
    copies = {}
    for name, side in drawn.items():
        images = side.images_uint8, real, reference.images_uint8
        if places := check_two_sides(side.source, *images):
            copies[name] = {"num_images": len(side), "ids": side.ids[places].tolist()}
    found = score(
        {name: side.images_uint8 for name, side in drawn.items()}, reference.images_uint8,
        extractors, realness=levels,
        paired=[name for name, side in drawn.items() if side.ids.equal(first.ids)],
    )  # fmt: skip
    found |= {"left_out": sides.left_out, "copies": copies, "more_steps": costs}
    return {
        "words": account(found),
        **found,
        "inputs": {
            name: {"source": side.source, "sha256": side.sha256, "num_images": len(side)}
            for name, side in {**drawn, "real": reference}.items()
        },
        "options": asdict(options),
        "guide": guide,
        **provenance(),
    }
