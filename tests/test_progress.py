"""Progress bars decide nothing."""

import io
import os
import sys

import pytest

from burnish.progress import Lossy, bar


class Broken(io.StringIO):
    """Breaks at its second write, as a pipe whose reader has gone."""

    def __init__(self, error):
        super().__init__()
        self.error, self.calls = error, 0

    def write(self, text):
        self.calls += 1
        if self.calls > 1:
            raise self.error
        return super().write(text)


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(5, "I/O"), ValueError("closed")])
def test_a_bar_that_cannot_write_is_dropped(monkeypatch, error):
    stream = Broken(error)
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(bar(range(5), "work", 5, mininterval=0)) == list(range(5))
    assert stream.calls == 2  # it does not try again


@pytest.mark.parametrize("stream", [None, open(os.devnull)])
def test_a_bar_without_a_stream_works(monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(bar(range(3), "work")) == [0, 1, 2]
    with bar(None, "work", 2) as shown:
        shown.update(2)


def test_a_bar_shows_where_the_work_is(capsys):
    list(bar(range(3), "work", unit="image"))
    assert "work: 100%" in (said := capsys.readouterr().err) and "3/3" in said


def test_a_lossy_stream_passes_on_what_it_can():
    stream = io.StringIO()
    lossy = Lossy(stream)
    assert lossy.write("text") == 4 and stream.getvalue() == "text"
    lossy.flush()
    assert lossy.isatty() is False
