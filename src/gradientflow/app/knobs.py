"""The routes of the small network with knobs: a look at it, one operation of that look, its first steps of training, and its flow."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gradientflow import depth
from gradientflow.app.linked import Paths
from gradientflow.app.run_routes import whole
from gradientflow.app.wire import frame
from gradientflow.app.work import Job, Token
from gradientflow.errors import UsageError
from gradientflow.files import encoded
from gradientflow.records import Course, FlowAsk, KnobsAsk, KnobsSeen, TrainAsk
from gradientflow.report.view import Moment, op_seen, view, way

KEPT = 16  # looks whose operations may be asked for, one for each who asks
EVERY = 0.1  # seconds between two parts of a training that are sent
Asked = Callable[[Request, Any], Awaitable[Any]]
Answered = Callable[[Job, str, bool], Awaitable[Response]]


class Looks:
    """The last look of each who asks."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Moment] = OrderedDict()

    def keep(self, lane: str, moment: Moment) -> None:
        """Keep a look; the oldest is forgotten."""
        self._kept[lane] = moment
        self._kept.move_to_end(lane)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    def get(self, lane: str) -> Moment:
        """Return the last look.

        Raises:
            UsageError: there was none.
        """
        if lane not in self._kept:
            raise UsageError("this network is not kept any more: turn a knob, and it is looked at again.")
        return self._kept[lane]


def knob_routes(asked: Asked, answered: Answered) -> list[Route]:
    """Return the routes.

    Args:
        asked: reads the record of a request.
        answered: answers with what a job yields: job, lane, whether it is slow.
    """
    looks, paths = Looks(), Paths()

    async def opened(request: Request) -> Response:
        return _json(depth.small_knobs())

    async def look(request: Request) -> Response:
        ask = await asked(request, KnobsAsk)
        return await answered(lambda token: _look(looks, ask), ask.lane, False)

    async def op(request: Request) -> Response:
        moment = looks.get(request.query_params.get("lane", ""))
        return _json(op_seen(moment, _probe(moment), whole(request, "row")))

    async def train(request: Request) -> Response:
        ask = await asked(request, TrainAsk)
        return await answered(lambda token: _train(ask, token), f"train {ask.lane}", True)

    async def flow(request: Request) -> Response:
        ask = await asked(request, FlowAsk)
        return await answered(lambda token: paths.solve(ask, token), f"flow {ask.lane}", True)

    async def at(request: Request) -> Response:
        lane, index = request.query_params.get("lane", ""), whole(request, "index")
        return _json(await anyio.to_thread.run_sync(paths.at, lane, index))

    return [
        Route("/api/knobs/flow", flow, methods=["POST"]),
        Route("/api/knobs/at", at),
        Route("/api/knobs", opened),
        Route("/api/knobs/look", look, methods=["POST"]),
        Route("/api/knobs/op", op),
        Route("/api/knobs/train", train, methods=["POST"]),
    ]


def _look(looks: Looks, ask: KnobsAsk) -> Iterator[bytes]:
    began = time.perf_counter()
    found = depth.small_look(ask.knobs)
    moment = depth.moment(found.run, found.verdict)
    looks.keep(ask.lane, moment)
    yield frame(
        KnobsSeen(
            ask.knobs, view("small_net.py", moment), way(moment, _probe(moment)), found.law, found.script, found.mend,
            round(time.perf_counter() - began, 3),
        )
    )  # fmt: skip


def _probe(moment: Moment) -> int:
    return view("", moment).at or 0


def _train(ask: TrainAsk, token: Token) -> Iterator[bytes]:
    """Losses so far, again and again as they grow."""
    losses: list[float | None] = []
    sent = time.monotonic()
    for loss in depth.small_training(ask.knobs, ask.steps, lambda: not token.cancelled()):
        losses.append(loss if math.isfinite(loss) else None)
        if time.monotonic() - sent > EVERY:
            sent = time.monotonic()
            yield frame(Course(losses, ask.steps))
    if not token.cancelled():
        yield frame(Course(losses, ask.steps, _told(losses)))


def _told(losses: list[float | None]) -> str:
    first, last = losses[0], losses[-1]
    start = "not finite" if first is None else f"{first:.3g}"
    return f"loss {start} → {'not finite' if last is None else f'{last:.3g}'} over {len(losses)} steps"


def _json(found: msgspec.Struct) -> Response:
    return Response(encoded(found), media_type="application/json")
