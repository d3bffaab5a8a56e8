"""The result of one look: a verdict that shows itself on a terminal, in a notebook, as JSON and as a page."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
from rich.console import Console, ConsoleOptions, RenderResult

from gradientflow.depth.look.framed import Framed
from gradientflow.depth.moments import moment
from gradientflow.records import Budget, Certificate, Finding, Place, Run, Verdict
from gradientflow.report import Moment, verdict_lines, write_html
from gradientflow.report.page import render_html
from gradientflow.report.still import Curve, chart
from gradientflow.report.words import count, mark, number

_WIDTH = 100
_CELL = (
    '<pre style="white-space:pre;overflow-x:auto;line-height:1.25;margin:0;color:#1b1f27;background:#fff;padding:8px;'
    'font-family:ui-monospace,Menlo,Consolas,monospace">{code}</pre>'
)


def headed(finding: Finding) -> str:
    """Return symptom, cause and place of a finding in one line: `dead because of dead-units at net.py:12 (encoder, relu)`."""
    place = finding.place
    told = f"{finding.symptom} because of {finding.cause}"
    if place is None:
        return told
    names = ", ".join(name for name in (place.module, place.op) if name)
    at = f" at {place.file}:{place.line}" if place.file else ""
    return f"{told}{at}" + (f" ({names})" if names else "")


class Diagnosis:
    """What one look at a model showed.

    Attributes:
        verdict: the whole of it, as in verdict.json.
        run: everything that was measured: the graph with its gradients, the steps, the parameters.

    Example:
        >>> import torch, gradientflow
        >>> _ = torch.manual_seed(0)
        >>> model, batch = torch.nn.Linear(4, 3), (torch.randn(8, 4), torch.randint(3, (8,)))
        >>> found = gradientflow.diagnose(model, torch.nn.functional.cross_entropy, batch)
        >>> found.healthy, found.cause, found.findings
        (True, None, [])
        >>> msgspec.json.decode(found.to_json())["symptom"]
        'healthy'
    """

    def __init__(self, verdict: Verdict, run: Run) -> None:
        self.verdict = verdict
        self.run = run

    @property
    def healthy(self) -> bool:
        """Whether nothing wrong was found, in something that was measured."""
        return self.verdict.symptom == "healthy"

    @property
    def symptom(self) -> str:
        """What is seen: the top finding's symptom, or "healthy", or "not-measured"."""
        return self.verdict.symptom

    @property
    def cause(self) -> str | None:
        """Why: the top finding's cause; None where there is no finding."""
        return self.findings[0].cause if self.findings else None

    @property
    def place(self) -> Place | None:
        """Where: file, line, module and operation of the top finding; None where there is none."""
        return self.findings[0].place if self.findings else None

    @property
    def findings(self) -> list[Finding]:
        """Everything that was found, the finding that explains most first."""
        return self.verdict.findings

    @property
    def certificates(self) -> list[Certificate]:
        """What was proven of a loop that was watched, and what was not measured; empty for one look."""
        return self.verdict.certificates if self.verdict.steps > 1 else []

    @property
    def budget(self) -> Budget:
        """Where the gradient's decades went, by operation, module and kind."""
        return self.verdict.budget

    @property
    def decades(self) -> float | None:
        """log10 of ‖gradient at the first layer‖ / ‖gradient at the last layer‖; None where it was not measured, or is zero."""
        return self.verdict.budget.body_decades

    @property
    def summary(self) -> str:
        """The verdict in one sentence."""
        return self.verdict.summary

    def to_json(self) -> str:
        """Return the verdict as JSON, in the form of verdict.json."""
        return msgspec.json.format(msgspec.json.encode(self.verdict), indent=2).decode()

    def to_html(self, path: str | Path) -> Path:
        """Write the verdict as one self-contained page.

        Args:
            path: the file to write; its folder is made where it is missing.

        Returns:
            The path.

        Raises:
            OSError: the file cannot be written.
        """
        path = Path(path)
        write_html(self._moment(), path)
        return path

    def show(self, height: int = 760) -> Framed:
        """Return the same page as a notebook shows it below a cell: to scrub, to open and to click through.

        Args:
            height: of its frame, in pixels.

        Raises:
            UsageError: the height is not a whole number of 200 to 5000 pixels.
        """
        return Framed(render_html(self._moment()), height)

    def _moment(self) -> Moment:
        return moment(self.run, self.verdict)

    def __repr__(self) -> str:
        lines = [f"{mark(self.symptom)} {self.symptom}: {self.verdict.script}. {self.summary}"]
        for finding in self.findings:
            lines.append(f"  {headed(finding)}, confidence {finding.confidence:.0%}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return "\n".join(line.plain.rstrip() for line in verdict_lines(self.verdict, self.run, _WIDTH, plain=True))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        plain = console.no_color or console.color_system is None
        width = min(max(options.max_width, 60), 160)
        yield from verdict_lines(self.verdict, self.run, width, plain=plain)

    def _repr_html_(self) -> str:
        console = Console(
            file=io.StringIO(),
            record=True,
            width=_WIDTH,
            force_terminal=True,
            force_jupyter=False,
            color_system="truecolor",
        )
        for line in verdict_lines(self.verdict, self.run, _WIDTH, plain=False):
            console.print(line, no_wrap=True, overflow="ellipsis", highlight=False)
        return console.export_html(inline_styles=True, code_format=_CELL) + self._course()

    def _course(self) -> str:
        """The loss over the steps as a picture; empty where there was but one look."""
        losses = self.run.losses()
        if sum(map(len, losses.values())) < 2:
            return ""
        names = {o.index: o.name for o in self.run.meta.optimizers}
        curves = [Curve(names.get(k, f"optimizer {k}"), range(1, len(told) + 1), told) for k, told in losses.items()]
        first, last = self.verdict.loss.first, self.verdict.loss.last
        return chart(
            curves, f"loss {number(first)} → {number(last)} in {count(self.verdict.steps, 'step')}", "step", "loss"
        )
