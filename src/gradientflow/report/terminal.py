"""The verdict on a terminal: headline, findings, waterfall, budget, loss, and what watching cost.

In a colour terminal it uses the terminal's width (80 to 160 columns); anywhere else it writes 100 columns of plain
text, the same bytes for the same verdict.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from gradientflow.records import Finding, Run, Verdict
from gradientflow.report import closing, isometry, tell, words
from gradientflow.report.bars import INK, ink, sparkline
from gradientflow.report.guard import guarded
from gradientflow.report.over_time_terminal import time_lines
from gradientflow.report.proof import certificate_lines, step_lines
from gradientflow.report.replay_terminal import replay_lines
from gradientflow.report.way_terminal import Drawing
from gradientflow.report.ways import MOST, Way, called, ways

PLAIN_WIDTH = 100
DECIDING = 5  # numbers of the evidence
WHOLE = ("  next ", "  report ")


def print_verdict(
    verdict: Verdict, run: Run | None, console: Console, *, report: str | None = None, verbose: bool = False
) -> None:
    """Print the verdict.

    Args:
        verdict: what the run means.
        run: what was seen of it, for source lines and the loss curve; None: only the verdict is at hand.
        console: where to print; when it is not a terminal, plain text of 100 columns is written.
        report: path of the page to name at the end.
        verbose: tell all of the evidence, not only the numbers that decide.
    """
    if console.is_terminal:
        plain = console.no_color or console.color_system is None
        page = Page(verdict, run, min(max(console.width, 60), 160), plain, verbose)
        for line in page.lines(report):
            whole = line.plain.startswith(WHOLE)  # a path or a command is of use only in one piece
            console.print(
                line, no_wrap=True, overflow="ignore" if whole else "ellipsis", crop=not whole, highlight=False
            )
        return
    page = Page(verdict, run, PLAIN_WIDTH, True, verbose)
    text = "\n".join(line.plain.rstrip() for line in page.lines(report))
    console.out(encodable(text, console.encoding), highlight=False)


def verdict_lines(verdict: Verdict, run: Run | None, width: int, *, plain: bool) -> Iterator[Text]:
    """The lines of a verdict on one look at a model: all but what watching cost.

    Args:
        verdict: what the look means.
        run: what was seen in it.
        width: columns.
        plain: without colours.
    """
    page = Page(verdict, run, width, plain)
    yield from page.headline()
    for k, finding in enumerate(verdict.findings):
        yield Text()
        yield from page.finding(finding, k + 1) if k == 0 else page.short(finding, k + 1)
    for way in ways(verdict):
        yield from page.waterfall(way)
    yield from time_lines(verdict, run, width, plain=plain)
    for way in ways(verdict):
        yield from page.budget(way)
    if verdict.steps > 1:  # a run of its own, not one backward pass
        yield from step_lines(verdict, width)
        yield from certificate_lines(verdict, page.para)


def encodable(text: str, encoding: str) -> str:
    """The text as far as the stream's encoding can carry it: a log in ASCII gets plain signs instead of an error."""
    try:
        text.encode(encoding)
        return text
    except (UnicodeEncodeError, LookupError):
        plain = text.translate(str.maketrans("×−·…│├─█░▒▼▲✕○✓✗→•⊕‖", "x--.||-#:+vAXooX>*+|"))
        return plain.encode("ascii", "replace").decode("ascii")


class Page:
    """The lines of one verdict at one width.

    Args:
        verdict: what the run means.
        run: what was seen; None: only the verdict is at hand.
        width: columns.
        plain: without colours.
        verbose: tell all of the evidence.
    """

    def __init__(self, verdict: Verdict, run: Run | None, width: int, plain: bool, verbose: bool = False) -> None:
        self.verdict, self.run, self.width, self.plain = verdict, run, width, plain
        self.verbose = verbose
        self._console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False)
        self._drawing = Drawing(width, plain, self.para)

    def lines(self, report: str | None) -> Iterator[Text]:
        """All lines, top to bottom."""
        verdict, tried = self.verdict, self.verdict.replay
        yield from self.part("the headline", self.headline)
        for k, finding in enumerate(verdict.findings[:3]):
            yield Text()
            yield from self.part(f"finding {k + 1}", partial((self.short if k else self.finding), finding, k + 1))
        if len(verdict.findings) > 3:
            yield Text(f"      and {words.count(len(verdict.findings) - 3, 'more finding')} in the report", "dim")
        if tried is not None:
            yield from self.part("the replay", lambda: replay_lines(tried, self.width, self.plain, self.para))
        for way in ways(verdict):
            yield from self.part("the gradient's way back", partial(self.waterfall, way))
            if way.own is not None:
                yield from self.part("where the decades went", partial(self.budget, way))
        yield from self.part(
            "the gradient over time", lambda: time_lines(verdict, self.run, self.width, plain=self.plain)
        )
        for way in ways(verdict):
            if way.own is None:
                yield from self.part("where the decades went", partial(self.budget, way))
        yield from self.part("the way to the step", lambda: step_lines(verdict, self.width))
        yield from self.part("what was proven", lambda: certificate_lines(verdict, self.para))
        yield from self.part("singular values", lambda: isometry.lines(self.run, self.width, plain=self.plain))
        yield Text()
        yield from self.part("what was watched", lambda: self.footer(report))

    def part(self, name: str, make: Callable[[], Iterable[Text]]) -> list[Text]:
        """The lines of a part; where it cannot be drawn, a line that says so."""
        return guarded(name, lambda: list(make()), lambda told: [Text(), *self.para(told, 2)])

    def para(self, text: str, indent: int, style: str = "", first: Text | None = None) -> list[Text]:
        """A paragraph wrapped to the width, indented; `first` stands in the indentation of its first line."""
        wrapped = Text(text).wrap(self._console, max(self.width - indent, 20))
        out = []
        for k, line in enumerate(wrapped):
            line.rstrip()
            head = first if first is not None and k == 0 else Text(" " * indent)
            line.stylize(style)
            out.append(Text.assemble(head, " " * max(0, indent - cell_len(head.plain)), line))
        return out

    # ── the verdict ──────────────────────────────────────────────────────────────────────────────────────────────────

    def headline(self) -> Iterator[Text]:
        """Mark and symptom, the sentence, and what was run."""
        v = self.verdict
        failed = tell.crash(self.run)
        if failed is not None:
            yield from self.para(failed, 2, "bold", first=Text("✗", "bold"))
            yield Text()
        badge = f" {words.mark(v.symptom)} {words.one_line(v.symptom)} "
        style = "bold" if self.plain else f"bold #ffffff on {ink(v.symptom)}"
        yield Text(badge[1:] if self.plain else badge, style)
        yield from self.para(tell.headline(v), 2, "bold")
        parts = [words.one_line(v.script), words.count(v.steps, "step")]
        if self.run is not None:
            meta = self.run.meta
            parts += [f"torch {words.one_line(meta.torch)}"] if meta.torch else []
            parts += [words.seconds(meta.elapsed)] if meta.elapsed else []
            parts += [words.one_line(meta.ended)] if meta.ended else ["killed, or still running"]
        yield from self.para(" · ".join(parts), 2, "dim")
        if v.symptom == "not-measured":
            for kind, text in tell.notes(v, self.run):
                yield from self.para(f"{kind}: {text}", 4, first=Text("  • "))
            if told := tell.mend(self.run):
                yield from self.para(f"mend: {told}", 2)

    def finding(self, f: Finding, rank: int) -> Iterator[Text]:
        """One finding in full."""
        yield self._title(f, rank)
        if f.place is not None:
            parts = tell.place(f.place, self.run.meta if self.run else None)
            yield from self.para("   ".join(parts), 4, "" if self.plain else "cyan")
        if words.one_line(f.summary) != tell.headline(self.verdict):  # said already
            yield from self.para(words.one_line(f.summary), 4)
        if f.place is not None:
            yield from self._source(f)
        facts, left = (tell.facts(f.evidence), 0) if self.verbose else closing.deciding(f, DECIDING)
        if facts:
            yield Text()
            yield Text("    evidence", "dim")
        name = min(max((cell_len(x.name) for x in facts), default=0), self.width // 2)
        value = min(max((cell_len(x.value) for x in facts), default=0), self.width // 4)
        for fact in facts:
            line = Text(f"      {words.pad(fact.name, name)}  ")
            if fact.threshold:
                line.append(words.pad(fact.value, value, right=True), "bold")
                line.append(f"   threshold {fact.threshold}", "dim")
            elif cell_len(fact.value) <= value:
                line.append(words.pad(fact.value, value, right=True), "bold")
            else:
                line.append(words.elide(fact.value, self.width - name - 8))
            yield line
        if left:
            yield Text(f"      and {words.count(left, 'more number')}: -v, or gradientflow explain", "dim")
        if f.remedies:
            yield Text()
            open_all = all(r.replayed is None for r in f.remedies)
            yield Text("    what would help" + (f" ({tell.NOT_REPLAYED})" if open_all else ""), "dim")
        for remedy in f.remedies:
            yield from self.para(words.one_line(remedy.text), 8, first=Text("      • "))
            if remedy.replayed is None and not open_all:
                yield Text(f"        {tell.NOT_REPLAYED}", "dim italic")
            elif remedy.replayed is not None:
                yield Text(f"        {tell.replayed(remedy)}", "dim italic")

    def short(self, f: Finding, rank: int) -> Iterator[Text]:
        """One finding in two or three lines."""
        yield self._title(f, rank)
        where = "   ".join(tell.place(f.place, self.run.meta if self.run else None)) if f.place else ""
        if where:
            yield from self.para(where, 4, "" if self.plain else "cyan")
        yield from self.para(words.one_line(f.summary), 4)
        if f.reason:
            yield from self.para("ranks lower: " + words.one_line(f.reason) + ".", 4, "dim")

    def _title(self, f: Finding, rank: int) -> Text:
        left = Text.assemble(
            f"{rank:>2}  ",
            (f"{words.mark(f.symptom)} {words.one_line(f.symptom)}", "" if self.plain else f"bold {ink(f.symptom)}"),
            (" because of ", "dim"),
            (words.one_line(f.cause), "bold"),
        )
        sure = f"confidence {tell.confidence(f)}"
        return Text.assemble(left, " " * max(3, self.width - cell_len(left.plain) - len(sure)), (sure, "dim"))

    def _source(self, f: Finding) -> Iterator[Text]:
        """The culprit's source lines, the line itself marked."""
        if f.place is None:
            return
        lines = tell.excerpt(tell.source(self.run, f.place.file), f.place.line)
        if not lines:
            return
        yield Text()
        digits = len(str(lines[-1].no))
        for no, text, marked in lines:
            head = f"    {words.mark(f.symptom) if marked else ' '} {no:>{digits}} │ "
            body = words.elide(text, self.width - len(head))
            style = "dim" if not marked else "bold" if self.plain else f"bold {ink(f.symptom)}"
            yield Text.assemble((head, style if marked else "dim"), (body, style))

    # ── the way back ─────────────────────────────────────────────────────────────────────────────────────────────────

    def waterfall(self, way: Way) -> Iterator[Text]:
        """One row per op from the loss down; long ones folded."""
        return self._drawing.waterfall(way, self.verdict.symptom == "healthy")

    def budget(self, way: Way) -> Iterator[Text]:
        """Where the decades went, by kind."""
        return self._drawing.budget(way)

    # ── loss, cost, report ───────────────────────────────────────────────────────────────────────────────────────────

    def footer(self, report: str | None) -> Iterator[Text]:
        """Loss first to last, what was watched and at what cost, what else should be told, where the page is."""
        v = self.verdict
        for k, own in enumerate(v.optimizers[:MOST]):
            curve = sparkline(self.run.losses_of(own.index), 30) if self.run else ""
            ends = f"{words.number(own.loss.first)} → {words.number(own.loss.last)}"
            says = f"{ends}   {called(own)}, {words.count(own.steps, 'step')}   "
            yield self._pair("" if k else "losses", Text.assemble(says, (curve, "" if self.plain else INK["healthy"])))
        if v.optimizers[MOST:]:
            yield self._pair("", Text(f"and {words.count(len(v.optimizers) - MOST, 'more optimizer')}", "dim"))
        if not v.optimizers and (v.loss.first is not None or v.loss.last is not None):
            curve = sparkline([s.loss for s in self.run.steps], 40) if self.run else ""
            ends = f"{words.number(v.loss.first)} → {words.number(v.loss.last)}"
            yield self._pair("loss", Text.assemble(ends, "   ", (curve, "" if self.plain else INK["healthy"])))
        seen = words.count(v.steps, "step")
        if v.watch.probed_steps:
            seen += f", every op measured in {words.number(v.watch.probed_steps)} of them"
        if v.steps or v.watch.overhead:
            seen += f" · cost {words.percent(v.watch.overhead)} of the script's own time"
        yield from self.para(seen, 16, first=Text("  watched", "dim"))
        if v.symptom != "not-measured":
            for kind, text in tell.notes(v, self.run)[:6]:
                yield from self.para(text, 16, first=Text(f"  {words.one_line(kind)}", "dim"))
        yield from self._closing(report)

    def _closing(self, report: str | None) -> Iterator[Text]:
        """The last lines: the finding and its line, the best remedy, the next command, the page."""
        v = self.verdict
        if v.findings:
            style = "bold" if self.plain else f"bold {ink(v.symptom)}"
            yield Text()
            yield from self.para(closing.gist(v), 4, style, first=Text(f"  {words.mark(v.symptom)}", style))
            remedy = closing.best_remedy(v)
            if remedy:
                yield from self.para(remedy, 16, first=Text("  try", "dim"))
            following = closing.next_command(v, os.path.dirname(report) if report else None, self.run)
            if following:
                yield self._pair("next", Text(following, "" if self.plain else "bold"))
        if report:
            yield self._pair("report", Text(words.clean(report), "" if self.plain else "underline"))

    def _pair(self, name: str, value: Text) -> Text:
        return Text.assemble((f"  {name:<14}", "dim"), value)
