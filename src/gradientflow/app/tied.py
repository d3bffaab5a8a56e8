"""`python -m gradientflow.app.tied COMMAND`: a command of ours that ends when whoever started it is gone, however that went.

Its standard input is a pipe of which nobody writes to the other end: when that end is shut, the one who held it has ended.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading


def _watch() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # as the command ends when it is asked to: with what it has begun


if __name__ == "__main__":
    threading.Thread(target=_watch, daemon=True).start()
    sys.argv[0] = "gradientflow"
    runpy.run_module("gradientflow", run_name="__main__")
