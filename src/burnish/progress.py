"""Progress bars that decide nothing: a job goes on where its bar cannot be shown."""

import shutil
import sys
from collections.abc import Iterable
from typing import Any


class Lossy:
    """A text stream that drops what it cannot write: its reader has gone, or it is closed."""

    def __init__(self, stream: Any) -> None:
        self.stream, self._open = stream, stream is not None

    def write(self, text: str) -> int:
        """Write a text, if that is possible."""
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        """Pass on what was written, if that is possible."""
        self._try("flush")

    def _try(self, what: str, *arguments: str) -> None:
        if not self._open:
            return
        try:
            getattr(self.stream, what)(*arguments)
        except (OSError, ValueError):
            self._open = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def bar(items: Iterable[Any] | None = None, what: str = "", total: int | None = None,
        **options: Any) -> Any:  # fmt: skip
    """Return a bar of tqdm on stderr; one that cannot write is dropped in silence.

    Args:
        items: Yielded by the bar; None for one that is moved by ``update``.
        what: Said before the bar.
        total: How many there are, or how far the bar goes.
        options: Others of tqdm.
    """
    from tqdm import tqdm

    width = shutil.get_terminal_size().columns if _is_terminal(sys.stderr) else None
    stream: Any = Lossy(sys.stderr)
    return tqdm(items, what, total, file=stream, ncols=width, **options)


def _is_terminal(stream: Any) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, OSError, ValueError):
        return False
