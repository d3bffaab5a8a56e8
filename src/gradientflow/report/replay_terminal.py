"""The replay on a terminal: one row per remedy that was tried, what came of it, and the best one as a diff."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rich.cells import cell_len
from rich.text import Text

from gradientflow.records import NOT_TRIED, WIN, Replay, Trial
from gradientflow.report import words
from gradientflow.report.bars import INK
from gradientflow.report.replay_words import Cells, cells, checked, doubted, edit_title, title, verdict_line, written

Para = Callable[..., list[Text]]
MAX_DIFF = 40  # lines of a diff on a terminal


def replay_lines(replay: Replay, width: int, plain: bool, para: Para) -> Iterator[Text]:
    """Yield the lines of a replay.

    Args:
        replay: what was tried.
        width: columns.
        plain: without colours.
        para: wraps a paragraph: text, indentation, style, `first` in its indentation.
    """
    yield Text()
    yield Text("  tried on this script", "bold")
    yield from para(title(replay), 4, "dim")
    yield from para(verdict_line(replay), 4, "" if plain or replay.best is None else INK["healthy"])
    rows = [(t, cells(t, replay)) for t in replay.trials if t.outcome != NOT_TRIED]
    if rows:
        yield Text()
        yield from _table(rows, width, plain, para)
    for trial in replay.trials:
        if trial.outcome == NOT_TRIED:
            cell = cells(trial, replay)
            yield from para(f"{cell.kind}: not tried, {cell.reason}", 6, "dim", first=Text(f"    {cell.sign} "))
    for line in doubted(replay):
        yield from para(line, 4, "")
    for note in replay.notes:
        yield from para(f"{words.one_line(note)}.", 4, "dim italic")
    if (edited := written(replay)) is not None:
        yield Text()
        yield from para(edit_title(replay, edited), 4, "bold")
        yield from para(checked(edited), 4, "dim")
        lines = (edited.diff or "").rstrip("\n").split("\n")
        for line in lines[:MAX_DIFF]:
            yield Text("    " + words.elide(words.clean(line), width - 4).rstrip(), _style(line, plain))
        if len(lines) > MAX_DIFF:
            yield Text(f"    … {words.count(len(lines) - MAX_DIFF, 'more line')} in the report", "dim")


def _table(rows: list[tuple[Trial, Cells]], width: int, plain: bool, para: Para) -> Iterator[Text]:
    columns = ("kind", "loss", "difference", "depth", "symptom")
    names = {
        "kind": "remedy",
        "loss": "loss",
        "difference": "against baseline, 95 %",
        "depth": "decades",
        "symptom": "symptom",
    }
    shown = [c for c in columns if any(getattr(cell, c) for _, cell in rows)]
    widths = {c: max(cell_len(names[c]), *(cell_len(getattr(cell, c)) for _, cell in rows)) for c in shown}
    while sum(widths.values()) + 2 * len(shown) + 8 > width and len(shown) > 2:
        dropped = next(c for c in ("depth", "difference", "symptom") if c in shown)
        shown.remove(dropped)
        del widths[dropped]
    widths["kind"] = min(widths["kind"], width - 8 - sum(w + 2 for c, w in widths.items() if c != "kind"))
    yield Text("      " + "  ".join(words.pad(names[c], widths[c]) for c in shown).rstrip(), "dim")
    for trial, cell in rows:
        won = trial.outcome == WIN
        style = "" if plain else INK["healthy"] if won else "dim"
        line = Text(f"    {cell.sign} ", style)
        line.append(
            "  ".join(words.pad(words.elide(getattr(cell, c), widths[c]), widths[c]) for c in shown).rstrip(), style
        )
        yield line
        yield Text("      " + words.elide(f"{cell.outcome}: {cell.what}", width - 6).rstrip(), "dim")
        if not won:
            yield from para(cell.reason, 6, "dim")


def _style(line: str, plain: bool) -> str:
    if plain or line.startswith(("---", "+++")):
        return "dim"
    return {"+": INK["healthy"], "-": INK["not-finite"], "@": "dim"}.get(line[:1], "")
