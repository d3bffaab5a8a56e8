"""Where each drop of a grid ends: the basins of a field of two parameters, coarse ones first, then finer at their borders.

Ends that hang together are one place: a sink, or a curve of minima. What is linked, and how, is the page's picture alone; each
end is solved, loosely, as far as `SPELL` and the flow time reach.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gradientflow.app.fields import Fields
from gradientflow.app.paths import asker, check
from gradientflow.app.wire import frame
from gradientflow.app.work import Token
from gradientflow.errors import UsageError
from gradientflow.limits import Limit
from gradientflow.records import Basins, BasinsAsk

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from gradientflow.river import Field

SIDE = 33  # drops along a side
SPELL = 8.0  # seconds for a grid
LONG = 5.0  # times the flow time that is shown, so that slow drops arrive too
MOST = 9  # places that are told apart

LINKED = Limit(
    "ends_apart_over_diagonal", 0.04, "chosen: ends along a curve of minima, of a grid of 33 × 33, hang together"
)
CALM = Limit(
    "way_to_go_over_diagonal",
    0.01,
    "chosen: going on at its speed for the whole time again it would not be seen to move",
)
RARE = Limit(
    "share_of_ends", 0.04, "chosen: fewer end on a saddle, whose line parts the basins, than in a basin that one sees"
)


def basins(fields: Fields, ask: BasinsAsk, token: Token) -> Iterator[bytes]:
    """Yield the basins twice: of a coarse grid, and of one twice as fine, solved where the coarse one has a border.

    Raises:
        UsageError: the field has not two parameters, or the box is empty.
    """
    import torch

    field = fields.get(ask.target).field
    x0, x1, y0, y1 = ask.box
    check(ask.t, [(x0, y0), (x1, y1)], [])
    if fields.planes(ask.target) is not None:
        raise UsageError("basins are those of a field of two parameters.")
    if not (x0 < x1 and y0 < y1):
        raise UsageError(f"the box {ask.box} is empty.")
    turns = fields.turns(ask.target)
    wanted, diagonal = asker(turns, token), float(torch.tensor([x1 - x0, y1 - y0]).norm())
    with turns.mine():
        ends = _ends(field, _grid(ask.box, SIDE), ask.t, diagonal, wanted)
        if not wanted():
            return
        which, places = _linked(ends, diagonal)
        table = which.reshape(SIDE, SIDE)
        yield _told(ask.box, table, places)
        finer, open_ = _doubled(table)
        fine = len(finer)
        if not bool(open_.any()):
            return
        more = _ends(field, _grid(ask.box, fine)[open_.reshape(-1)], ask.t, diagonal, wanted)
        if wanted():
            near, nearest = torch.cdist(more.nan_to_num(1e30), ends.nan_to_num(-1e30)).min(1)
            finer[open_] = torch.where(
                near < float(LINKED) * diagonal, which[nearest], torch.full_like(which[nearest], -1)
            )
            yield _told(ask.box, finer, places)


def _ends(field: Field, starts: Tensor, t: float, diagonal: float, wanted: Callable[[], bool]) -> Tensor:
    """Where drops end, (n, 2); NaN for those that still move, or have left for infinity."""
    from gradientflow import river

    many = river.flow(
        field, LONG * t, starts=starts.to(field.dtype), rtol=1e-2, atol=1e-3, certify=False, max_seconds=SPELL,
        keep=river.Keep(at=[LONG * t]), callback=lambda _: not wanted(),
    )  # fmt: skip
    ends = many.final.double().cpu()
    calm = many.grad_norm.double().cpu() * LONG * t < float(CALM) * diagonal
    return ends.where((calm & ends.isfinite().all(1))[:, None], ends.new_full((), float("nan")))


def _linked(ends: Tensor, diagonal: float) -> tuple[Tensor, list[tuple[float, float]]]:
    """Return for each end the number of its place, the most visited first, −1 where there is none; and where they are."""
    import torch

    close = torch.cdist(ends.nan_to_num(1e30), ends.nan_to_num(-1e30)) < float(LINKED) * diagonal
    known = ends.isfinite().all(1)
    label = torch.where(known, torch.arange(len(ends)), torch.full((len(ends),), len(ends)))
    while True:  # each end takes the least number among those that it is linked to
        least = torch.where(close, label[None, :], len(ends)).min(1).values
        least = torch.where(known, torch.minimum(least, label), label)
        if bool((least == label).all()):
            break
        label = least
    numbers, counts = label[known].unique(return_counts=True)  # type: ignore[no-untyped-call]
    order = [k for k in counts.argsort(descending=True, stable=True).tolist() if counts[k] >= float(RARE) * len(ends)]
    which, places = torch.full((len(ends),), -1), []
    for n, k in enumerate(order[:MOST]):
        mine = label == numbers[k]
        which[mine] = n
        middle = ends[mine].median(0).values
        best = (ends[mine] - middle).norm(dim=1).argmin()
        places.append((float(ends[mine][best][0]), float(ends[mine][best][1])))
    return which, places


def _grid(box: tuple[float, float, float, float], n: int) -> Tensor:
    import torch

    x, y = (torch.linspace(a, b, n, dtype=torch.float64) for a, b in (box[:2], box[2:]))
    return torch.stack([x.repeat(n), y.repeat_interleave(n)], 1)


def _doubled(table: Tensor) -> tuple[Tensor, Tensor]:
    """Return the grid twice as fine, filled in where the coarse samples around agree, and where it is open."""
    import torch

    n = 2 * len(table) - 1
    fine, open_ = torch.full((n, n), -1), torch.zeros(n, n, dtype=torch.bool)
    fine[::2, ::2] = table
    a, b = table[:, :-1], table[:, 1:]
    fine[::2, 1::2], open_[::2, 1::2] = a, a != b
    a, b = table[:-1], table[1:]
    fine[1::2, ::2], open_[1::2, ::2] = a, a != b
    corners = torch.stack([table[:-1, :-1], table[:-1, 1:], table[1:, :-1], table[1:, 1:]])
    fine[1::2, 1::2], open_[1::2, 1::2] = corners[0], (corners != corners[0]).any(0)
    return fine, open_


def _told(box: tuple[float, float, float, float], table: Tensor, places: list[tuple[float, float]]) -> bytes:
    shares = [float((table == k).double().mean()) for k in range(len(places))]
    return frame(Basins(box, len(table), places, shares), [table.tolist()])
