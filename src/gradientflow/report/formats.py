"""A verdict in the formats of other tools: one door for `--format`."""

from __future__ import annotations

from pathlib import Path

import msgspec

from gradientflow.records import Run, Verdict
from gradientflow.report.brief import brief
from gradientflow.report.github import annotate
from gradientflow.report.sarif import sarif

FORMATS = ("text", "brief", "json", "github", "sarif")


def render(
    format: str, verdict: Verdict, run: Run | None, version: str, here: Path | None = None, folder: Path | None = None
) -> str:
    """Return a verdict in a format for programs.

    Args:
        format: "brief" (some lines of `key: value`), "json" (the form of verdict.json), "github" (annotations of GitHub Actions) or "sarif" (SARIF 2.1.0).
        verdict: what the run means.
        run: what was seen of it; None: only the verdict is at hand.
        version: of gradientflow.
        here: the folder that paths are relative to; None for the working directory.
        folder: the run's, for the command that comes next.

    Raises:
        ValueError: the format is none of these.
    """
    if format == "brief":
        return brief(verdict, run, str(folder) if folder is not None else None)
    if format == "json":
        return msgspec.json.format(msgspec.json.encode(verdict), indent=2).decode() + "\n"
    if format == "github":
        return annotate(verdict, run, here)
    if format == "sarif":
        return sarif(verdict, run, version, here)
    raise ValueError(f"format={format!r}; expected one of {', '.join(FORMATS[1:])}.")
