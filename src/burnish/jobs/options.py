"""How jobs are run, as the command line and the library give it. No torch is imported here."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from burnish.documents import load_yaml
from burnish.errors import InputError, unknown
from burnish.metrics.protocol import ProtocolName
from burnish.refinement.settings import RefineSettings
from burnish.schema import Range, check, read, settings_of


@dataclass(frozen=True)
class JobOptions:
    """How a job is split among processes, and what it may replace."""

    workers: Annotated[int | None, Range(1, 1024)] = None
    """Processes that share the work, one per GPU, at most. Without it, 1 on this machine; with
    --engine ray, as many as the cluster has room for. On one machine without GPU, 1 is best."""
    share: str = ""
    """Do only the I-th of N equal shares, as I/N with I from 0; auto reads the variables of
    SLURM arrays, SkyPilot or torchrun. Ranks of torchrun and accelerate share without asking."""
    engine: Literal["local", "ray"] = "local"
    """Who does the work: local, or ray, a Ray cluster (pip install 'burnish[ray]')."""
    shard_size: Annotated[int | None, Range(1, 1e9)] = None
    """Images that are finished together and survive a killed job; without it, about half a
    minute of work."""
    restart: bool = False
    """Forget what a killed job of this output has done, and begin anew."""
    force: bool = False
    """Replace an existing output."""

    def __post_init__(self) -> None:
        check(self)
        if self.engine == "ray" and find_spec("ray") is None:
            raise InputError("--engine ray needs Ray: pip install 'burnish[ray]'")


# A caller in Python names its files itself, and may write one twice.
IN_PYTHON = JobOptions(force=True)


@dataclass(frozen=True)
class SampleOptions:
    """How a generator is sampled."""

    num_steps: Annotated[int | None, Range(1)] = None
    """Sampling steps; without it 1, 18 for a diffusion model, and a pipeline's own number."""
    timesteps: tuple[int, ...] | None = None
    """Of a consistency model, in place of --num-steps: places in its table of noise levels, as
    diffusers takes them, e.g. 22,0."""
    num_train_timesteps: Annotated[int | None, Range(2, 1e6)] = None
    """Length of that table, where the files do not say it."""
    solver: Literal["heun", "euler"] | None = None
    """Of a diffusion model: heun calls the network twice per step, euler (DDIM) once."""
    truncation: Annotated[float | None, Range(0, 1, above=True)] = None
    """Of BigGAN-deep: latents are drawn from twice this about 0; without it 1."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Inside the network; OpenAI sampled its consistency models in float16."""
    family: str | None = None
    """What a checkpoint of others is, where it cannot say so itself (--as): openai-cm, openai-edm,
    mimicry, biggan, biggan-deep or edm."""
    label: Annotated[int | None, Range(0)] = None
    """Class of all images; without it each seed draws its own."""
    labels: str = ""
    """Class of each image: an .npy, .txt or .csv with one per seed; or balanced, the classes in
    turns."""
    flat: bool = False
    """Write a folder without sub-folders, as pytorch-fid reads it; labels in dataset.json."""
    batch_size: Annotated[int, Range(1, 1e6)] = 100
    """Images per call of the network; it changes no image."""
    device: str = "auto"
    """Where to compute: cpu, cuda, or auto for a GPU if there is one."""

    def __post_init__(self) -> None:
        check(self)
        if self.labels and self.label is not None:
            raise InputError("give --label, one class for all images, or --labels, but not both")


@dataclass(frozen=True)
class RefineOptions:
    """How a refinement is run; what is climbed, and how far, is in RefineSettings."""

    preset: str | None = None
    """joint, bigroc, golan24-pgd, golan24-sgld, or what was published for one generator, such as
    bigroc/sngan (burnish presets lists them); without it, joint for a joint model and bigroc for
    any other classifier."""
    labels: str = "given"
    """The class to refine each image towards: given by SAMPLES; pseudo, the guide's opinion;
    balanced, the same against the mean of all images; quotas, equal classes exactly; or your own:
    one class for all, as a number, or an .npy, .txt or .csv with one per image."""
    prompts: Path | None = None
    """With a guide clip/...: a file with the text of each class, one a line."""
    captions: Path | None = None
    """With a guide clip/...: a file with the text of each image, one a line; each image climbs
    the cosine with its own, in place of --labels."""
    template: str | None = None
    """What is said of a class, {} standing for its text; without it 'a photo of a {}' for
    prompts, and captions as they are."""
    tile: Annotated[int | None, Range(1)] = None
    """SAMPLES is a grid of tiles of this side, or a folder of such grids; refine the tiles."""
    padding: Annotated[int, Range(0)] = 2
    """Pixels between the tiles of a grid."""
    flat: bool = False
    """Write a folder without sub-folders, as pytorch-fid reads it; labels in dataset.json."""
    batch_size: Annotated[int | None, Range(1, 1e6)] = None
    """Images per call of the guide; without it, what is fast and fits into memory."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Inside the guide: float32 (exact), bfloat16, or auto for what a short measurement finds
    faster on this machine. Pixels are float32 always."""
    compile: Literal["auto", "always", "never"] = "auto"
    """Compile the gradient: always, never, or auto for long jobs where measuring says it pays."""
    refiner: str | None = None
    """A network of burnish distill that makes the steps in one pass: its file, or learned for
    refiner.safetensors beside the guide's."""
    strict: bool = False
    """Refuse images that the guide can hardly tell from real ones, or that are unlike those that
    it knows: it may make them worse."""
    device: str = "auto"
    """Where to compute: cpu, cuda, or auto for a GPU if there is one."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class SettingsFile(RefineSettings):
    """A file of settings, as ``burnish tune`` writes it."""

    preset: str | None = None
    labels: Literal["given", "pseudo", "balanced", "quotas"] = "given"
    refiner: str | None = None


def read_settings(path: Path) -> dict[str, Any]:
    """Return the fields of RefineSettings and of RefineOptions that a YAML file gives.

    Raises:
        InputError: It is no such file; the message is one line.
    """
    values = load_yaml(path)
    found = read(SettingsFile, values, str(path))
    if not values:
        raise InputError(f"{path} holds no settings; burnish tune writes such files")
    return {name: getattr(found, name) for name in values}


@dataclass(frozen=True)
class EvaluateOptions:
    """How images are scored."""

    protocol: ProtocolName = "burnish"
    """Whose numbers: each tool has its own metrics, resizing, splits, draws and rounding; burnish
    computes in float64. The page Protocols of the documentation says what differs."""
    num_neighbors: Annotated[int | None, Range(1)] = None
    """k of precision, recall, density and coverage; without it 3."""
    seed: Annotated[int | None, Range(0)] = None
    """Of subsets of the KID, of the shuffle of the Inception Score, and of the images that edm
    draws from more than 50,000; without it that of the protocol, 0 or 2020."""
    batch_size: Annotated[int, Range(1, 1e6)] = 250
    """Images per call of the network."""
    tile: Annotated[int | None, Range(1)] = None
    """GENERATED is a grid of tiles of this side, or a folder of such grids; score the tiles."""
    padding: Annotated[int, Range(0)] = 2
    """Pixels between the tiles of a grid."""
    validation: str = ""
    """Other real images, or their statistics, that the FDr divides by, named like a reference."""
    cache: bool = True
    """Keep the features of large networks for the next time, in at most 4 GiB or what
    BURNISH_FEATURE_CACHE says."""
    fid_infinity: bool = False
    """Extrapolate the FID to infinitely many images, from parts of 5,000 images or more."""
    save_reference: Path | None = None
    """Keep the statistics of real images in this .npz, for the next time or another tool."""
    device: str = "auto"
    """Where to compute: cpu, cuda, or auto for a GPU if there is one."""

    def __post_init__(self) -> None:
        check(self)


def split(kind: type, values: Mapping[str, Any], other: type) -> tuple[Any, dict[str, Any]]:
    """Make a dataclass of the keywords that it has fields for; return it and those of ``other``.

    Raises:
        InputError: Neither has such a field.
    """
    names, others = ([setting.name for setting in settings_of(one)] for one in (kind, other))
    for name in values:
        if name not in (*names, *others):
            raise unknown("option", name, [*names, *others])
    own = {name: value for name, value in values.items() if name in names}
    return kind(**own), {name: value for name, value in values.items() if name not in names}
