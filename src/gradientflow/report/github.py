"""Findings as annotations of GitHub Actions: one workflow command a finding, shown at its line in the pull request.

::error file=train.py,line=12,title=vanishing%3A saturating-activation::The gradient loses …

The escaping is that of the runner and of its toolkit: `%`, carriage return and line feed in the message; these, `:` and `,`
in a property. Source: "Workflow commands for GitHub Actions"; actions/toolkit, packages/core/src/command.ts.
"""

from __future__ import annotations

from pathlib import Path

from gradientflow import files
from gradientflow.records import Finding, Run, Verdict
from gradientflow.report import places, tell
from gradientflow.report.words import clean


def annotate(verdict: Verdict, run: Run | None, here: Path | None = None) -> str:
    """Return the annotations of a verdict, a line each: error for the first finding, warning for the others.

    A healthy verdict has none. One that could not be measured is a warning, so that a build does not take it for healthy.

    Args:
        verdict: what the run means.
        run: what was seen of it, for the folder it ran in; None: it is this one.
        here: the folder that paths are relative to; None for the working directory.
    """
    here = here or files.here()
    if verdict.symptom == "not-measured":
        return _command("warning", {"title": "gradientflow: not measured"}, tell.headline(verdict))
    return "".join(_annotation(f, "warning" if k else "error", run, here) for k, f in enumerate(verdict.findings))


def _annotation(finding: Finding, level: str, run: Run | None, here: Path) -> str:
    at = places.of(finding.place, run.meta if run is not None else None, here)
    properties = {"file": at[0], "line": str(at[1])} if at is not None else {}
    properties["title"] = f"{finding.symptom}: {finding.cause}"
    where = ""
    if finding.place is not None:
        names = [n for n in (finding.place.module, finding.place.op) if n]
        if at is None and finding.place.file:
            names.insert(0, tell.site(finding.place.file, finding.place.line))
        where = f" [{', '.join(names)}]" if names else ""
    lines = [f"{finding.summary}{where} (confidence {tell.confidence(finding)})"]
    lines += [f"What would help: {remedy.text}" for remedy in finding.remedies[:3]]
    return _command(level, properties, "\n".join(lines))


def _command(name: str, properties: dict[str, str], message: str) -> str:
    told = ",".join(f"{key}={escaped_property(value)}" for key, value in properties.items())
    return f"::{name} {told}::{escaped(clean(message))}\n"


def escaped(text: str) -> str:
    """Escape a message.

    Example:
        >>> escaped("50 % of 2: a, b")
        '50 %25 of 2: a, b'
    """
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def escaped_property(text: str) -> str:
    """Escape the value of a property.

    Example:
        >>> escaped_property("dead: 50 %, all")
        'dead%3A 50 %25%2C all'
    """
    return escaped(text).replace(":", "%3A").replace(",", "%2C")
