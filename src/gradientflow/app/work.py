"""Work off the server's own thread: each job yields parts of an answer, and can be told that nobody waits for it any more.

One thread for what must be answered at once, two for what may take a while, so that the first answer to a drag never waits for
the last certificate of an earlier one, nor what orders the water for a drop. A job that asks on a lane ends the job that asked on it before.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

SLOW = 2  # threads


class Token:
    """Says to a job whether it is still wanted."""

    def __init__(self) -> None:
        self._ended = threading.Event()

    def cancel(self) -> None:
        """Nobody waits any more."""
        self._ended.set()

    def cancelled(self) -> bool:
        """Whether somebody said so."""
        return self._ended.is_set()


Job = Callable[[Token], Iterator[bytes]]


class Work:
    """Runs jobs and hands on what they yield."""

    def __init__(self) -> None:
        self._quick = ThreadPoolExecutor(1, "gradientflow-quick")
        self._slow = ThreadPoolExecutor(SLOW, "gradientflow-slow")
        self._lanes: dict[str, Token] = {}

    async def run(
        self, job: Job, *, lane: str = "", slow: bool = False, then: Job | None = None
    ) -> AsyncIterator[bytes]:  # fmt: skip
        """Yield what a job yields, as it comes. Where the reader leaves, the job is told.

        Args:
            job: a function that takes a token and yields bytes; it should look at the token between two pieces of work.
            lane: who asks: a job on the same lane that still runs is told to end. Empty: nobody's.
            slow: it may wait behind other slow ones, and no quick one waits behind it.
            then: a slow job that goes on where this one ends.
        """
        token, loop = Token(), asyncio.get_running_loop()
        parts: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue()

        def tell(part: bytes | BaseException | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(parts.put_nowait, part)

        def carry_out(one: Job, more: Job | None) -> None:
            try:
                if not token.cancelled():
                    for part in one(token):
                        if token.cancelled():
                            break
                        tell(part)
                if more is None or token.cancelled():
                    tell(None)
                else:
                    self._slow.submit(carry_out, more, None)
            except BaseException as problem:
                tell(problem)

        if lane:
            if lane in self._lanes:
                self._lanes[lane].cancel()
            self._lanes[lane] = token
        (self._slow if slow else self._quick).submit(carry_out, job, then)
        try:
            while (part := await parts.get()) is not None:
                if isinstance(part, BaseException):
                    raise part
                yield part
        finally:
            token.cancel()
            if self._lanes.get(lane) is token:
                del self._lanes[lane]

    def close(self) -> None:
        """End every job that asks whether it is wanted, and begin no other."""
        for token in self._lanes.values():
            token.cancel()
        for pool in (self._quick, self._slow):
            pool.shutdown(wait=False, cancel_futures=True)
