"""``burnish report``."""

from pathlib import Path

import click

from burnish.cli.options import FORCE, flag

OUT = (
    "An .html page; a .png, the picture of one pair of files; or an .md page of the tables of "
    "measurements in a folder."
)


@click.command(short_help="Show results, pairs of images and trainings on one page.")
@click.argument("results", nargs=-1, required=True, type=Path)
@flag("--out", Path("report.html"), OUT)
@FORCE
def report(results: tuple[Path, ...], out: Path, force: bool) -> None:
    """Show RESULTS on one self-contained page: pairs, what changed, realness, metrics, curves.

    RESULTS are JSON files of burnish evaluate, explain and tune, folders of burnish demo, outputs
    of burnish refine, run folders of burnish train, and any files of images two by two, before and
    after.

    \b
    Examples:
      burnish report demo runs/digits/joint --out report.html
      burnish report before/ after/ --out pairs.html
      burnish report samples.npz refined.npz --out pairs.png
      burnish report results --out docs/results.md
    """  # noqa: D301 - click reads \b as "keep these lines"
    from burnish.errors import InputError
    from burnish.files import check_target
    from burnish.report.figures import write_pairs
    from burnish.report.page import write_report
    from burnish.report.results_page import write_results_page

    # Of a folder no page is read, so one may lie in it.
    read = [one for one in results if out.suffix == ".png" or not one.is_dir()]
    check_target(out, *read, force=force)
    if out.suffix not in (".html", ".png", ".md"):
        raise InputError(f"{out}: the suffix must be .html, .png or .md")
    wanted = {".png": (2, "the generated and the refined images"), ".md": (1, "a folder")}
    if out.suffix in wanted and len(results) != wanted[out.suffix][0]:
        raise InputError(f"for a {out.suffix} name {wanted[out.suffix][1]}, and nothing else")
    if out.suffix == ".png":
        write_pairs(results[0], results[1], out)
    elif out.suffix == ".md":
        write_results_page(results[0], out, force=force)
    else:
        write_report(results, out)
    print(out)
