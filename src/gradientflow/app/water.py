"""What the page draws its water from: samples of a box, and what orders it."""

from __future__ import annotations

from collections.abc import Iterator

from gradientflow.app.fields import Fields
from gradientflow.app.paths import asker, nearest, shadow
from gradientflow.app.planes import Planes
from gradientflow.app.wire import frame
from gradientflow.app.work import Token
from gradientflow.errors import UsageError
from gradientflow.records import Order, PlaneAsk, PlaneSeen, Portrait, Shadow, Water, WaterAsk

MOST = 512  # samples along a side
SEARCHED = 192  # samples along a side from which points at rest are looked for
FEET = 16
SLICE = 129  # samples along a side of a plane, at most
SAMPLING = 12.0  # seconds for them
RIDING = 2.0  # seconds where the plane rides


def waters(fields: Fields, ask: WaterAsk, token: Token) -> Iterator[bytes]:
    """Yield the samples.

    Raises:
        UsageError: too many samples, or an empty box.
    """
    from gradientflow import river

    if not 8 <= ask.n <= MOST:
        raise UsageError(f"samples along a side: expected 8 to {MOST}, got {ask.n}.")
    field = fields.get(ask.target).field
    with fields.turns(ask.target).mine(urgent=True):
        yield sampled(river.portrait(field, ask.box, ask.n, structure=False))


def orders(fields: Fields, ask: WaterAsk, token: Token) -> Iterator[bytes]:
    """Yield the points at rest, the curves of them, and the separatrices."""
    from gradientflow import river

    with fields.turns(ask.target).mine():
        drawn = river.portrait(fields.get(ask.target).field, ask.box, SEARCHED)
    yield frame(Order(drawn.box, drawn.fixed, drawn.valleys, drawn.ridges, drawn.separatrices, drawn.notes))


def planes(fields: Fields, ask: PlaneAsk, token: Token) -> Iterator[bytes]:
    """Yield a plane, the box in which the flow that it is made of is seen, and where feet stand above it.

    Raises:
        UsageError: it is no plane of the field, or the field is drawn whole.
    """
    from gradientflow import river

    known, turns = _planes(fields, ask.target), fields.turns(ask.target)
    wanted = asker(turns, token)
    if len(ask.feet) > FEET:
        raise UsageError(f"at most {FEET} feet, got {len(ask.feet)}.")
    with turns.mine():
        found = known.plane(ask.plane, wanted)
        feet = [tuple(float(c) for c in found.project(known.foot(foot, wanted))) for foot in ask.feet]
        way = known.way(ask.plane, wanted)
        drawn = river.portrait(way, n=3, plane=found, progress=lambda *_: wanted())
    assert drawn.plane is not None
    yield frame(PlaneSeen(ask.plane, drawn.plane, drawn.box, feet, drawn.middle_leak, drawn.notes))  # type: ignore[arg-type]


def slices(fields: Fields, ask: WaterAsk, token: Token) -> Iterator[bytes]:
    """Yield the samples of a plane, coarse ones first; where it rides, of the plane through where its flow is.

    Raises:
        UsageError: it is no plane of the field, too many samples, or an empty box.
    """
    from gradientflow import river

    known, turns = _planes(fields, ask.target), fields.turns(ask.target)
    wanted = asker(turns, token)
    if not 3 <= ask.n <= SLICE:
        raise UsageError(f"samples along a side of a plane: expected 3 to {SLICE}, got {ask.n}.")
    with turns.mine():
        found, seen = known.plane(ask.plane, wanted), None
        if ask.ride:
            path = known.ridden(ask.ride, ask.t, wanted)
            found = found.moved(path.final if path.theta is None else path.theta[nearest(path, ask.at)])
            seen = shadow(path, found)
        seconds = RIDING if ask.ride else SAMPLING
        for drawn in river.sketches(
            known.field, ask.box, ask.n, plane=found, seconds=seconds, progress=lambda *_: wanted()
        ):  # fmt: skip
            yield sampled(drawn, seen)


def _planes(fields: Fields, target: str) -> Planes:
    known = fields.planes(target)
    if known is None:
        raise UsageError(f"{target} is drawn whole, and has no planes.")
    return known


def sampled(drawn: Portrait, seen: Shadow | None = None) -> bytes:
    """Return the samples of a portrait as a frame."""
    arrays: list[object] = [drawn.u, drawn.v]
    if drawn.loss is not None:
        arrays.append(_floats(drawn.loss))
    if drawn.leak:
        arrays.append(_floats(drawn.leak))
    head = Water(
        drawn.name, drawn.box, drawn.n, drawn.notes, leaks=bool(drawn.leak), middle_leak=drawn.middle_leak, shadow=seen
    )  # fmt: skip
    return frame(head, arrays)


def _floats(row: list[float | None]) -> list[float]:
    return [float("nan") if x is None else x for x in row]
