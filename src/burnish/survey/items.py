"""The images that several files have in common."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from burnish.errors import InputError
from burnish.samples import to_uint8
from burnish.storage.sample_file import SampleFile


class Items:
    """The images that all systems have, paired by name where all files have names, else by id.

    Args:
        files: The images of each system, by its name.

    Raises:
        InputError: Shapes or labels differ, or an id or a name occurs twice.
    """

    def __init__(self, files: Mapping[str, SampleFile]) -> None:
        self.files = list(files.values())
        first = self.files[0]
        self.shape = first.image_shape
        for file in self.files:
            if file.image_shape != self.shape:
                shapes = f"{list(file.image_shape)}, not {list(self.shape)} as in {first.path}"
                raise InputError(f"{file.path}: images of shape {shapes}")
        by_name = all(file.names is not None for file in self.files)
        keys = [list(f.names or ()) if by_name else f.ids.tolist() for f in self.files]
        self._places = [{key: place for place, key in enumerate(one)} for one in keys]
        for file, one, places in zip(self.files, keys, self._places, strict=True):
            if len(places) < len(one):
                raise InputError(f"{file.path}: an id or a name occurs twice; make them unique")
        self.keys = [key for key in keys[0] if all(key in one for one in self._places)]
        self.labels = [self._label(key) for key in self.keys]
        self.classes = next((file.classes for file in self.files if file.classes), None)

    def _label(self, key: Any) -> int | None:
        found = {
            int(file.labels[places[key]])
            for file, places in zip(self.files, self._places, strict=True)
            if file.labels is not None
        }
        if len(found) > 1:
            raise InputError(f"image {key} has labels {sorted(found)}; pair images of one class")
        return found.pop() if found else None

    def read(self, items: Sequence[int], system: int) -> Tensor:
        """Return images of a system, uint8 ``[N, C, H, W]``."""
        places = [self._places[system][self.keys[item]] for item in items]
        return to_uint8(self.files[system].read(places).images)
