"""Findings in SARIF 2.1.0, the format in which code scanning and editors take the results of checks.

Each cause is a rule; each finding is a result at its line, with its evidence among its properties. Source: OASIS, "Static
Analysis Results Interchange Format (SARIF) Version 2.1.0"; the paragraphs (§) named below are its.
"""

from __future__ import annotations

import hashlib
import math
import shlex
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

import msgspec

from gradientflow import files
from gradientflow.records import Finding, Run, Verdict
from gradientflow.report import causes, places, tell
from gradientflow.report.words import clean

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
BASE = "SRCROOT"
_NAME = "gradientflow"


def sarif(verdict: Verdict, run: Run | None, version: str, here: Path | None = None) -> str:
    """Return a verdict as a SARIF log of one run.

    Args:
        verdict: what the run means.
        run: what was seen of it; None: only the verdict is at hand, and there are no source lines.
        version: of gradientflow.
        here: the folder that paths are relative to; None for the working directory.

    Returns:
        JSON, indented. The first finding has the level "error", the others "warning"; a healthy run has no results.
    """
    here = here or files.here()
    rules = list(dict.fromkeys(f.cause for f in verdict.findings))
    log = {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": _driver(verdict, rules, version)},
                "invocations": [_invocation(verdict, run)],
                "automationDetails": {"id": f"{_NAME}/{clean(verdict.script)}/"},
                "originalUriBaseIds": {BASE: {"uri": _folder(here)}},
                "columnKind": "utf16CodeUnits",
                "results": [_result(f, k, rules, run, here) for k, f in enumerate(verdict.findings)],
                "properties": _plain(
                    {
                        "symptom": verdict.symptom, "summary": verdict.summary, "steps": verdict.steps,
                        "decades": verdict.budget.body_decades, "lossFirst": verdict.loss.first, "lossLast": verdict.loss.last,
                    }
                ),
            }
        ],
    }  # fmt: skip
    return msgspec.json.format(msgspec.json.encode(log), indent=2).decode() + "\n"


def _driver(verdict: Verdict, rules: Sequence[str], version: str) -> dict[str, Any]:
    return {
        "name": _NAME,
        "version": version,
        "semanticVersion": version,
        "shortDescription": {"text": "Says where, and why, the gradient of a training run goes wrong."},
        "rules": [_rule(cause, next(f for f in verdict.findings if f.cause == cause)) for cause in rules],
    }


def _rule(cause: str, finding: Finding) -> dict[str, Any]:
    mends = [clean(r.text) for r in finding.remedies]
    text = causes.short(cause) + "." + "".join(f"\n- {mend}" for mend in mends)
    return {
        "id": cause,
        "name": "".join(word.capitalize() for word in cause.split("-")),
        "shortDescription": {"text": f"{causes.short(cause)}."},
        "fullDescription": {
            "text": f"{causes.short(cause)}. The cause of a gradient that goes wrong, as gradientflow names it."
        },
        "help": {"text": text, "markdown": text},
        "defaultConfiguration": {"level": "warning"},
        "properties": {
            "tags": ["gradient", "training"],
            "precision": "high" if finding.confidence >= 0.8 else "medium",
        },
    }


def _result(finding: Finding, position: int, rules: Sequence[str], run: Run | None, here: Path) -> dict[str, Any]:
    lines = [clean(finding.summary), *(f"What would help: {clean(r.text)}" for r in finding.remedies[:3])]
    result: dict[str, Any] = {
        "ruleId": finding.cause,
        "ruleIndex": rules.index(finding.cause),
        "kind": "fail",
        "level": "warning" if position else "error",
        "message": {"text": "\n".join(lines)},  # §3.27.11
        "rank": round(100 * min(max(finding.confidence, 0.0), 1.0), 1),  # §3.27.25: 0 to 100
        "partialFingerprints": {f"{_NAME}/v1": _fingerprint(finding)},
        "properties": _plain(
            {
                "symptom": finding.symptom, "cause": finding.cause, "confidence": finding.confidence,
                "evidence": finding.evidence, "remedies": [msgspec.to_builtins(r) for r in finding.remedies],
            }
        ),
    }  # fmt: skip
    location = _location(finding, run, here)
    if location:
        result["locations"] = [location]
    return result


def _location(finding: Finding, run: Run | None, here: Path) -> dict[str, Any]:
    location: dict[str, Any] = {}
    at = places.of(finding.place, run.meta if run is not None else None, here)
    if at is not None:
        file, line = at
        region: dict[str, Any] = {"startLine": line}
        text = tell.source(run, finding.place.file if finding.place is not None else None)
        lines = clean(text).split("\n") if text else []
        if line <= len(lines) and lines[line - 1].strip():
            region["snippet"] = {"text": lines[line - 1]}
        artifact = {"uri": quote(file), "uriBaseId": BASE}
        if PurePath(file).is_absolute():
            artifact = {"uri": _uri(PurePath(file))}  # §3.4.4: no base beside an absolute one
        location["physicalLocation"] = {"artifactLocation": artifact, "region": region}
    place = finding.place
    names = [(place.module, "module"), (place.op, "function")] if place is not None else []
    logical = [{"name": clean(name), "kind": kind} for name, kind in names if name]
    if logical:
        location["logicalLocations"] = logical
    return location


def _fingerprint(finding: Finding) -> str:
    """The same for the same finding after lines above it have moved (§3.27.17): no line, no number is in it."""
    place = finding.place
    parts = [finding.symptom, finding.cause]
    if place is not None:
        parts += [PurePath(place.file or "").name, place.module or "", place.op or ""]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _invocation(verdict: Verdict, run: Run | None) -> dict[str, Any]:
    """How the script ran (§3.20)."""
    found: dict[str, Any] = {"executionSuccessful": True}
    notes = [{"level": "note", "message": {"text": clean(e)}} for e in verdict.watch.errors]
    if verdict.symptom == "not-measured":
        notes.append({"level": "warning", "message": {"text": tell.headline(verdict)}})
    if run is not None:
        meta = run.meta
        found["executionSuccessful"] = meta.ended not in (None, "exception")
        if meta.argv:
            found["commandLine"] = clean(shlex.join([_NAME, "run", *meta.argv]))
        if meta.exit_code is not None:
            found["exitCode"] = meta.exit_code
        if meta.cwd:
            found["workingDirectory"] = {"uri": _folder(PurePath(meta.cwd))}
    if notes:
        found["toolExecutionNotifications"] = notes
    return found


def _uri(path: PurePath) -> str:
    """An absolute path as a URI, also of another system's."""
    text = path.as_posix()
    return "file://" + ("" if text.startswith("/") else "/") + quote(text)


def _folder(path: PurePath) -> str:
    """A folder's URI ends with a slash (§3.14.14)."""
    return _uri(path).rstrip("/") + "/"


def _plain(value: Any) -> Any:
    """The value with only what JSON can carry: a number that is not finite becomes its name, what is None is left out."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {clean(k): _plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value if isinstance(value, (bool, int)) else clean(value)
