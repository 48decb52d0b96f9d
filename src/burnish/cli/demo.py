"""``burnish demo``."""

from pathlib import Path

import click

from burnish.cli.options import DEVICE, FORCE, flag


@click.command(short_help="See all of it once, with models that ship. No network, no data.")
@click.argument("data", default="fashion_mnist")
@flag("--out", Path("demo"), "Folder for the images, the ledger, result.json and report.html.")
@flag("--num-images", 1000, "How many images, from seed 0 on; at least 10.")
@DEVICE
@FORCE
def demo(data: str, out: Path, num_images: int, device: str, force: bool) -> None:
    """Sample, refine, score and show, with models of DATA that ship: fashion_mnist or cifar10.

    A one-step consistency model makes images, a joint classifier-discriminator refines them, and
    two feature extractors that never saw the guide compare both with real test images.
    """
    from burnish.studies.demo import demo as run
    from burnish.studies.demo import table

    print(table(run(out, data, num_images, device=device, force=force)))
    print(f"\nLook at {out / 'report.html'}")
