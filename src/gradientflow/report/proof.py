"""What was proven of a run, for the terminal: certificates, and the way from the gradient to the step."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rich.cells import cell_len
from rich.text import Text

from gradientflow.records import Verdict
from gradientflow.report import words
from gradientflow.report.step_table import tables

SIGNS = {"held": "✓", "broken": "✗", "not-measured": "?"}
NAME = 14  # columns of a certificate's name
STAGE, CELL = 18, 12
KEY = "    each factor is what that stage makes of it; between: the script itself, by clipping or scaling"


def certificate_lines(verdict: Verdict, para: Callable[..., list[Text]]) -> Iterator[Text]:
    """A line for each certificate: what was checked, and how it stands.

    Args:
        verdict: with its certificates.
        para: wraps a text (text, indent, style, first).
    """
    if not verdict.certificates:
        return
    yield Text()
    held = sum(c.state == "held" for c in verdict.certificates)
    title = f"{held} of {words.count(len(verdict.certificates), 'certificate')} held"
    yield Text.assemble(("  what was proven", "bold"), (f"   {title}", "dim"))
    for c in verdict.certificates:
        head = f"  {SIGNS.get(c.state, '?')} {words.pad(c.name, NAME)}"
        text = words.one_line(c.why) if c.state != "not-measured" else f"not measured: {words.one_line(c.why)}"
        yield from para(
            text,
            4 + NAME,
            "bold" if c.state == "broken" else "",
            first=Text(head, "bold" if c.state == "broken" else "dim"),
        )


def step_lines(verdict: Verdict, width: int) -> Iterator[Text]:
    """The table of the way from the gradient to the step, for each parameter group."""
    for k, table in enumerate(tables(verdict)):
        room = max(1, (width - 4 - STAGE) // CELL)
        columns = list(range(len(table.steps)))
        if len(columns) > room:  # the first, and the last ones
            columns = [0, *columns[len(columns) - room + 1 :]] if room > 1 else columns[-1:]
        yield Text()
        yield Text.assemble(("  from the gradient to the step", "bold"), (f"   {words.one_line(table.title)}", "dim"))
        if not k and width >= cell_len(KEY):
            yield Text(KEY, "dim")
        if table.boxed:
            yield Text("    its rule is not known: one box", "dim")
        yield Text("    " + " " * STAGE + "".join(words.pad(table.steps[k], CELL, right=True) for k in columns), "dim")
        for name, cells, _ in table.rows:
            strong = "bold" if name.startswith("‖") else ""
            line = Text.assemble("    ", (words.pad(name, STAGE), strong or "dim"))
            yield line.append("".join(words.pad(cells[k], CELL, right=True) for k in columns), strong)
