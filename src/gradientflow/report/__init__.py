"""The report room: a verdict made visible.

Three doors, one picture: `print_verdict` for the terminal, `write_html` for a self-contained page, `LiveLine` for the
status line while a script runs. The room is dry: it knows records only, never torch, so that a report of yesterday's
run opens on a machine that has no PyTorch.
"""

from gradientflow.report.html import write_html
from gradientflow.report.live import LiveLine
from gradientflow.report.terminal import print_verdict

__all__ = ["LiveLine", "print_verdict", "write_html"]
