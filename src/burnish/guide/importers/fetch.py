"""From what the user names to a checkpoint on disk: a path, a known classifier, or the hub."""

import re
from pathlib import Path

from burnish.errors import InputError, shown, unknown
from burnish.guide.importers.registry import KNOWN

_HUB_FILE = re.compile(r"([\w.-]+/[\w.-]+)/([\w./-]+)")


def fetch_checkpoint(source: str) -> tuple[Path, str]:
    """Return a checkpoint on disk, and its name in the registry if it was asked for by that.

    Args:
        source: A path; a name of the registry that lies on the hub; or ``OWNER/NAME/FILE``.

    Raises:
        InputError: There is no such file, or it cannot be fetched; the message says what to do.
    """
    if source and "\0" not in source and max(map(len, source.split("/"))) < 200:
        path = Path(source)
        if path.is_dir():
            raise InputError(f"{source} is a folder; give the checkpoint in it")
        if path.exists():
            return path, ""
    if len(source) > 400 or not source.isprintable():
        raise InputError(f"no checkpoint {shown(source)}: that is no name of a file")
    known = KNOWN.get(source)
    if known and not known.where.startswith(f"{known.family}/"):
        raise InputError(f"{source} cannot be fetched by burnish; it lies at: {known.where}")
    found = _HUB_FILE.fullmatch(known.where if known else source)
    local = source.startswith((".", "/", "~")) or (found and Path(source).parent.is_dir())
    if not found or local:
        if re.fullmatch(r"[\w-]+/[\w.-]+", source) and not Path(source).parent.is_dir():
            if source.partition("/")[0] in {name.partition("/")[0] for name in KNOWN}:
                family = source.partition("/")[0]
                names = [name for name in KNOWN if name.startswith(f"{family}/")]
                near = unknown("classifier", source, names)
                raise InputError(f"{near}; of the hub, name the file: OWNER/NAME/FILE")
            raise InputError(f"no checkpoint {source!r}; of the hub, name the file: {source}/FILE")
        raise InputError(f"no checkpoint at {shown(source)}")
    return _of_hub(*found.groups()), source if known else _name_of(source)


def _name_of(source: str) -> str:
    return next((one.name for one in KNOWN.values() if one.where == source), "")


def _of_hub(repository: str, name: str) -> Path:
    from huggingface_hub import hf_hub_download

    from burnish.networks.fetched import hub_or_cache

    with hub_or_cache() as offline:
        try:
            return Path(hf_hub_download(repository, name))
        except Exception as error:  # the hub's own, httpx's and the system's
            if offline:
                said = (
                    f"the hub cannot be reached ({offline}); elsewhere 'hf download {repository} "
                    f"{name} --local-dir FOLDER' fetches it, to give here"
                )
            else:
                said = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f"no {repository}/{name} here, and {said}") from error
