"""The routes: the page and its files, what River asks, and what Depth asks (`run_routes`, `knobs`)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from importlib.resources import files
from typing import Any, TypeVar

import anyio
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from gradientflow.app.basins import basins
from gradientflow.app.drops import drops, line, whole
from gradientflow.app.fields import FIRST, Fields
from gradientflow.app.guard import Guard, Keys, TooLargeError
from gradientflow.app.knobs import knob_routes
from gradientflow.app.replays import Replays
from gradientflow.app.run_routes import run_routes
from gradientflow.app.runs import Runs
from gradientflow.app.water import orders, planes, slices, waters
from gradientflow.app.ways import layer_shares, ways
from gradientflow.app.wire import frame
from gradientflow.app.work import Job, Token, Work
from gradientflow.errors import GradientflowError, OutputError, UsageError
from gradientflow.records import Answer, BasinsAsk, DropAsk, LineAsk, PlaneAsk, WaterAsk, WayAsk

PAGE = files("gradientflow.app") / "static"
NEEDED = ("index.html", "app.js", "style.css", "first.bin")
KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".bin": "application/octet-stream"}
FRAMES = "application/octet-stream"
Asked = TypeVar("Asked", bound=msgspec.Struct)


def packaged() -> dict[str, bytes]:
    """Return the page's files by name.

    Raises:
        OutputError: one that the page needs is not there: the package was built without its page.
    """
    found = {f.name: f.read_bytes() for f in PAGE.iterdir() if f.is_file()} if PAGE.is_dir() else {}
    missing = [name for name in NEEDED if name not in found]
    if missing:
        raise OutputError(
            f"the app's page is not whole: {', '.join(missing)} is missing from {PAGE}. Install gradientflow again, or run "
            "`make web` in a copy of the repository."
        )
    return found


def serve(fields: Fields, keys: Keys, runs: Runs | None = None) -> Any:
    """Return the app as ASGI, behind its guard."""
    kept, work, replays = packaged(), Work(), Replays()
    if fields.called == FIRST:  # the page may show the packaged water before anything is loaded
        kept["index.html"] = kept["index.html"].replace(b"<body>", f'<body data-first="{FIRST}">'.encode())

    async def page(request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        body = kept.get(name)
        if body is None:
            return _told(404, f"there is no file {name!r}.")
        return Response(body, media_type=KINDS.get(name[name.rfind(".") :], "application/octet-stream"))

    async def opened(request: Request) -> Response:
        target = request.query_params.get("target") or fields.called
        try:
            found = await anyio.to_thread.run_sync(fields.opened, target)
        except GradientflowError as problem:
            return _told(422, str(problem))
        return Response(msgspec.json.encode(found), media_type="application/json")

    async def water(request: Request) -> Response:
        ask = await _asked(request, WaterAsk)
        if ask.plane:
            return await _stream(work.run(_spoken(lambda token: slices(fields, ask, token)), lane=ask.lane, slow=True))
        then = _spoken(lambda token: orders(fields, ask, token)) if ask.structure else None
        return await _stream(work.run(_spoken(lambda token: waters(fields, ask, token)), then=then))

    async def plane(request: Request) -> Response:
        ask = await _asked(request, PlaneAsk)
        return await _stream(work.run(_spoken(lambda token: planes(fields, ask, token)), lane=ask.lane, slow=True))

    async def way_back(request: Request) -> Response:
        ask = await _asked(request, WayAsk)
        look = layer_shares if ask.shares else ways
        return await _stream(work.run(_spoken(lambda token: look(fields, ask, token)), lane=ask.lane, slow=ask.shares))

    async def shores(request: Request) -> Response:
        ask = await _asked(request, BasinsAsk)
        return await _stream(work.run(_spoken(lambda token: basins(fields, ask, token)), lane=ask.lane, slow=True))

    async def drop(request: Request) -> Response:
        ask = await _asked(request, DropAsk)
        first = _spoken(lambda token: drops(fields, ask, token))
        then = _spoken(lambda token: whole(fields, ask, token)) if ask.level == "settled" else None
        return await _stream(work.run(first, lane=ask.lane, then=then))

    async def many(request: Request) -> Response:
        ask = await _asked(request, LineAsk)
        return await _stream(work.run(_spoken(lambda token: line(fields, ask, token)), lane=ask.lane, slow=True))

    async def answered(job: Job, lane: str, slow: bool) -> Response:
        return await _stream(work.run(_spoken(job), lane=lane, slow=slow))

    async def large(request: Request, problem: Exception) -> Response:
        return _told(413, str(problem))

    async def wrong(request: Request, problem: Exception) -> Response:
        return _told(422, str(problem))

    routes = [
        Route("/", page),
        Route("/static/{name}", page),
        Route("/api/open", opened),
        Route("/api/water", water, methods=["POST"]),
        Route("/api/way", way_back, methods=["POST"]),
        Route("/api/basins", shores, methods=["POST"]),
        Route("/api/plane", plane, methods=["POST"]),
        Route("/api/drop", drop, methods=["POST"]),
        Route("/api/line", many, methods=["POST"]),
        *knob_routes(_asked, answered),
        *run_routes(runs or Runs(), lambda: app.state.ended(), replays),
    ]
    refusals: dict[Any, Callable[..., Any]] = {
        GradientflowError: wrong, msgspec.MsgspecError: wrong, TooLargeError: large,
    }  # fmt: skip
    app = Starlette(routes=routes, exception_handlers=refusals)
    app.state.work, app.state.replays, app.state.ended = work, replays, lambda: False
    return Guard(app, keys)


async def _asked(request: Request, kind: type[Asked]) -> Asked:
    return msgspec.json.decode(await request.body(), type=kind)


def _spoken(job: Job) -> Job:
    """A job whose failure is the last part of its answer, in words, where it had begun to answer; else it is raised."""

    def run(token: Token) -> Iterator[bytes]:
        begun = False
        try:
            for part in job(token):
                begun = True
                yield part
        except GradientflowError as problem:
            if not begun:
                raise
            yield frame(Answer("refused", text=str(problem)))
        except Exception as problem:  # of a field that the user wrote: whatever it raises
            told = f"{type(problem).__name__}: {problem}"
            if not begun:
                raise UsageError(told) from problem
            yield frame(Answer("refused", text=told))

    return run


async def _stream(parts: AsyncIterator[bytes]) -> Response:
    """Answer with what a job yields. A job that fails before its first part is answered in words."""
    first = await anext(parts, b"")

    async def all_parts() -> AsyncIterator[bytes]:
        yield first
        async for part in parts:
            yield part

    return StreamingResponse(all_parts(), media_type=FRAMES)


def _told(status: int, text: str) -> Response:
    return Response(msgspec.json.encode({"problem": text}), status, media_type="application/json")
