"""The frames of all threads, which CPython must not collect garbage over."""

import gc
import sys
import threading
from collections.abc import Iterator

import pytest

from gradientflow.torch_internals import frames_of_threads


@pytest.fixture
def collections() -> Iterator[list[str]]:
    """Phases of collections, which come with nearly every allocation."""
    seen: list[str] = []

    def note(phase: str, info: object) -> None:
        seen.append(phase)

    before = gc.get_threshold()
    gc.callbacks.append(note)
    try:
        yield seen
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(note)


@pytest.mark.parametrize("collects", [True, False])
def test_collection_is_left_as_it_was(collects: bool) -> None:
    before = gc.isenabled()
    (gc.enable if collects else gc.disable)()
    try:
        assert threading.get_ident() in frames_of_threads()
        assert gc.isenabled() is collects
    finally:
        (gc.enable if before else gc.disable)()


def test_no_garbage_is_collected_while_frames_are_looked_for(
    collections: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    inside: list[int] = []
    real = sys._current_frames

    def looking() -> object:
        del collections[:]
        frames = real()
        inside.append(len(collections))
        return frames

    def most() -> int:
        """Look at threads that wait: each has frames that are made when they are first asked for."""
        rest = threading.Event()
        waiting = [threading.Thread(target=rest.wait) for _ in range(8)]
        for thread in waiting:
            thread.start()
        try:
            gc.set_threshold(1)
            frames_of_threads()
        finally:
            gc.set_threshold(0)
            rest.set()
            for thread in waiting:
                thread.join()
        return inside.pop()

    monkeypatch.setattr(sys, "_current_frames", looking)
    assert most() == 0
    monkeypatch.setattr(gc, "disable", lambda: None)
    assert most() > 0  # control
