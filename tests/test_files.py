"""Files are written whole or not at all, and targets are checked before the work."""

import os

import pytest

from burnish.errors import InputError
from burnish.files import check_target, path_sha256, write_aside


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
