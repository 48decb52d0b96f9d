"""Items made in another thread: the same ones, in order, no further ahead than allowed."""

import threading

import pytest

from burnish.jobs.prefetch import prefetch


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_items_come_in_order_from_another_thread():
    made_by = set()

    def items():
        for item in range(20):
            made_by.add(threading.current_thread().name)
            yield item

    assert list(prefetch(items())) == list(range(20))
    assert made_by == {"prefetch"} and not threads()


def test_no_more_than_depth_items_wait():
    made, enough = [], threading.Event()

    def items():
        for item in range(100):
            made.append(item)
            if len(made) == 5:
                enough.set()
            yield item

    stream = prefetch(items(), depth=3)
    next(stream)
    # One was taken, three wait, and one is in the maker's hand.
    assert enough.wait(10)
    stream.close()
    assert len(made) == 5 and not threads()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_errors_arrive_in_their_place_and_the_maker_is_closed(error):
    closed = []

    def items():
        try:
            yield 1
            raise error("the second image is broken")
        finally:
            closed.append(threading.current_thread().name)

    stream = prefetch(items())
    assert next(stream) == 1
    with pytest.raises(error, match="second image"):
        next(stream)
    assert closed == ["prefetch"] and not threads()


def test_leaving_early_closes_the_maker_in_its_own_thread():
    closed = []

    def items():
        try:
            yield from range(100)
        finally:
            closed.append(threading.current_thread().name)

    stream = prefetch(items())
    assert next(stream) == 0
    stream.close()
    assert closed == ["prefetch"] and not threads()
