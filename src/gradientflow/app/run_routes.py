"""The routes of Depth: a run's records as slices that a screen can show, and a stream that tells when there is more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import quote

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from gradientflow.app.replays import Replays
from gradientflow.app.runs import Runs
from gradientflow.app.wire import frame
from gradientflow.errors import RecordError, UsageError
from gradientflow.files import encoded
from gradientflow.records import TryAsk
from gradientflow.report import clean
from gradientflow.report.page import render_html
from gradientflow.report.view import Moment, cell, curves, excerpt, heat, op_seen, routes, view, way

LOOK = 1.0  # seconds between two looks at a run that is followed
GLANCE = 0.5  # and between two looks at a replay
STILL = 15  # looks without news, after which a sign of life is sent
LARGEST = 1 << 53
Make = Callable[[Moment, Request], Any]


def run_routes(runs: Runs, ended: Callable[[], bool], replays: Replays) -> list[Route]:
    """Return the routes.

    Args:
        runs: that a page may open.
        ended: whether the app is being ended; streams end with it.
        replays: remedies that are tried.
    """

    async def offered(request: Request) -> Response:
        return _json(await anyio.to_thread.run_sync(runs.offered))

    def slice_of(make: Make) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            found = await anyio.to_thread.run_sync(
                lambda: make(runs.get(request.query_params.get("name")).now(), request)
            )
            if isinstance(found, bytes):
                return Response(found, media_type="application/octet-stream")
            return _json(found)

        return answer

    async def opened(request: Request) -> Response:
        def look() -> Any:
            seen = runs.get(request.query_params.get("name"))
            return view(seen.name, seen.now())

        return _json(await anyio.to_thread.run_sync(look))

    async def shared(request: Request) -> Response:
        def make() -> tuple[str, str]:
            seen = runs.get(request.query_params.get("name"))
            return seen.name, render_html(seen.now(), seen.name)

        name, page = await anyio.to_thread.run_sync(make)
        held = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name.replace('/', '-'), safe='')}.html"}
        return Response(page.encode("utf-8", "replace"), media_type="text/html", headers=held)

    async def follow(request: Request) -> Response:
        seen = runs.get(request.query_params.get("name"))
        known = whole(request, "version", 0)

        async def news() -> AsyncIterator[bytes]:
            last: tuple[int, str] | None = None if known == 0 else (known, "")
            still = 0
            while not ended():
                try:
                    moment = await anyio.to_thread.run_sync(seen.now)
                    now: tuple[int, str] = (moment.version, moment.state)
                    told = b"event: grown\ndata: " + msgspec.json.encode(_news(moment))
                except RecordError as problem:  # it was just begun, or was taken away
                    now = (-1, str(problem))
                    told = b"event: wait\ndata: " + msgspec.json.encode({"problem": clean(problem)})
                if now != last:
                    last, still = now, 0
                    yield told + b"\n\n"
                elif (still := still + 1) % STILL == 0:
                    yield b": still there\n\n"
                await asyncio.sleep(LOOK)

        return StreamingResponse(news(), media_type="text/event-stream")

    def tried(act: Callable[[TryAsk], Any]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            ask = msgspec.json.decode(await request.body(), type=TryAsk)
            return _json(await anyio.to_thread.run_sync(act, ask))

        return answer

    async def offers(request: Request) -> Response:
        return _json(await anyio.to_thread.run_sync(lambda: replays.offers(runs.get(request.query_params.get("name")))))

    async def trying(request: Request) -> Response:
        seen = runs.get(request.query_params.get("name"))

        async def news() -> AsyncIterator[bytes]:
            last = b""
            while not ended():
                now = await anyio.to_thread.run_sync(replays.trying, seen)
                told = b"event: trying\ndata: " + clean(encoded(now).decode()).encode() + b"\n\n"
                if told != last:
                    last = told
                    yield told
                if now is None or now.state != "going":
                    return
                await asyncio.sleep(GLANCE)

        return StreamingResponse(news(), media_type="text/event-stream")

    return [
        Route("/api/run/remedies", offers),
        Route("/api/run/trying", trying),
        Route("/api/run/try", tried(lambda ask: replays.start(runs.get(ask.name), ask.kind)), methods=["POST"]),
        Route("/api/run/cancel", tried(lambda ask: replays.cancel(runs.get(ask.name))), methods=["POST"]),
        Route("/api/runs", offered),
        Route("/api/run", opened),
        Route("/api/run/follow", follow),
        Route("/api/run/page", shared),
        Route("/api/run/way", slice_of(lambda m, r: way(m, whole(r, "probe"), _own(r)))),
        Route("/api/run/routes", slice_of(lambda m, r: routes(m, whole(r, "probe")))),
        Route("/api/run/op", slice_of(lambda m, r: op_seen(m, whole(r, "probe"), whole(r, "row"), _own(r)))),
        Route("/api/run/curves", slice_of(lambda m, r: frame(*curves(m, whole(r, "points", 800))))),
        Route("/api/run/heat", slice_of(lambda m, r: heat(m, whole(r, "biases", 0) == 1))),
        Route("/api/run/cell", slice_of(lambda m, r: cell(m, whole(r, "param"), whole(r, "step")))),
        Route("/api/run/source", slice_of(_source)),
    ]


def whole(request: Request, name: str, otherwise: int | None = None) -> int:
    """Return a whole number of the request.

    Raises:
        UsageError: it is missing, or none.
    """
    text = request.query_params.get(name)
    if text is None and otherwise is not None:
        return otherwise
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 16 or int(text) > LARGEST:
        raise UsageError(f"{name}={text!r:.40}: expected a whole number from 0.")
    return int(text)


def _own(request: Request) -> int | None:
    """The number of the optimizer whose way back is asked for; None: the probe's own."""
    return whole(request, "own") if "own" in request.query_params else None


def _source(moment: Moment, request: Request) -> Any:
    file, line = request.query_params.get("file", ""), whole(request, "line")
    found = excerpt(moment.run, file, line)
    if found is None:
        raise UsageError(f"{file!r:.80}, line {line}: this run recorded no such line of source.")
    return found


def _news(moment: Moment) -> dict[str, Any]:
    return {
        "version": moment.version, "state": moment.state, "steps": moment.run.meta.steps, "probes": len(moment.run.probes),
    }  # fmt: skip


def _json(found: Any) -> Response:
    text = clean(encoded(found).decode())  # names turn no direction of writing
    return Response(text, media_type="application/json")
