"""Jobs off the server's thread: in parts, ended when nobody waits, and the newest of a lane wins."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from gradientflow.app.work import SLOW, Token, Work


@pytest.fixture
def work() -> Iterator[Work]:
    made = Work()
    yield made
    made.close()


def counting(seen: list[str], name: str, ended: threading.Event) -> object:
    def job(token: Token) -> Iterator[bytes]:
        for k in range(500):
            if token.cancelled():
                seen.append(f"{name} was told")
                break
            yield f"{name}{k}".encode()
            time.sleep(0.005)
        ended.set()

    return job


def test_parts_come_as_they_are_made(work: Work) -> None:
    async def read() -> list[bytes]:
        return [part async for part in work.run(lambda token: iter([b"a", b"b"]))]

    assert asyncio.run(read()) == [b"a", b"b"]


def test_what_a_job_raises_is_raised_where_it_is_read(work: Work) -> None:
    def broken(token: Token) -> Iterator[bytes]:
        yield b"a"
        raise ValueError("here")

    async def read() -> None:
        async for _ in work.run(broken):
            pass

    with pytest.raises(ValueError, match="here"):
        asyncio.run(read())


def test_a_reader_that_leaves_ends_the_job(work: Work) -> None:
    seen: list[str] = []
    ended = threading.Event()

    async def leave() -> None:
        parts = work.run(counting(seen, "a", ended))  # type: ignore[arg-type]
        assert await anext(parts) == b"a0"
        await parts.aclose()

    asyncio.run(leave())
    assert ended.wait(5) and seen == ["a was told"]


def test_the_newest_of_a_lane_wins_and_other_lanes_go_on(work: Work) -> None:
    seen: list[str] = []
    first, second = threading.Event(), threading.Event()

    async def both() -> tuple[list[bytes], bytes]:
        old = work.run(counting(seen, "a", first), lane="x", slow=True)  # type: ignore[arg-type]
        got = [await anext(old)]
        new = work.run(counting(seen, "b", second), lane="x")  # type: ignore[arg-type]
        part = await anext(new)
        got += [p async for p in old]
        await new.aclose()
        return got, part

    got, part = asyncio.run(both())
    assert part == b"b0" and len(got) < 500
    assert first.wait(5) and "a was told" in seen
    seen.clear()

    async def apart() -> int:
        old = work.run(lambda token: iter([b"1", b"2", b"3"]), lane="x")
        new = work.run(lambda token: iter([b"4"]), lane="y", slow=True)
        await anext(new)
        return len([p async for p in old])

    assert asyncio.run(apart()) == 3


def test_a_quick_job_does_not_wait_for_a_slow_one(work: Work) -> None:
    held = threading.Event()

    def slow(token: Token) -> Iterator[bytes]:
        yield b"begun"
        held.wait(10)

    async def read() -> bytes:
        olds = [work.run(slow, slow=True) for _ in range(SLOW)]
        for old in olds:
            await anext(old)
        part = await asyncio.wait_for(anext(work.run(lambda token: iter([b"quick"]))), 5)
        held.set()
        return part

    assert asyncio.run(read()) == b"quick"


def test_a_first_job_is_quick_and_what_follows_it_waits_its_turn(work: Work) -> None:
    held = threading.Event()

    def slow(token: Token) -> Iterator[bytes]:
        yield b"begun"
        held.wait(10)

    async def read() -> tuple[bytes, list[bytes]]:
        olds = [work.run(slow, slow=True) for _ in range(SLOW)]
        for old in olds:
            await anext(old)
        both = work.run(lambda token: iter([b"1"]), then=lambda token: iter([b"2", b"3"]))
        first = await asyncio.wait_for(anext(both), 5)
        held.set()
        return first, [part async for part in both]

    assert asyncio.run(read()) == (b"1", [b"2", b"3"])


def test_nothing_follows_a_job_that_nobody_waits_for(work: Work) -> None:
    seen: list[str] = []
    held = threading.Event()

    def after(token: Token) -> Iterator[bytes]:
        seen.append("begun")
        yield b"2"

    def slow(token: Token) -> Iterator[bytes]:
        yield b"begun"
        held.wait(10)

    async def overtake(lane: str) -> None:
        olds = [work.run(slow, slow=True) for _ in range(SLOW)]
        for old in olds:  # what follows has to wait for these
            await anext(old)
        both = work.run(lambda token: iter([b"1"]), then=after, lane="x")
        await anext(both)
        await anext(work.run(lambda token: iter([b"3"]), lane=lane))
        held.set()
        assert [part async for part in both] == ([] if lane == "x" else [b"2"])

    asyncio.run(overtake("x"))
    assert seen == []
    held.clear()
    asyncio.run(overtake("y"))
    assert seen == ["begun"]
