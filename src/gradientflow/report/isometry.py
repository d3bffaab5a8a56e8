"""The Jacobian view: singular values from layer to layer and end to end, as the terminal shows it and the screens draw it.

σ² = 1 in every direction is dynamical isometry: gradients keep their length whichever way they point (Saxe, McClelland
and Ganguli 2014; Pennington, Schoenholz and Ganguli 2017).
"""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from gradientflow.records import Op, Probe, Run, Stretch
from gradientflow.report import tell, words
from gradientflow.report.bars import INK
from gradientflow.report.words import ROWS

# Chosen: a mean within a factor of 1.25 of one, and for isometry no direction beyond 1.5 or below ½. A factor of 1.25 in
# σ² at each of twenty layers is two decades in σ².
KEPT, WIDEST, NARROWEST = 1.25, 1.5, 0.5
TITLE = "singular values of the Jacobians"


@dataclass(frozen=True)
class Row:
    """One line of the view: what it is called, its numbers, its word and mark."""

    where: str
    name: str
    stretch: Stretch
    word: str
    mark: str
    symptom: str  # whose ink it has
    whole: bool = False


def judged(s: Stretch) -> tuple[str, str, str]:
    """Return a stretch's word, its mark, and the symptom whose ink it has."""
    if not math.isfinite(s.mean):
        return "not finite", words.mark("not-finite"), "not-finite"
    if s.mean == 0:
        return "cut", words.mark("dead"), "dead"
    if s.mean < 1 / KEPT:
        return "shrinks", words.mark("vanishing"), "vanishing"
    if s.mean > KEPT:
        return "grows", words.mark("exploding"), "exploding"
    if (s.top is not None and s.top > WIDEST) or (s.bottom is not None and s.bottom < NARROWEST):
        return "uneven", "↕", "not-measured"
    if s.top is None:
        return "kept on average", "·", "not-measured"
    return "isometric", words.mark("healthy"), "healthy"


def views(run: Run | None) -> list[Probe]:
    """The first and the last probe with Jacobians."""
    seen = [p for p in run.probes if p.isometry is not None] if run is not None else []
    return seen if len(seen) < 2 else [seen[0], seen[-1]]


def rows(probe: Probe) -> list[Row]:
    """All lines of one probe, in the order of the forward pass, the whole network last."""
    view = probe.isometry
    if view is None:
        return []
    out = []
    names = _names(probe.ops, sorted({i for s in view.stretches for i in (s.source, s.target)}))
    for s in view.stretches:
        target = probe.ops[s.target]
        name = f"{names[s.source]} → {names[s.target]}"
        out.append(Row(tell.site(target.file, target.line), name, s, *judged(s)))
    if view.whole is not None:
        out.append(Row("", "end to end", view.whole, *judged(view.whole), whole=True))
    return out


def _names(ops: list[Op], stations: list[int]) -> dict[int, str]:
    """What each station is called: a layer by its module, a sum by its operation too; numbered where several share a name."""
    called = {i: _called(ops[i]) for i in stations}
    several = {name for name, n in Counter(called.values()).items() if n > 1}
    seen: dict[str, int] = {}
    out = {}
    for i, name in called.items():
        seen[name] = seen.get(name, 0) + 1
        out[i] = f"{name} {seen[name]}" if name in several else name
    return out


def _called(op: Op) -> str:
    module = words.one_line(op.module) if op.module and op.module != op.module_class else ""
    layer = op.kind in ("linear", "conv", "embedding", "recurrent", "attention")
    return module if module and layer else f"{module} {words.one_line(op.name)}".strip()


@dataclass(frozen=True)
class Axis:
    """A log scale from `low` to `high` decades."""

    low: float
    high: float

    def __call__(self, x: float) -> float:
        """Where σ² lies, 0 to 1."""
        if x <= 0:
            return 0.0
        return min(max((math.log10(x) - self.low) / (self.high - self.low), 0.0), 1.0)


def axis(every: list[Row]) -> Axis:
    """The common scale: around 1, with room for the mean and the largest value of each stretch; anything may run off it."""
    stretches = [r.stretch for r in every if not r.whole] or [r.stretch for r in every]
    seen = [x for s in stretches for x in (s.mean, s.top) if x is not None and x > 0 and math.isfinite(x)]
    low = math.floor(min([math.log10(x) for x in seen] + [-1.0]))
    high = math.ceil(max([math.log10(x) for x in seen] + [1.0]))
    return Axis(float(low - 1), float(high))


def off_scale(s: Stretch, scale: Axis) -> str:
    """Return which end of the scale a stretch lies beyond with all of it: "<", ">", or neither."""
    top, bottom = s.top if s.top is not None else s.mean, s.bottom if s.bottom is not None else s.mean
    if not top > 10**scale.low:
        return "<"
    return ">" if bottom > 10**scale.high else ""


def summary(probe: Probe) -> str:
    """How far the network is from isometry, in one sentence."""
    whole = probe.isometry.whole if probe.isometry is not None else None
    if whole is None:
        return ""
    text = f"end to end the mean σ² is {words.number(whole.mean)}"
    text += f" ({words.decades(math.log10(whole.mean))} decades from 1)" if whole.mean > 0 else ""
    if whole.top is not None:
        text += f", the largest {words.number(whole.top)}"
        text += f" ({words.decades(math.log10(whole.top))})" if whole.top > 0 else ""
    if whole.mean > 0 and whole.top is not None:
        text += f": the best direction has {words.number(whole.top / whole.mean)} times the mean"
    return text + "."


def measured(s: Stretch) -> str:
    """How a line's numbers came about."""
    of = words.count(s.samples, "sample") if s.samples else "the batch as one, since samples mix"
    how = "all singular values" if not s.probes else f"{s.probes} random vectors and Lanczos"
    error = f", mean ± {words.number(s.error)}" if s.error else ""
    bound = f", largest within {words.percent(s.bound)}" if s.bound else ""
    return f"{s.inputs} → {s.outputs} entries, {how}, {of}{error}{bound}"


# ── the terminal ─────────────────────────────────────────────────────────────────────────────────────────────────────


def lines(run: Run | None, width: int, *, plain: bool) -> Iterator[Text]:
    """The view on a terminal: the table of the first probe, and what became of it at the last; nothing where none was asked for."""
    shown = views(run)
    for probe in shown[:1]:
        yield from _block(probe, width, plain=plain)
    for probe in shown:
        text = f"step {probe.step}: {summary(probe)}"
        for k, line in enumerate(Text(text, "dim").wrap(Console(file=io.StringIO(), width=width), width - 4)):
            line.rstrip()
            yield Text("  " if k == 0 else "    ").append_text(line)


def _block(probe: Probe, width: int, *, plain: bool) -> Iterator[Text]:
    every = rows(probe)
    shown = _farthest(every)
    scale = axis(every)
    w_word = max(len(r.word) for r in every) + 2
    w_name = min(max(len(r.name) for r in every), 34 if width >= 100 else 24)
    w_where = min(max(len(r.where) for r in every), 18)
    w_bar = max(width - 2 - w_where - 2 - w_name - 2 - 3 * 10 - 2 - w_word - 1, 8)
    head = Text.assemble(("  " + TITLE, "bold"), (f"   step {probe.step}, log scale, │ is 1", "dim"))
    yield Text()
    yield head
    cells = " " * (w_where + w_name + 6 + w_bar) + "".join(
        words.pad(x, 10, right=True) for x in ("mean σ²", "max", "min")
    )
    yield Text(cells, "dim")
    for k, r in enumerate(shown):
        if k and not r.whole and every.index(r) > every.index(shown[k - 1]) + 1:
            left = every.index(r) - every.index(shown[k - 1]) - 1
            yield Text(
                f"  {'':{w_where}}  … {left} more, nearer to 1",
                "dim",
            )
        s = r.stretch
        tone = "" if plain else f"bold {INK.get(r.symptom, '')}"
        line = Text.assemble(
            "  ", (words.pad(r.where, w_where) + "  ", "dim"), (words.pad(r.name, w_name), "bold" if r.whole else "")
        )
        line.append("  ")
        line.append(_track(s, scale, w_bar), "" if plain else INK["left"])
        for x in (s.mean, s.top, s.bottom):
            line.append(words.pad(words.number(x), 10, right=True), "bold" if x is s.mean and r.whole else "")
        line.append(f"  {r.mark} {r.word}", tone)
        yield line


def _farthest(every: list[Row]) -> list[Row]:
    """As many rows as fit: those farthest from 1, in their order, and always the whole network."""
    if len(every) <= ROWS:
        return every
    away = sorted((r for r in every if not r.whole), key=lambda r: -_away(r.stretch))
    kept = {id(r) for r in away[: ROWS - 1]}
    return [r for r in every if r.whole or id(r) in kept]


def _away(s: Stretch) -> float:
    return abs(math.log10(s.mean)) if s.mean > 0 and math.isfinite(s.mean) else math.inf


def _track(s: Stretch, scale: Axis, width: int) -> str:
    """The range from least to largest, the mean as a dot, 1 as a line."""

    def cell(x: float) -> int:
        return min(int(width * scale(x)), width - 1)

    out = [" "] * width
    if off := off_scale(s, scale):
        out[cell(1.0)] = "│"
        out[0 if off == "<" else -1] = off
        return "".join(out)
    begin = cell(s.bottom) if s.bottom is not None else cell(s.mean)
    for c in range(begin, cell(s.top if s.top is not None else s.mean) + 1):
        out[c] = "─"
    out[cell(1.0)] = "│"
    if math.isfinite(s.mean):
        out[cell(s.mean)] = "•"
    return "".join(out)
