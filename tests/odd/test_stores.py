"""Runs on disk that are spoilt in every way: a report, or one sentence; never a traceback, and never without an end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from gradientflow import cli, store
from gradientflow.cli import report
from gradientflow.depth import judge
from gradientflow.records import Note
from gradientflow.report import terminal
from gradientflow.report.view import pack
from tests.depth.scripts import sandbox, write
from tests.odd.graphs import ways
from tests.odd.harness import PATIENCE, Answer, ask, spoilt
from tests.odd.spoiling import Way
from tests.report.pages import Page, unpacked

# All odd values in all places, some thousand stores: GRADIENTFLOW_ODD=all
ALL = os.environ.get("GRADIENTFLOW_ODD") == "all"
SHARE = {"sigmoids": (20, 0), "recurrence": (12, 30), "root of zero": (10, 25)}  # odd values, other ways (0: every one)

SCRIPTS = {
    "sigmoids": (
        """
        import torch
        from torch import nn
        torch.manual_seed(0)
        net = nn.Sequential(*[m for _ in range(5) for m in (nn.Linear(8, 8), nn.Sigmoid())], nn.Linear(8, 3))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
        x, y = torch.randn(32, 8), torch.randint(0, 3, (32,))
        for _ in range(20):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
        """,
        ["--jacobian"],
    ),
    "recurrence": (
        """
        import torch
        from torch import nn
        torch.manual_seed(0)
        cell, head = nn.RNN(4, 8, batch_first=True), nn.Linear(8, 1)
        optimizer = torch.optim.Adam([*cell.parameters(), *head.parameters()], lr=0.01)
        x = torch.randn(16, 30, 4)
        for _ in range(12):
            optimizer.zero_grad()
            (head(cell(x)[0][:, -1]) - x[:, 0, :1]).pow(2).mean().backward()
            optimizer.step()
        """,
        [],
    ),
    "root of zero": (
        """
        import torch
        w = torch.ones(3, requires_grad=True)
        optimizer = torch.optim.SGD([w], lr=0.5)
        for _ in range(8):
            optimizer.zero_grad()
            torch.sqrt((w - 1).pow(2).sum()).backward()
            optimizer.step()
        """,
        [],
    ),
}


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three real runs: one that vanishes, one over time, one that is not finite."""
    folder = tmp_path_factory.mktemp("sound")
    made = {}
    for k, (name, (text, options)) in enumerate(SCRIPTS.items()):
        script = write(folder, text, f"script_{k}.py")
        made[name] = folder / f"run_{k}"
        with sandbox(), pytest.raises(SystemExit) as stop:
            cli.main(["run", "--quiet", *options, "--out", str(made[name]), str(script)])
        assert not stop.value.code
    return made


def _asked(way: Way, run: Path, into: Path, *command: str) -> Answer:
    folder = spoilt(way, run, into)
    return ask(way.name, *(command or ("report",)), str(folder), folder=folder)


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_spoilt_run_is_reported_or_refused_in_one_sentence(
    name: str, sound: dict[str, Path], tmp_path: Path
) -> None:
    values, fixed = (0, 0) if ALL else SHARE[name]
    tried = ways(sound[name], name, 1, values, fixed)
    assert len({way.name for way in tried}) >= (150 if name == "sigmoids" else 45)
    answers = [_asked(way, sound[name], tmp_path / "x") for way in tried]
    assert [f"{a.name}: {fault}\n{a.raised}" for a in answers for fault in a.faults] == []
    assert max(a.seconds for a in answers) < PATIENCE
    reported = sum(a.code == 0 for a in answers)
    assert reported > 0.85 * len(answers)  # a sentence alone is for files of which nothing can be read
    noted = {a.name: str(Page(a.page).data["view"]["notes"]) for a in answers if a.page}
    untold = [
        a.name for a in answers if a.page and ("left out" in noted[a.name]) != ("left out" in " ".join(a.said.split()))
    ]
    assert untold == []  # what the page says was left out, the terminal says too


@pytest.mark.parametrize("format", ["json", "sarif", "github"])
def test_programs_are_told_of_spoilt_runs_too(format: str, sound: dict[str, Path], tmp_path: Path) -> None:
    for way in ways(sound["sigmoids"], "s", 2, 8, 16):
        answer = _asked(way, sound["sigmoids"], tmp_path / "x", "report", "--format", format)
        assert answer.faults == [], (answer, answer.raised)


def test_a_replay_of_a_spoilt_run_is_refused_in_one_sentence(sound: dict[str, Path], tmp_path: Path) -> None:
    """The script has changed since, so where the record is as it was no trial is begun either."""
    script = sound["sigmoids"].parent / "script_0.py"
    text = script.read_text()
    try:
        script.write_text("# changed\n" + text)
        answers = [
            _asked(way, sound["sigmoids"], tmp_path / "x", "replay", "--quiet", "--budget", "1")
            for way in ways(sound["sigmoids"], "s", 3, 20, 40)
        ]
        as_it_was = _asked(
            Way("as it was", lambda folder: None), sound["sigmoids"], tmp_path / "x", "replay", "--quiet"
        )
    finally:
        script.write_text(text)
    assert [(a.name, a.faults, a.code, a.raised) for a in answers if a.faults or a.code != 2] == []
    assert sum("the record of this run is damaged" in a.said for a in answers) > 10
    assert "has changed since it was watched" in as_it_was.said  # and not: is damaged


# ── what the harness is worth: without the guards it finds what they hold back ───────────────────────────────────────


def test_without_the_guard_of_rows_the_harness_finds_tracebacks(
    sound: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loops = next(w for w in ways(sound["sigmoids"], "s", 1, 1) if w.name == "s: the root is at 99999")
    assert _asked(loops, sound["sigmoids"], tmp_path / "x").faults == []
    monkeypatch.setattr(store.reading, "wrong_with", lambda record: None)
    said = _asked(loops, sound["sigmoids"], tmp_path / "x").said
    assert "IndexError" in said


@pytest.mark.parametrize("where", ["terminal", "page"])
def test_without_the_guard_of_parts_one_part_takes_the_rest(
    where: str, sound: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **more: Any) -> Any:
        raise OverflowError("of the part")

    room, part = (terminal, "time_lines") if where == "terminal" else (pack, "curves")
    monkeypatch.setattr(room, part, broken)
    same = Way("as it was", lambda folder: None)
    guarded = _asked(same, sound["sigmoids"], tmp_path / "x")
    assert guarded.faults == [] and guarded.page is not None
    told = guarded.said if where == "terminal" else " ".join(unpacked(guarded.page).problems)
    name = "the gradient over time" if where == "terminal" else "the curves"
    assert f"{name} could not be drawn: OverflowError: of the part." in " ".join(told.split())
    assert "where the" in guarded.page and "decades went" in guarded.page  # the rest is there
    monkeypatch.setattr(room, "guarded", lambda name, make, told: make())
    bare = _asked(same, sound["sigmoids"], tmp_path / "x")
    assert bare.code == 2 and ("could not be shown whole" in bare.said or "could not be made" in bare.said)


def test_the_harness_finds_a_traceback_and_a_command_that_never_ends(
    sound: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(run: Any) -> Any:
        while True:
            pass

    def broken(run: Any) -> Any:
        raise IndexError("no guard here")

    same = Way("as it was", lambda folder: None)
    monkeypatch.setattr(report.depth, "judge", broken)
    assert "IndexError" in str(_asked(same, sound["sigmoids"], tmp_path / "x").faults)
    monkeypatch.setattr(report.depth, "judge", endless)
    monkeypatch.setattr("tests.odd.harness.PATIENCE", 0.3)
    assert "not done after 0.3 s" in str(_asked(same, sound["sigmoids"], tmp_path / "x").faults)


# ── what is said ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_record_that_lost_the_birth_of_a_nan_is_never_called_healthy(sound: dict[str, Path], tmp_path: Path) -> None:
    """Its first probe, which shows where the NaN came from, is not sound: what is left must not deny the losses."""
    every = ways(sound["root of zero"], "r", 1, 1)
    way = next(w for w in every if w.name == "r: one probe's operations are their own parents")
    run = store.read(spoilt(way, sound["root of zero"], tmp_path / "x"))
    assert judge(run).symptom == "not-finite"


@pytest.mark.parametrize("what", ["no description", "parameters are numbered 99999"])
def test_layers_that_the_record_has_lost_are_not_called_healthy(
    what: str, sound: dict[str, Path], tmp_path: Path
) -> None:
    way = next(w for w in ways(sound["sigmoids"], "s", 1, 1) if w.name == f"s: {what}")
    run = store.read(spoilt(way, sound["sigmoids"], tmp_path / "x"))
    assert judge(run).symptom == "not-measured"
    assert "record of this run is damaged" in judge(run).summary
    run.notes = [n for n in run.notes if n.kind != "record"]
    assert judge(run).symptom == "healthy"  # and that is what it is for


def test_a_damaged_description_is_no_loose_wire(sound: dict[str, Path], tmp_path: Path) -> None:
    """An optimizer whose entry has lost its parameters: they were held by it in the script."""
    odd = [w for w in ways(sound["recurrence"], "r", 1, 0) if "Meta.optimizers.*.params = text" in w.name]
    run = store.read(spoilt(odd[0], sound["recurrence"], tmp_path / "x"))
    assert "disconnected" not in {f.symptom for f in judge(run).findings}
    run.notes = [n for n in run.notes if n.kind != "record"]
    assert "disconnected" in {f.symptom for f in judge(run).findings}


def test_the_verdict_names_what_was_left_out(sound: dict[str, Path], tmp_path: Path) -> None:
    way = next(w for w in ways(sound["recurrence"], "r", 1, 1) if w.name == "r: a row of an unknown kind")
    run = store.read(spoilt(way, sound["recurrence"], tmp_path / "x"))
    (told,) = [n.text for n in run.notes if n.kind == "record"]
    assert told == "run.db is damaged: 1 of table rows left out (the first: a kind 'Odd' is not known)"
    verdict = judge(run)
    assert told in verdict.watch.errors
    run.notes = [Note("advice", "x")]
    assert judge(run).watch.errors == []
