"""A part of a report that cannot be made costs its place, never the rest."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from gradientflow.records import Run, Verdict
from gradientflow.report import print_verdict
from gradientflow.report.terminal import Page
from tests.report.pages import held, rendered, unpacked

SENTENCE = "could not be drawn: ZeroDivisionError"


def fails(*_: object, **__: object) -> str:
    raise ZeroDivisionError("by nothing")


def printed(case: tuple[Verdict, Run]) -> str:
    out = io.StringIO()
    print_verdict(case[0], case[1], Console(file=out, width=100))
    return out.getvalue()


@pytest.mark.parametrize(
    ("part", "name"),
    [("waterfall", "the gradient's way back"), ("budget", "where the decades went"), ("headline", "the headline")],
)
def test_on_the_terminal(part: str, name: str, case: tuple[Verdict, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = printed(case)
    assert SENTENCE not in whole  # control
    monkeypatch.setattr(Page, part, fails)
    cut = printed(case)
    assert f"{name} {SENTENCE}" in " ".join(cut.split())
    assert whole.splitlines()[-1] == cut.splitlines()[-1]  # and the rest is there


@pytest.mark.parametrize(
    ("part", "name"),
    [("pack.way", "the way back at step"), ("pack.routes", "where routes part at step"), ("pack.curves", "the curves"), ("pack.mapped", "the map of"),
     ("opened._about", "what was watched"), ("opened.tables", "the way to the step"), ("opened.jacobians", "the singular values")],
)  # fmt: skip
def test_on_the_page(part: str, name: str, case: tuple[Verdict, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = held(*case)
    assert whole.problems == [] and SENTENCE not in str(whole.view.notes)  # control
    monkeypatch.setattr(f"gradientflow.report.view.{part}", fails)
    cut = held(*case)
    told = [*cut.problems, *(text for kind, text in cut.view.notes if kind == "report")]
    of_a_step = part in ("pack.way", "pack.routes")
    assert len(told) == (len(whole.ways) if of_a_step else 2 if part == "pack.mapped" else 1)
    assert all(re.match(rf"{name}.*{SENTENCE}", text) for text in told)
    assert cut.view.verdict.symptom == case[0].symptom and len(cut.ways) == len(whole.ways)  # and the rest is there


def test_the_text_of_the_page_that_cannot_be_made_costs_the_text(
    case: tuple[Verdict, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Page, "lines", fails)
    text = rendered(*case)
    assert f"the verdict as text {SENTENCE}" in text and unpacked(text).problems == []
