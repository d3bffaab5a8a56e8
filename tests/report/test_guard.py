"""A part of a report that cannot be made costs its place, never the rest."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from gradientflow.records import Run, Verdict
from gradientflow.report import print_verdict
from gradientflow.report.html import render_html
from gradientflow.report.terminal import Page

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
    ("part", "name"), [("waterfall", "the gradient’s way back"), ("loss_chart", "the loss"), ("island", "")]
)
def test_on_the_page(part: str, name: str, case: tuple[Verdict, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = render_html(*case)
    assert SENTENCE not in whole  # control
    monkeypatch.setattr(f"gradientflow.report.html.{part}", fails)
    cut = render_html(*case)
    assert (f"{name} {SENTENCE}" in cut) == bool(name)
    assert cut.rstrip().endswith("</html>")
    assert case[0].symptom in cut
