"""The app from its start to its end: a free port, the link, the browser, and a quiet end at Ctrl-C."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from gradientflow.app.beside import Script
from gradientflow.app.fields import FIRST, Fields, Target
from gradientflow.app.guard import Keys
from gradientflow.app.runs import Runs
from gradientflow.app.server import serve
from gradientflow.errors import UsageError
from gradientflow.files import here

HOST = "127.0.0.1"
PORT = 8765  # where nobody names one: the same each time, so that a page goes on after the app was started again


@dataclass(frozen=True, slots=True)
class Call:
    """What the app was called with.

    Attributes:
        load: from a target to its field.
        target: to open the page with; None: a field with a name.
        port: to listen on; None: the usual one, or the next that is free.
        run: folder of a run to open Depth with; None: the newest of those under runs/ is offered.
        script: command that watches a script into that folder, beside the app; empty: none.
        browse: open the browser.
        say: tells the user a line.
    """

    load: Callable[[str], Target]
    target: str | None = None
    port: int | None = None
    run: Path | None = None
    script: Sequence[str] = ()
    browse: bool = True
    say: Callable[[str], None] = print


def start(call: Call) -> int:
    """Serve the app until Ctrl-C; return the exit code of the script that was watched beside it, 0 where there was none.

    Raises:
        UsageError: the port is taken, or there is no such field, or it has not two parameters.
        OutputError: the package was built without its page.
    """
    fields = Fields(call.target or FIRST, call.load)
    if call.target is not None:
        fields.get(call.target)  # what is wrong with it is told here, and not first in a browser
    listening = _listen(call.port)
    port = int(listening.getsockname()[1])
    keys = Keys(port)
    app = serve(fields, keys, Runs(call.run, here() / "runs"))
    link = f"http://{HOST}:{port}/?token={keys.token}" + ("#depth" if call.run is not None else "")
    call.say(f"the app is at {link}")
    call.say("the link lets one browser in, and no other machine. Ctrl-C ends the app.")
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", ws="none"))
    app.app.state.ended = lambda: server.should_exit
    script = Script(list(call.script), call.run, call.say) if call.script and call.run is not None else None
    if script is not None:
        script.listen(lambda: setattr(server, "should_exit", True))
    if call.browse:
        threading.Thread(target=_browse, args=(link, call.say), daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listening])
    app.app.state.work.close()
    app.app.state.replays.close()
    return script.end() if script is not None else 0


def _listen(port: int | None) -> socket.socket:
    """Return a socket on this machine's own address."""
    wanted = [port] if port is not None else [PORT, *range(PORT + 1, PORT + 10), 0]
    for one in wanted:
        # said to be TCP, or asyncio leaves Nagle's algorithm on, which holds each answer back for 40 ms
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        if sys.platform != "win32":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, one))
        except OSError:
            listening.close()
            continue
        listening.listen()  # who comes before the server is ready waits a moment, and is not refused
        return listening
    raise UsageError(f"--port {port}: another program listens there. Leave --port out, and a free one is found.")


def _browse(link: str, say: Callable[[str], None]) -> None:
    if not webbrowser.open(link):
        say("no browser could be opened here: open the link above in one.")
