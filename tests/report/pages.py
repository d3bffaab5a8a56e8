"""Reads a report's page: its tags, its text for readers without JavaScript, and the records that it holds."""

from __future__ import annotations

import base64
import gzip
import json
from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest

from gradientflow import depth
from gradientflow.records import Inlined, Run, Verdict
from gradientflow.report import Moment
from gradientflow.report.page import render_html

VOID = {"meta", "link", "br", "img", "hr", "input", "path", "polygon"}


def moment_of(verdict: Verdict, run: Run) -> Moment:
    return Moment(run, verdict, depth.way_at, depth.looked_at(run, verdict))


def rendered(verdict: Verdict, run: Run) -> str:
    return render_html(moment_of(verdict, run))


def held(verdict: Verdict, run: Run) -> Inlined:
    """The records that the page of a run holds."""
    return unpacked(rendered(verdict, run))


def records(page: str) -> bytes:
    """The records of a page, as JSON."""
    _, found, rest = page.partition('id="records">')
    assert found, "this page holds no records"
    return gzip.decompress(base64.b64decode(rest.partition("<")[0]))


def unpacked(page: str) -> Inlined:
    return msgspec.json.decode(records(page), type=Inlined)


class Page(HTMLParser):
    """Reads a page; complains about tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self._page = text
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append((self.tags[-1][1], data))
        elif self.open and self.open[-1] != "style":
            self.text += data

    @property
    def data(self) -> Any:
        """The records, as JSON that every browser reads."""
        return json.loads(records(self._page), parse_constant=lambda c: pytest.fail(f"{c} is not JSON"))
