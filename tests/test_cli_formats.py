"""`--format` and `--output` of the command line: where the findings go, and what is refused before a script is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gradientflow import cli
from tests.depth.scripts import sandbox, write

DIVERGES = """
import torch
w = torch.ones(3, requires_grad=True)
optimizer = torch.optim.SGD([w], lr={lr})
for step in range(12):
    optimizer.zero_grad()
    (w ** 2).sum().backward()
    optimizer.step()
print("the script's own output")
"""


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    with sandbox():
        yield


def call(*argv: str) -> int:
    with pytest.raises(SystemExit) as done:
        cli.main([*argv])
    return int(done.value.code or 0)


def script(lr: float = 1.2) -> str:
    return write(Path(), DIVERGES.format(lr=lr), "train.py").name


def test_annotations_come_after_the_scripts_own_output(capfd: pytest.CaptureFixture[str]) -> None:
    assert call("run", "-q", "--out", "kept", "--format", "github", script()) == 0
    first, *commands = capfd.readouterr().out.splitlines()
    assert first == "the script's own output"
    assert commands[0].startswith("::error file=train.py,line=4,title=diverging%3A step-too-large::The loss rises")
    assert call("report", "-q", "--format", "github", "kept") == 0
    assert capfd.readouterr().out.splitlines() == commands
    Path("sub").mkdir()
    assert call("run", "-q", "--format", "github", script(0.1)) == 0
    assert capfd.readouterr().out == "the script's own output\n"  # healthy: no annotation


def test_documents_go_to_a_file_and_only_on_request_to_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    assert call("run", "-q", "--out", "kept", "--format", "sarif", "--output", "found.sarif", script()) == 0
    assert capfd.readouterr().out == "the script's own output\n"
    log = json.loads(Path("found.sarif").read_text(encoding="utf-8"))
    location = log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
    assert location["artifactLocation"]["uri"] == "train.py" and location["region"]["startLine"] == 4
    assert location["region"]["snippet"]["text"] == "optimizer = torch.optim.SGD([w], lr=1.2)"
    assert call("report", "-q", "--format", "sarif", "kept") == 0
    assert json.loads(capfd.readouterr().out) == log
    assert call("report", "-q", "--format", "json", "--output", "again.json", "kept") == 0
    assert Path("again.json").read_bytes() == Path("kept/verdict.json").read_bytes()
    assert call("run", "-q", "--format", "json", "--output", "-", script()) == 0
    own, _, document = capfd.readouterr().out.partition("\n")
    assert own == "the script's own output" and json.loads(document)["symptom"] == "diverging"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--format", "xml"], "unknown format 'xml'. Expected one of text, brief, json, github, sarif"),
        (["--format", "sarif"], "--output verdict.sarif"),
        (["--format", "json"], "would be mixed with the script's own output"),
        (["--output", "x.json"], "--output goes with --format"),
        (["--format", "sarif", "--output", "no/such/folder/x"], "the folder no/such/folder does not exist"),
    ],
)
def test_what_cannot_be_done_is_refused_before_the_script_runs(
    options: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call("run", "-q", *options, script()) == 2
    told = capfd.readouterr()
    assert said in " ".join(told.err.split()) and told.out == "" and not Path("runs").exists()


def test_a_file_that_cannot_be_written_at_the_end_is_told_and_costs_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    text = DIVERGES.format(lr=1.2) + "\nimport os, shutil\nshutil.rmtree('gone')\n"
    Path("gone").mkdir()
    assert call("run", "-q", "--format", "sarif", "--output", "gone/x", write(Path(), text, "train.py").name) == 0
    told = capfd.readouterr().err
    assert "could not be written to" in told and "gone/x: No such file" in told
