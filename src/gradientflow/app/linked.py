"""Both rivers of a small network: its flow through time by the river's solver, and at any time of it the way back through its layers."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradientflow import depth
from gradientflow.app.wire import frame
from gradientflow.app.work import Token
from gradientflow.errors import UsageError
from gradientflow.records import FlowAsk, Knobs, Linked, LinkedAt
from gradientflow.report.view import way

if TYPE_CHECKING:
    from torch import Tensor

    from gradientflow.river import Path

MOMENTS = 33  # of a path that are kept with their points
LARGEST = 200_000  # parameters whose points are kept
KEPT = 4  # paths, one for each who asks
SECONDS = 12.0  # that solving may take


@dataclass(frozen=True)
class _Path:
    knobs: Knobs
    times: list[float]
    points: Tensor


class Paths:
    """The last path of each who asks."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Path] = OrderedDict()
        self._lock = threading.Lock()

    def solve(self, ask: FlowAsk, token: Token) -> Iterator[bytes]:
        """Solve a network's flow over the time of its training, and yield what is to be seen of it.

        Raises:
            UsageError: the network is too large.
            FieldError: it has no flow: its gradient is not finite.
        """
        from gradientflow import river

        began = time.perf_counter()
        net, loss, batch = depth.small_field(ask.knobs)
        size = sum(p.numel() for p in net.parameters())
        if size > LARGEST:
            raise UsageError(
                f"the flow of {size:,} parameters is not kept here, {LARGEST:,} is the most: turn width or depth down, or use "
                "gradientflow flow."
            )
        until = ask.knobs.lr * depth.small_knobs().steps
        times = [until * (k / (MOMENTS - 1)) ** 2 for k in range(MOMENTS)]
        field = river.LossField(net, loss, [batch])
        path = river.flow(
            field, until, certify=False, max_seconds=SECONDS, keep=river.Keep(at=times, theta=True, sharpness=0),
            callback=lambda _: token.cancelled(),
        )  # fmt: skip
        if token.cancelled() or path.theta is None or path.loss is None:
            return
        layers, shares = shares_of(
            field.evaluate(path.theta).rate, [(name, p.numel()) for name, p in net.named_parameters()]
        )
        with self._lock:
            self._kept[ask.lane] = _Path(ask.knobs, path.times.tolist(), path.theta)
            self._kept.move_to_end(ask.lane)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        yield frame(
            Linked(
                path.times.tolist(), path.loss.tolist(), layers, shares, until, _told(path, until),
                round(time.perf_counter() - began, 3),
            )
        )  # fmt: skip

    def at(self, lane: str, index: int) -> LinkedAt:
        """Return the way back at one time of the last path.

        Raises:
            UsageError: there is no such path, or no such moment of it.
        """
        with self._lock:
            path = self._kept.get(lane)
        if path is None:
            raise UsageError("this flow is not kept any more: solve it again.")
        if not 0 <= index < len(path.times):
            raise UsageError(f"moment {index}: this flow has {len(path.times)} of them, counted from 0.")
        found = depth.small_look(path.knobs, path.points[index])
        moment = depth.moment(found.run, found.verdict)
        probe = next((k for k, p in enumerate(found.run.probes) if p.root is not None), 0)
        return LinkedAt(index, path.times[index], way(moment, probe), found.law)


def _told(path: Path, until: float) -> str:
    """How the solver ended, for somebody who can turn knobs and not its settings."""
    if path.status.reason == "budget":
        return (
            f"It came to t = {float(path.times[-1]):.3g} of {until:.3g} in {SECONDS:g} s, the most that is spent here: a stiff flow. Turn "
            "depth, width or gain down to see more of it."
        )
    return f"Solved by {path.method} to the usual tolerance, not certified; {str(path.status).rstrip('.')}."


def shares_of(rate: Tensor, sizes: list[tuple[str, int]]) -> tuple[list[str], list[list[float]]]:
    """Of each layer its share of ‖dθ/dt‖², at each time; a layer is the module that holds a parameter; of the root's own, each."""
    whole = rate.double().square()
    total = whole.sum(1)
    found: dict[str, Tensor] = {}
    start = 0
    for name, size in sizes:
        layer = name.rpartition(".")[0] or name
        own = whole[:, start : start + size].sum(1)
        found[layer] = found[layer] + own if layer in found else own
        start += size
    return list(found), [(own / total.clamp(min=1e-300)).tolist() for own in found.values()]
