"""Make a study: pair the images of several systems, deal them to raters, freeze all of it."""

import os
import secrets
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

from burnish.errors import InputError
from burnish.files import check_target, path_sha256, provenance, write_aside, write_json
from burnish.schema import plain
from burnish.storage.formats import open_samples
from burnish.storage.sample_file import printable as plain_text
from burnish.survey.design import Picture, Planned, plan_trials
from burnish.survey.items import Items
from burnish.survey.language import load_texts
from burnish.survey.options import SurveyOptions
from burnish.survey.pictures import MIN_PADDING, encode, enlargement, padded, spoil
from burnish.survey.study import Rater, Rules, Study, Trial, load_study

CHUNK = 64  # images in memory at once


def make_study(
    sources: Mapping[str, Path], out: Path, options: SurveyOptions | None = None
) -> Study:
    """Make a frozen study of the images that all systems have.

    Args:
        sources: Images of each system by its name, the baseline first; two or more. They are
            paired by name where all files name their images, or else by id.
        out: A new folder.
        options: Sizes, words, rules and seed.

    Raises:
        InputError: The images do not fit together, are too few, or the folder exists.
    """
    options, out = options or SurveyOptions(), Path(out)
    if out.exists():
        raise InputError(f"{out} exists already, and a study is never replaced; name another")
    check_target(out, *sources.values())
    _check_sources(sources)
    texts = load_texts(options.language)
    files = {name: open_samples(path, CHUNK) for name, path in sources.items()}
    items = Items(files)
    wanted = options.pairs_per_rater + options.practice + options.catch
    if len(items.keys) < wanted:
        raise InputError(
            f"{len(items.keys)} images in common, but a rater sees {wanted} (pairs, practice and "
            "catch trials); give more images or ask for fewer pairs"
        )
    planned = plan_trials(
        len(items.keys), len(files), options.raters, options.pairs_per_rater, options.practice,
        options.catch, options.seed,
    )  # fmt: skip
    shown = dict.fromkeys(one for row in planned for trial in row for one in trial[1:])
    names: dict[Picture, str] = {picture: secrets.token_hex(16) for picture in shown}
    factor = enlargement(*items.shape[1:], options.shown_side)
    with write_aside(out) as aside:
        (aside / "images").mkdir(parents=True)
        _write_pictures(items, names, factor, aside / "images")
        study = Study(
            folder=aside,
            question=options.question or texts["question"],
            texts={key: text for key, text in texts.items() if key != "question"},
            systems=tuple(files),
            rules=Rules(options.min_catch_share, options.min_seconds, options.min_answered),
            enlargement=factor,
            raters=tuple(
                Rater(
                    secrets.token_hex(16),
                    tuple(_trial(one, items, list(files), names) for one in row),
                )
                for row in planned
            ),
            images={
                name: path_sha256(aside / "images" / f"{name}.png") for name in names.values()
            },
            facts=_facts(sources, options, items),
        )
        write_json(aside / "study.json", study.values())
        load_study(aside)  # what no command could read is no study
        if out.exists():
            raise InputError(f"{out} exists by now, and a study is never replaced; name another")
    return replace(study, folder=out)


def _check_sources(sources: Mapping[str, Path]) -> None:
    if len(sources) < 2:
        raise InputError("a survey compares two or more systems; give NAME=FILE for each")
    for name in sources:
        if not name or len(name) > 60 or not name.isprintable():
            raise InputError(f"{name!r} cannot name a system; use up to 60 printable characters")
    for one, other in combinations(sources, 2):
        if os.path.realpath(sources[one]) == os.path.realpath(sources[other]):
            raise InputError(f"{one} and {other} are the same images; give each its own file")


def _write_pictures(items: Items, names: dict[Picture, str], factor: int, folder: Path) -> None:
    """Write all pictures with one length, which none of them needs."""
    longest = 0
    for system in range(len(items.files)):
        wanted = [picture for picture in names if picture.system == system]
        for start in range(0, len(wanted), CHUNK):
            part = wanted[start : start + CHUNK]
            for picture, pixels in zip(
                part, items.read([p.item for p in part], system), strict=True
            ):
                if picture.spoiler:
                    pixels = spoil(pixels, picture.spoiler, picture.item)
                png = encode(pixels, factor)
                longest = max(longest, len(png))
                (folder / f"{names[picture]}.png").write_bytes(png)
    for path in folder.iterdir():
        path.write_bytes(padded(path.read_bytes(), longest + MIN_PADDING))


def _trial(one: Planned, items: Items, systems: list[str], names: dict[Picture, str]) -> Trial:
    left, right = one.left, one.right
    spoiled = "left" if left.spoiler else "right" if right.spoiler else "none"
    shown = names[left], names[right]
    key, label = plain_text(items.keys[left.item]), items.labels[left.item]
    return Trial(one.kind, key, label, systems[left.system], systems[right.system], shown, spoiled)


def _facts(sources: Mapping[str, Path], options: SurveyOptions, items: Items) -> dict[str, Any]:
    """Return where a study comes from; names of files and classes may be no plain text."""
    return {
        "settings": {**plain(options), "language": plain_text(options.language)},
        "images_in_common": len(items.keys),
        "classes": [plain_text(name) for name in items.classes or ()] or None,
        "sources": {
            name: {"path": plain_text(path), "sha256": path_sha256(Path(path))}
            for name, path in sources.items()
        },
        **provenance(),
    }
