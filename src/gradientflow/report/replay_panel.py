"""The replay on the page: a table of what was tried, and the best one as a diff."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from gradientflow.records import WIN, Replay, Trial
from gradientflow.report import words
from gradientflow.report.replay_words import Cells, cells, checked, doubted, edit_title, title, verdict_line, written

_HEADS = {"kind": "remedy", "what": "what was done", "loss": "loss", "difference": "against baseline, 95 %", "depth": "decades",
          "symptom": "symptom"}  # fmt: skip


def replay_panel(replay: Replay | None) -> str:
    """The card of a replay; empty where nothing was replayed."""
    if replay is None:
        return ""
    table = [(t, cells(t, replay)) for t in replay.trials]
    shown = [name for name in _HEADS if any(getattr(cell, name) for _, cell in table)]
    heads = "".join(f"<th scope=col>{escape(h)}</th>" for h in ("", *(_HEADS[name] for name in shown), "outcome"))
    rows = "".join(_row(t, cell, shown, best=k == replay.best) for k, (t, cell) in enumerate(table))
    doubts = "".join(f'<p class="say">{escape(line)}</p>' for line in doubted(replay))
    notes = "".join(f'<p class="fine">{escape(words.one_line(n))}.</p>' for n in replay.notes)
    return (
        f'<section class="card replay" aria-labelledby="h-r"><h2 id="h-r">Tried on this script</h2>'
        f'<p class="fine">{escape(title(replay))}</p><p class="say">{escape(verdict_line(replay))}</p>'
        f'<div class="scroll"><table class="trials"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
        f"{doubts}{notes}{_diff(replay)}</section>"
    )


def _row(trial: Trial, cell: Cells, shown: Sequence[str], *, best: bool) -> str:
    tone = {"better": "won", "worse": "lost"}.get(cell.outcome, "even")
    told = cell.outcome if trial.outcome == WIN else f"{cell.outcome}: {cell.reason}"
    row = "".join(
        f"<th scope=row>{escape(cell.kind)}</th>"
        if name == "kind"
        else f'<td class="{name}">{escape(getattr(cell, name))}</td>'
        for name in shown
    )
    return f'<tr class="{tone}{" best" if best else ""}"><td class="mk">{escape(cell.sign)}</td>{row}<td>{escape(told)}</td></tr>'


def _diff(replay: Replay) -> str:
    trial = written(replay)
    if trial is None:
        return ""
    rows = "".join(
        f'<span class="ln {_class(line)}"><code>{escape(line) or " "}</code></span>'
        for line in words.clean(trial.diff or "").rstrip("\n").split("\n")
    )
    head = f'{escape(edit_title(replay, trial))} <span class="words">{escape(checked(trial))}</span>'
    return f'<h3>{head}</h3><pre class="src diff">{rows}</pre>'


def _class(line: str) -> str:
    if line.startswith(("---", "+++", "@@")):
        return "at"
    return {"+": "in", "-": "out"}.get(line[:1], "")
