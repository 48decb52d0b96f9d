"""The sizes that networks may have, as annotations of their constructors.

They bound what a card or an experiment can ask for before anything is allocated.
"""

from collections.abc import Sequence
from typing import Annotated

from burnish.schema import Range

Channels = Annotated[int, Range(1, 3)]
Classes = Annotated[int, Range(1, 100_000)]
Width = Annotated[int, Range(1, 8192)]
Widths = Sequence[Width]
Blocks = Annotated[int, Range(1, 100)]
Side = Annotated[int, Range(1, 4096)]
Latents = Annotated[int, Range(1, 65_536)]
Share = Annotated[float, Range(0, 1, below=True)]
Means = Sequence[float]
Deviations = Sequence[Annotated[float, Range(0, above=True)]]
