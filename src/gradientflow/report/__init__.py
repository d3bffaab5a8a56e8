"""The report room: what was found, made visible.

For a training run: `print_verdict` for the terminal, `write_html` for a self-contained page of a `Moment`, `render` for other tools
(some lines of text, GitHub's annotations, SARIF), `explain` for a finding in words, `LiveLine` for the status line while a script runs, `ReplayLive` while its remedies are tried.
For a flow: `print_flow`, `write_figure` and `write_portrait` (which want matplotlib; `check_figure` and
`check_file` refuse before the work), `FlowLive` while it is solved, and
`CountLive` while a plane is sampled. The room is dry: it knows records only, never
torch, so that a report of yesterday's run opens on a machine that has no PyTorch.
"""

from gradientflow.report.explain import explain
from gradientflow.report.figures import check_figure, write_figure, write_portrait
from gradientflow.report.files import check_file
from gradientflow.report.flow_live import CountLive, FlowLive
from gradientflow.report.flow_terminal import print_flow
from gradientflow.report.formats import FORMATS, render
from gradientflow.report.live import LiveLine
from gradientflow.report.page import write_html
from gradientflow.report.replay_live import ReplayLive
from gradientflow.report.terminal import print_verdict, verdict_lines
from gradientflow.report.view import Moment
from gradientflow.report.words import clean, shown

__all__ = [
    "FORMATS",
    "CountLive",
    "FlowLive",
    "LiveLine",
    "Moment",
    "ReplayLive",
    "check_figure",
    "check_file",
    "clean",
    "explain",
    "print_flow",
    "print_verdict",
    "render",
    "shown",
    "verdict_lines",
    "write_figure",
    "write_html",
    "write_portrait",
]
