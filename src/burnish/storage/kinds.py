"""The table of formats, and which of them lies at a path."""

from pathlib import Path

from burnish.errors import InputError
from burnish.storage.sample_file import IMAGE_SUFFIXES, printable

# By the suffix of the path; a path without one is a folder of images.
FORMATS = {
    ".npz": "burnish.storage.npz",
    ".parquet": "burnish.storage.parquet",
    ".tar": "burnish.storage.tar",
    ".zip": "burnish.storage.edm_zip",
    ".npy": "burnish.storage.npy",
    ".pt": "burnish.storage.torch_file",
    ".arrow": "burnish.storage.arrow",
    "": "burnish.storage.folder",
    "grid": "burnish.storage.grid",
}
WRITABLE = (".npz", ".parquet", ".tar", ".zip", ".npy", "")


def find_kind(path: Path, tiles: bool) -> tuple[str, Path]:
    """Return the format of what lies at a path, and the path or pattern to read it by.

    Args:
        path: A file or folder that exists.
        tiles: Whether grids of tiles are wanted.

    Raises:
        InputError: It is of no known format.
    """
    if not path.is_dir() and not path.is_file():
        raise InputError(f"{printable(path)} is a device or a pipe; write its content to a file")
    suffix = path.suffix.lower()
    if tiles:
        if path.is_file() and suffix not in IMAGE_SUFFIXES:
            kinds = ", ".join(IMAGE_SUFFIXES)
            raise InputError(f"{printable(path)}: grids of tiles are images ({kinds}) or folders")
        return "grid", path
    if path.is_dir():
        return _folder_kind(path)
    if suffix in IMAGE_SUFFIXES:
        raise InputError(f"{printable(path)} is one image; give its folder, or the tile of a grid")
    if not suffix or suffix not in FORMATS:
        known = ", ".join(name for name in FORMATS if name.startswith("."))
        raise InputError(
            f"{printable(path)}: unknown suffix {path.suffix!r}; readable are {known} and folders "
            "of images"
        )
    return suffix, path


def _folder_kind(path: Path) -> tuple[str, Path]:
    if (path / "dataset_dict.json").is_file():
        splits = sorted(one.name for one in path.iterdir() if (one / "state.json").is_file())
        if splits:
            raise _splits(path, splits)
    if (path / "state.json").is_file() and (path / "dataset_info.json").is_file():
        return ".arrow", path
    if _holds_parquet(path):
        return ".parquet", path / "*.parquet"
    inner = sorted(one for one in path.iterdir() if one.is_dir() and one.name[0] != ".")
    inner = [one for one in inner[:1000] if _holds_parquet(one)]
    if len(inner) > 1:
        raise _splits(path, [one.name for one in inner])
    if inner:
        return ".parquet", inner[0] / "*.parquet"
    return "", path


def _holds_parquet(folder: Path) -> bool:
    return any(not one.name.endswith(".ledger.parquet") for one in folder.glob("[!.]*.parquet"))


def _splits(path: Path, names: list[str]) -> InputError:
    held = ", ".join(map(printable, names))
    return InputError(
        f"{printable(path)} holds the splits {held}; name one, e.g. '{printable(path / names[0])}'"
    )
