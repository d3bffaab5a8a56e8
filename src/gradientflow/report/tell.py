"""What the reports tell of a verdict, besides its pictures: places, source lines, evidence, notes, titles."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from textwrap import shorten
from typing import Any, NamedTuple

from gradientflow.limits import GATES
from gradientflow.records import Finding, Meta, Place, Remedy, Run, Share, Verdict, Warned
from gradientflow.report.replay_words import WORDS
from gradientflow.report.words import clean, count, decades, number, one_line

MEND = (
    "make sure that loss.backward() and optimizer.step() run in this process, that the loss requires grad (no .item(), "
    ".detach() or torch.no_grad() on its way), and let the script do at least one step."
)
WARNED_ROW = "the script was warned"
GATES_ROW = "gates passed"
WARNINGS = 3  # of the script's that are told
WARNING = 120  # characters of each
NOT_REPLAYED = "advice, not tried yet"
_UNMEASURED = re.compile(r"( is| was| were)? not measured: ")  # (which is what the note is headed with)


def replayed(remedy: Remedy) -> str:
    """What came of a remedy that was tried, in a few words."""
    told = remedy.replayed or {}
    return f"replayed: {WORDS.get(told.get('outcome', ''), 'tried')} ({one_line(told.get('tried', remedy.kind))})"


# ── places and sources ───────────────────────────────────────────────────────────────────────────────────────────────


def site(file: str | None, line: int | None, *, full: bool = False, cwd: str | None = None) -> str:
    """`file:line`; only the file's name, or the path from the working folder when `full`."""
    if not file:
        return ""
    name = file
    if full and cwd and file.startswith(cwd.rstrip(os.sep) + os.sep):
        name = file[len(cwd.rstrip(os.sep)) + 1 :]
    elif not full:
        name = re.split(r"[\\/]", file)[-1]
    return one_line(name) + (f":{line}" if line is not None else "")


def place(where: Place, meta: Meta | None = None) -> list[str]:
    """The parts of a place: `file:line`, module, op; those that are known."""
    parts = [site(where.file, where.line, full=True, cwd=meta.cwd if meta else None), where.module, where.op]
    return [one_line(part) for part in parts if part]


def label(row: Share) -> tuple[str, str]:
    """What an op row is called: its op, and its module where that says more."""
    name = one_line(row.name)
    module = one_line(row.module or "")
    return name, "" if module in ("", name) or name.startswith(module + ".") else module


class SourceLine(NamedTuple):
    """One line of an excerpt."""

    no: int
    text: str
    marked: bool


def source(run: Run | None, file: str | None) -> str | None:
    """The text of a source file that the trace recorded."""
    return run.meta.sources.get(file) if run is not None and file else None


def excerpt(text: str | None, line: int | None, around: int = 2) -> list[SourceLine]:
    """The lines around one line, without their common indentation; empty where the source is not known."""
    if not text or line is None:
        return []
    lines = clean(text).split("\n")
    if not 1 <= line <= len(lines):
        return []
    first, last = max(1, line - around), min(len(lines), line + around)
    while first < line and not lines[first - 1].strip():
        first += 1
    while last > line and not lines[last - 1].strip():
        last -= 1
    part = lines[first - 1 : last]
    indent = min((len(s) - len(s.lstrip(" ")) for s in part if s.strip()), default=0)
    return [SourceLine(first + k, s[indent:].rstrip(), first + k == line) for k, s in enumerate(part)]


# ── evidence ─────────────────────────────────────────────────────────────────────────────────────────────────────────

_LIMITS = ("threshold", "limit", "bound")


class Fact(NamedTuple):
    """One number of the evidence, and the threshold it is held against (empty: none)."""

    name: str
    value: str
    threshold: str = ""


def spell(value: Any) -> str:
    """Any evidence value in one short line."""
    if value is None:
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return number(value)
    if isinstance(value, dict):
        return ", ".join(f"{one_line(k).replace('_', ' ')} {spell(v)}" for k, v in list(value.items())[:6])
    if isinstance(value, (list, tuple)):
        shown = [spell(v) for v in value[:6]]
        return ", ".join(shown) + (f", … ({len(value)})" if len(value) > 6 else "")
    return one_line(value)


def spell_all(values: dict[str, Any]) -> str:
    """Every entry of a dict in one line."""
    return ", ".join(f"{one_line(k).replace('_', ' ')} {spell(v)}" for k, v in values.items())


def facts(evidence: dict[str, Any]) -> list[Fact]:
    """Evidence as rows; a threshold stands beside its number.

    A number finds its threshold as `{"value": …, "threshold": …}`, or under `NAME_threshold` / `threshold_NAME`. Gates,
    which decided on the way to a finding, are counted in one row: their values stand in verdict.json.

    Args:
        evidence: a finding's evidence, or the measured effect of a replayed remedy.

    Returns:
        One row per number, in the order given.
    """
    rows: list[Fact] = []
    taken: set[str] = set()
    for key in evidence:
        for word in _LIMITS:
            for name in (f"{key}_{word}", f"{word}_{key}"):
                if name in evidence:
                    taken.add(name)
    for key, value in evidence.items():
        if key in taken:
            continue
        name = one_line(key).replace("_", " ")
        if key == GATES and isinstance(value, dict):
            rows.append(Fact(GATES_ROW, f"{len(value)} (in verdict.json)"))
            continue
        limit = next((evidence[n] for w in _LIMITS for n in (f"{key}_{w}", f"{w}_{key}") if n in evidence), None)
        if isinstance(value, dict) and "value" in value:
            limit = next((value[w] for w in _LIMITS if w in value), limit)
            value = value["value"]
        elif (
            isinstance(value, dict) and value and limit is None and not any(isinstance(v, dict) for v in value.values())
        ):
            rows.extend(Fact(f"{name} · {f.name}", f.value, f.threshold) for f in facts(value))
            continue
        rows.append(Fact(name, spell(value), "" if limit is None else spell(limit)))
    return rows


def confidence(finding: Finding) -> str:
    """A finding's confidence in percent."""
    return f"{100 * min(max(finding.confidence, 0.0), 1.0):.0f} %"


def headline(verdict: Verdict) -> str:
    """The verdict in one sentence: its own summary, or the best that can be said without one."""
    if verdict.summary:
        return one_line(verdict.summary)
    if verdict.findings:
        return one_line(verdict.findings[0].summary)
    if verdict.symptom == "healthy":
        return f"Nothing wrong was seen in {count(verdict.steps, 'step')}."
    return "No gradient passed, so there is nothing to judge."


def crash(run: Run | None) -> str | None:
    """That the script itself failed, and with what; None where it did not."""
    if run is None or run.meta.ended != "exception" or not run.meta.error:
        return None
    said = one_line(run.meta.error.strip().split("\n")[-1])
    return (
        f"The script failed after {count(run.meta.steps, 'step')}: {said}. The verdict is on what was seen until then."
    )


def notes(verdict: Verdict, run: Run | None) -> list[tuple[str, str]]:
    """What should be told beside the verdict: errors of ours, how the script ended, what was not measured; each once.

    Returns:
        Pairs of a kind ("watcher", "script", "advice", "record", "replay", "not measured") and a sentence.
    """
    noted = {n.text for n in run.notes} if run is not None else set()  # those are told below, each as what it is
    told: list[tuple[str, str]] = [("watcher", one_line(e)) for e in verdict.watch.errors if e not in noted]
    if verdict.warned:
        told.insert(0, ("warned", warned(verdict.warned)))
    if run is not None:
        if run.meta.error and crash(run) is None:
            told.append(("script", one_line(run.meta.error.strip().split("\n")[-1])))
        told.extend((n.kind, one_line(n.text)) for n in run.notes)
        told.extend(("not measured", _UNMEASURED.sub(": ", one_line(n), count=1)) for p in run.probes for n in p.notes)
    return list(dict.fromkeys(pair for pair in told if pair[1]))


def warned(found: Sequence[Warned]) -> str:
    """That the script was warned, of what and where: the first few of its warnings, and how many more."""
    parts = []
    for w in found[:WARNINGS]:
        where = site(w.at_file, w.at_line) if w.at_file else site(w.file, w.line)
        when = f"after {count(w.steps, 'step')}" if w.steps else "ahead of the first step"
        often = f", shown {w.count} times" if w.count > 1 else ""
        parts.append(
            f"{one_line(w.category)} at {where} ({when}{often}): {shorten(one_line(w.message), WARNING, placeholder='…')}"
        )
    more = f"; and {len(found) - WARNINGS} more" if len(found) > WARNINGS else ""
    return "the script was warned: " + "; ".join(parts) + more


def mend(run: Run | None) -> str:
    """What to do about a run that was not measured; empty where its gradient was seen, and the verdict says what is missing."""
    if run is not None and any(n.kind == "record" for n in run.notes):
        return "run the script again: the record of this run is damaged."
    return "" if run is not None and any(s.grad is not None for s in run.steps) else MEND


def took(total: float | None) -> str:
    """The title of the budget: where the decades went, or came from, with the number."""
    if total is None or not math.isfinite(total):
        return "where the decades went"
    if abs(total) < 0.05:
        return "where the gradient changed (sum 0.0 decades)"
    verb = "went" if total < 0 else "came from"
    return f"where the {decades(total, sign=False)} decades {verb}"
