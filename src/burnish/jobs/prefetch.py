"""Overlap: one thread makes items while another uses those made before."""

import threading
from collections.abc import Generator, Iterable
from queue import Empty, Full, Queue
from typing import TypeVar

Item = TypeVar("Item")
# How often each side looks whether the other has gone.
TICK = 0.1


def prefetch(items: Iterable[Item], depth: int = 2) -> Generator[Item]:
    """Iterate over items in a thread of their own, at most ``depth`` of them ahead.

    Reading and decoding go on while the device computes, and computing while files are written.
    Order stays; what the items' own code raises is raised here, in its place.

    Args:
        items: Iterated once, in the other thread.
        depth: Items that may wait, above 0; besides, one is in the making and one in use.

    Leaving early, by ``close`` or an error, waits for the item in the making.
    """
    queue: Queue[tuple[str, Item | BaseException | None]] = Queue(depth)
    left = threading.Event()

    def put(kind: str, value: Item | BaseException | None) -> bool:
        while not left.is_set():
            try:
                queue.put((kind, value), timeout=TICK)
            except Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put("item", item):
                    return
            put("end", None)
        except BaseException as error:
            put("error", error)
        finally:
            # A generator is closed by the thread that runs it.
            close = getattr(items, "close", None)
            if close:
                close()

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            try:
                kind, value = queue.get(timeout=TICK)
            except Empty:
                continue  # so that Ctrl-C is heard
            if kind == "error":
                assert isinstance(value, BaseException)
                raise value
            if kind == "end":
                return
            yield value  # pyright: ignore[reportReturnType]
    finally:
        left.set()
        thread.join()
