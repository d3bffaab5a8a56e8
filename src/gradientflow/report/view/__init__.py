"""A run as the screens show it: slices of its records, in words and numbers that terminal, page and app share.

The app sends them one by one as they are asked for; the self-contained page holds all that its reader may ask for (`inlined`).
"""

from gradientflow.report.view.course import cell, curves, heat
from gradientflow.report.view.moment import Moment
from gradientflow.report.view.opened import excerpt, view
from gradientflow.report.view.pack import inlined
from gradientflow.report.view.ways import op_seen, routes, way

__all__ = ["Moment", "cell", "curves", "excerpt", "heat", "inlined", "op_seen", "routes", "view", "way"]
