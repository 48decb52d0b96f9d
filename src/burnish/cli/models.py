"""``burnish models``."""

import dataclasses
import json

import click

from burnish.cli.options import flag

COLUMNS = ("name", "kind", "where", "image_size", "license", "task", "reached", "source")
HEADS = {"image_size": "pixels"}


@click.command(short_help="List models: shipped, in caches, and known ones.")
@click.argument("name", required=False)
@flag("--kind", "", "Only these: guide, generator, features or weights.")
@flag("--where", "", "Only these: shipped, cached or known.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def models(name: str | None, kind: str, where: str, as_json: bool) -> None:
    """List the models that commands take, with license, task, image size and what they reached.

    With NAME, or the path of a file, show one with its whole card. Shipped ones are in the
    package. Cached ones lie in the caches of the hub and of torch. Known ones were published by
    others; their numbers are as published, and were not measured here.

    Example: burnish models cifar10
    """
    from burnish.errors import unknown
    from burnish.studies.models import find_model, list_models

    if name is not None:
        found = dataclasses.asdict(find_model(name))
        return print(json.dumps(found, indent=2, ensure_ascii=as_json))
    for given, choices in ((kind, ["guide", "generator", "features", "weights"]),
                           (where, ["shipped", "cached", "known"])):  # fmt: skip
        if given and given not in choices:
            raise unknown("models", given, choices)
    rows = [
        dataclasses.asdict(dataclasses.replace(row, card={})) for row in list_models()
        if kind in ("", row.kind) and where in ("", row.where)
    ]  # fmt: skip
    if as_json:
        return print(json.dumps(rows, indent=2))
    cells = [{one: HEADS.get(one, one) for one in COLUMNS}]
    cells += [{one: "-" if row[one] in (None, "") else str(row[one]) for one in COLUMNS}
              for row in rows]  # fmt: skip
    widths = {one: max(len(row[one]) for row in cells) for one in COLUMNS}
    for row in cells:
        print("  ".join(row[one].ljust(widths[one]) for one in COLUMNS).rstrip())
