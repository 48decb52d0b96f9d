"""Files are written whole or not at all, and targets are checked before the work."""

import errno
import os
import shutil

import pytest

from burnish.errors import InputError
from burnish.files import check_target, path_sha256, write_aside
from burnish.leftovers import aside_of

DEAD = 2**22 + 1  # no process has so large a number


def listing(folder):
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def fill(aside, kind, text):
    if kind == "folder":
        aside.mkdir()
        (aside / text).write_text(text)
    else:
        aside.write_text(text)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_write_aside_replaces_whole(tmp_path, kind):
    for text in ("old", "new"):
        with write_aside(tmp_path / "it") as aside:
            fill(aside, kind, text)
    assert listing(tmp_path) == {"it/new" if kind == "folder" else "it": "new"}


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_write_aside_keeps_the_old_when_the_block_fails(tmp_path, kind, error):
    path = tmp_path / "it"
    fill(path, kind, "old")
    before = listing(tmp_path)
    with pytest.raises(error), write_aside(path) as aside:
        fill(aside, kind, "half")
        raise error
    assert listing(tmp_path) == before and len(list(tmp_path.iterdir())) == 1


def test_write_aside_keeps_the_old_folder_when_the_last_rename_fails(tmp_path, monkeypatch):
    path = tmp_path / "it"
    fill(path, "folder", "old")
    rename, calls = os.replace, []

    def fails_once(source, target):
        calls.append(source)
        if len(calls) == 2:
            raise OSError("disk")
        rename(source, target)

    monkeypatch.setattr(os, "replace", fails_once)
    with pytest.raises(OSError, match="disk"), write_aside(path) as aside:
        fill(aside, "folder", "new")
    assert listing(tmp_path) == {"it/old": "old"} and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(("old", "new"), [("file", "folder"), ("folder", "file")])
def test_write_aside_replaces_no_file_by_a_folder_nor_the_reverse(tmp_path, old, new):
    path = tmp_path / "it"
    fill(path, old, "old")
    before = listing(tmp_path)
    with pytest.raises(InputError, match=f"is a {old} already"), write_aside(path) as aside:
        fill(aside, new, "new")
    assert listing(tmp_path) == before and len(list(tmp_path.iterdir())) == 1


def test_write_aside_replaces_what_a_killed_process_left(tmp_path):
    with write_aside(tmp_path / "it") as aside:
        name = aside.name
        aside.touch()
    fill(tmp_path / name, "folder", "stale")
    with write_aside(tmp_path / "it") as aside:
        aside.write_text("new")
    assert listing(tmp_path) == {"it": "new"}


def test_targets_are_checked(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder.npz").mkdir()
    for path in (tmp_path / "new" / "it.npz", tmp_path / "file", tmp_path / "new"):
        check_target(path, tmp_path / "input.npz")
    for name, reason in (
        ("file/it.npz", "is a file"),
        ("folder.npz", "is a folder"),
        ("new/../file", "replace its own input"),
    ):
        with pytest.raises(InputError, match=reason):
            check_target(tmp_path / name, tmp_path / "file")
    with pytest.raises(InputError, match="no file name"):
        check_target(tmp_path.joinpath("/"))


def test_sha256_of_files_and_folders(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert path_sha256(tmp_path / "abc") == expected
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "abc").write_bytes(b"abc")
    one = path_sha256(tmp_path / "one")
    (tmp_path / "one").rename(tmp_path / "two")
    assert path_sha256(tmp_path / "two") == one
    (tmp_path / "two" / "abc").rename(tmp_path / "two" / "abd")
    assert path_sha256(tmp_path / "two") != one


def test_sha256_of_names_that_are_not_utf8(tmp_path):
    hashes = set()
    for name in (b"\xff", b"\xfe", "é".encode()):
        folder = tmp_path / str(len(hashes))
        folder.mkdir()
        (folder / os.fsdecode(name)).touch()
        hashes |= {path_sha256(folder), path_sha256(folder / "*")}
    assert len(hashes) == 3


def test_what_killed_processes_left_is_removed_and_what_others_write_is_not(tmp_path):
    mine = aside_of(tmp_path / "it", "part").name
    host = mine.split(".")[2].split("-")[0]
    foreign = {"dead": f".it.{host}-{DEAD}.part", "inner": f"..it.{host}-{DEAD}.part.x"}
    alive = {"parent": f".it.{host}-{os.getppid()}.part", "elsewhere": ".it.000000-1.part"}
    others = {"name": f".it2.{host}-{DEAD}.part", "user": ".it.part"}
    fill(tmp_path / foreign["dead"], "folder", "half")
    for name in (foreign["inner"], *alive.values(), *others.values()):
        (tmp_path / name).touch()
    old = tmp_path / ".it.000000-2.part"
    old.touch()
    os.utime(old, (0, 0))  # of another host, and not touched for a day
    with write_aside(tmp_path / "it") as aside:
        aside.write_text("new")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"it", *alive.values(), *others.values()}


def test_a_folder_that_a_killed_process_had_moved_away_comes_back(tmp_path):
    away = aside_of(tmp_path / "it", "old")
    dead = away.with_name(away.name.replace(f"-{os.getpid()}.", f"-{DEAD}."))
    fill(dead, "folder", "old")
    with pytest.raises(KeyError), write_aside(tmp_path / "it"):
        raise KeyError
    assert listing(tmp_path) == {"it/old": "old"}


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("name", ["n" * 255, "é" * 127, os.fsdecode(b"\xff" * 250), "a\nb|<i>"])
def test_every_name_that_a_file_may_have_is_written(tmp_path, kind, name):
    for text in ("old", "new"):
        with write_aside(tmp_path / name) as aside:
            assert not aside.exists()
            fill(aside, kind, text)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("whose", ["python", "torch", "rename", "other"])
def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, monkeypatch, whose):
    full = OSError(errno.ENOSPC, "No space left")

    def fails(*_):
        raise full

    if whose == "rename":
        monkeypatch.setattr(os, "replace", fails)
    if whose == "other":  # a library that does not say why
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 0))
    with pytest.raises(OSError, match="No space left") as caught:
        with write_aside(tmp_path / "new" / "it") as aside:
            aside.write_text("half")
            if whose == "python":
                raise full
            if whose == "torch":
                try:
                    raise full
                except OSError:
                    raise RuntimeError("unexpected pos 704 vs 598") from None
            if whose == "other":
                raise ValueError("I/O error")
    assert caught.value.filename == str(tmp_path / "new" / "it")
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_replaced_with_force_alone_and_an_input_never(tmp_path):
    for name in ("out", "in", "in.card.json", "in.ledger.parquet", "part-1.parquet"):
        (tmp_path / name).touch()
    fill(tmp_path / "images", "folder", "1.png")
    os.link(tmp_path / "in", tmp_path / "hard")
    check_target(tmp_path / "out", tmp_path / "in", force=True)
    check_target(tmp_path / "new", tmp_path / "in", "cifar10", force=False)
    check_target(tmp_path / "images" / "new.json", tmp_path / "images", force=False)
    with pytest.raises(InputError, match="--force"):
        check_target(tmp_path / "out", force=False)
    for name, given in (
        ("in", "in"), ("in.card.json", "in"), ("in.ledger.parquet", "in"), ("hard", "in"),
        ("in", "in[0-9]"), ("part-1.parquet", "part-*.parquet"), ("images/1.png", "images"),
    ):  # fmt: skip
        with pytest.raises(InputError, match="its own input"):
            check_target(tmp_path / name, str(tmp_path / given), force=True)
