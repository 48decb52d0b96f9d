"""Items made in another thread: the same ones, in order, no further ahead than allowed."""

import threading
import time

import pytest

from burnish.jobs.prefetch import ahead


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "ahead"]


def test_items_come_in_order_from_another_thread():
    made_by = set()

    def items():
        for item in range(20):
            made_by.add(threading.current_thread().name)
            yield item

    assert list(ahead(items())) == list(range(20))
    assert made_by == {"ahead"} and not threads()


def test_no_more_than_depth_items_wait():
    made = 0

    def items():
        nonlocal made
        for item in range(100):
            made += 1
            yield item

    stream = ahead(items(), depth=3)
    next(stream)
    time.sleep(0.3)
    # One was taken, three wait, and one is in the maker's hand.
    assert made == 5
    stream.close()
    assert not threads()


def test_errors_arrive_in_their_place_and_the_maker_is_closed():
    closed = []

    def items():
        try:
            yield 1
            raise ValueError("the second image is broken")
        finally:
            closed.append(True)

    stream = ahead(items())
    assert next(stream) == 1
    with pytest.raises(ValueError, match="second image"):
        next(stream)
    assert closed and not threads()


def test_leaving_early_closes_the_maker():
    closed = threading.Event()

    def items():
        try:
            yield from range(100)
        finally:
            closed.set()

    for item in ahead(items()):
        if item == 2:
            break
    else:
        pytest.fail("it ended before")
    assert closed.wait(5)
