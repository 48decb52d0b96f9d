"""``burnish sample``."""

from pathlib import Path
from typing import Any

import click
import yaml

from burnish.cli.options import DRY_RUN, flag, flags, given, job_of
from burnish.jobs.options import JobOptions, SampleOptions


@click.command(short_help="Make images with a generator.")
@click.argument("generator")
@flag("--seeds", "0-999", "One image per seed, e.g. 0-999 or 1,2,5-10.", metavar="LIST")
@flag("--out", Path("samples.npz"), "An .npz, .parquet, .tar, .zip or .npy, or a folder of PNG.")
@flags(SampleOptions)
@flags(JobOptions)
@DRY_RUN
def sample(generator: str, seeds: str, out: Path, dry_run: bool, **options: Any) -> None:
    """Make images with GENERATOR. Image i depends on seed i alone, not on the batch.

    GENERATOR is a shipped one (fashion_mnist, cifar10); what burnish train wrote: the folder
    pipeline of a consistency model or its teacher, or the model.safetensors of a VAE, GAN or
    Gaussian; a ConsistencyModelPipeline of diffusers, as a folder or a hub id; any other pipeline
    of diffusers that takes a seed and a class, as a folder; or a checkpoint of others (.pt, .pth,
    .pkl, .bin): OpenAI's consistency models, torch-mimicry, BigGAN-PyTorch, DiffAugment-BigGAN,
    pytorch-pretrained-BigGAN, EDM and ECT. No code of theirs is run.

    Example: burnish sample fashion_mnist --seeds 0-9999 --out samples.npz
    """
    from burnish.jobs.sample import plan_sample

    job = job_of(options)
    plan = plan_sample(generator, seeds, out, job=job, **given(options))
    if dry_run:
        return print(yaml.safe_dump(plan.describe(), sort_keys=False), end="")
    if plan.run():
        print(out)
