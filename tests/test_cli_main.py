"""How a command ends: one line and an exit code, whoever stops it or closes what it writes to."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

import burnish.cli.commands
from burnish.cli.main import main
from burnish.errors import InputError


def ends(monkeypatch, capsys, run, *arguments):
    """Return the exit code and stderr of a command line that does ``run``."""
    monkeypatch.setattr(burnish.cli.commands, "run", lambda _: run())
    try:
        main(list(arguments))
    except SystemExit as stopped:
        return stopped.code, capsys.readouterr().err
    return 0, capsys.readouterr().err


def send(*numbers, then=None):
    """Return what sends itself signals, and raises another error, as half an import may."""

    def run():
        try:
            for number in numbers:
                os.kill(os.getpid(), number)
                time.sleep(0.01)
        except BaseException as error:
            if then is None:
                raise
            raise then from error

    return run


def raising(error):
    def run():
        raise error

    return run


@pytest.mark.parametrize(
    ("run", "code", "said"),
    [
        (send(signal.SIGINT), 130, "stopped"),
        (send(signal.SIGTERM), 143, "stopped"),
        (send(signal.SIGHUP), 129, "stopped"),
        (send(signal.SIGINT, then=ImportError("half of numpy")), 130, "stopped"),
        (send(signal.SIGTERM, then=OSError("interrupted")), 143, "stopped"),
        (raising(KeyboardInterrupt()), 130, "stopped"),
        (raising(InputError("wrong\n  here \x1b[2J")), 2, r"wrong here \x1b[2J"),
        (raising(OSError(errno.ENOSPC, "No space", "a.npz")), 2, "a.npz: the disk is full; free "
         "some space or choose another place"),
        (raising(PermissionError(errno.EACCES, "denied", "a")), 2, "a: denied"),
        (raising(MemoryError()), 2, "not enough memory; give fewer or smaller images, or a "
         "smaller --batch-size"),
    ],
)  # fmt: skip
def test_whatever_ends_a_command_is_said_on_one_line(monkeypatch, capsys, run, code, said):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert ends(monkeypatch, capsys, run, "report") == (code, f"burnish: {said}\n")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_training_says_how_to_go_on(monkeypatch, capsys):
    code, said = ends(monkeypatch, capsys, send(signal.SIGTERM), "train", "all", "x.yaml")
    assert code == 143 and said == "burnish: stopped; give the same command again to go on\n"


def test_a_signal_that_comes_twice_disturbs_no_cleaning(monkeypatch, capsys):
    cleaned = []

    def run():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            cleaned.append(True)

    assert ends(monkeypatch, capsys, run)[0] == 130 and cleaned


def test_a_fault_of_burnish_itself_is_not_hidden(monkeypatch, capsys):
    with pytest.raises(ZeroDivisionError):
        ends(monkeypatch, capsys, lambda: 1 / 0)


def shell(line):
    """Run a line of the shell, in which $B is burnish."""
    line = line.replace("$B", f"{sys.executable} -m burnish")
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout.strip(), done.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("$B --version >&-; echo $?", "0"),
        ("$B --version 2>&- >&- <&-; echo $?", "0"),
        ("$B nonsense 2>&-; echo $?", "2"),
        ("$B --version >/dev/full; echo $?", "2"),
    ],
)
def test_what_is_closed_decides_over_no_job(line, said):
    found, err = shell(line)
    assert found == said and "Traceback" not in err and "Exception" not in err


@pytest.mark.parametrize(
    ("stream", "word", "code"),
    [("stdout", "--version", 141), ("stdout", "--help", 141), ("stderr", "nonsense", 2)],
)
def test_a_pipe_that_nobody_reads_ends_the_command_quietly(stream, word, code):
    reader, writer = os.pipe()
    os.close(reader)
    pipes = [writer if name == stream else subprocess.PIPE for name in ("stdout", "stderr")]
    command = [sys.executable, "-m", "burnish", word]
    done = subprocess.run(
        command, text=True, check=False, timeout=60, stdout=pipes[0], stderr=pipes[1]
    )
    os.close(writer)
    assert done.returncode == code and not (done.stderr or done.stdout)
