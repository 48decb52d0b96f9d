"""``burnish push`` and ``burnish pull``."""

from pathlib import Path

import click

from burnish.cli.options import FORCE, flag


@click.command(short_help="Upload a model with its model card to the Hugging Face hub.")
@click.argument("file")
@click.argument("repo")
@flag("--metrics", Path, "A JSON of burnish evaluate, whose numbers the model card gives; "
      "again for more.", multiple=True)  # fmt: skip
@flag("--license", "", "Of the weights; without it, what their card says.", metavar="SPDX")
@flag("--folder", Path, "Write the files into this folder, and upload nothing.")
@click.option("--private", is_flag=True, help="Hide a new repository from others.")
@FORCE
def push(
    file: str, repo: str, metrics: tuple[Path, ...], license: str, folder: Path | None,
    private: bool, force: bool,
) -> None:  # fmt: skip
    """Upload FILE, a guide, generator, feature extractor or refiner, to REPO, as OWNER/NAME.

    The repository gets model.safetensors and config.json, or a generator's files of diffusers, and
    a README.md with license, task and numbers. 'hf auth login' gives the permission to write.

    Example: burnish push mine/guide.safetensors me/my-guide --metrics refined.json
    """
    from burnish.studies.share import push_model

    done = push_model(
        file, repo, evaluations=metrics, license=license, folder=folder, private=private,
        force=force,
    )  # fmt: skip
    print(done)


@click.command(short_help="Fetch a model from the Hugging Face hub.")
@click.argument("name")
@flag("--out", Path, "A .safetensors file; of a generator with a U-Net, a folder.", required=True)
@flag("--sha256", "", "What it must have; nothing is written if not.", metavar="HEX")
@FORCE
def pull(name: str, out: Path, sha256: str, force: bool) -> None:
    """Fetch NAME, a hub id or a folder in the hub's layout, and write it to --out.

    Only settings and safetensors are fetched, and all of it is checked before it is written.

    Example: burnish pull me/my-guide --out guide.safetensors
    """
    from burnish.files import path_sha256
    from burnish.studies.share import pull_model

    kind = pull_model(name, out, sha256=sha256, force=force)
    print(f"{out}: a {kind}, SHA-256 {path_sha256(out)}")
