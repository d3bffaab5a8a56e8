"""One path of one drop: solved as far as there is time, and told; of a field of many parameters as its shadow in a plane."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gradientflow.app.fields import Fields
from gradientflow.app.planes import EACH, LONGEST, Planes, foot_in
from gradientflow.app.turns import Turns
from gradientflow.app.wire import frame
from gradientflow.app.work import Token
from gradientflow.errors import UsageError
from gradientflow.records import Answer, DropAsk, Shadow, Track
from gradientflow.records import Rival as Asked

if TYPE_CHECKING:
    from torch import Tensor

    from gradientflow.river import Field, Keep, Path, Plane

COARSE = 1e-2  # relative error of a step while dragging; a path drawn 1000 pixels wide shows no less
NEARLY = 5e-3  # of the speed at the start: a dragged drop that slow has come as good as to rest, and rests if λmin ≥ 0
BACK = 0.6  # seconds that a path is followed backwards; most run to infinity
FEW = 40  # moments of a first answer on a plane
LOOKS = 16  # moments of a flow on a plane at which its sharpness is measured
LOOKING = 3.0  # seconds for that
DRAWN = 1e-3  # of the extent of a shadow: what moves less is not sent


@dataclass(frozen=True, slots=True)
class Drop:
    """A drop that was asked for, and where it begins.

    Attributes:
        field: of two parameters, or of more.
        ask: what was asked.
        token: whether somebody waits.
        turns: who may evaluate the field.
        start: where it begins, (P,).
        planes: of a field of more than two parameters.
        plane: that it is seen in.
        foot: its name as a place; on a plane its flow is kept by it.
    """

    field: Field
    ask: DropAsk
    token: Token
    turns: Turns
    start: Tensor
    planes: Planes | None = None
    plane: Plane | None = None
    foot: str = ""

    def wanted(self) -> bool:
        """Whether somebody waits; others may go first."""
        return asker(self.turns, self.token)()


def drop_of(fields: Fields, ask: DropAsk, token: Token) -> Drop:
    """Return a drop with its place.

    Raises:
        UsageError: start, time or learning rate are not what they must be, or its plane is none.
    """
    import torch

    field = fields.get(ask.target).field
    check(ask.t, [ask.start], [r.lr for r in ask.rivals])
    planes, turns = fields.planes(ask.target), fields.turns(ask.target)
    if planes is None:
        return Drop(field, ask, token, turns, torch.tensor(ask.start, dtype=field.dtype))
    wanted = asker(turns, token)
    foot = ask.foot or foot_in(ask.plane, ask.start)
    return Drop(field, ask, token, turns, planes.foot(foot, wanted), planes, planes.plane(ask.plane, wanted), foot)


def asker(turns: Turns, token: Token) -> Callable[[], bool]:
    """Return what says whether somebody waits, and lets others go first."""

    def wanted() -> bool:
        turns.let_by()
        return not token.cancelled()

    return wanted


def check(t: float, starts: list[tuple[float, float]], rates: list[float]) -> None:
    """Refuse what no drop can be.

    Raises:
        UsageError: a start, the time or a learning rate.
    """
    if not 0 < t <= LONGEST:
        raise UsageError(f"flow time: expected a number above 0 and at most {LONGEST:g}, got {t:g}.")
    if not all(math.isfinite(x) and abs(x) < 1e9 for at in starts for x in at):
        raise UsageError("a drop begins at two finite numbers.")
    if len(rates) > 3 or not all(0 < r <= LONGEST for r in rates):
        raise UsageError("up to three optimizers, each with a learning rate above 0.")


# ── solved ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def exact(d: Drop, seconds: float) -> Path:
    """The whole flow, to the usual tolerance, with its certificates and its sharpness; on a plane it is kept."""
    from gradientflow import river

    keep = d.planes.moments(d.ask.t) if d.planes else river.Keep(sharpness=1 if d.field.potential else 0)
    path = river.flow(
        d.field, d.ask.t, start=d.start, max_seconds=seconds, keep=keep, callback=lambda _: not d.wanted()
    )  # fmt: skip
    return kept(d, path)


def looked(d: Drop, path: Path) -> Path:
    """Return a flow on a plane with its sharpness at some of its moments, evenly among them: between two steps nobody looks."""
    from gradientflow import river

    began, theta = time.perf_counter(), path.theta
    if theta is None or not d.field.potential:
        return path
    sharp = path.sharpness.clone()
    last = len(theta) - 1
    for k in sorted({round(last * j / LOOKS) for j in range(LOOKS + 1)}):
        if not d.wanted() or time.perf_counter() - began > LOOKING:
            break
        if bool(sharp[k].isnan()) and bool(theta[k].isfinite().all()):
            sharp[k] = float(river.sharpness(d.field, theta[k]))
    return replace(path, sharpness=sharp)


def kept(d: Drop, path: Path) -> Path:
    """Keep a drop's flow, so that a plane may ride with it, and return it."""
    if d.planes is not None and d.wanted():
        d.planes.keep(d.foot, path)
    return path


def coarse(d: Drop, seconds: float) -> Path:
    """The flow as the eye needs it: it ends where the drop as good as rests, and, spent or not, after so many seconds."""
    from gradientflow import river

    speed = float(d.field.evaluate(d.start[None]).rate.norm())
    rest = [river.SteadyState(rate=NEARLY * speed)] if d.field.potential and 0 < speed < math.inf else []
    keep = d.planes.moments(d.ask.t, 0, FEW) if d.planes else None
    return river.flow(
        d.field, d.ask.t, start=d.start, rtol=COARSE, atol=0.1 * COARSE, certify=False, max_seconds=seconds, events=rest,
        keep=keep, callback=lambda _: not d.wanted(),
    )  # fmt: skip


def descent(d: Drop, one: Asked, seconds: float, *, looks: int = 0) -> Path:
    """An optimizer's steps; its sharpness every so many."""
    import torch

    from gradientflow import river

    makers: dict[str, tuple[Any, dict[str, Any]]] = {
        "gd": (torch.optim.SGD, {}), "momentum": (torch.optim.SGD, {"momentum": 0.9}), "adam": (torch.optim.Adam, {})
    }  # fmt: skip
    maker, settings = makers[one.kind]
    keep = _steps_of(d, one) if d.plane is not None else None
    path = river.descend(
        d.field, maker, d.ask.t, lr=one.lr, start=d.start, sharpness_every=looks, max_seconds=seconds, keep=keep,
        callback=lambda _: not d.wanted(), **settings,
    )  # fmt: skip
    return path


def _steps_of(d: Drop, one: Asked) -> Keep:
    """The points of a descent where they find room, and else what of them is seen in the plane."""
    from gradientflow import river

    fits = d.ask.t / one.lr * d.field.size * d.start.element_size() <= EACH
    return river.Keep(theta=True) if fits else river.Keep(plane=d.plane)


def back(d: Drop) -> Path:
    """Where a drop came from: the flow of −f."""
    from gradientflow import river

    against = river.VectorField(
        lambda points: -d.field.evaluate(points).rate, start=d.start, name=d.field.name, batched=True
    )
    return river.flow(
        against, d.ask.t, rtol=COARSE, certify=False, max_seconds=BACK, callback=lambda _: not d.wanted(),
        keep=d.planes.moments(d.ask.t, 0, FEW) if d.planes else None,
    )  # fmt: skip


# ── told ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def sent(part: str, solve: Callable[[], Path], d: Drop) -> bytes:
    """Solve one path and return it as a first answer."""
    began = time.perf_counter()
    path = solve()
    return part_of(part, tracks(d, path) if path.kind == "flow" else tracks(d, path, [path]), path, d, began)


def part_of(
    part: str, told: list[Track], path: Path, d: Drop, began: float, *, exact: bool = False
) -> bytes:  # fmt: skip
    """Return the last of tracks as a part of an answer, with its path's shadow where there is a plane."""
    seen = None if d.plane is None else shadow(path, d.plane)
    return frame(Answer(part, exact=exact, track=told[-1], shadow=seen, seconds=time.perf_counter() - began))


def tracks(d: Drop, path: Path, descents: list[Path] | None = None) -> list[Track]:
    """Return a path, and descents, as records."""
    from gradientflow import river

    told = river.tell(d.field, target=d.ask.target, t=d.ask.t, stories=[(path, descents or [], None)])
    story = told.stories[0]
    return [story.flow, *story.descents]


def shadow(path: Path, plane: Plane) -> Shadow:
    """Return a path as it is seen in a plane, without points that hardly move."""
    from gradientflow import river

    whole = river.shadow(path, plane)
    wide = max((max(c) - min(c) for c in zip(*whole.points, strict=True)), default=0.0)
    last = len(whole.points) - 1
    kept: list[int] = []
    for k, p in enumerate(whole.points):
        if not kept or k == last or math.dist(p, whole.points[kept[-1]]) > DRAWN * wide:
            kept.append(k)
    times, points, off = ([row[k] for k in kept] for row in (whole.times, whole.points, whole.off))
    return Shadow(whole.label, whole.kind, times, points, off)  # type: ignore[arg-type]


def nearest(path: Path, t: float) -> int:
    """Return the number of a path's kept moment that is nearest to a time."""
    return int((path.times - t).abs().argmin())
