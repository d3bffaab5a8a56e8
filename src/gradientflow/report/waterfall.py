"""The gradient's way back as an HTML table: one row per op from the loss down, drawn without a script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from gradientflow.records import Budget, GradStat, Op, Run, Share, ValueStat, Verdict
from gradientflow.report import tell, words
from gradientflow.report.parts import source, text, tone
from gradientflow.report.rows import (
    Fold,
    Scale,
    Span,
    broken,
    first_look,
    folds,
    from_the_loss,
    merged,
    probe_of,
    scale,
    spans,
)
from gradientflow.report.ways import called, course, row_id, ways

OPEN_ROWS = 64  # more are folded; the script unfolds them

Facts = list[list[str]]


def waterfall(verdict: Verdict) -> str:
    """The way back, or one for each of several optimizers, each under its name."""
    drawn = []
    for k, way in enumerate(ways(verdict)):
        if way.own is not None:
            drawn.append(f'<p class="whose"><b>{text(called(way.own))}</b> {text(course(way.own))}</p>')
        drawn.append(_table(verdict, way.budget, k))
    return "".join(drawn)


def _table(verdict: Verdict, budget: Budget, k: int) -> str:
    """The table; rows of a fold are hidden only where a script can bring them back."""
    rows = budget.by_op
    if not rows:
        return f'<p class="empty">{text(budget.note or "No op was measured, so there is no way back to draw.")}</p>'
    axis, span = scale(rows), spans(rows)
    first = None if k else first_look(verdict, rows)
    last_mark = max((i for i, row in enumerate(rows) if row.mark), default=len(rows) - 1)
    body: list[str] = []
    lines = folds(rows, OPEN_ROWS)
    for n, fold in enumerate(lines):
        before, after = span[fold.start].before, span[fold.stop - 1].after
        if fold.folded:
            body.append(_fold(merged(rows, fold), fold, Span(before, after), axis))
        for i in range(fold.start, fold.stop):
            if i and rows[i].body and not rows[i - 1].body:
                body.append('<tr class="edge"><td></td><th colspan="4" scope="rowgroup">network’s output</th></tr>')
            lit = n / len(lines) if i <= last_mark and not fold.folded else None
            body.append(_row(rows[i], (k, i), span[i], axis, fold.folded, i == first, lit))
    sites = max(len(words.elide(tell.site(row.file, None), 16)) + len(f":{row.line}") for row in rows)
    names = max(len(words.elide(a, 22)) + (len(words.elide(b, 24)) + 1 if b else 0) for a, b in map(_label, rows))
    folded = max((len(merged(rows, fold).name) + 3 for fold in lines if fold.folded), default=0)
    names = max(names, min(folded - sites, 32))
    widths = f"--site:{min(sites, 22)}ch;--name:{min(max(names, 12), 32)}ch"
    note = f'<p class="fine">{text(budget.note)}</p>' if budget.branched and budget.note else ""
    grew = any(s.before is not None and s.after is not None and s.after > s.before for s in span)
    return (
        f'<div class="scroll wf-box"><table class="wf" id="wf{k or ""}" data-way="{k}" style="'
        + widths
        + '"><caption class="sr">The gradient’s way back, the loss '
        "first. Each row: source line, operation, what is left of the gradient, and the gain of the operation."
        '</caption><thead><tr><th scope="col">line</th><th scope="col">operation</th>'
        f'<th scope="col" class="axis"><span class="sr">what is left</span>{_ticks(axis)}</th>'
        '<th scope="col" class="gain">gain</th><th scope="col"><span class="sr">mark</span></th></tr></thead>'
        f'<tbody style="--decade:{100 / (axis.high - axis.low):.4f}%;--origin:{100 * _origin(axis):.4f}%">'
        f"{''.join(body)}</tbody></table></div>"
        '<p class="legend"><span class="key"><i class="sw flow"></i>left</span>'
        '<span class="key"><i class="sw took"></i>taken by this op</span>'
        + ('<span class="key"><i class="sw grew"></i>added by this op</span>' if grew else "")
        + ('<span class="key"><i class="sw merge"></i>⊕ other routes join</span>' if _merges(rows) else "")
        + f'<span class="key">▼ ▲ ✕ ○ to blame</span></p>{note}'
    )


def _merges(rows: Sequence[Share]) -> bool:
    return any(row.kind == "branch" for row in rows)


def _origin(axis: Scale) -> float:
    """Where the first whole decade lies, as the share that a background's position in percent asks for."""
    return (math.ceil(axis.low) - axis.low) / (axis.high - axis.low - 1)


def _ticks(axis: Scale) -> str:
    step = max(1, math.ceil((axis.high - axis.low) / 9))
    return "".join(
        f'<span style="left:{100 * axis(float(d)):.2f}%">{"1" if d == 0 else f"10<sup>{words.number(d)}</sup>"}</span>'
        for d in range(math.ceil(axis.low), math.floor(axis.high) + 1)
        if d % step == 0 and axis(float(d)) > 0.02
    )


def _bar(row: Share, span: Span, axis: Scale) -> str:
    """Bar of what is left, and the piece that this op took or added."""
    if span.after is None:
        if broken(row):
            return '<i class="lost x-nf"></i>'
        end = axis(span.before)
        return f'<i class="lost x-dead" style="width:{100 * end:.2f}%"></i>' if span.before is not None else ""
    after = axis(span.after)
    before = after if span.before is None else axis(span.before)
    low, high = min(before, after), max(before, after)
    kind = "merge" if row.kind == "branch" else "grew" if after > before else "took"
    piece = (
        f'<i class="{kind}" style="left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%"></i>' if high > low else ""
    )
    return f'<i class="flow" style="--to:{100 * (1 - low):.2f}%"></i>{piece}'


def _label(row: Share) -> tuple[str, str]:
    """The two words of a row: op and module, or for a merge of routes what came this way."""
    if row.kind == "branch":
        return "⊕ routes join", "" if row.share is None else f"{words.percent(row.share)} this way"
    return tell.label(row)


def _row(
    row: Share, at: tuple[int, int], span: Span, axis: Scale, hidden: bool, chosen: bool, lit: float | None
) -> str:
    """One op; `at` are the numbers of its way back and of its row there."""
    name, module = _label(row)
    label = (
        f'<span class="op" title="{escape(name)}">{escape(words.elide(name, 22))}</span> '
        f'<span class="mod" title="{escape(module)}">{escape(words.elide(module, 24))}</span>'
    )
    where = tell.site(row.file, row.line)
    file, _, line = where.rpartition(":")
    kinds = [tone(row.mark) + " marked" if row.mark else "", "" if row.body else "side"]
    kinds += ["in-fold" if hidden else "", "lit" if lit is not None else "", "sel" if chosen else ""]
    css = " ".join(k for k in kinds if k)
    glyph = f'<span title="{text(row.mark)}">{words.mark(row.mark)}</span>' if row.mark else ""
    what = "nan/inf" if broken(row) and row.gain is None else words.gain(row.gain)
    light = f' style="--n:{lit:.3f}"' if lit is not None else ""
    return (
        f'<tr id="{row_id(*at)}" class="{css}" data-i="{at[1]}"{light}><td class="site" title="{escape(where)}">'
        f'<span class="fn">{escape(words.elide(file, 16))}</span>{escape(":" + line if line else "")}</td>'
        f'<th scope="row" class="name">{label}</th><td class="bar"><div>{_bar(row, span, axis)}</div></td>'
        f'<td class="gain">{escape(what)}</td>'
        f'<td class="mk">{glyph}</td></tr>'
    )


def _fold(row: Share, fold: Fold, span: Span, axis: Scale) -> str:
    """The line that stands for folded rows; a button once there is a script."""
    return (
        f'<tr class="fold js-only" data-from="{fold.start}" data-to="{fold.stop}"><th colspan="2" scope="row">'
        f'<button type="button" aria-expanded="false">{escape(row.name)}</button></th>'
        f'<td class="bar"><div>{_bar(row, span, axis)}</div></td><td class="gain">{escape(words.gain(row.gain))}</td>'
        f'<td class="mk">{words.mark(row.mark) if row.mark else ""}</td></tr>'
    )


# ── the selected op ──────────────────────────────────────────────────────────────────────────────────────────────────


def details(row: Share, span: Span, op: Op | None, whose: str = "output") -> dict[str, Facts]:
    """What the side panel tells of one row: facts in groups, already spelled, so that page and script agree.

    Args:
        row: the row of the budget.
        span: what is left before and after it.
        op: the op it is about; None where no probe was kept.
        whose: gradient is told to be left: the output's, or the loss's.

    Returns:
        Groups "gain", "forward", "backward" of [name, value] pairs; groups without facts are left out.
    """
    gain: Facts = [["gain", words.gain(row.gain)], ["decades", words.decades(row.decades)]]
    if span.after is not None:
        gain.append([f"left of the {whose}'s gradient", words.gain(_power(span.after))])
    gain += [["share that came this way", words.percent(row.share)]] if row.share is not None else []
    gain += [["kind", words.one_line(row.kind)]]
    out = {"gain": gain}
    if op is not None:
        out["forward: its output"] = _forward(op, op.value)
        if op.grad is not None:
            out["backward: gradient at its output"] = _backward(op.grad)
    return out


def _whose(rows: Sequence[Share]) -> str:
    """Whose gradient the bars are shares of."""
    return "loss" if from_the_loss(rows) else "output"


def _power(x: float) -> float:
    """10 to the x, without overflow."""
    return 10.0**x if x < 300 else math.inf


def _forward(op: Op, v: ValueStat) -> Facts:
    facts: Facts = [
        ["shape", "×".join(str(d) for d in v.shape) + " " + words.one_line(v.dtype).removeprefix("torch.")],
        ["mean ± std", f"{words.number(v.mean)} ± {words.number(v.std)}"],
        ["least … most", f"{words.number(v.min)} … {words.number(v.max)}"],
        ["exact zeros", words.percent(v.zeros)],
    ]
    facts += [["saturated", words.percent(v.saturated)]] if v.saturated is not None else []
    facts += [["dead units", words.percent(v.dead)]] if v.dead is not None else []
    least = words.finite(x.value.absmin for x in op.operands if x.value is not None)
    facts += [["smallest |entry| of its input", words.number(min(least))]] if least else []
    facts += [["not finite", f"✕ {v.nan} NaN, {v.inf} inf"]] if v.nonfinite else []
    facts += [["in place", "yes"]] if op.inplace else []
    return facts


def _backward(g: GradStat) -> Facts:
    return [
        ["norm", words.number(g.norm)],
        ["rms", words.number(g.rms)],
        ["largest", words.number(g.max)],
        ["exact zeros", words.percent(g.zeros)],
        ["not finite", f"✕ {g.nan} NaN, {g.inf} inf" if g.nonfinite else "none"],
    ]


def ops_of(budget: Budget, run: Run | None) -> list[Op | None]:
    """The op of each row of a budget, in the probe that it was made from."""
    probe = probe_of(budget, run)
    by_index = {op.index: op for op in probe.ops} if probe is not None else {}
    return [by_index.get(row.op) if row.op is not None else None for row in budget.by_op]


def panel(verdict: Verdict, run: Run | None) -> str:
    """The side panel, with the row to look at first; the script fills it with others."""
    budget = ways(verdict)[0].budget
    rows = budget.by_op
    first = first_look(verdict, rows)
    if first is None:
        return ""
    row, op = rows[first], ops_of(budget, run)[first]
    groups = "".join(
        f"<h3>{escape(name)}</h3><dl>"
        + "".join(f"<dt>{escape(a)}</dt><dd>{escape(b)}</dd>" for a, b in facts)
        + "</dl>"
        for name, facts in details(row, spans(rows)[first], op, _whose(rows)).items()
    )
    where = " · ".join(x for x in (tell.site(row.file, row.line), words.one_line(row.module or "")) if x)
    mark = f'<span class="mk">{words.mark(row.mark)}</span> ' if row.mark else ""
    return (
        f'<section class="card pick {tone(row.mark) if row.mark else ""}" id="pick" aria-labelledby="pick-name">'
        f'<h2 id="pick-name">{mark}{text(row.name)}</h2>'
        f'<p class="place"><code id="pick-place">{escape(where)}</code></p>'
        f'<div id="pick-src">{source(run, row.file, row.line, words.mark(row.mark) if row.mark else "▸")}</div>'
        f'<div id="pick-facts" class="groups">{groups}</div></section>'
    )


def island(verdict: Verdict, run: Run | None) -> dict[str, Any]:
    """What the script needs of the rows: of each way its rows and their spelled facts, and each source excerpt once."""
    excerpts: dict[str, list[list[Any]]] = {}
    found = []
    for way in ways(verdict):
        rows = way.budget.by_op
        for row in rows:
            key = f"{row.file}:{row.line}"
            if key not in excerpts:
                lines = tell.excerpt(tell.source(run, row.file), row.line)
                excerpts[key] = [[no, part, hit] for no, part, hit in lines]
        parts = zip(rows, spans(rows), ops_of(way.budget, run), strict=True)
        found.append(
            {
                "rows": [
                    {
                        key: getattr(row, key)
                        for key in ("name", "kind", "decades", "gain", "mark", "file", "line", "module")
                    }
                    for row in rows
                ],
                "total": way.budget.total_decades,
                "kinds": {row.name: words.decades(row.decades) for row in way.budget.by_kind},
                "facts": [details(row, span, op, _whose(rows)) for row, span, op in parts],
            }
        )
    return {"ways": found, "sources": excerpts}
