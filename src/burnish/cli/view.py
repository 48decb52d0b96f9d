"""``burnish view``."""

from pathlib import Path

import click

from burnish.cli.options import flag

REAL = "Real images, to show the nearest of: .npz, .parquet or folder."
FEATURES = "Feature extractor to find the nearest by, as for evaluate. [default: pixels]"
GUIDE = "File of the guide that refined them, for the path of each image. [default: a shipped one]"
EXPORT = "Write the gallery to a new folder as static files instead of serving it."
PATHS = "Pairs whose path is written by --export, from the first on."


@click.command(short_help="Show pairs of images in the browser.")
@click.argument("files", nargs=-1, required=True, type=Path)
@flag("--guide", str, GUIDE)
@flag("--real", Path, REAL)
@flag("--features", str, FEATURES)
@flag("--export", Path, EXPORT)
@flag("--paths", 100, PATHS)
@flag("--port", 0, "Port to serve at, on this machine only; 0 for a free one.")
@click.option("--open/--no-open", "opens", default=True, help="Open the browser.")
def view(
    files: tuple[Path, ...], guide: str | None, real: Path | None, features: str | None,
    export: Path | None, paths: int, port: int, opens: bool,
) -> None:  # fmt: skip
    """Show images before and after in the browser: sort, filter, compare, follow the path of each.

    FILES are one output of burnish refine, the folder of burnish demo, or any two files of images:
    those before and those after.

    \b
    Examples:
      burnish view refined.npz
      burnish view before/ after/ --export gallery
    """  # noqa: D301 - click reads \b as "keep these lines"
    from burnish.errors import InputError
    from burnish.gallery.app import Gallery, open_pairs
    from burnish.gallery.export import export as write
    from burnish.report.text import counted

    if not 0 <= port <= 65535 or paths < 0:
        raise InputError("--port must be 0 to 65535, --paths 0 or more")
    gallery = Gallery(open_pairs(files), guide, real, features)
    found = counted(len(gallery.pairs), "pair")
    if export:
        write(gallery, export, paths)
        print(f"{export / 'index.html'}: {found}")
        return
    from burnish.web.server import Server

    server = Server(gallery.routes(), port=port)
    print(f"{server.url} shows {found}; stop with Ctrl-C", flush=True)
    if opens:
        import webbrowser

        webbrowser.open(server.url)
    server.serve()
