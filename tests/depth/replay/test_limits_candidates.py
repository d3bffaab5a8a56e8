"""How many remedies are tried, of how many findings, and in which order."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gradientflow.depth.remedies.row import Row
from gradientflow.depth.replay import candidates as choice
from gradientflow.records import Budget, Change, Finding, Loss, Meta, Remedy, Run, Verdict, Watch


def planned(monkeypatch: pytest.MonkeyPatch, *remedies: list[str]) -> Callable[..., list[str]]:
    """The kinds that are tried of findings with these remedies, each of which has one plan."""
    table = {k: Row(k, lambda plan, finding, k=k: [Change(k, k)], "", lambda job: None) for ks in remedies for k in ks}
    monkeypatch.setattr(choice, "TABLE", table)
    findings = [
        Finding("dead", f"cause-{n}", 0.9, None, "", {}, [Remedy(k, "") for k in kinds])
        for n, kinds in enumerate(remedies)
    ]
    run = Run(Meta("a.py", [], "", "", "", ""))
    verdict = Verdict("a.py", 1, Loss(), "dead", findings, Budget(), Watch())
    return lambda **more: [change.kind for _, change in choice.candidates(run, verdict, **more)]


def test_so_many_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    assert planned(monkeypatch, ["a", "b", "c", "d", "e", "f"])() == ["a", "b", "c", "d"]
    assert planned(monkeypatch, ["a", "b", "c"])() == ["a", "b", "c"]


def test_two_of_the_top_finding_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    assert planned(monkeypatch, ["a", "b", "c", "d"], ["x", "y"])(most=9) == ["a", "b", "x", "c", "d", "y"]


def test_findings_that_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    assert planned(monkeypatch, ["a"], ["b"], ["c"], ["d"], ["e"])(most=9) == ["a", "b", "c", "d"]
    run = Run(Meta("a.py", [], "", "", "", ""))
    findings = [Finding("dead", str(n), 0.9, None, "", {}, [Remedy(f"unknown-{n}", "")]) for n in range(5)]
    verdict = Verdict("a.py", 1, Loss(), "dead", findings, Budget(), Watch())
    assert [index for index, _, _ in choice.untried(run, verdict)] == [0, 1, 2, 3]
