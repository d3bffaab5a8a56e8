"""What a drop does, in parts: a first answer at once, then the whole of it, certified and compared.

The numbers are the river's own (`flow`, `descend`, `compare`); here is only the order in which they are asked for. While a
drop is dragged each answer is its flow, as far as it gets, and one of the optimizers in turn, in `DRAG` seconds both.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from gradientflow.app.fields import Fields
from gradientflow.app.wire import frame
from gradientflow.app.work import Token
from gradientflow.errors import UsageError
from gradientflow.records import Answer, DropAsk, LineAsk, Track
from gradientflow.records import Rival as Asked

if TYPE_CHECKING:
    from gradientflow.river import Field, Path

DRAG = 0.033  # seconds for an answer to a drag: with the step that ends it and the way, twenty and more in a second
SHARE = 0.7  # of it that the flow may take where an optimizer is to be answered too
COARSE = 1e-2  # relative error of a step while dragging; a path drawn 1000 pixels wide shows no less
NEARLY = 5e-3  # of the speed at the start: a dragged drop that slow has come as good as to rest, and rests if λmin ≥ 0
FIRST = 0.3  # seconds of a settled drop's first answer, for each path
WHOLE = 20.0  # seconds of its whole flow, and of each optimizer
BACK = 0.6  # seconds that a path is followed backwards; most run to infinity
LOOKS = 24  # steps of a descent whose sharpness is measured
MOST = 48  # drops of a line
MOMENTS = 120  # at which their places are kept
LONGEST = 1e6  # flow time


class _LeftError(Exception):
    """Nobody waits for a comparison any more, or it takes too long."""


def drops(fields: Fields, ask: DropAsk, token: Token) -> Iterator[bytes]:
    """Yield the first parts of an answer to one drop; of a dragged one that is all, a settled one's `whole` follows.

    Raises:
        UsageError: start, time or learning rate are not what they must be.
    """
    field = fields.get(ask.target).field
    _check(ask.t, [ask.start], [r.lr for r in ask.rivals])
    yield from (_dragged if ask.level == "drag" else _first)(field, ask, token)


def _dragged(field: Field, ask: DropAsk, token: Token) -> Iterator[bytes]:
    began = time.perf_counter()
    if ask.flow:
        share = DRAG * (SHARE if ask.rivals else 1.0)
        yield _sent("flow", lambda: _coarse(field, ask, token, share), field, ask)
    if ask.rivals and not token.cancelled():
        one = ask.rivals[ask.turn % len(ask.rivals)]
        left = max(began + DRAG - time.perf_counter(), DRAG * (1 - SHARE))
        yield _sent(one.kind, lambda: _descent(field, ask, one, token, left), field, ask)


def _first(field: Field, ask: DropAsk, token: Token) -> Iterator[bytes]:
    yield _sent("flow", lambda: _coarse(field, ask, token, FIRST), field, ask)
    for one in ask.rivals:
        if token.cancelled():
            return
        yield _sent(one.kind, lambda one=one: _descent(field, ask, one, token, FIRST), field, ask)  # type: ignore[misc]
    if ask.back and not token.cancelled():
        yield _sent("back", lambda: _back(field, ask, token), field, ask)


def whole(fields: Fields, ask: DropAsk, token: Token) -> Iterator[bytes]:
    """Yield a settled drop's paths once more, solved to the usual tolerance, certified and compared."""
    field = fields.get(ask.target).field
    began = time.perf_counter()
    path = _flow(field, ask, token, WHOLE)
    descents: dict[str, Path] = {}
    if not token.cancelled():
        yield _part("flow", _tracks(field, ask, path)[0], began, exact=True)
    for one in ask.rivals:
        if token.cancelled():
            return
        began = time.perf_counter()
        steps = max(1, math.ceil(ask.t / one.lr / LOOKS)) if field.potential else 0
        descents[one.kind] = _descent(field, ask, one, token, WHOLE, looks=steps)
        yield _part(one.kind, _tracks(field, ask, path, [descents[one.kind]])[1], began, exact=True)
    if not token.cancelled():
        yield from _compared(field, ask, path, descents, token)


def line(fields: Fields, ask: LineAsk, token: Token) -> Iterator[bytes]:
    """Yield the answer to many drops.

    Raises:
        UsageError: too many of them, or a start or the time is not what it must be.
    """
    import torch

    from gradientflow import river

    field = fields.get(ask.target).field
    if not 1 <= len(ask.starts) <= MOST:
        raise UsageError(f"a line of drops has 1 to {MOST} of them, got {len(ask.starts)}.")
    _check(ask.t, ask.starts, [])
    began = time.perf_counter()
    keep = river.Keep(at=river.Keep.early(ask.t, MOMENTS))
    many = river.flow(
        field, ask.t, starts=torch.tensor(ask.starts, dtype=field.dtype), keep=keep, certify=False, max_seconds=WHOLE,
        callback=lambda _: token.cancelled(),
    )  # fmt: skip
    told = river.tell(field, target=ask.target, t=ask.t, drops=many)
    yield frame(Answer("line", exact=True, drops=told.drops, seconds=time.perf_counter() - began))


# ── one path ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _flow(field: Field, ask: DropAsk, token: Token, seconds: float) -> Path:
    """The whole flow, to the usual tolerance, with its certificates and its sharpness."""
    from gradientflow import river

    return river.flow(
        field, ask.t, start=list(ask.start), max_seconds=seconds, keep=river.Keep(sharpness=1 if field.potential else 0),
        callback=lambda _: token.cancelled(),
    )  # fmt: skip


def _coarse(field: Field, ask: DropAsk, token: Token, seconds: float) -> Path:
    """The flow as the eye needs it: it ends where the drop as good as rests, and, spent or not, after so many seconds."""
    import torch

    from gradientflow import river

    start = torch.tensor([ask.start], dtype=field.dtype)
    speed = float(field.evaluate(start).rate.norm())
    rest = [river.SteadyState(rate=NEARLY * speed)] if field.potential and 0 < speed < math.inf else []
    return river.flow(
        field, ask.t, start=start[0], rtol=COARSE, atol=0.1 * COARSE, certify=False, max_seconds=seconds, events=rest,
        keep=river.Keep(sharpness=0), callback=lambda _: token.cancelled(),
    )  # fmt: skip


def _descent(field: Field, ask: DropAsk, one: Asked, token: Token, seconds: float, *, looks: int = 0) -> Path:
    import torch

    from gradientflow import river

    makers: dict[str, tuple[Any, dict[str, Any]]] = {
        "gd": (torch.optim.SGD, {}), "momentum": (torch.optim.SGD, {"momentum": 0.9}), "adam": (torch.optim.Adam, {})
    }  # fmt: skip
    maker, settings = makers[one.kind]
    return river.descend(
        field, maker, ask.t, lr=one.lr, start=list(ask.start), sharpness_every=looks, max_seconds=seconds,
        callback=lambda _: token.cancelled(), **settings,
    )  # fmt: skip


def _back(field: Field, ask: DropAsk, token: Token) -> Path:
    """Where a drop came from: the flow of −f."""
    from gradientflow import river

    against = river.VectorField(
        lambda points: -field.evaluate(points).rate, start=list(ask.start), name=field.name, batched=True
    )
    return river.flow(
        against, ask.t, rtol=COARSE, certify=False, max_seconds=BACK, callback=lambda _: token.cancelled()
    )  # fmt: skip


def _compared(
    field: Field, ask: DropAsk, path: Path, descents: dict[str, Path], token: Token
) -> Iterator[bytes]:  # fmt: skip
    """Yield how far the descents leave the flow and why, and each with the sharpness past which it is unstable."""
    from gradientflow import river

    if not field.potential or len(path.times) < 2 or not path.status.ok:
        return
    whole = {k: d for k, d in descents.items() if d.status.ok or d.status.reason == "diverged"}
    if not whole:
        return
    began = time.perf_counter()

    def wanted(_: object) -> None:
        if token.cancelled() or time.perf_counter() - began > WHOLE:
            raise _LeftError

    try:
        found = river.compare(path, *whole.values(), points=24, predict=False, progress=wanted)
    except _LeftError:
        return
    told = river.tell(field, target=ask.target, t=ask.t, stories=[(path, list(whole.values()), found)])
    story = told.stories[0]
    for kind, track in zip(whole, story.descents, strict=True):
        yield _part(kind, track, began, exact=True)
    yield frame(Answer("apart", exact=True, apart=story.apart, seconds=time.perf_counter() - began))


# ── small parts ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _sent(part: str, solve: Callable[[], Path], field: Field, ask: DropAsk) -> bytes:
    """Solve one path and return it as a first answer."""
    began = time.perf_counter()
    path = solve()
    tracks = _tracks(field, ask, path) if path.kind == "flow" else _tracks(field, ask, path, [path])
    return _part(part, tracks[-1], began, exact=False)


def _tracks(field: Field, ask: DropAsk, path: Path, descents: list[Path] | None = None) -> list[Track]:
    """Return a path, and descents, as records."""
    from gradientflow import river

    story = river.tell(field, target=ask.target, t=ask.t, stories=[(path, descents or [], None)]).stories[0]
    return [story.flow, *story.descents]


def _part(part: str, track: Track, began: float, *, exact: bool) -> bytes:
    return frame(Answer(part, exact=exact, track=track, seconds=time.perf_counter() - began))


def _check(t: float, starts: list[tuple[float, float]], rates: list[float]) -> None:
    if not 0 < t <= LONGEST:
        raise UsageError(f"flow time: expected a number above 0 and at most {LONGEST:g}, got {t:g}.")
    if not all(math.isfinite(x) and abs(x) < 1e9 for at in starts for x in at):
        raise UsageError("a drop begins at two finite numbers.")
    if len(rates) > 3 or not all(0 < r <= LONGEST for r in rates):
        raise UsageError("up to three optimizers, each with a learning rate above 0.")
