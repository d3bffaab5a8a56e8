"""A way back on the terminal: the waterfall, one row per op from the loss down, and the strip of where its decades went."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rich.cells import cell_len
from rich.text import Text

from gradientflow.records import Share
from gradientflow.report import tell, words
from gradientflow.report.bars import INK, bar, ink, ruler, strip
from gradientflow.report.rows import Span, broken, folds, merged, scale, spans
from gradientflow.report.ways import Way, called, course

MAX_ROWS = 26  # lines of a waterfall
CALM_ROWS = 16  # lines of one that nobody needs to search


class Drawing:
    """Draws ways back at one width.

    Args:
        width: columns.
        plain: without colours.
        para: wraps a text (text, indent, style, first).
    """

    def __init__(self, width: int, plain: bool, para: Callable[..., list[Text]]) -> None:
        self.width, self.plain, self.para = width, plain, para

    def waterfall(self, way: Way, calm: bool) -> Iterator[Text]:
        """One row per op from the loss down; long ones folded.

        Args:
            way: what is drawn.
            calm: nobody needs to search it.
        """
        rows = way.budget.by_op
        if not rows and way.own is None:
            return
        yield Text()
        yield self._key(way)
        if way.own is not None:
            yield Text.assemble("  ", (called(way.own), "bold"), (f"   {course(way.own)}", "dim"))
        if not rows:
            yield from self.para(words.one_line(way.budget.note or "no way back was measured"), 2, "dim italic")
            return
        axis, span = scale(rows), spans(rows)
        lines = folds(rows, CALM_ROWS if calm else MAX_ROWS)
        shown = [rows[f.start] for f in lines if not f.folded and rows[f.start].kind != "branch"] or list(rows[:1])
        w_site = min(max((cell_len(tell.site(r.file, r.line)) for r in shown), default=0), 18)
        w_name = min(max(cell_len(tell.label(r)[0]) for r in shown), 20)
        w_module = min(max(cell_len(tell.label(r)[1]) for r in shown), 22 if self.width >= 100 else 14)
        folded = max((cell_len(merged(rows, f).name) for f in lines if f.folded), default=0)
        joins = max((cell_len(_joins(r)) for r in rows if r.kind == "branch"), default=0)
        w_label = max(w_name + (2 + w_module if w_module else 0), 26 - w_site, min(folded - w_site - 2, 28), joins)
        w_bar = max(self.width - 2 - w_site - 2 - w_label - 2 - 9 - 3, 12)
        yield Text(" " * (w_site + w_label + 6) + ruler(axis, w_bar), "dim")
        outside = not rows[0].body
        for fold in lines:
            row = merged(rows, fold)
            if outside and row.body:
                outside = False
                yield Text("  " + " network's output ".center(w_site + 2 + w_label, "┄"), "dim")
            where, label = self._label(row, w_site, w_name, w_label)
            line = Text.assemble("  ", where, label, "  ")
            ends = Span(span[fold.start].before, span[fold.stop - 1].after)
            line.append_text(bar(row, ends, axis, w_bar, plain=self.plain))
            tone = f"bold {ink(row.mark)}" if row.mark and not self.plain else "" if row.body else "dim"
            what = "nan/inf" if broken(row) and row.gain is None else words.gain(row.gain)
            line.append(words.pad(what, 9, right=True), tone)
            line.append(f" {words.mark(row.mark)}" if row.mark else "", tone)
            yield line
        if way.budget.branched and way.budget.note:
            yield from self.para(words.one_line(way.budget.note), 2, "dim italic")

    def budget(self, way: Way) -> Iterator[Text]:
        """Where the decades went, by kind."""
        b = way.budget
        lines = strip(b.by_kind, self.width - 2, plain=self.plain)
        if not lines:
            return
        yield Text()
        off = "" if b.residual is None or abs(b.residual) < 0.05 else f"   (parts − total: {words.decades(b.residual)})"
        whose = f"   {called(way.own)}" if way.own is not None else ""
        yield Text.assemble((f"  {tell.took(b.total_decades)}", "bold"), (off + whose, "dim"))
        for line in lines:
            yield Text.assemble("  ", line)

    def _key(self, way: Way) -> Text:
        """The title, and what the shades mean."""
        grow = any(s.before is not None and s.after is not None and s.after > s.before for s in spans(way.budget.by_op))
        tones = ("", "", "") if self.plain else (INK["left"], INK["took"], INK["grew"])
        key = Text.assemble(("  the gradient's way back", "bold"), ("   loss first, log scale   ", "dim"))
        key.append_text(Text.assemble(("█", tones[0]), (" left  ", "dim"), ("░" if self.plain else "█", tones[1])))
        key.append(" taken  ", "dim")
        added = Text.assemble(("▒" if self.plain else "█", tones[2]), (" added", "dim"))
        return key.append_text(added) if grow else key

    def _label(self, row: Share, w_site: int, w_name: int, w_label: int) -> tuple[Text, Text]:
        """The two columns that name a row: `file:line`, then op and module."""
        if row.kind == "fold":
            return Text(), Text(words.pad(row.name, w_site + 2 + w_label), "dim")
        where = Text(words.pad(tell.site(row.file, row.line), w_site) + "  ", "dim")
        if row.kind == "branch":
            return where, Text(words.pad(_joins(row), w_label), "" if self.plain else INK["merge"])
        name, module = tell.label(row)
        label = Text(words.pad(name, w_name), "bold" if row.mark else "" if row.body else "dim")
        if w_label > w_name:
            label.append("  " + words.pad(module, w_label - w_name - 2), "dim")
        return where, label


def _joins(row: Share) -> str:
    """What a row is called where other routes of the gradient join."""
    return "⊕ routes join" + ("" if row.share is None else f", {words.percent(row.share)} this way")
