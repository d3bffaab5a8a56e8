"""Which of several threads is watched: one, and the next only when that one is over."""

import sys
import threading
from collections.abc import Iterator

import pytest

from gradientflow.depth.watch import leading
from gradientflow.depth.watch.leading import Leader


@pytest.fixture(autouse=True)
def often() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def winners(leader: Leader, count: int) -> int:
    """Let so many threads come to a step at once, none of which ends before all did; return how many lead."""
    together, rest = threading.Barrier(count), threading.Barrier(count)
    won: list[bool] = []

    def step() -> None:
        together.wait()
        won.append(leader.leads() or leader.take_over())
        rest.wait()

    threads = [threading.Thread(target=step) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(won)


def test_of_threads_that_come_at_once_one_leads() -> None:
    assert [winners(Leader(), 6) for _ in range(30)] == [1] * 30


def test_the_next_leads_when_the_first_is_over() -> None:
    leader = Leader()
    assert [winners(leader, 3) for _ in range(5)] == [1] * 5  # the threads of each round have ended before the next


def test_the_thread_that_leads_goes_on_and_at_rest_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    leader = Leader()
    assert leader.leads()  # the one that made it comes to a step
    got: list[bool] = []

    def ask() -> None:
        """Let another thread ask while this one is neither over nor in a call of `start` or `join`."""
        begun, done = threading.Event(), threading.Event()

        def other() -> None:
            begun.wait()
            got.append(leader.take_over())
            done.set()

        thread = threading.Thread(target=other)
        thread.start()
        begun.set()
        while not done.is_set():
            pass
        thread.join()

    ask()
    assert got == [False]
    assert leader.leads()
    monkeypatch.setattr(leading, "_AT_REST", -1.0)
    ask()
    assert got == [False, True]
    assert not leader.leads()
