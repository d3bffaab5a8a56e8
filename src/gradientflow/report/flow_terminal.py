"""A flow on a terminal: how it ended, the table of paths, certificates, what the optimizers did, cost and notes.

In a colour terminal it uses the terminal's width (80 to 120 columns); anywhere else it writes 100 columns of plain
text, the same bytes for the same flow.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from gradientflow.records import Check, Drops, Flow, Status, Story, Track
from gradientflow.report.bars import INK, sparkline
from gradientflow.report.flow_words import (
    check_mark,
    cost,
    ending_mark,
    losses,
    point,
    scatter,
    sliced,
    solving,
    tolerance,
    total,
)
from gradientflow.report.terminal import PLAIN_WIDTH, encodable
from gradientflow.report.words import count, elide, number, one_line, pad, percent

RED = "bold #ffffff on #b3261e"
TONES = {"✓": INK["healthy"], "◔": "#c99a2e", "▲": INK["exploding"], "✕": INK["not-finite"]}
Cells = Sequence[tuple[str, str]]  # text and style of each cell of a row


def print_flow(flow: Flow, console: Console, *, files: Sequence[tuple[str, str]] = ()) -> None:
    """Print what was solved.

    Args:
        flow: the record.
        console: where to print; when it is not a terminal, plain text of 100 columns is written.
        files: what was written: ("saved", "path.npz").
    """
    if console.is_terminal:
        plain = console.no_color or console.color_system is None
        for line in FlowPage(flow, min(max(console.width, 60), 120), plain).lines(files):
            console.print(line, no_wrap=True, overflow="ellipsis", highlight=False)
        return
    page = FlowPage(flow, PLAIN_WIDTH, True)
    text = "\n".join(line.plain.rstrip() for line in page.lines(files))
    console.out(encodable(_legible(text, console.encoding), console.encoding), highlight=False)


def _legible(text: str, encoding: str) -> str:
    """Mathematics in ASCII where the stream carries nothing else."""
    return text if encoding.lower().startswith("utf") else text.translate(_ASCII)


_ASCII = str.maketrans(
    {"θ": "theta", "λ": "lambda", "ρ": "rho", "η": "eta", "‖": "|", "∇": "grad ", "∫": "integral ", "²": "^2", "✗": "X", "◔": "~",
     "↗": ">", "½": "1/2 ", "¼": "1/4 ", "–": "-", **{chr(0x2080 + k): str(k) for k in range(10)}}
)  # fmt: skip


class FlowPage:
    """The lines of one flow at one width.

    Args:
        flow: the record.
        width: columns.
        plain: without colours.
    """

    def __init__(self, flow: Flow, width: int, plain: bool) -> None:
        self.flow, self.width, self.plain = flow, width, plain
        self._console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False)

    def lines(self, files: Sequence[tuple[str, str]]) -> Iterator[Text]:
        """All lines, top to bottom."""
        yield from self.headline()
        if self.flow.stories:
            yield from self.paths()
        if self.flow.drops is not None:
            yield from self.drops(self.flow.drops)
        yield from self.left()
        yield from self.certificates()
        yield Text()
        yield from self.footer(files)

    # ── how it ended ─────────────────────────────────────────────────────────────────────────────────────────────────

    def headline(self) -> Iterator[Text]:
        """BROKEN where a certificate is; else the status; then what was solved, and by what."""
        broken = self.flow.broken
        if broken:
            names = ", ".join(dict.fromkeys(one_line(c.name) for _, c in broken))
            yield Text(f"✗ BROKEN: {names}" if self.plain else f" ✗ BROKEN: {names} ", "bold" if self.plain else RED)
            yield from self.para(
                f"The path does not pass its own checks: it is not the flow. Tighten the tolerance{self._tighter()}, or "
                "name another --method.", 2, "bold",
            )  # fmt: skip
        endings = self._endings()
        for who, ending in endings:
            mark = ending_mark(ending.reason)
            badge = f"{mark} {ending.reason}"
            style = "bold" if self.plain else f"bold #ffffff on {TONES.get(mark, INK['not-measured'])}"
            said = f"{who}{one_line(ending.text)}"
            yield from self.para(said, len(badge) + 4, first=Text(badge if self.plain else f" {badge} ", style))
            if ending.remedy:
                yield from self.para(one_line(ending.remedy), 2)
        f = self.flow
        paths: list[Track | Drops] = [*(s.flow for s in f.stories), *([f.drops] if f.drops else [])]
        by = [paths[0].method, tolerance(paths[0])] if paths else []
        about = [f.field, count(f.size, "parameter"), f.dtype, *by]
        yield from self.para(" · ".join(one_line(a) for a in about if a), 2, "dim")
        if f.description:
            yield from self.para(one_line(f.description), 2, "dim")

    def _tighter(self) -> str:
        paths: list[Track | Drops] = [
            *(s.flow for s in self.flow.stories),
            *([self.flow.drops] if self.flow.drops else []),
        ]
        for path in paths:
            rtol = path.settings.get("rtol")
            if isinstance(rtol, (int, float)) and rtol > 0:
                return f" (--rtol {rtol / 10:.0e})".replace("e-0", "e-")
        return " (--rtol)"

    def _endings(self) -> list[tuple[str, Status]]:
        """The endings to tell: of the flow; of more drops and of descents only where they did not arrive."""
        told: list[tuple[str, Status]] = []
        several = len(self.flow.stories) > 1
        for s in self.flow.stories:
            who = f"drop {s.drop}: " if several else ""
            if not several or not s.flow.ending.ok:
                told.append((who, s.flow.ending))
            told += [(f"{who}{t.label}: ", t.ending) for t in s.descents if not t.ending.ok]
        if several and not told:
            told.append((f"{len(self.flow.stories)} drops: ", self.flow.stories[0].flow.ending))
        if self.flow.drops is not None:
            told.append((f"{count(self.flow.drops.count, 'drop')}: ", self.flow.drops.ending))
        return told

    # ── the tables ───────────────────────────────────────────────────────────────────────────────────────────────────

    def paths(self) -> Iterator[Text]:
        """One row per path: where it is at its end, and what it cost."""
        stories = self.flow.stories
        small = 0 < self.flow.size <= 2
        loss = any(t.loss for s in stories for t in (s.flow, *s.descents))
        compared = any(s.apart for s in stories)
        head = ["", "t", "steps", "gradients", *(["loss"] if loss else []), "‖∇L‖" if self.flow.potential else "‖dθ/dt‖",
                "sharpness", *(["distance"] if compared else []), *(["ends at"] if small else [])]  # fmt: skip
        if not any(x is not None for s in stories for t in (s.flow, *s.descents) for x in t.sharpness):
            head.remove("sharpness")
        several = len(stories) > 1
        rows: list[Cells] = []
        for drop in (None, "sharpness", "‖∇L‖", "‖dθ/dt‖", "steps"):  # what a narrow terminal does without
            head = [h for h in head if h != drop]
            rows = [self._row(s, track, head, several=several) for s in stories for track in (s.flow, *s.descents)]
            if sum(max(cell_len(h), *(cell_len(r[k][0]) for r in rows)) + 2 for k, h in enumerate(head)) <= self.width:
                break
        yield Text()
        yield from self.table(head, rows)
        if len(stories) == 1 and loss:
            yield Text()
            tracks = [stories[0].flow, *stories[0].descents]
            wide = max(cell_len(one_line(t.label)) for t in tracks)
            name = min(wide, self.width // 3)
            for k, track in enumerate(tracks):
                curve = sparkline(_even(track.times, track.loss or []), min(48, self.width - name - 14))
                ink = "" if self.plain else INK["left"] if k == 0 else ""
                head_of = "loss  " if k == 0 else "      "
                yield Text.assemble(("  " + head_of, "dim"), pad(one_line(track.label), name), "  ", (curve, ink))

    def _row(self, s: Story, track: Track, head: Sequence[str], *, several: bool) -> Cells:
        who = f"{s.drop}  " if several else ""
        sharp = next((x for x in reversed(track.sharpness) if x is not None), None)
        gap = next((a for a in s.apart if a.label == track.label), None)
        distance = next((x for x in reversed(gap.distance) if x is not None), None) if gap else None
        values = {
            "": who + one_line(track.label),
            "t": number(track.times[-1], 4) if track.times else "—",
            "steps": number(max((track.moments or len(track.times)) - 1, 0) if track.steps is None else track.steps),
            "gradients": number(solving(track.spent)),
            "loss": number(track.loss[-1]) if track.loss else "—",
            "‖∇L‖": number(track.grad_norm[-1]) if track.grad_norm else "—",
            "‖dθ/dt‖": number(track.grad_norm[-1]) if track.grad_norm else "—",
            "sharpness": number(sharp),
            "distance": "" if track is s.flow else number(distance),
            "ends at": point(track.points[-1] if track.points else track.final),
        }
        style = "bold" if track.kind == "flow" else ""
        bad = "" if track.ending.ok else ending_mark(track.ending.reason) + " "
        return [((bad + values[h]) if h == "t" else values[h], style if h == "" else "") for h in head]

    def drops(self, drops: Drops) -> Iterator[Text]:
        """Where many drops ended, the most visited place first."""
        yield Text()
        if drops.scattered:
            told = losses(drops, moving=False)
            yield from self.para(scatter(drops) + (f"; {told}" if told else ""), 2)
        else:
            rows: list[Cells] = [
                [(point(r.at) if r.at else f"place {k + 1}", ""), (number(r.count), ""), (percent(r.count / drops.count), ""),
                 (number(r.loss), ""), (number(r.grad_norm), "")]
                for k, r in enumerate(drops.rests[:12])
            ]  # fmt: skip
            if rows:
                slope = "‖∇L‖" if self.flow.potential else "‖dθ/dt‖"
                yield from self.table(["came to rest at", "drops", "share", "loss", slope], rows)
            if len(drops.rests) > 12:
                yield Text(f"  and {number(len(drops.rests) - 12)} more places", "dim")
        afloat = sum(b < 0 for b in drops.basin)
        if afloat:
            told = losses(drops, moving=True)
            yield from self.para(f"{count(afloat, 'drop')} still moved at the end" + (f"; {told}" if told else ""), 2)
        odd = [f"{number(n)} {reason}" for reason, n in drops.reasons.items() if reason not in ("reached", "event")]
        if odd:
            yield from self.para(f"ended early: {', '.join(odd)}", 2)

    def table(self, head: Sequence[str], rows: Sequence[Cells]) -> Iterator[Text]:
        """A table with a flexible first column, the others to the right."""
        widths = [max(cell_len(h), *(cell_len(r[k][0]) for r in rows)) for k, h in enumerate(head)]
        gap = 3 if sum(widths) + 3 * len(widths) <= self.width else 2
        widths[0] = max(min(widths[0], self.width - 2 - sum(widths[1:]) - gap * (len(widths) - 1)), 8)
        yield Text(
            "  " + (" " * gap).join(pad(h, w, right=k > 0) for k, (h, w) in enumerate(zip(head, widths, strict=True))),
            "dim",
        )
        for row in rows:
            line = Text("  ")
            for k, ((cell, style), w) in enumerate(zip(row, widths, strict=True)):
                line.append(" " * gap if k else "")
                line.append(pad(cell, w, right=k > 0), style)
            yield line

    # ── what to make of it ───────────────────────────────────────────────────────────────────────────────────────────

    def left(self) -> Iterator[Text]:
        """Which optimizers left the flow, when and why, and which stay; and what they changed that the flow keeps."""
        said: list[Text] = []
        for s in self.flow.stories:
            who = f"drop {s.drop}, " if len(self.flow.stories) > 1 else ""
            for a in s.apart:
                mark, ink = ("↗", INK["exploding"]) if a.left is not None else ("✓", INK["healthy"])
                first = Text.assemble("  ", (mark, "" if self.plain else ink), " ")
                said += self.para(f"{who}{a.label}: {one_line(a.why)}", 4, first=first)
            for law, (begin, end) in s.flow.conserved.items():
                ends = [f"{t.label} {number(t.conserved[law][1])}" for t in s.descents if law in t.conserved]
                after = f"; {', '.join(ends)} at the end" if ends else ""
                said += self.para(
                    f"{who}{law} = {number(begin)} at the start, {number(end)} at the end of the flow, which keeps it{after}", 4,
                    first=Text("  = ", "dim"),
                )  # fmt: skip
        if said:
            yield Text()
            yield from said[:14]

    def certificates(self) -> Iterator[Text]:
        """Every check with its mark; the broken ones in red and first."""
        groups: list[tuple[str, list[Check]]] = []
        for s in self.flow.stories:
            for track in (s.flow, *s.descents):
                who = track.label if track.kind != "flow" else ""
                if len(self.flow.stories) > 1:
                    who = f"drop {s.drop}" + (f", {who}" if who else "")
                    if all(c.ok is not False for c in track.checks):  # of many drops only what is broken, to be short
                        continue
                groups.append((who, track.checks))
        if self.flow.drops is not None:
            groups.append(("", self.flow.drops.checks))
        wide = max((cell_len(one_line(c.name)) for _, checks in groups for c in checks), default=0)
        shown = [(who, c) for who, checks in groups for c in sorted(checks, key=lambda c: c.ok is not False)]
        yield Text()
        if not shown:
            held = [c for s in self.flow.stories for c in s.flow.checks]
            said = (
                "hold for every drop: " + ", ".join(dict.fromkeys(c.name for c in held)) if held else "none were made"
            )
            yield from self.para(said, 16, first=Text("  certificates", "dim"))
            return
        yield Text("  certificates", "dim")
        for who, c in shown:
            bad = c.ok is False
            tone = ("bold" if self.plain else RED) if bad else "" if self.plain else INK["healthy"] if c.ok else "dim"
            first = Text.assemble(
                ("    " + check_mark(c), tone), " ", (pad(one_line(c.name), min(wide, 32)), "bold" if bad else "")
            )
            said = ("BROKEN: " if bad else "") + (f"{who}: " if who else "") + one_line(c.text)
            yield from self.para(said, min(wide, 32) + 8, "bold" if bad else "", first=first)

    def footer(self, files: Sequence[tuple[str, str]]) -> Iterator[Text]:
        """Cost, notes, files."""
        tracks = [t for s in self.flow.stories for t in (s.flow, *s.descents)]
        flows = [t for t in tracks if t.kind == "flow"]
        spent = self.flow.drops.spent if self.flow.drops is not None else None
        if spent is None and flows:
            spent = total(flows)
        if spent is not None:
            yield from self.para(cost(spent), 12, first=Text("  cost", "dim"))
        if self.flow.comparing is not None:
            told = f"{cost(self.flow.comparing)}: the flow, more tightly, at the steps of each optimizer"
            yield from self.para(told, 12, first=Text("  compare", "dim"))
        if self.flow.portrait is not None:
            yield from self.para(one_line(sliced(self.flow.portrait)), 12, first=Text("  plane", "dim"))
        notes = [(t.label if t.kind != "flow" else "", n) for t in tracks for n in t.notes]
        notes += [("", n) for n in (self.flow.drops.notes if self.flow.drops else [])] + [
            ("", n) for n in self.flow.notes
        ]
        for k, (who, note) in enumerate(list(dict.fromkeys(notes))[:8]):
            said = (f"{who}: " if who else "") + one_line(note)
            yield from self.para(said, 12, first=Text("  notes" if k == 0 else "", "dim"))
        if len(set(notes)) > 8:
            yield Text(f"            and {len(set(notes)) - 8} more (--json has all)", "dim")
        for what, file in files:
            yield Text.assemble((f"  {what:<10}", "dim"), elide(one_line(file), self.width - 12))

    def para(self, text: str, indent: int, style: str = "", first: Text | None = None) -> list[Text]:
        """A paragraph wrapped to the width, indented; `first` stands in the indentation of its first line."""
        out = []
        for k, line in enumerate(Text(text).wrap(self._console, max(self.width - indent, 20))):
            line.rstrip()
            line.stylize(style)
            head = first if first is not None and k == 0 else Text(" " * indent)
            out.append(Text.assemble(head, " " * max(0, indent - cell_len(head.plain)), line))
        return out or ([first] if first is not None else [])


def _even(times: Sequence[float], values: Sequence[float | None]) -> list[float | None]:
    """Values at even times, so that a curve of uneven moments is drawn over flow time."""
    if not values or times[-1] <= times[0]:
        return list(values)
    out: list[float | None] = []
    k = 0
    for j in range(96):
        t = times[0] + (times[-1] - times[0]) * j / 95
        while k + 1 < len(times) and times[k + 1] <= t * (1 + 1e-12):
            k += 1
        out.append(values[k])
    return out
