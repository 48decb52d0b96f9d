"""Protocols: how each tool that measures images does it, as settings of burnish's own formulas.

A published number follows from more than a formula: from how images are resized and scaled, in
which order and groups they are taken, and with how many bits. A protocol names all of it, so that
a number of burnish can stand beside one of another tool: docs/reference/protocols.md.
"""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from burnish.errors import unknown

INCEPTION = "inception-v3-compat"

ProtocolName = Literal[
    "burnish", "adm", "edm", "edm2", "ttur", "clean", "torch-fidelity", "torchmetrics",
    "pytorch-fid",
]  # fmt: skip
Draws = Literal["numpy", "numpy-legacy", "torch", "stored"]
"""Where random numbers come from: ``default_rng``, ``RandomState``, torch's generator, or nowhere:
rows stay in the order in which they are stored."""


@dataclass(frozen=True)
class Scores:
    """How the Inception Score is computed."""

    num_splits: int = 10
    split_size: int = 0
    """Images per split, the last one may have fewer; 0 for ``num_splits`` splits."""
    rule: Literal["even", "floor", "chunk"] = "even"
    """Where N / ``num_splits`` is no integer: the first splits have one more; split i ends at
    ``(i + 1) N // num_splits``; or all but the last have as many as fit, rounded up."""
    draws: Draws = "numpy"
    """How images are shuffled."""
    float32: bool = False
    """Compute in float32."""
    ddof: int = 0
    """Subtracted from the number of splits in the standard deviation."""


@dataclass(frozen=True)
class Subsets:
    """How the KID draws subsets."""

    subset_size: int = 1000
    num_subsets: int = 100
    draws: Draws = "numpy"
    reference_first: bool = False
    """Each pair of subsets begins with that of the real images."""
    always: bool = False
    """Draw even if a subset would hold all rows; without it all are then taken once."""


@dataclass(frozen=True)
class Neighbors:
    """How precision, recall, density and coverage are computed."""

    num_neighbors: int = 3
    arithmetic: Literal["float64", "float32", "float16"] = "float64"
    closed: bool = True
    """Whether a ball holds its border."""


@dataclass(frozen=True)
class Protocol:
    """What a tool measures, and how."""

    name: str
    explanation: str
    """One plain sentence."""
    extractor: str
    """Default feature extractor; its name says how it resizes."""
    metrics: tuple[str, ...]
    """Keys of the metrics it reports, in order."""
    mean: Literal["float64", "float32"] = "float64"
    """Of the mean of features; covariances are float64 everywhere."""
    scores: Scores = field(default_factory=Scores)
    subsets: Subsets = field(default_factory=Subsets)
    neighbors: Neighbors = field(default_factory=Neighbors)
    seed: int = 0
    """Of all draws, unless another is given."""
    stored_order: bool = True
    """Whether images are taken in the order of the file, not of their ids."""
    whole_batches: int = 1
    """Images behind the last whole batch of this size are left out, on both sides."""
    max_images: int | None = None
    """Of more generated images, so many are drawn."""
    max_features: int | None = None
    """Features of real images that are kept, of more a fixed choice; None for all."""
    other_extractors: tuple[str, ...] = ()
    """Others by which the tool reports the first metric; burnish takes one per call."""

    @property
    def spatial(self) -> bool:
        """Whether spatial features are needed."""
        return "sfid" in self.metrics

    def settings(self) -> dict[str, Any]:
        """Return what decides over numbers, as values for JSON."""
        return {key: value for key, value in asdict(self).items() if key != "explanation"}


NEIGHBORS = ("precision", "recall", "density", "coverage")
ESTIMATED = ("mind", "cmmd", "fdr", "fid_infinity", "copying", "accuracy")

PROTOCOLS = {one.name: one for one in (
    Protocol(
        "burnish", "Float64 throughout; rows in the order of their ids.", INCEPTION,
        ("fid", "kid", "inception_score", *NEIGHBORS, *ESTIMATED), stored_order=False,
        max_features=10_000,
    ),
    Protocol(
        "adm", "The evaluator of guided diffusion (OpenAI).", INCEPTION,
        ("inception_score", "fid", "sfid", "precision", "recall"), mean="float32",
        scores=Scores(split_size=5000, draws="stored", float32=True),
        neighbors=Neighbors(arithmetic="float16"),
    ),
    Protocol(
        "edm", "fid.py of EDM (NVIDIA): 50,000 images, drawn by seed from more.", INCEPTION,
        ("fid",), max_images=50_000,
    ),
    Protocol(
        "edm2", "calculate_metrics.py of EDM2 (NVIDIA): FID, and FD by DINOv2.", INCEPTION,
        ("fid",), max_images=50_000,
        other_extractors=("dinov2-vit-l-14:edm2",),
    ),
    Protocol(
        "ttur", "The first code of the FID: batches of 50, the last one only if whole.",
        INCEPTION, ("fid",), whole_batches=50,
    ),
    Protocol(
        "clean", "clean-fid: bicubic resizing with antialiasing.", f"{INCEPTION}:clean",
        ("fid", "kid"), mean="float32",
        subsets=Subsets(draws="numpy-legacy", reference_first=True, always=True),
    ),
    Protocol(
        "torch-fidelity", "torch-fidelity with Inception for all metrics.", INCEPTION,
        ("inception_score", "fid", "kid", "precision", "recall"), mean="float32",
        scores=Scores(rule="floor", draws="numpy-legacy"),
        subsets=Subsets(draws="numpy-legacy", always=True),
        neighbors=Neighbors(arithmetic="float32"), seed=2020,
    ),
    Protocol(
        "torchmetrics", "torchmetrics: antialiased resizing, torch's random numbers.",
        f"{INCEPTION}:antialias", ("inception_score", "fid", "kid"),
        scores=Scores(rule="chunk", draws="torch", float32=True, ddof=1),
        subsets=Subsets(draws="torch", reference_first=True, always=True),
    ),
    Protocol(
        "pytorch-fid", "pytorch-fid: bilinear resizing in torch's manner.",
        f"{INCEPTION}:pytorch-fid", ("fid",),
    ),
)}  # fmt: skip


def protocol(given: Protocol | str) -> Protocol:
    """Return the protocol of a name, or the given one; InputError if there is none."""
    if isinstance(given, Protocol):
        return given
    if not isinstance(given, str) or given not in PROTOCOLS:
        raise unknown("protocol", given, list(PROTOCOLS))
    return PROTOCOLS[given]
