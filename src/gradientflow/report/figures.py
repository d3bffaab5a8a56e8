"""Figures of a flow, as PNG, SVG or PDF: the water of a field of two parameters; for a network, four curves over time,
or the water in a plane of its parameters.

matplotlib is an extra, and is imported only when a figure is drawn; `check_figure` asks for it, and for a file that can
be written, before the work begins.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradientflow.errors import OutputError, UsageError
from gradientflow.files import write
from gradientflow.records import Flow, Portrait
from gradientflow.report.files import check_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("png", "svg", "pdf")


def check_figure(file: Path) -> None:
    """Refuse a figure that could not be drawn, before there is anything to draw.

    Raises:
        UsageError: the file's extension is unknown, or matplotlib is not installed.
        OutputError: the folder is missing or cannot be written.
    """
    kind = file.suffix.lower().removeprefix(".")
    if kind not in KINDS:
        got = f"the extension .{kind}" if kind else "no extension"
        raise UsageError(
            f"--plot {file}: {got}; expected one of {', '.join('.' + k for k in KINDS)}, as in {file.with_suffix('.png')}."
        )
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError(
            "--plot needs matplotlib, which is not installed. Install it with: pip install 'gradientflow[plot]'   "
            "(or leave --plot out: the table on the terminal needs nothing)."
        )
    check_file("--plot", file)


def write_figure(flow: Flow, portrait: Portrait | None, file: Path) -> None:
    """Draw a flow into a file.

    Args:
        flow: what was solved.
        portrait: of a field of two parameters, or of a plane; None: curves over time are drawn.
        file: ends in .png, .svg or .pdf.

    Raises:
        UsageError, OutputError: as `check_figure`.
    """
    check_figure(file)

    def drawn() -> Figure:
        from gradientflow.report.panels import draw_panels
        from gradientflow.report.plane_page import draw_plane
        from gradientflow.report.water_page import draw_water

        if portrait is None:
            return draw_panels(flow)
        return draw_water(flow, portrait) if portrait.plane is None else draw_plane(portrait, flow)

    _written(drawn, file)


def write_portrait(portrait: Portrait, file: Path) -> None:
    """Draw the portrait of a plane into a file, with the shadows that it holds.

    Args:
        portrait: of a plane, or of a field of two parameters.
        file: ends in .png, .svg or .pdf.

    Raises:
        UsageError, OutputError: as `check_figure`.
    """
    check_figure(file)

    def drawn() -> Figure:
        from gradientflow.report.plane_page import draw_plane

        return draw_plane(portrait)

    _written(drawn, file)


def _written(draw: Callable[[], Figure], file: Path) -> None:
    import matplotlib

    settings: Any = {
        "font.family": "DejaVu Sans",  # ships with matplotlib, and has θ, ∇, ‖ and the glyphs of points at rest
        "svg.hashsalt": "gradientflow",
        "svg.fonttype": "path",
        "pdf.fonttype": 42,
        "path.simplify_threshold": 0.05,
    }
    with matplotlib.rc_context(settings):
        figure = draw()
        try:
            drawn = io.BytesIO()
            figure.savefig(drawn, format=file.suffix.lower().removeprefix("."), facecolor=figure.get_facecolor())
            write(file, drawn.getvalue())
        except OSError as problem:
            raise OutputError(f"--plot: {file} could not be written: {problem.strerror or problem}.") from problem
