"""A whole page inside a notebook: a frame that may run the page's own script, and reach nothing else."""

from __future__ import annotations

from html import escape

from gradientflow.errors import UsageError

LEAST, MOST = 200, 5000  # pixels


class Framed:
    """A page as the output of a cell; `str` of it is the page itself.

    Args:
        page: HTML that loads nothing.
        height: of the frame, in pixels.

    Raises:
        UsageError: the height is not a whole number of 200 to 5000 pixels.
    """

    def __init__(self, page: str, height: int) -> None:
        if isinstance(height, bool) or not isinstance(height, int) or not LEAST <= height <= MOST:
            raise UsageError(f"height = {height!r:.40}: expected a whole number of {LEAST} to {MOST} pixels.")
        self._page, self._height = page, height

    def _repr_html_(self) -> str:
        return (
            f'<iframe title="Depth: the gradient’s way back" sandbox="allow-scripts" allow="clipboard-write" loading="lazy" '
            f'style="width:100%;height:{self._height}px;border:0" srcdoc="{escape(self._page)}"></iframe>'
        )

    def __str__(self) -> str:
        return self._page

    def __repr__(self) -> str:
        return f"<a page of {len(self._page) // 1000} kB, shown in a notebook {self._height} pixels high; to_html writes it to a file>"
