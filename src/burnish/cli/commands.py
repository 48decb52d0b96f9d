"""The commands: each reads its arguments, makes one library call, writes files."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated

import torch
import yaml
from tyro.conf import Positional, arg
from tyro.extras import SubcommandApp

from burnish.errors import InputError, unknown

__all__ = ["COMMANDS", "app"]

app = SubcommandApp()
COMMANDS = ("demo", "train", "sample", "refine", "evaluate", "report")
Device = Annotated[str, arg(metavar="auto|cpu|cuda")]
# Plain text rather than choices: the library's own error is one line and suggests the nearest.
Choice = Annotated[str, arg(metavar="NAME")]
WHAT = ("judge", "consistency", "generator", "joint", "absorb", "all")


@app.command
def demo(
    data: Positional[Choice] = "fashion_mnist",
    out: Path = Path("demo"),
    num_images: int = 1000,
    device: Device = "auto",
) -> None:
    """Sample, refine, score and show, with what ships in the package. No network, no data.

    A one-step consistency model makes images, a joint classifier-discriminator refines them, and
    two judges that never saw the guide score both against real test images.

    Args:
        data: fashion_mnist or cifar10 (a weaker generator, with more to gain).
        out: Folder for base.npz, refined.npz, the ledger, result.json and report.html.
        num_images: How many images, from seed 0 on.
        device: Where to compute.
    """
    from burnish.studies.demo import run_demo

    print(run_demo(out, num_images, resolve_device(device), data))


@app.command
def train(
    what: Positional[Annotated[str, arg(metavar="judge|consistency|generator|joint|absorb|all")]],
    config: Positional[Path],
    data: str = "",
    out: Path = Path("runs"),
    only: str = "",
    device: Device = "auto",
    dry_run: bool = False,
) -> None:
    """Train what an experiment describes. Give the same command again to resume.

    Example: burnish train all experiments/digits.yaml

    Args:
        what: judge (networks that score), consistency (a consistency model and its diffusion
            teacher), generator (that of a section generator:), joint (the guide; needs
            one of the two or a file of images), or all of these in turn, where a section
            generator: takes the place of the consistency model; absorb (the consistency model
            fine-tuned on its refined images) is asked for by name.
        config: An experiment in YAML, see experiments/.
        data: Where the real images are, if not where the experiment says: npz, parquet, folder.
        out: Folder of runs; this one goes to OUT/NAME.
        only: Train only the judge of this name.
        device: Where to compute.
        dry_run: Print the resolved experiment and stop.
    """
    from burnish import recipes
    from burnish.training.experiment import load_experiment

    if what not in WHAT:
        raise unknown("training", what, WHAT)
    experiment = load_experiment(config)
    if only and what not in ("judge", "all"):
        raise InputError(f"--only names a judge; it does not go with {what}")
    if only and only not in experiment.judges:
        raise unknown("judge", only, experiment.judges)
    if dry_run:
        print(yaml.safe_dump(json.loads(json.dumps(dataclasses.asdict(experiment))), width=99))
        return
    run, place = out / experiment.name, resolve_device(device)
    real, held_out = recipes.load_real(experiment, data)
    if what in ("judge", "all"):
        if not experiment.judges:
            raise InputError(f"{config} names no judges")
        for name in [only] if only else experiment.judges:
            print(recipes.train_judge(experiment, name, real, held_out, run, place))
    if what == "consistency" or (what == "all" and experiment.generator is None):
        print(recipes.train_consistency(experiment, real, run, place))
    if what == "generator" or (what == "all" and experiment.generator is not None):
        print(recipes.train_generator(experiment, real, run, place))
    if what in ("joint", "all"):
        print(recipes.train_joint(experiment, real, held_out, run, place))
    if what == "absorb":
        print(recipes.train_absorb(experiment, run, place))


@app.command
def sample(
    model: Positional[str],
    seeds: str = "0-999",
    num_steps: int | None = None,
    solver: str | None = None,
    label: int | None = None,
    out: Path = Path("samples.npz"),
    batch_size: int = 100,
    device: Device = "auto",
    dry_run: bool = False,
) -> None:
    """Sample a generator. Image i depends on seed i alone, not on the batch.

    Example: burnish sample fashion_mnist --seeds 0-9999 --out samples.npz

    Args:
        model: A shipped generator (fashion_mnist, cifar10); what burnish train wrote: the folder
            pipeline of a consistency model or its teacher, the model.safetensors of a VAE, GAN or
            Gaussian; a ConsistencyModelPipeline of diffusers, as a folder or by its hub name.
        seeds: One image per seed, e.g. 0-999 or 1,2,5-10.
        num_steps: Sampling steps; by default 1, and 18 of a diffusion model.
        solver: Of a diffusion model: heun (two network calls per step, default) or euler (DDIM).
        label: Class of all images; by default each seed draws its own.
        out: samples.npz, samples.parquet, or a name without suffix for a folder of PNG.
        batch_size: Images per network call.
        device: Where to compute.
        dry_run: Say what would be done and stop.
    """
    from burnish.generators.load import load_generator
    from burnish.jobs.local import sample_file
    from burnish.seeds import parse_seeds

    numbers = parse_seeds(seeds)
    generator = load_generator(model, num_steps, solver).to(resolve_device(device))
    if label is not None and not 0 <= label < (generator.num_classes or 0):
        raise InputError(
            f"label {label} is not one of this model's {generator.num_classes} classes"
        )
    labels = None if label is None else torch.full((len(numbers),), label)
    if dry_run:
        shape = "x".join(map(str, generator.image_shape))
        print(f"{len(numbers)} images of {shape}, {generator.nfe} network calls each, to {out}")
        return
    sample_file(generator, numbers, out, labels=labels, batch_size=batch_size)
    print(out)


@app.command
def refine(
    samples: Positional[Path],
    guide: str,
    out: Path = Path("refined.npz"),
    preset: str | None = None,
    labels: Choice = "given",
    eps: float | None = None,
    num_steps: int | None = None,
    step_size: float | None = None,
    objective: str | None = None,
    update: str | None = None,
    norm: str | None = None,
    noise_std: float | None = None,
    stop_quantile: float | None = None,
    seed: int | None = None,
    batch_size: int | None = None,
    precision: Choice = "auto",
    compile: Choice = "auto",
    device: Device = "auto",
    dry_run: bool = False,
) -> None:
    """Move images a few careful steps up the gradient of a guide.

    Example: burnish refine samples.npz --guide fashion_mnist --out refined.npz

    Args:
        samples: What to refine: .npz (arr_0, arr_1), .parquet, or a folder of images, flat or with
            one sub-folder per class: numbers are labels, other names are numbered as they sort.
        guide: A shipped guide (fashion_mnist, cifar10; cifar10-all for images of any generator,
            cifar10-robust for bigroc), a .safetensors file of burnish train joint, or any
            classifier as timm/NAME or torchvision/NAME.
        out: refined.npz, refined.parquet, or a name without suffix for a folder of PNG; beside it
            OUT.ledger.parquet (a row per image, before rounding to uint8) and OUT.card.json (the
            settings).
        preset: joint (stops at the realness of real images), bigroc (any classifier), golan24-pgd,
            golan24-sgld. Default: joint if the guide is a joint model, else bigroc.
        labels: given (by the file), pseudo (the guide's opinion), balanced (the same against the
            mean), quotas (equal classes exactly).
        eps: Radius of the ball, pixels in [0, 1]; L2 is over all values of an image. Without it,
            and without the others, what the preset and the guide's card say (see --dry-run).
        num_steps: Steps per image, at most.
        step_size: Length of a step; default 1.5 eps / num_steps. For sgld, factor on the gradient.
        objective: logit, ce, bce, ce_minus_bce, ce_plus_bce or logsumexp.
        update: pgd (normalised steps) or sgld (raw gradient and noise).
        norm: Of the ball: l2, linf or none.
        noise_std: Standard deviation of the noise of one sgld step.
        stop_quantile: Stop an image when its realness reaches this quantile of real images.
        seed: Of the sgld noise.
        batch_size: Images per network call; by default what fits in memory and is fast.
        precision: float32 (exact), bfloat16 (fast), or auto: bfloat16 where the device multiplies
            it natively. Inside the guide only; pixels are float32 always.
        compile: Fuse the step by torch.compile: auto (in long jobs, if measuring says it pays),
            always, never.
        device: Where to compute.
        dry_run: Print the resolved settings and stop.
    """
    from burnish.guide.load import load_guide
    from burnish.jobs.local import check_refinable, refine_file
    from burnish.refine.labels import LABELINGS
    from burnish.refine.refiner import Refiner, settings_for
    from burnish.storage.formats import open_samples

    if labels not in LABELINGS:
        raise unknown("labeling", labels, LABELINGS)
    judge = load_guide(guide).to(resolve_device(device))
    settings = settings_for(
        judge, preset, eps=eps, num_steps=num_steps, step_size=step_size, objective=objective,
        update=update, norm=norm, noise_std=noise_std, stop_quantile=stop_quantile, seed=seed,
    )  # fmt: skip
    if dry_run:
        Refiner(judge, settings, precision, batch_size, compile)  # knows which values there are
        file = open_samples(samples)
        check_refinable(file, judge, labels)
        print(f"{len(file)} images to {out}")
        print(yaml.safe_dump(dataclasses.asdict(settings), sort_keys=False), end="")
        return
    facts = refine_file(
        samples, judge, settings, out, labeling=labels, batch_size=batch_size,
        precision=precision, compile=compile,
    )  # fmt: skip
    print(
        f"{out}: {facts['num_images']} images, {facts['mean_num_steps']:.1f} steps each, "
        f"{facts['share_real_enough']:.0%} stopped as real enough, {facts['seconds']:.0f} s"
    )


@app.command
def evaluate(
    generated: Positional[Path],
    reference: str,
    feature_extractor: str | None = None,
    json_out: Annotated[Path | None, arg(name="json")] = None,
    save_reference: Path | None = None,
    num_neighbors: int = 3,
    batch_size: int = 250,
    device: Device = "auto",
) -> None:
    """Score images against real ones: FID, KID, Inception Score, precision, recall.

    Example: burnish evaluate refined.npz --reference fashion_mnist/plain --json result.json

    Args:
        generated: The images to score, as they are on disk.
        reference: Shipped statistics (fashion_mnist/plain), an .npz with mu and sigma, or real
            images: .npz, .parquet, folder, or some rows of them as PATH[0-9999].
        feature_extractor: A shipped judge (fashion_mnist/plain), a judge's .safetensors, or one of
            torch-fidelity's. Default: the judge that made the shipped reference, else
            inception-v3-compat, whose weights come with the extra "inception" of the package or
            are fetched; inception-v3-compat:float16 takes a third of the time on new processors.
        json_out: Write the result there, at full precision.
        save_reference: Keep the statistics of real images there, for the next time.
        num_neighbors: k of precision and recall.
        batch_size: Images per network call.
        device: Where to compute.
    """
    from burnish.files import check_target
    from burnish.jobs.scoring import evaluate_file, reference_path

    if json_out:
        others = [save_reference] if save_reference else []
        check_target(json_out, generated, reference_path(reference), *others)
    result = evaluate_file(
        generated, reference, feature_extractor, num_neighbors=num_neighbors,
        batch_size=batch_size, device=resolve_device(device), save_reference=save_reference,
    )  # fmt: skip
    if json_out:
        from burnish.files import write_json

        write_json(json_out, result)
    shown = ("fid", "kid", "inception_score", "precision", "recall")
    found = {name: result[name] for name in shown if result[name] is not None}
    print("  ".join(f"{name} {value:.4g}" for name, value in found.items()))
    print(f"{result['num_images']} images, {result['feature_extractor']}, {result['reference']}")
    for warning in result["warnings"]:
        print(f"note: {warning}", file=sys.stderr)


@app.command
def report(results: Positional[tuple[Path, ...]], out: Path = Path("report.html")) -> None:
    """Show results on one self-contained page: pairs, what changed, realness, metrics, curves.

    Example: burnish report demo runs/digits/joint --out report.html

    Args:
        results: JSON files of evaluate, folders of demo, run folders of train.
        out: The page.
    """
    from burnish.files import check_target
    from burnish.report import write_report

    if not results:
        raise InputError("name at least one result: a JSON file, a demo folder or a run folder")
    check_target(out, *results)
    print(write_report(results, out))


def resolve_device(device: str) -> str:
    """Return the device to compute on; ``auto`` prefers CUDA.

    Raises:
        InputError: There is no such device.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"no device {device!r} here: {reason}") from error
    return device
