"""Parts of the page that are words and tables: headline, findings, budget, environment. All text is escaped here."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from html import escape

from gradientflow.records import WIN, Budget, Finding, Optimizer, Remedy, Run, Share, Verdict
from gradientflow.report import tell, words
from gradientflow.report.bars import sorted_parts
from gradientflow.report.rows import row_of
from gradientflow.report.ways import called, row_id, ways

TONES = ("vanishing", "exploding", "not-finite", "dead", "healthy", "not-measured")
STRIP_INKS = 6
LONG = 60  # characters of a value that is a sentence, and no number


def tone(symptom: str | None) -> str:
    """The class that gives a symptom its ink; symptoms without an own ink share that of vanishing."""
    return f"tone-{symptom if symptom in TONES else 'vanishing'}"


def text(value: object) -> str:
    """Any text, on one line, escaped."""
    return escape(words.one_line(value))


def prose(value: object) -> str:
    """Any sentence, escaped, with what stands in backticks as code."""
    return re.sub(r"`([^`<>]+)`", r"<code>\1</code>", text(value))


def missing(told: str) -> str:
    """What stands where a part of the page could not be drawn."""
    return f'<p class="empty">{text(told)}</p>'


def headline(verdict: Verdict, run: Run | None) -> str:
    """Mark and symptom, the sentence in a live region, and chips of what was run."""
    chips = [text(verdict.script), words.count(verdict.steps, "step")]
    if run is not None:
        chips += [f"torch {text(run.meta.torch)}"] if run.meta.torch else []
        chips += [words.seconds(run.meta.elapsed)] if run.meta.elapsed else []
        chips.append(text(run.meta.ended or "killed, or still running"))
    chips.append(f"watching cost {escape(words.percent(verdict.watch.overhead))}")
    crash = tell.crash(run)
    failed = f'<p class="crash"><b>✗</b> {prose(crash)}</p>' if crash is not None else ""
    said = tell.headline(verdict)
    long = ' class="long"' if len(said) > 120 else ""
    told = tell.mend(run) if verdict.symptom == "not-measured" else ""
    mend = f'<p class="mend"><b>mend</b> {escape(told)}</p>' if told else ""
    notes = "".join(f"<li><b>{text(kind)}</b> {prose(note)}</li>" for kind, note in tell.notes(verdict, run)[:12])
    return (
        f'<header class="hero {tone(verdict.symptom)}">{failed}'
        f'<p class="badge"><span class="mk" aria-hidden="true">{words.mark(verdict.symptom)}</span> '
        f"{text(verdict.symptom)}</p>"
        f'<h1 role="status" aria-live="polite"{long}>{prose(said)}</h1>'
        f'<p class="chips">{"".join(f"<span>{chip}</span>" for chip in chips)}</p>{mend}'
        + (f'<ul class="notes">{notes}</ul>' if notes else "")
        + "</header>"
    )


def source(run: Run | None, file: str | None, line: int | None, glyph: str, around: int = 2) -> str:
    """Source lines around a line, the line itself marked; empty where the source is not known."""
    lines = tell.excerpt(tell.source(run, file), line, around)
    rows = "".join(
        f'<span class="ln{" hit" if hit else ""}"><span class="no">{glyph if hit else ""} {no}</span>'
        f"<code>{escape(part) or ' '}</code></span>"
        for no, part, hit in lines
    )
    return f'<pre class="src">{rows}</pre>' if rows else ""


def findings(verdict: Verdict, run: Run | None) -> str:
    """All findings, the first one open."""
    if not verdict.findings:
        return ""
    drawn = [way.budget.by_op for way in ways(verdict)]
    said = tell.headline(verdict)  # stands above already
    cards = "".join(_finding(f, k, run, _row_of(drawn, f), said) for k, f in enumerate(verdict.findings))
    return f'<section class="findings" aria-labelledby="h-f"><h2 id="h-f">What was found</h2>{cards}</section>'


def _row_of(drawn: Sequence[Sequence[Share]], f: Finding) -> tuple[int, int] | None:
    """The way back on which a finding's line lies, and its row there."""
    return next(((k, row) for k, rows in enumerate(drawn) if (row := row_of(rows, f.place)) is not None), None)


def _finding(f: Finding, rank: int, run: Run | None, row: tuple[int, int] | None, said: str) -> str:
    where = ""
    if f.place is not None:
        parts = "".join(f"<code>{escape(part)}</code>" for part in tell.place(f.place, run.meta if run else None))
        link = ""
        if row is not None:
            at = f'href="#{row_id(*row)}" data-way="{row[0]}" data-row="{row[1]}"'
            link = f'<a class="go" {at}>show in the way back</a>'
        where = f'<p class="place">{parts}{link}</p>'
    facts = tell.facts(f.evidence)
    held = any(x.threshold for x in facts)  # without a threshold there is no column for it
    rows = "".join(
        f"<tr><th scope=row>{escape(x.name)}</th><td>{escape(x.value)}</td>"
        + (f"<td>{escape(x.threshold)}</td>" if held else "")
        + "</tr>"
        if len(x.value) <= LONG
        else f'<tr><th scope=row>{escape(x.name)}</th><td class="long" colspan="{1 + held}">{escape(x.value)}</td></tr>'
        for x in facts
    )
    evidence = (
        '<div><h3>evidence</h3><div class="scroll"><table class="facts"><thead><tr><th scope=col>measured</th>'
        f"<th scope=col>value</th>{'<th scope=col>threshold</th>' if held else ''}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div></div>"
        if rows
        else ""
    )
    remedies = "".join(_remedy(r) for r in f.remedies)
    helps = f'<div><h3>what would help</h3><ul class="remedies">{remedies}</ul></div>' if remedies else ""
    say = f'<p class="say">{prose(f.summary)}</p>' if words.one_line(f.summary) != said else ""
    lower = f'<p class="lower">ranks lower: {prose(f.reason)}.</p>' if f.reason else ""
    body = source(run, f.place.file, f.place.line, words.mark(f.symptom)) if f.place is not None else ""
    return (
        f'<article class="card finding {tone(f.symptom)}"><div class="top"><span class="rank">{rank + 1}</span>'
        f'<h3 class="what"><span class="mk">{words.mark(f.symptom)}</span> {text(f.symptom)} '
        f'<span class="because">because of</span> {text(f.cause)}</h3>'
        f'<span class="sure" title="confidence"><i style="--p:{_clamp(f.confidence):.2f}"></i>'
        f"confidence {tell.confidence(f)}</span></div>"
        f'{where}{say}{lower}{body}<div class="cols">{evidence}{helps}</div></article>'
    )


def _remedy(r: Remedy) -> str:
    if r.replayed is None:
        return f'<li><b>{text(r.kind)}</b> {prose(r.text)} <span class="words">{tell.NOT_REPLAYED}</span></li>'
    won = ' class="proved"' if r.replayed.get("outcome") == WIN else ' class="words"'
    return f"<li><b>{text(r.kind)}</b> {prose(r.text)} <span{won}>{escape(tell.replayed(r))}</span></li>"


def _clamp(x: float) -> float:
    return min(max(x, 0.0), 1.0) if math.isfinite(x) else 0.0


# ── the budget ───────────────────────────────────────────────────────────────────────────────────────────────────────


def budgets(verdict: Verdict) -> str:
    """Where the decades went, of each way back that is drawn."""
    return "".join(budget(way.budget, called(way.own) if way.own is not None else "") for way in ways(verdict))


def budget(b: Budget, whose: str = "") -> str:
    """Where the decades went: a strip by kind, then the modules.

    Args:
        b: the budget.
        whose: the optimizer whose it is, where there are several.
    """
    kinds, modules = sorted_parts(b.by_kind), sorted_parts(b.by_module)
    if not kinds and not modules:
        return ""
    strip = "".join(
        f'<span class="ink{min(k, STRIP_INKS - 1)}{" grew" if (s.decades or 0) > 0 else ""}" '
        f'style="flex-grow:{abs(s.decades or 0):.4f}" title="{text(s.name)} {words.decades(s.decades)} decades">'
        f"<b>{text(s.name)}</b></span>"
        for k, s in enumerate(kinds)
    )
    legend = "".join(
        f'<li><i class="sw ink{min(k, STRIP_INKS - 1)}"></i>{text(s.name)} <b>{words.decades(s.decades)}</b>'
        + (f" <small>{words.count(s.count, 'op')}</small>" if s.count else "")
        + "</li>"
        for k, s in enumerate(kinds)
    )
    most = max((abs(s.decades or 0.0) for s in modules), default=1.0)
    rows = [_module(s, most) for s in modules]
    table = "".join(rows[:8])
    more = "".join(rows[8:500])
    note = f'<p class="fine">{text(b.note)}</p>' if b.note and not b.branched else ""
    if b.residual is not None and math.isfinite(b.residual):
        note += f'<p class="fine">sum of the parts minus the total: {escape(words.decades(b.residual))} decades</p>'
    return (
        f'<section class="card budget"><h2>{escape(tell.took(b.total_decades))}</h2>'
        + (f'<p class="fine">{text(whose)}</p>' if whose else "")
        + f'<div class="strip">{strip}</div><ul class="parts">{legend}</ul>'
        + (f'<h3>by module</h3><table class="modules"><tbody>{table}</tbody></table>' if table else "")
        + (
            f"<details><summary>{words.count(len(rows) - 8, 'more module')}</summary>"
            f'<table class="modules"><tbody>{more}</tbody></table></details>'
            if more
            else ""
        )
        + f"{note}</section>"
    )


def _module(s: Share, most: float) -> str:
    width = 100 * abs(s.decades or 0.0) / most
    return (
        f'<tr><th scope=row title="{text(s.name)}">{escape(words.elide(words.one_line(s.name), 24))}</th>'
        f'<td class="mini"><i class="{"grew" if (s.decades or 0) > 0 else "took"}" style="width:{width:.1f}%"></i></td>'
        f"<td>{escape(words.decades(s.decades))}</td></tr>"
    )


# ── what was watched, and where it ran ───────────────────────────────────────────────────────────────────────────────


def _optimizers(optimizers: Sequence[Optimizer]) -> str:
    told = [f"{o.name} ({tell.spell(o.options)})" for o in optimizers[: words.ROWS]]
    told += [f"… ({len(optimizers)})"] if len(optimizers) > words.ROWS else []
    return ", ".join(told) or "none"


def environment(verdict: Verdict, run: Run | None) -> str:
    """What was watched and what it cost, and the environment."""
    probed = verdict.watch.probed_steps
    every = f", every op measured in {words.number(probed)} of them" if probed else ""
    pairs: list[tuple[str, str]] = [
        ("watched", words.count(verdict.steps, "step") + every),
        ("cost of watching", f"{words.percent(verdict.watch.overhead)} of the script's own time"),
    ]
    if run is not None:
        m = run.meta
        ended = m.ended or "killed, or still running"
        shown = sum(math.prod(p.shape) for p in m.params if p.is_parameter)
        pairs += [
            ("parameters", f"{words.number(len(m.params))} tensors, {words.number(shown)} numbers"),
            ("optimizers", _optimizers(m.optimizers)),
            ("script", m.script),
            ("command line", " ".join(m.argv)),
            ("started", m.started),
            ("took", words.seconds(m.elapsed)),
            ("ended", ended + (f", exit code {m.exit_code}" if m.exit_code is not None else "")),
            ("python · torch", f"{m.python} · {m.torch}"),
        ]
    rows = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in pairs if value)
    error = ""
    if run is not None and run.meta.error:
        error = f'<pre class="err">{escape(words.clean(run.meta.error))}</pre>'
    return (
        '<section class="card env" aria-labelledby="h-e"><h2 id="h-e">What was watched, and where</h2>'
        f"<dl>{rows}</dl>{error}</section>"
    )
