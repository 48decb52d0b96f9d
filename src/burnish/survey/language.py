"""The texts that raters read: two languages ship, a file may bring another."""

from importlib.resources import as_file, files
from pathlib import Path

from burnish.documents import load_yaml
from burnish.errors import InputError

SHIPPED = ("en", "de")
MAX_LENGTH = 1000


def load_texts(language: str) -> dict[str, str]:
    """Return the texts by key.

    Args:
        language: ``en``, ``de``, or a YAML file with the keys of the shipped ones.

    Raises:
        InputError: There is no such language or file, or it lacks a text.
    """
    english = _read("en")
    if language in SHIPPED:
        return _read(language)
    path = Path(language)
    if not path.is_file():
        raise InputError(f"no language {language!r}; give {', '.join(SHIPPED)} or a YAML file")
    texts = load_yaml(path)
    if not isinstance(texts, dict):
        raise InputError(f"{path}: no keys and texts; copy languages/en.yaml of burnish")
    for key in english:
        text = texts.get(key)
        if not isinstance(text, str) or not text.strip() or len(text) > MAX_LENGTH:
            raise InputError(f"{path}: {key} must be a text of at most {MAX_LENGTH} characters")
    if unknown := texts.keys() - english.keys():
        raise InputError(f"{path}: unknown key {min(map(str, unknown))!r}; remove it")
    return texts


def _read(code: str) -> dict[str, str]:
    with as_file(files("burnish.survey") / "languages" / f"{code}.yaml") as path:
        return load_yaml(path)
