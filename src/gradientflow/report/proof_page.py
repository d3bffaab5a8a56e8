"""What was proven of a run, for the page: the card of certificates, and the card of the way to the step."""

from __future__ import annotations

from html import escape

from gradientflow.records import Verdict
from gradientflow.report.parts import text
from gradientflow.report.proof import SIGNS
from gradientflow.report.step_table import tables

FULL = 3.0  # decades that a cell's shade is full at


def certificates_card(verdict: Verdict) -> str:
    """The table of certificates."""
    if not verdict.certificates:
        return ""
    rows = "".join(
        f'<tr class="{escape(c.state)}"><th scope=row>{SIGNS.get(c.state, "?")} {text(c.name)}</th>'
        f"<td>{text(c.state.replace('-', ' '))}</td><td>{text(c.why)}</td></tr>"
        for c in verdict.certificates
    )
    return (
        '<section class="card proof" aria-labelledby="h-c"><h2 id="h-c">What was proven</h2>'
        f'<table class="certificates"><tbody>{rows}</tbody></table></section>'
    )


def steps_card(verdict: Verdict) -> str:
    """The way from the gradient to the step: a table for each parameter group, shaded by decades."""
    found = tables(verdict)
    if not found:
        return ""
    parts = []
    for table in found:
        head = "".join(f"<th scope=col>{text(step)}</th>" for step in table.steps)
        rows = []
        for name, cells, decades in table.rows:
            drawn = "".join(
                f'<td class="{_side(d)}" style="--depth:{min(abs(d or 0.0) / FULL, 1.0):.2f}">{escape(cell)}</td>'
                for cell, d in zip(cells, decades, strict=True)
            )
            rows.append(f"<tr><th scope=row>{text(name)}</th>{drawn}</tr>")
        box = '<p class="fine">The rule of this optimizer is not known: it is one stage.</p>' if table.boxed else ""
        parts.append(
            f'<h3>{text(table.title)}</h3><div class="scroll"><table class="way"><thead><tr><td></td>{head}</tr></thead>'
            f"<tbody>{''.join(rows)}</tbody></table></div>{box}"
        )
    return (
        '<section class="card way" aria-labelledby="h-step"><h2 id="h-step">From the gradient to the step</h2>'
        '<p class="fine">Factors from ‖∇L‖ to ‖Δw‖; along a column they multiply to the whole.</p>'
        f"{''.join(parts)}</section>"
    )


def _side(decades: float | None) -> str:
    if not decades:
        return "even"
    return "grew" if decades > 0 else "took"
