"""A run as it is opened: the verdict as it is, and beside it what terminal and page tell in the same words."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from gradientflow.records import (
    WIN,
    Excerpt,
    Finding,
    Fix,
    Own,
    Probe,
    Remedy,
    Replay,
    Run,
    RunView,
    Stages,
    Tick,
    Told,
    Trained,
    Trial,
    Verdict,
)
from gradientflow.report import replay_words, tell, words
from gradientflow.report.causes import short
from gradientflow.report.guard import guarded
from gradientflow.report.step_table import tables
from gradientflow.report.view.jacobians import jacobians
from gradientflow.report.view.moment import Moment
from gradientflow.report.ways import called, course

AROUND = 3  # lines about a source line that are shown
NOTES = 12
FINDINGS = 12
PROBES = 2000
OWN = 8  # optimizers whose ways are offered
ERROR = 20_000  # characters of a traceback
T = TypeVar("T")


def view(name: str, moment: Moment) -> RunView:
    """Return a run as it is opened; a part that cannot be made costs itself, and a note says so."""
    run, verdict = moment.run, moment.verdict
    main = max(run.meta.optimizers, key=lambda o: o.steps, default=None)
    missing: list[str] = []

    def part(name: str, make: Callable[[], T], otherwise: T) -> T:
        def told(problem: str) -> T:
            missing.append(problem)
            return otherwise

        return guarded(name, make, told)

    made = RunView(
        name=name, version=moment.version, state=moment.state, headline=part("the headline", lambda: tell.headline(verdict), ""),
        script=words.one_line(verdict.script), steps=max(run.meta.steps, verdict.steps), unit=run.meta.unit,
        about=part("what was watched", lambda: _about(run, verdict), []), verdict=verdict, probes=[tick(i, p) for i, p in enumerate(run.probes[:PROBES])], at=number(run, moment.looked_at),
        told=part("what was found", lambda: [_told(f, run) for f in verdict.findings[:FINDINGS]], []),
        notes=part("the notes", lambda: [(kind, text) for kind, text in tell.notes(verdict, run)[:NOTES]], []),
        fix=part("what would help", lambda: _fix(verdict), None), crash=tell.crash(run) or "",
        stages=part("the way to the step", lambda: [Stages(t.title, t.steps, t.rows, t.boxed) for t in tables(verdict)], []),
        adaptive=main is not None and main.adaptive,
        optimizers=[called(own) for own in verdict.optimizers] or [words.one_line(o.name) for o in run.meta.optimizers],
        own=part("the ways of each optimizer", lambda: [_own(run, k, own) for k, own in enumerate(verdict.optimizers[:OWN])], []),
        error=words.clean(run.meta.error or "")[:ERROR], mend=tell.mend(run) if verdict.symptom == "not-measured" and moment.judged else "",
        jacobians=part("the singular values", lambda: jacobians(run), []), judged=moment.judged,
    )  # fmt: skip
    if verdict.replay is not None:
        part("the replay", partial(_replayed, made, verdict.replay), None)
    made.notes += [("report", problem) for problem in missing]
    return made


def number(run: Run, looked_at: Probe | None) -> int | None:
    """Return the number of the probe that the verdict looks at; of the first that has a way back where there is none."""
    if looked_at is None:
        return next((i for i, p in enumerate(run.probes) if p.root is not None), 0 if run.probes else None)
    return next((i for i, p in enumerate(run.probes) if p is looked_at), None)


def tick(index: int, probe: Probe) -> Tick:
    """Return a probed step, by its number."""
    broken = any(op.grad is not None and op.grad.nonfinite for op in probe.ops)
    broken = broken or (probe.loss is not None and not math.isfinite(probe.loss))
    return Tick(index, probe.step, words.one_line(probe.reason), probe.optimizer, probe.root is not None, broken)


def _own(run: Run, k: int, own: Trained) -> Own:
    here = [i for i, p in enumerate(run.probes[:PROBES]) if p.step == own.budget.step]
    mine = next((i for i in here if run.probes[i].optimizer == own.index), None)
    probe = mine if mine is not None else here[0] if here else None
    return Own(
        called(own), course(own), own.budget.total_decades, probe, k if probe is not None and mine is None else None
    )


def excerpt(run: Run, file: str | None, line: int | None) -> Excerpt | None:
    """The lines around a line of a file that the run recorded; None of any other file."""
    lines = tell.excerpt(tell.source(run, file), line, AROUND)
    if file is None or line is None or not lines:
        return None
    cwd = run.meta.cwd
    path = os.path.normpath(os.path.join(cwd, file)) if cwd or os.path.isabs(file) else None
    site = tell.site(file, line, full=True, cwd=cwd)
    return Excerpt(words.clean(file), line, site, path, [(x.no, x.text, x.marked) for x in lines])


def _told(finding: Finding, run: Run) -> Told:
    place = finding.place
    return Told(
        cause=short(finding.cause), where=tell.place(place, run.meta) if place is not None else [], sure=tell.confidence(finding),
        facts=[(f.name, f.value, f.threshold) for f in tell.facts(finding.evidence)],
        excerpt=excerpt(run, place.file, place.line) if place is not None else None,
        replayed=[tell.replayed(r) if r.replayed is not None else tell.NOT_REPLAYED for r in finding.remedies],
    )  # fmt: skip


def _about(run: Run, verdict: Verdict) -> list[tuple[str, str]]:
    meta = run.meta
    numbers = sum(math.prod(p.shape) for p in meta.params if p.is_parameter)
    options = ", ".join(f"{o.name} ({tell.spell(o.options)})" for o in meta.optimizers[: words.ROWS]) or "none"
    pairs = [
        ("script", meta.script),
        ("command line", " ".join(meta.argv)),
        ("started", meta.started),
        ("took", words.seconds(meta.elapsed)),
        ("ended", (meta.ended or "not yet, or killed") + (f", exit code {meta.exit_code}" if meta.exit_code else "")),
        ("parameters", f"{words.number(len(meta.params))} tensors, {words.number(numbers)} numbers"),
        ("optimizers", options),
        ("watching cost", f"{words.percent(verdict.watch.overhead)} of the script's own time"),
        ("python · torch", f"{meta.python} · {meta.torch}"),
    ]
    return [(name, words.one_line(value)) for name, value in pairs if value]


def _fix(verdict: Verdict) -> Fix | None:
    """What to do: what a replay proved, else the first advice."""
    replay = verdict.replay
    if replay is not None and replay.best is not None:
        return _proven(replay, replay.trials[replay.best])
    remedy = next((r for f in verdict.findings[:1] for r in f.remedies), None)
    return _advice(remedy) if remedy is not None else None


def _proven(replay: Replay, trial: Trial) -> Fix:
    edit = replay_words.written(replay)
    mine = edit if edit is trial else None
    before = replay_words.loss(replay.baseline) if trial.before is None else words.number(trial.before)
    return Fix(
        kind=words.one_line(" + ".join(c.kind for c in trial.changes)), text=replay_words.what(trial), proven=trial.outcome == WIN,
        outcome=replay_words.WORDS[trial.outcome], before=before, after=replay_words.loss(trial.after),
        diff=words.clean(mine.diff or "") if mine is not None else "", checked=replay_words.checked(mine) if mine is not None else "",
        reason=words.one_line(trial.reason),
    )  # fmt: skip


def _advice(remedy: Remedy) -> Fix:
    told = remedy.replayed or {}
    before, after = told.get("loss_before"), told.get("loss_after")
    measured = isinstance(before, (int, float)) and isinstance(after, (int, float))
    return Fix(
        kind=words.one_line(remedy.kind), text=words.one_line(remedy.text), proven=told.get("outcome") == WIN,
        outcome=tell.replayed(remedy) if remedy.replayed is not None else tell.NOT_REPLAYED,
        before=words.number(before) if measured else "", after=words.number(after) if measured else "",
    )  # fmt: skip


def _replayed(made: RunView, replay: Replay) -> None:
    told = [(t, replay_words.cells(t, replay)) for t in replay.trials]
    made.tried = [
        [c.sign, c.kind, c.what, c.loss, c.difference, c.depth, c.symptom, c.outcome if t.outcome == WIN else f"{c.outcome}: {c.reason}"]
        for t, c in told
    ]  # fmt: skip
    made.tried_title = f"{replay_words.title(replay)}. {replay_words.verdict_line(replay)}"
    made.tried_notes = [*replay_words.doubted(replay), *(f"{words.one_line(n)}." for n in replay.notes)]
    edit = replay_words.written(replay)
    if edit is not None and (replay.best is None or edit is not replay.trials[replay.best]):
        made.edit = (
            f"{replay_words.edit_title(replay, edit)} ({replay_words.checked(edit)})",
            words.clean(edit.diff or ""),
        )
