"""How long a script may run: so many steps, so many seconds."""

from __future__ import annotations

import signal
import threading
import time

from gradientflow.depth.watch.script import StopRun

_FREE_SIGNALS = range(signal.SIGRTMIN + 1, signal.SIGRTMAX) if hasattr(signal, "SIGRTMIN") else range(0)


class Limit:
    """Stops the script at a step once a limit is reached, and by an interrupt when no step comes in time."""

    def __init__(self, steps: int | None, seconds: float | None) -> None:
        self._steps = steps
        self._seconds = seconds
        self._began = time.perf_counter()
        self.reached = False
        self._timer: threading.Timer | None = None
        self._own: list[int] = []  # signals that wake the script where SIGINT is ignored

    def start(self) -> None:
        self._began = time.perf_counter()
        if self._seconds is not None:
            # Started with `&` in a shell script, as cluster jobs are, a process ignores SIGINT: that is left as it is, and a
            # signal that nobody uses stands by.
            free = [n for n in _FREE_SIGNALS if signal.getsignal(n) == signal.SIG_DFL]
            if threading.current_thread() is threading.main_thread():
                self._own = free[-3:]
                for number in self._own:
                    signal.signal(number, self._wakes)
            self._timer = threading.Timer(self._seconds + 2.0, self._interrupt)
            self._timer.daemon = True
            self._timer.start()

    def check(self, step: int) -> None:
        if self._steps is not None and step >= self._steps:
            raise StopRun("max-steps")
        if self._seconds is not None and time.perf_counter() - self._began >= self._seconds:
            raise StopRun("max-time")

    def _interrupt(self) -> None:
        """Wake the main thread where it sleeps or waits: as Ctrl-C does, or by a signal of our own where that is ignored."""
        self.reached = True
        main = threading.main_thread().ident
        ours = [n for n in self._own if signal.getsignal(n) == self._wakes]  # (the script may have put one to use)
        if not callable(signal.getsignal(signal.SIGINT)) and not ours:
            return
        number = signal.SIGINT if callable(signal.getsignal(signal.SIGINT)) else ours[0]
        if hasattr(signal, "pthread_kill") and main is not None:
            signal.pthread_kill(main, number)
        else:
            signal.raise_signal(number)

    @staticmethod
    def _wakes(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for number in self._own:
            if signal.getsignal(number) == self._wakes:
                signal.signal(number, signal.SIG_DFL)
        self._own = []
