"""Streams of a file that stay open between reads, so that no read begins at the start again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar


class Stream(Protocol):
    """Images of a file, one after the other.

    ``place`` is the place of the image that comes next; ``seek`` goes to another one, forwards at
    the least cost that the format allows.
    """

    place: int

    def seek(self, place: int) -> None: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


S = TypeVar("S", bound=Stream)


class Streams(Generic[S]):
    """The open streams of one file, at most two, each in use by one reader at a time.

    Two are enough for a file that is compared with itself; threads may read at once.

    Args:
        open_stream: Opens a stream at place 0.
        num_images: Number of images; a stream that has come to the end is closed.
    """

    def __init__(self, open_stream: Callable[[], S], num_images: int) -> None:
        self._open_stream, self._num_images = open_stream, num_images
        self._kept: list[S] = []

    @contextmanager
    def at(self, place: int) -> Iterator[S]:
        """Give a stream whose next image is the one at ``place``."""
        stream = self._take(place)
        try:
            stream.seek(place)
            yield stream
        except BaseException:
            stream.close()
            raise
        if stream.place >= self._num_images:
            stream.close()
        else:
            self._kept.append(stream)
        while len(self._kept) > 2:
            self._kept.pop(0).close()

    def _take(self, place: int) -> S:
        """Return the kept stream that is nearest before ``place``, or a new one."""
        try:
            nearest = max(s.place if s.place <= place else -1 for s in self._kept)
            index = [s.place for s in self._kept].index(nearest)
            return self._kept.pop(index)
        except (ValueError, IndexError):  # none is kept, none is before, or a thread took it
            return self._open_stream()
