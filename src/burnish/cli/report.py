"""``burnish report``."""

from pathlib import Path

import click

__all__ = ["report"]


@click.command(short_help="Show results, pairs of images and trainings on one page.")
@click.argument("results", nargs=-1, required=True, type=Path)
@click.option(
    "--out",
    type=Path,
    default=Path("report.html"),
    metavar="PATH",
    show_default=True,
    help="An .html page; a .png for the picture of a pair of files; or an .md page of "
    "the tables of measurements in a folder.",
)
def report(results: tuple[Path, ...], out: Path) -> None:
    r"""Show RESULTS on one self-contained page: pairs, what changed, realness, metrics, curves.

    RESULTS are JSON files of burnish evaluate, folders of burnish demo, outputs of burnish refine,
    and run folders of burnish train.

    \b
    Examples:
      burnish report demo runs/digits/joint --out report.html
      burnish report samples.npz refined.npz --out pairs.png
      burnish report results --out docs/results.md
    """
    from burnish.errors import InputError
    from burnish.files import check_target

    check_target(out, *results)
    if out.suffix == ".png":
        from burnish.report.figures import write_pairs

        if len(results) != 2:
            raise InputError(
                "a .png shows one pair of files: the generated and the refined images"
            )
        write_pairs(results[0], results[1], out)
    elif out.suffix == ".md":
        from burnish.report.results_page import write_results_page

        if len(results) != 1:
            raise InputError("an .md page shows the tables of one folder")
        write_results_page(results[0], out)
    else:
        from burnish.report.page import write_report

        write_report(results, out)
    print(out)
