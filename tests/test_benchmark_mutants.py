"""Faults put into healthy training loops: the texts they replace are there, the judge is strict, and a few of them are run."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.loop_mutants import HEALTHY, SCRIPTS, judge, lay_out, main, pick, places, run, sound, table, text_of
from benchmarks.mutants.faults import MUTANTS, NAMED, SILENT, VERDICT, Mutant

FAULT = Mutant("lr", "lr", "waves", (("lr=0.1", "lr=0.0"),), ("crawling",), ("step-too-small",), ("lr=0.0",))


def verdict(
    symptom: str, cause: str = "", line: int | None = None, why: str = "", state: str = "held"
) -> dict[str, Any]:
    findings = [{"cause": cause, "place": {"line": line}}] if cause else []
    certificates = [{"name": "step", "state": state, "why": why}]
    return {"symptom": symptom, "findings": findings, "certificates": certificates, "loss": {"first": 1.0, "last": 1.0}}


def test_every_fault_can_be_put_in_and_gives_python(tmp_path: Path) -> None:
    files = lay_out(tmp_path, MUTANTS)
    assert len(files) == len(MUTANTS) >= 40 and len({m.kind for m in MUTANTS}) >= 10
    for mutant in MUTANTS:
        text = files[mutant.name].read_text(encoding="utf-8")
        compile(text, mutant.name, "exec")
        assert text != (SCRIPTS / f"{mutant.script}.py").read_text(encoding="utf-8")
        re.compile(mutant.says)
        assert mutant.why or mutant.demand == VERDICT, f"{mutant.name}: why is its verdict not demanded?"
        assert mutant.says or mutant.demand != NAMED, mutant.name
        assert (mutant.symptoms and mutant.causes) or mutant.demand != VERDICT, mutant.name


def test_a_text_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="stands 0 times"):
        text_of(dataclasses.replace(FAULT, replace=(("no such text", ""),)))
    with pytest.raises(ValueError, match="stands 2 times"):
        text_of(dataclasses.replace(FAULT, replace=(("optimizer)", ""),)))
    with pytest.raises(ValueError, match="no line"):
        text_of(dataclasses.replace(FAULT, at=("no such line",)))
    assert len(places(FAULT, text_of(FAULT))) == 1


def test_a_fault_that_does_harm_has_to_be_the_verdict() -> None:
    right = judge(FAULT, [10], verdict("crawling", "step-too-small", 12))
    assert right.told and right.right_line
    assert judge(FAULT, [10], verdict("crawling", "step-too-small", 13)).right_line is False
    assert not judge(FAULT, [10], verdict("crawling", "rounding", 10)).told
    assert not judge(FAULT, [10], verdict("noisy", "step-too-small", 10)).told
    assert not judge(FAULT, [10], verdict("healthy", why="lr is 0 (train.py:10)")).told


def test_a_fault_without_harm_is_named_with_its_line_or_is_the_verdict() -> None:
    named = dataclasses.replace(FAULT, demand=NAMED, says="lr is 0", why="a choice")
    told = judge(named, [10], verdict("healthy", why="lr is 0 (train.py:10)"))
    assert told.told and told.right_line and told.sentence == "lr is 0 (train.py:10)"
    assert judge(named, [10], verdict("healthy", why="lr is 0 (train.py:101)")).right_line is False
    assert not judge(named, [10], verdict("healthy", why="all is well (train.py:10)")).told
    assert judge(named, [10], verdict("crawling", "step-too-small", 10)).told
    assert not judge(named, [10], verdict("crawling", "rounding", 10, why="lr is 0 (train.py:10)")).told


def test_what_may_stay_unsaid_must_not_be_called_by_another_name() -> None:
    silent = dataclasses.replace(FAULT, demand=SILENT, symptoms=(), causes=(), at=(), why="a task like any other")
    assert judge(silent, [], verdict("healthy")).told
    assert not judge(silent, [], verdict("crawling", "step-too-small", 10)).told


def test_a_healthy_script_has_to_hold_every_certificate() -> None:
    assert sound("waves", verdict("healthy")).told
    assert not sound("waves", verdict("healthy", state="not-measured")).told
    assert not sound("waves", verdict("crawling", "step-too-small")).told


def test_the_table_counts_by_kind() -> None:
    results = [judge(FAULT, [10], verdict("crawling", "step-too-small", 10)), judge(FAULT, [10], verdict("healthy"))]
    lines = table([*results, sound("waves", verdict("healthy"))]).splitlines()
    assert re.match(r"lr +2 +1/2 \(50.0 %\) +1 +0 +1/2 ", lines[2])
    assert lines[-1].startswith("total") and " 1/2 " in lines[-1]


def test_faults_are_picked_by_kind_or_name() -> None:
    assert {m.kind for m in pick("clip")} >= {"clip"}
    assert [m.name for m in pick("learning rate 0 by")] == ["learning rate 0 by its schedule"]
    assert pick("none") == []


@pytest.mark.slow
@pytest.mark.parametrize("name", HEALTHY)
def test_a_script_without_a_fault_is_healthy_with_every_certificate(name: str) -> None:
    result = run(name, SCRIPTS / f"{name}.py", 300)
    assert result.told, result


@pytest.mark.slow
def test_some_faults_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = [
        m
        for m in MUTANTS
        if m.name in ("clip before unscale_", "one group is not the optimizer's", "gradient added twice")
    ]
    assert len(few) == 3
    for mutant, file in zip(few, lay_out(tmp_path, few).values(), strict=True):
        result = run(mutant, file, 300)
        assert result.told and result.right_line, result


def test_into_writes_and_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--into", str(tmp_path / "made"), "--only", "clip to 1e-4"]) == 0
    assert [f.name for f in (tmp_path / "made").glob("*/*")] == ["waves.py"]
    assert not capsys.readouterr().out
