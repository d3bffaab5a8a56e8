"""A portrait drawn, from Python."""

from __future__ import annotations

from pathlib import Path as File

from gradientflow import report
from gradientflow.records import Portrait


def draw(portrait: Portrait, file: str | File) -> None:
    """Draw a portrait of a plane into a file; matplotlib draws it.

    Levels of the loss are true. The water is grey where the flow leaves the plane; a path is dashed where it is far from it.

    Args:
        portrait: what ``gf.portrait`` or ``gf.ride`` returned.
        file: ends in .png, .svg or .pdf.

    Raises:
        UsageError: the file's extension is unknown, or matplotlib is not installed.
        OutputError: it cannot be written.

    Example:
        >>> import tempfile
        >>> from gradientflow.river.fields.base import Potential
        >>> from gradientflow.river.portraits.portrait import portrait
        >>> bowl = Potential(lambda w: 0.5 * (w * w).sum(), start=[1.0, 2.0, 3.0])
        >>> file = File(tempfile.mkdtemp()) / "bowl.png"
        >>> draw(portrait(bowl, n=9, plane="random"), file)
        >>> file.exists()
        True
    """
    report.write_portrait(portrait, File(file))
