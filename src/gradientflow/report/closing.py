"""What matters at the end, in a few lines: the finding and its line, the best thing to do about it, the next command."""

from __future__ import annotations

import shlex

from gradientflow.records import WIN, Finding, Run, Verdict
from gradientflow.report import tell
from gradientflow.report.replay_words import what, written
from gradientflow.report.words import one_line


def gist(verdict: Verdict) -> str:
    """Return symptom, cause and `file:line` of the first finding; of a run without one, the symptom."""
    if not verdict.findings:
        return one_line(verdict.symptom)
    first = verdict.findings[0]
    where = tell.site(first.place.file, first.place.line, full=True) if first.place is not None else ""
    return f"{one_line(first.symptom)} because of {one_line(first.cause)}" + (f" at {where}" if where else "")


def best_remedy(verdict: Verdict) -> str | None:
    """Return the best remedy: what a replay proved, else the first that no replay was against, in words."""
    replay = verdict.replay
    if replay is not None and replay.best is not None:
        trial = replay.trials[replay.best]
        edit = written(replay)
        shown = (
            "; its diff is above" if edit is trial else f"; as a diff, above: {what(edit)}" if edit is not None else ""
        )
        return one_line(f"{what(trial)} (replayed: {trial.reason}{shown})")
    for finding in verdict.findings[:1]:
        for remedy in finding.remedies:
            if (remedy.replayed or {}).get("outcome") in (None, "not-tried", WIN):
                return one_line(remedy.text)
    return None


def next_command(verdict: Verdict, folder: str | None, run: Run | None = None) -> str | None:
    """Return what to call next: the replay, where there is something to try and nothing was tried; else the explanation."""
    if folder is None or not verdict.findings:
        return None
    name = shlex.quote(one_line(folder))
    alone = run is None or run.meta.ranks < 2  # one of several processes is not replayed
    if alone and verdict.replay is None and verdict.findings[0].remedies:
        return f"gradientflow replay {name}"
    return f"gradientflow explain {name}"


def deciding(finding: Finding, count: int) -> tuple[list[tell.Fact], int]:
    """Return the numbers that decide, those with a threshold and a warning first, and how many more there are; when is no reason why.

    Args:
        finding: with its evidence.
        count: how many at most.
    """
    known = [f for f in tell.facts(finding.evidence) if f.name != tell.GATES_ROW]
    ordered = sorted(known, key=lambda f: (not f.threshold and f.name != tell.WARNED_ROW, f.name == "step"))[:count]
    kept = [f for f in known if f in ordered]
    return kept, len(known) - len(kept)
