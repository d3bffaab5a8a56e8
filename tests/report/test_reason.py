"""An alternative finding says why it ranks lower, on the terminal and on the page; the first one says nothing of the kind."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from gradientflow.records import Budget, Finding, Loss, Meta, Run, Verdict, Watch
from gradientflow.report import print_verdict
from tests.report.pages import Page, rendered


def told(reason: str) -> tuple[str, str]:
    findings = [
        Finding("vanishing", "saturating-activation", 0.9, None, "The gradient shrinks.", {}, []),
        Finding("vanishing", "init-too-small", 0.6, None, "The weights start too small.", {}, [], reason),
    ]
    verdict = Verdict("t.py", 3, Loss(), "vanishing", findings, Budget(), Watch())
    out = io.StringIO()
    print_verdict(verdict, None, Console(file=out))
    return out.getvalue(), rendered(verdict, Run(Meta("t.py", [], "/", "", "", "")))


@pytest.mark.parametrize("reason", ["it takes 1.0 of the 5.0 decades", ""])
def test_why_a_finding_ranks_lower(reason: str) -> None:
    said, page = told(reason)
    for text in (said, Page(page).text):
        assert text.count("ranks lower: ") == (1 if reason else 0)
        assert not reason or f"ranks lower: {reason}." in text


def test_a_reason_cannot_steer_the_page() -> None:
    _, page = told("<script>alert(1)</script>")
    assert "<script>alert(1)" not in page
