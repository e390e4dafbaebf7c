"""Files are written whole or not at all, and nothing is left beside them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from animator_core.errors import MediaError
from animator_core.writing import PartialFile, partial_path, whole_file, write_bytes, write_text


def only_file(folder: Path) -> str:
    """The text of the one file in a folder."""
    (file,) = folder.iterdir()
    return file.read_text(encoding="utf-8")


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    with whole_file(target) as file:
        file.write(b"first")
        assert not target.exists()
    assert only_file(tmp_path) == "first"
    with whole_file(target) as file:
        file.write(b"second")
        assert target.read_text() == "first"
    assert only_file(tmp_path) == "second"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_file_leaves_what_was_there(
    tmp_path: Path, error: type[BaseException]
) -> None:
    target = tmp_path / "a.json"
    target.write_text("first")

    def interrupted() -> None:
        with whole_file(target) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        interrupted()
    assert only_file(tmp_path) == "first"


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write_text("first", tmp_path / "a.json")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MediaError, match=r"a\.json cannot be written: .*No space left.*free some"):
        write_text("second", tmp_path / "a.json")
    assert only_file(tmp_path) == "first"


def test_folders_are_made_for_small_files_only(tmp_path: Path) -> None:
    write_bytes("ü".encode(), tmp_path / "new" / "folder" / "a.txt")
    assert only_file(tmp_path / "new" / "folder") == "ü"
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "missing" / "a.txt"):
        pass
    with pytest.raises(MediaError, match="cannot be written"):
        write_text("x", tmp_path / "new" / "folder" / "a.txt" / "b.txt")
    assert not (tmp_path / "missing").exists()


def test_partial_files_are_hidden_and_never_share_a_name(tmp_path: Path) -> None:
    target = tmp_path / "clip.mp4"
    first, second = partial_path(target), partial_path(target)
    assert first != second
    assert first.parent == tmp_path
    assert first.name.startswith(".")
    assert first.suffix == ".part"
    assert partial_path(target, ".mp4").suffix == ".mp4"


def test_a_partial_file_is_completed_or_discarded(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    partial = PartialFile(target, suffix=".txt")
    partial.discard()  # nothing is there yet
    partial.path.write_text("half")
    partial.discard()
    assert not list(tmp_path.iterdir())
    partial.path.write_text("whole")
    partial.complete()
    partial.discard()  # it is the target's now
    assert only_file(tmp_path) == "whole"
