"""What a drop does, in parts: a first answer at once, then the whole of it, certified and compared.

The numbers are the river's own (`flow`, `descend`, `compare`; see `paths`); here is only the order in which they are asked for.
While a drop is dragged each answer is its flow, as far as it gets, and one of the optimizers in turn, in `DRAG` seconds both.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gradientflow.app.fields import Fields
from gradientflow.app.paths import (
    Drop,
    asker,
    back,
    check,
    coarse,
    descent,
    drop_of,
    exact,
    kept,
    looked,
    part_of,
    sent,
    tracks,
)
from gradientflow.app.wire import frame
from gradientflow.app.work import Token
from gradientflow.errors import UsageError
from gradientflow.records import Answer, DropAsk, LineAsk

if TYPE_CHECKING:
    from gradientflow.river import Path

DRAG = 0.028  # seconds for an answer to a drag: with the step that ends it and the way, twenty and more in a second
MANY = 0.06  # the same for a field of more than two parameters: with what it takes to begin, a first answer in a tenth of a second
SHARE = 0.7  # of it that the flow may take where an optimizer is to be answered too
FIRST = 0.3  # seconds of a settled drop's first answer, for each path
SECOND = 2.0  # seconds of the flow's next answer, where the first one did not go all the way on a plane
WHOLE = 20.0  # seconds of its whole flow, and of each optimizer
LOOKS = 24  # steps of a descent whose sharpness is measured
MOST = 48  # drops of a line
MOMENTS = 120  # at which their places are kept


class _LeftError(Exception):
    """Nobody waits for a comparison any more, or it takes too long."""


def drops(fields: Fields, ask: DropAsk, token: Token) -> Iterator[bytes]:
    """Yield the first parts of an answer to one drop; of a dragged one that is all, a settled one's `whole` follows.

    Raises:
        UsageError: start, time, place or learning rate are not what they must be.
    """
    with fields.turns(ask.target).mine(urgent=True):
        d = drop_of(fields, ask, token)
        yield from (_dragged if ask.level == "drag" else _first)(d)


def _dragged(d: Drop) -> Iterator[bytes]:
    ask, spell = d.ask, DRAG if d.plane is None else MANY
    began = time.perf_counter()
    if ask.flow:
        share = spell * (SHARE if ask.rivals else 1.0)
        yield sent("flow", lambda: coarse(d, share), d)
    if ask.rivals and d.wanted():
        one = ask.rivals[ask.turn % len(ask.rivals)]
        left = max(began + spell - time.perf_counter(), spell * (1 - SHARE))
        yield sent(one.kind, lambda: descent(d, one, left), d)


def _first(d: Drop) -> Iterator[bytes]:
    yield sent("flow", lambda: kept(d, coarse(d, FIRST if d.plane is None else MANY)), d)
    for one in d.ask.rivals:
        if not d.wanted():
            return
        yield sent(one.kind, lambda one=one: descent(d, one, FIRST), d)  # type: ignore[misc]
    if d.ask.back and d.wanted():
        yield sent("back", lambda: back(d), d)


def whole(fields: Fields, ask: DropAsk, token: Token) -> Iterator[bytes]:
    """Yield a settled drop's paths once more, solved to the usual tolerance, certified and compared."""
    with fields.turns(ask.target).mine():
        yield from _whole(drop_of(fields, ask, token))


def _whole(d: Drop) -> Iterator[bytes]:
    ask = d.ask
    if d.planes is not None and not d.planes.all_the_way(d.foot):
        yield sent("flow", lambda: coarse(d, SECOND), d)
    began = time.perf_counter()
    path = exact(d, WHOLE)
    descents: dict[str, Path] = {}
    if d.wanted():
        yield part_of("flow", tracks(d, path), path, d, began, exact=True)
    if d.plane is not None and d.wanted():
        began, path = time.perf_counter(), looked(d, path)
        yield part_of("flow", tracks(d, path), path, d, began, exact=True)
    for one in ask.rivals:
        if not d.wanted():
            return
        began = time.perf_counter()
        steps = max(1, math.ceil(ask.t / one.lr / LOOKS)) if d.field.potential else 0
        made = descents[one.kind] = descent(d, one, WHOLE, looks=steps)
        yield part_of(one.kind, tracks(d, path, [made]), made, d, began, exact=True)
    if d.wanted():
        yield from _compared(d, path, descents)


def line(fields: Fields, ask: LineAsk, token: Token) -> Iterator[bytes]:
    """Yield the answer to many drops.

    Raises:
        UsageError: too many of them, or a start or the time is not what it must be.
    """
    import torch

    from gradientflow import river

    field = fields.get(ask.target).field
    if fields.planes(ask.target) is not None:
        raise UsageError("a line of drops is solved on fields of two parameters; on a plane, drop them one by one.")
    if not 1 <= len(ask.starts) <= MOST:
        raise UsageError(f"a line of drops has 1 to {MOST} of them, got {len(ask.starts)}.")
    check(ask.t, ask.starts, [])
    turns = fields.turns(ask.target)
    wanted, began = asker(turns, token), time.perf_counter()
    keep = river.Keep(at=river.Keep.early(ask.t, MOMENTS))
    with turns.mine():
        many = river.flow(
            field, ask.t, starts=torch.tensor(ask.starts, dtype=field.dtype), keep=keep, certify=False,
            max_seconds=WHOLE, callback=lambda _: not wanted(),
        )  # fmt: skip
        told = river.tell(field, target=ask.target, t=ask.t, drops=many)
    yield frame(Answer("line", exact=True, drops=told.drops, seconds=time.perf_counter() - began))


def _compared(d: Drop, path: Path, descents: dict[str, Path]) -> Iterator[bytes]:
    """Yield how far the descents leave the flow and why, and each with the sharpness past which it is unstable."""
    from gradientflow import river

    if not d.field.potential or len(path.times) < 2 or not path.status.ok:
        return
    whole = {k: d for k, d in descents.items() if d.status.ok or d.status.reason == "diverged"}
    if not whole:
        return
    began = time.perf_counter()

    def wanted(_: object) -> None:
        if not d.wanted() or time.perf_counter() - began > WHOLE:
            raise _LeftError

    try:
        found = river.compare(path, *whole.values(), points=24, predict=False, progress=wanted)
    except _LeftError:
        return
    told = river.tell(d.field, target=d.ask.target, t=d.ask.t, stories=[(path, list(whole.values()), found)])
    story = told.stories[0]
    for (kind, made), track in zip(whole.items(), story.descents, strict=True):
        yield part_of(kind, [track], made, d, began, exact=True)
    yield frame(Answer("apart", exact=True, apart=story.apart, seconds=time.perf_counter() - began))
