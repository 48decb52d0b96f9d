"""Make a picture of unpicked images before and after, 10 in a strip, ready for a page.

python experiments/pairs.py BASE.npz REFINED.npz --out docs/images/cifar10-pairs.png
"""

from pathlib import Path
from typing import Annotated

import tyro

from burnish.errors import InputError
from burnish.files import write_aside
from burnish.report import pairs_grid
from burnish.seeds import parse_seeds
from burnish.storage.formats import open_samples


def main(
    base: Annotated[Path, tyro.conf.Positional],
    refined: Annotated[Path, tyro.conf.Positional],
    out: Path,
    seeds: str = "0-99",
    scale: int = 2,
) -> None:
    """Write the PNG of these seeds, whatever they look like."""
    pictures = []
    for path in (base, refined):
        file = open_samples(path)
        places = {id_: place for place, id_ in enumerate(file.ids.tolist())}
        if missing := [seed for seed in parse_seeds(seeds) if seed not in places]:
            raise InputError(f"{path} has no image of seed {missing[0]}")
        pictures.append(file.read([places[seed] for seed in parse_seeds(seeds)]).images)
    with write_aside(out) as aside:
        aside.write_bytes(pairs_grid(pictures[0], pictures[1], num_columns=10, scale=scale))


if __name__ == "__main__":
    tyro.cli(main)
