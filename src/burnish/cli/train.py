"""``burnish train``."""

from pathlib import Path

import click
import yaml

from burnish.cli.options import DEVICE, DRY_RUN, flag
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

    Example: burnish train all experiments/digits.yaml
    """  # noqa: D301 - click reads \b as "keep these lines"
    from burnish.jobs.plan import resolve_device
    from burnish.training.experiment import load_experiment
    from burnish.training.train import resolve
    from burnish.training.train import train as run

    described = load_experiment(experiment)
    resolve(what, described, out, only)
    if dry_run:
        return print(yaml.safe_dump(plain(described), width=99, sort_keys=False), end="")
    device = resolve_device(device)
    for path in run(what, described, data=data, out=out, only=only, device=device):
        print(path)
