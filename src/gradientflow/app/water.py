"""What the page draws its water from: samples of a box, and what orders it."""

from __future__ import annotations

from collections.abc import Iterator

from gradientflow.app.fields import Fields
from gradientflow.app.wire import frame
from gradientflow.app.work import Token
from gradientflow.errors import UsageError
from gradientflow.records import Order, Portrait, Water, WaterAsk

MOST = 512  # samples along a side
SEARCHED = 192  # samples along a side from which points at rest are looked for


def waters(fields: Fields, ask: WaterAsk, token: Token) -> Iterator[bytes]:
    """Yield the samples.

    Raises:
        UsageError: too many samples, or an empty box.
    """
    from gradientflow import river

    if not 8 <= ask.n <= MOST:
        raise UsageError(f"samples along a side: expected 8 to {MOST}, got {ask.n}.")
    field = fields.get(ask.target).field
    yield sampled(river.portrait(field, ask.box, ask.n, structure=False))


def orders(fields: Fields, ask: WaterAsk, token: Token) -> Iterator[bytes]:
    """Yield the points at rest, the curves of them, and the separatrices."""
    from gradientflow import river

    drawn = river.portrait(fields.get(ask.target).field, ask.box, SEARCHED)
    yield frame(Order(drawn.box, drawn.fixed, drawn.valleys, drawn.ridges, drawn.separatrices, drawn.notes))


def sampled(drawn: Portrait) -> bytes:
    """Return the samples of a portrait as a frame."""
    arrays: list[object] = [drawn.u, drawn.v]
    if drawn.loss is not None:
        arrays.append([float("nan") if x is None else x for x in drawn.loss])
    return frame(Water(drawn.name, drawn.box, drawn.n, drawn.notes), arrays)
