"""Files are written whole or not at all, and any text can be written."""

import os
import stat
from pathlib import Path

import msgspec
import pytest

from gradientflow import files


def test_a_file_is_as_it_was_where_the_new_one_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "verdict.json"
    files.write(file, b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write(file, b"new" * 1000)
    assert file.read_bytes() == b"old"
    assert [f.name for f in tmp_path.iterdir()] == ["verdict.json"], "nothing is left behind"
    monkeypatch.undo()
    files.write(file, b"new")
    assert file.read_bytes() == b"new"


def test_a_new_file_has_the_rights_of_any_other_and_an_old_one_keeps_its_own(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    files.write(tmp_path / "new", "x")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    (tmp_path / "new").chmod(0o600)
    files.write(tmp_path / "new", "y")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600


def test_a_link_stays_a_link_and_a_device_is_written_to(tmp_path: Path) -> None:
    (tmp_path / "true").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "true")
    files.write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "true").read_text() == "new"
    files.write(Path("/dev/null"), "x")
    with pytest.raises(OSError, match="space"):
        files.write(Path("/dev/full"), "x" * 100_000)


def test_any_text_can_be_encoded() -> None:
    assert files.encoded({"a\ud800": ["b\udfff", 1.0]}) == b'{"a\\\\ud800":["b\\\\udfff",1.0]}'
    assert files.encoded(msgspec.Raw(b"[1]")) == b"[1]"


def test_the_working_directory_may_be_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    assert files.here() == gone and files.shown(gone / "runs/x") == Path("runs/x")
    gone.rmdir()
    assert files.here().is_dir()
    assert files.settled(Path("runs")).is_absolute()
    assert files.shown(tmp_path / "x") == tmp_path / "x"
