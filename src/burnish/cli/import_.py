"""``burnish import``."""

from pathlib import Path

import click

from burnish.cli.options import DEVICE, FORCE, flag
from burnish.errors import InputError

AS = (
    "What it is, where the file does not say: FAMILY, FAMILY/NAME, timm/NAME or torchvision/NAME. "
    "Families: robustness, madrylab, robustbench, joint, dat, ares, revisiting-at, crown, convex."
)


@click.command("import", short_help="Make a guide of a robust classifier that others trained.")
@click.argument("source", metavar="FILE_OR_HUB_ID")
@flag("--as", str, AS, names=("family",))
@flag("--mean", str, "What its images were centered by, e.g. 0.485,0.456,0.406.")
@flag("--std", str, "What its images were divided by, e.g. 0.229,0.224,0.225.")
@flag("--activation", str, "relu, silu or gelu, where the file leaves it open.")
@flag("--index", int, "Which network of the file, from 0 on, if it holds several.")
@flag("--check", str, "Labeled images to measure its accuracy on: a name or path, or PATH[0-999].")
@flag("--out", Path("guide.safetensors"), "The guide, as one file.")
@DEVICE
@FORCE
def import_(
    source: str, family: str | None, mean: str | None, std: str | None, activation: str | None,
    index: int | None, check: str | None, out: Path, device: str, force: bool,
) -> None:  # fmt: skip
    """Make a guide of FILE_OR_HUB_ID, a checkpoint of PyTorch, NumPy or safetensors.

    Nothing in the file is run. The architecture is read from the shapes of its layers, and all of
    them must fit. What the file does not say is asked for, not guessed. With --check, a guide that
    misses its published accuracy is not written.

    Example: burnish import madrylab/resnet50_l2_eps3 --out robust.safetensors
    """
    from burnish.checkpoint import save_model
    from burnish.files import check_target
    from burnish.guide.importers.check import check_accuracy
    from burnish.guide.importers.fetch import fetch_checkpoint
    from burnish.guide.importers.guide import Asked, describe, import_guide
    from burnish.jobs.plan import resolve_device

    if out.suffix != ".safetensors":
        raise InputError(f"--out {out}: a guide is a .safetensors file; name it so")
    asked = Asked(
        family or "", _numbers("--mean", mean), _numbers("--std", std), activation or "", index
    )
    check_target(out, force=force)
    path, known = fetch_checkpoint(source)
    check_target(out, path, *filter(None, [check]), force=force)
    guide = import_guide(path, asked, known)
    print(describe(guide))
    if check is not None:
        found = check_accuracy(guide, check, resolve_device(device))
        print(found)
        if not found.fits:
            raise InputError(
                f"{found}: another normalization or activation, or other images, than published; "
                "nothing was written (without --check it would be)"
            )
        guide.card["origin"]["measured"] = {
            "accuracy": found.accuracy, "images": found.count, "data": check,
        }  # fmt: skip
    save_model(out, guide.network, guide.card)
    print(f"Wrote {out}. Next: burnish doctor {out} --real DATA")


def _numbers(name: str, text: str | None) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in (text or "").split(",") if part)
    except ValueError:
        raise InputError(f"{name} takes numbers with commas between, not {text!r}") from None
