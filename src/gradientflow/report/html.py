"""The verdict as one self-contained HTML page: no network, no fonts, opens from file://, and reads without JavaScript.

Everything is drawn on this side, as HTML, SVG and one small picture; the script in `page.js` only adds selection,
sorting, read-outs and the theme. It reads one JSON island: the verdict itself, and what it needs beside it.
"""

from __future__ import annotations

import math
import pathlib
from collections.abc import Callable
from importlib import resources
from typing import Any

import msgspec

from gradientflow.apart import apart
from gradientflow.files import write
from gradientflow.records import MARKS, Run, Verdict
from gradientflow.report import isometry, parts, words
from gradientflow.report.curve import loss_chart
from gradientflow.report.guard import guarded
from gradientflow.report.heat import Heat
from gradientflow.report.over_time_page import time_card
from gradientflow.report.proof_page import certificates_card, steps_card
from gradientflow.report.replay_panel import replay_panel
from gradientflow.report.waterfall import island, panel, waterfall

_NAMES = {
    "hero": "the headline",
    "waterfall": "the gradient’s way back",
    "budget": "where the decades went",
    "panel": "the chosen operation",
    "findings": "what was found",
    "replay": "the replay",
    "isometry": "the singular values",
    "curve": "the loss",
    "heat": "the map of gradients",
    "time": "the gradient over time",
    "environment": "what was watched, and where",
}


def write_html(verdict: Verdict, run: Run | None, path: pathlib.Path) -> None:
    """Write the page; a half-written one is never left behind.

    Args:
        verdict: what the run means.
        run: what was seen of it; None: only the verdict is at hand, and the page has no curves and no sources.
        path: the file to write; its folder is made where it is missing.

    Raises:
        OSError: the file cannot be written.
    """
    page = render_html(verdict, run)
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, page)


def render_html(verdict: Verdict, run: Run | None) -> str:
    """The page as a string; see `write_html`."""
    heat = guarded("the map of gradients", lambda: Heat(run) if run is not None else None, lambda told: None)
    drawn: dict[str, Callable[[], str]] = {
        "title": lambda: parts.text(f"{words.mark(verdict.symptom)} {verdict.symptom} — {verdict.script}"),
        "hero": lambda: parts.headline(verdict, run),
        "waterfall": lambda: waterfall(verdict),
        "budget": lambda: parts.budgets(verdict),
        "panel": lambda: panel(verdict, run),
        "findings": lambda: parts.findings(verdict, run),
        "replay": lambda: replay_panel(verdict.replay),
        "isometry": lambda: isometry.html(run),
        "curve": lambda: loss_chart(run, verdict.optimizers) if run is not None else "",
        "heat": lambda: heat.html() if heat is not None else "",
        "time": lambda: time_card(verdict, run),
        "way": lambda: steps_card(verdict),
        "proof": lambda: certificates_card(verdict),
        "environment": lambda: parts.environment(verdict, run),
    }
    fields = {name: guarded(_NAMES.get(name, name), make, parts.missing) for name, make in drawn.items()}
    over = fields["curve"] + fields["heat"]
    if over:
        over = f'<section class="card over" aria-labelledby="h-o"><h2 id="h-o">Over training</h2>{over}</section>'
    fields |= {
        "aside": fields["budget"] + fields["panel"],
        "over": fields["isometry"] + over,
        "proof": fields["proof"] + fields["way"],
        "css": _asset("page.css"),
        "js": _asset("page.js"),
        "data": as_island(_data(verdict, run, heat)),
    }
    page = _asset("page.html")
    pieces = page.split("{{")
    out = [pieces[0]]
    for piece in pieces[1:]:
        name, _, rest = piece.partition("}}")
        out += [fields[name], rest]
    return "".join(out)


def _data(verdict: Verdict, run: Run | None, heat: Heat | None) -> dict[str, Any]:
    """What the page's script reads; without a part of it that part of the page stays as it is."""
    nothing: dict[str, Any] = {"ways": [], "sources": {}}
    return {
        "verdict": msgspec.to_builtins(verdict),
        "marks": {s: words.mark(s) for s in MARKS},
        "heat": guarded("", lambda: heat.data() if heat is not None and heat.codes else None, lambda told: None),
        **guarded("", lambda: island(verdict, run), lambda told: nothing),
    }


def as_island(data: Any) -> str:
    """JSON that is safe inside a `<script>` element: numbers that are not finite are null, and no `<` is left."""
    text = msgspec.json.encode(_plain(data)).decode("utf-8")
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plain(value: Any) -> Any:
    """The value with only what JSON and a page can carry."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return words.clean(value)
    if isinstance(value, dict):
        return {words.clean(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, (bool, int)) else words.clean(value)


def _asset(name: str) -> str:
    """A file of this package."""

    def read(alone: bool) -> str:
        return resources.files("gradientflow.report").joinpath(name).read_text(encoding="utf-8")

    return apart(read)  # also where the script has left no descriptor free
