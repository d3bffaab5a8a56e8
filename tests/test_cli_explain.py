"""`gradientflow explain` and `--format brief` on the command line: what goes where, and with which exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradientflow import cli
from tests.depth.scripts import sandbox, write

DIVERGES = """
import torch
w = torch.ones(3, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=1.2)
for step in range(12):
    optimizer.zero_grad()
    (w ** 2).sum().backward()
    optimizer.step()
print("the script's own output")
"""


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that diverges."""
    folder = tmp_path_factory.mktemp("explain")
    with sandbox():
        write(folder, DIVERGES, "train.py")
        call("run", "-q", "--out", str(folder / "kept"), str(folder / "train.py"))
    return folder / "kept"


def call(*argv: str) -> int:
    with pytest.raises(SystemExit) as done:
        cli.main([*argv])
    return int(done.value.code or 0)


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir() if p.is_file()}


def test_explain_goes_to_standard_output_and_writes_nothing(kept: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = files(kept)
    assert call("explain", str(kept)) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert "\n1. diverging because of step-too-large, confidence " in out
    assert "     >     4  optimizer = torch.optim.SGD([w], lr=1.2)" in out
    assert "\nWhat was proven\n  finite: held. " in out
    assert out.endswith(f"\nNext: gradientflow replay {kept}\n")
    assert files(kept) == before


def test_explain_of_one_finding(kept: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("explain", str(kept), "1") == 0
    out, _ = capfd.readouterr()
    assert "1. diverging" in out
    assert "What was proven" not in out


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["9"], "finding 9 is not there"),
        (["0"], "expected a whole number, 1 or more"),
        (["one"], "FINDING"),
        (["--all"], "--all"),
    ],
)
def test_what_explain_cannot_tell(kept: Path, more: list[str], told: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("explain", str(kept), *more) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert told in err


def test_a_run_that_is_not_there_and_one_that_is_damaged(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("explain", str(tmp_path / "nowhere")) == 2
    assert "holds no run" in capfd.readouterr().err
    (tmp_path / "run.db").write_bytes(b"no record at all" * 99)
    assert call("explain", str(tmp_path)) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("gradientflow: ")


def test_brief_of_a_run_on_disk(kept: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("report", "-q", "--format", "brief", str(kept)) == 0
    out = capfd.readouterr().out
    first, *_, last = out.splitlines()
    assert (first, last) == ("form: gradientflow.brief/1", f"next: gradientflow replay {kept}")
    assert call("report", "-q", "--format", "brief", "--output", str(tmp_path / "brief.txt"), str(kept)) == 0
    assert capfd.readouterr().out == ""
    assert (tmp_path / "brief.txt").read_text(encoding="utf-8") == out


def test_more_of_the_evidence_on_request(kept: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("report", str(kept)) == 0
    few = capfd.readouterr().err
    assert call("report", "-v", str(kept)) == 0
    all_of_it = capfd.readouterr().err
    assert "more number" in few
    assert "more number" not in all_of_it
    assert len(all_of_it.splitlines()) > len(few.splitlines())
