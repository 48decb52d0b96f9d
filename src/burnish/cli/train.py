"""``burnish train``."""

import os
from pathlib import Path

import click
import yaml

from burnish.cli.options import DEVICE, DRY_RUN, flag
from burnish.errors import InputError
from burnish.schema import plain


@click.command(short_help="Train feature extractors, generators and guides.")
@click.argument("what", metavar="WHAT")
@click.argument("experiment", type=Path)
@flag("--data", "", "Where the real images are, if not where the experiment says.")
@flag("--out", Path("runs"), "Folder of runs; this one goes to OUT/NAME.")
@flag("--only", "", "Train only the feature extractor of this name.")
@DEVICE
@DRY_RUN
def train(
    what: str, experiment: Path, data: str, out: Path, only: str, device: str, dry_run: bool
) -> None:
    """Train WHAT an EXPERIMENT in YAML describes. Give the same command again to resume.

    \b
    WHAT is one of
      features           networks whose features measure distances
      consistency        a consistency model, and its diffusion teacher
      generator          the generator under generator:, a VAE, GAN or Gaussian
      joint              the guide; it needs a generator or a file of generated images
      self-distillation  the consistency model, fine-tuned on its refined images
      all                features, the one generator that is described, and joint

    joint trains on several GPUs if torchrun starts it; each process takes a part of the batch.

    \b
    Examples
      burnish train all experiments/digits.yaml
      torchrun --nproc-per-node 8 -m burnish train joint experiments/imagenet64-golan24.yaml
    """  # noqa: D301 - click reads \b as "keep these lines"
    from burnish.jobs.plan import resolve_device
    from burnish.training.experiment import check_data, load_experiment
    from burnish.training.train import resolve
    from burnish.training.train import train as run

    if what != "joint" and os.environ.get("WORLD_SIZE", "1") not in ("", "1"):
        raise InputError(f"burnish train {what} runs as one process; start it without torchrun")
    described = load_experiment(experiment)
    resolve(what, described, out, only)
    check_data(data or described.data.source)
    if dry_run:
        return print(yaml.safe_dump(plain(described), width=99, sort_keys=False), end="")
    device = resolve_device(device)
    for path in run(what, described, data=data, out=out, only=only, device=device):
        if os.environ.get("RANK", "0") in ("", "0"):
            print(path)
