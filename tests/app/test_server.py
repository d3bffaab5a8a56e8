"""The routes: a reader that leaves, what goes wrong on the way, and what is not JSON."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from gradientflow.app.fields import FIRST, Fields
from gradientflow.app.guard import Keys
from gradientflow.app.server import serve
from gradientflow.app.wire import frame, frames
from gradientflow.app.work import Token
from gradientflow.cli.target import load
from gradientflow.errors import FieldError
from gradientflow.records import Answer, DropAsk
from tests.app.test_guard import HOME, PORT, Client

KEYS = Keys(PORT, b"k" * 32)
INSIDE = {"Cookie": f"{KEYS.name}={KEYS.value}", "Origin": HOME}
ASK = msgspec.json.encode(DropAsk("w1w2", (1.0, 1.0), 1.0, "lane", level="drag"))


def app(called: str = FIRST) -> Any:
    return serve(Fields(called, lambda target: load(target, None)), KEYS)


def test_a_browser_that_leaves_ends_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def endless(fields: Fields, ask: DropAsk, token: Token) -> Iterator[bytes]:
        for _ in range(2000):
            if token.cancelled():
                ended.set()
                return
            yield frame(Answer("flow"))
            token._ended.wait(0.01)

    monkeypatch.setattr("gradientflow.app.server.drops", endless)
    served = app()
    gone = asyncio.Event()
    got: list[Any] = []
    bodies = [ASK]

    async def receive() -> dict[str, Any]:
        if bodies:
            return {"type": "http.request", "body": bodies.pop(), "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        got.append(message)
        if len(got) == 4:
            gone.set()

    headers = {"Host": HOME.removeprefix("http://"), **INSIDE}
    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "POST",
        "path": "/api/drop", "raw_path": b"/api/drop", "query_string": b"", "root_path": "", "scheme": "http",
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", PORT),
        "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
    }  # fmt: skip

    async def leave() -> None:
        await asyncio.wait_for(served(scope, receive, send), 10)
        assert ended.wait(5)

    asyncio.run(leave())
    assert 4 <= len(got) < 500


def test_what_fails_on_the_way_is_the_last_part_of_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(fields: Fields, ask: DropAsk, token: Token) -> Iterator[bytes]:
        yield frame(Answer("flow"))
        raise FieldError("the loss is <not> finite")

    monkeypatch.setattr("gradientflow.app.server.drops", breaks)
    status, _, body = Client(app()).ask("POST", "/api/drop", INSIDE, ASK)
    told = [msgspec.json.decode(head, type=Answer) for head, _ in frames(body)]
    assert status == 200 and [a.part for a in told] == ["flow", "refused"]
    assert told[1].text == "the loss is <not> finite"


def test_what_fails_at_once_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(fields: Fields, ask: DropAsk, token: Token) -> Iterator[bytes]:
        raise ZeroDivisionError("in a user's own loss")
        yield b""

    monkeypatch.setattr("gradientflow.app.server.drops", breaks)
    status, _, body = Client(app()).ask("POST", "/api/drop", INSIDE, ASK)
    assert status == 422 and "ZeroDivisionError: in a user's own loss" in msgspec.json.decode(body)["problem"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", ASK.replace(b'"drag"', b'"other"'), b"\xff"])
def test_what_is_no_ask_is_refused(body: bytes) -> None:
    assert Client(app()).ask("POST", "/api/drop", INSIDE, body)[0] == 422
    assert Client(app()).ask("POST", "/api/drop", INSIDE, ASK)[0] == 200


def test_only_the_packaged_field_is_shown_before_anything_is_loaded() -> None:
    assert b'data-first="w1w2"' in Client(app()).ask(headers=INSIDE)[2]
    assert b"data-first" not in Client(app("himmelblau")).ask(headers=INSIDE)[2]


def test_a_page_knows_of_a_field_what_it_must() -> None:
    status, _, body = Client(app()).ask(path="/api/open", headers=INSIDE, query="target=himmelblau")
    told = msgspec.json.decode(body)
    assert status == 200 and told["box"] == [-6.0, 6.0, -6.0, 6.0] and told["start"] == [0.0, 0.0] and told["potential"]
    assert 0 < told["lr"] < 2 / 24  # descent is stable at the start
    assert len(told["tales"]) == 4 and {"w1w2", "himmelblau"} <= {f["name"] for f in told["fields"]}
