"""Runs for the app's tests, written through the store as a watched script writes them; and the app, served on a thread."""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import uvicorn

from gradientflow.app.fields import Fields, Target
from gradientflow.app.guard import Keys
from gradientflow.app.runs import Runs
from gradientflow.app.server import serve
from gradientflow.records import (
    ABSENT,
    GradStat,
    Meta,
    Op,
    Operand,
    Optimizer,
    Param,
    ParamNorms,
    ParamState,
    Probe,
    Sharpness,
    Step,
    ValueStat,
)  # fmt: skip
from gradientflow.store import Store

SOURCE = (
    "import torch\n\n\ndef forward(x):\n    for layer in layers:\n        x = torch.sigmoid(layer(x))\n    return x\n"
)
GAIN = 0.5  # of a layer, on the way back; that of its activation is half of it


def _value() -> ValueStat:
    return ValueStat([8, 16], "float32", 0.1, 0.4, -1.0, 1.2, 0.0, 0, 0)


def _grad(norm: float) -> GradStat:
    nan = 0 if math.isfinite(norm) else 3
    return GradStat(norm if math.isfinite(norm) else 0.0, 0.1, 0.2, 1.0 if norm == 0 else 0.0, nan, 0)


def probe(
    step: int, layers: int, *, file: str = "net.py", module: str = "layers", norm: float = 1.0, gain: float = GAIN
) -> Probe:
    """One probed step of a chain: layers and activations in turn, and a loss."""
    ops: list[Op] = []
    norms = [norm * gain ** (1.5 * k) for k in range(2 * layers + 1)][
        ::-1
    ]  # (the first op is the farthest from the loss)
    for k in range(2 * layers):
        i, linear = k // 2, k % 2 == 0
        before = [Operand(op=k - 1, grad=_grad(norms[k - 1]))] if k else [Operand(value=_value())]
        weights = (
            [Operand(param=2 * i, grad=_grad(norms[k])), Operand(param=2 * i + 1, grad=_grad(norms[k]))]
            if linear
            else []
        )
        ops.append(
            Op(
                k, "linear" if linear else "sigmoid", "linear" if linear else "activation", file, 6, "forward",
                f"{module}.{i}" if linear else "Net", "Linear" if linear else "Net", [*before, *weights], _value(), _grad(norms[k]),
                stack=[(file, 6)],
            )
        )  # fmt: skip
    last = Operand(op=2 * layers - 1, grad=_grad(norms[2 * layers - 1]))
    ops.append(Op(2 * layers, "mse_loss", "loss", file, 7, "forward", None, None, [last], _value(), _grad(norms[-1])))
    states = [ParamState(p, 1.0, 0.0, 0.1, 0.3, 0.0, 0, _grad(norms[p // 2 * 2])) for p in range(2 * layers)]
    return Probe(
        step, step * 0.01, "schedule", 0.7, 2 * layers, ops, states, optimizer=0, sharpness=Sharpness(3.0, 1.0, 0.01, 9)
    )


def meta(
    layers: int,
    *,
    file: str = "net.py",
    ended: str | None = "finished",
    module: str = "layers",
    cwd: str = "/home/somebody",
) -> Meta:
    """The description of such a run."""
    params = [
        Param(
            k, f"{module}.{k // 2}.{'weight' if k % 2 == 0 else 'bias'}", [16, 16] if k % 2 == 0 else [16], "float32",
            requires_grad=True, is_parameter=True, optimizer=0, graded=10, in_graph=True,
        )
        for k in range(2 * layers)
    ]  # fmt: skip
    optimizer = Optimizer(0, "SGD", {"lr": 0.1}, list(range(2 * layers)), steps=10)
    return Meta(
        file, [file], cwd, "2026-01-01T00:00:00+00:00", "3.11.7", "2.13.0", params, [optimizer], elapsed=3.0, ended=ended,
        steps=10,
    )  # fmt: skip


def write(
    folder: Path, *, layers: int = 4, steps: int = 40, probes: int = 4, every: int = 1, gain: float = GAIN, **about: Any
) -> Store:
    """Write a run; the store is left open, so that more may follow."""
    kept = Store(folder)
    named = {k: v for k, v in about.items() if k in ("file", "module")}
    kept.meta(meta(layers, **about))
    kept.source(str(about.get("file", "net.py")), SOURCE)
    more(kept, 0, steps, layers=layers, probes=probes, every=every, gain=gain, **named)
    return kept


def more(
    kept: Store,
    first: int,
    last: int,
    *,
    layers: int = 4,
    probes: int = 0,
    every: int = 1,
    gain: float = GAIN,
    **named: Any,
) -> None:
    """Write steps, and probes among them."""
    count = 2 * layers
    for k in range(first, last):
        loss = 2.0 * 0.999**k if k % 977 else 9.0
        kept.step(Step(k, k * 0.01, 0, 0.1, loss, 1.0 / (1 + k % 5), 4.0, 0.004))
        if k % every == 0:
            grads = [10.0 ** -(p % 7) for p in range(count)]
            grads[0] = 0.0 if k % 2 else ABSENT
            kept.add(ParamNorms(k, 0, list(range(count)), grads, [1.0] * count, [0.001] * count))
    for k in range(probes):
        kept.add(
            probe(
                first + k * max(1, (last - first - 1) // max(1, probes - 1)),
                layers,
                gain=gain ** (1 / (1 + 0.1 * k)),
                **named,
            )
        )
    kept.flush()


class Served:
    """The app on a thread of its own."""

    def __init__(self, runs: Runs, port: int = 0) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))
        self.port = int(self._socket.getsockname()[1])
        self.keys = Keys(self.port, b"k" * 32)
        app = serve(Fields("w1w2", _none), self.keys, runs)
        self.server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", ws="none"))
        app.app.state.ended = lambda: self.server.should_exit
        self._app = app
        self._thread = threading.Thread(target=lambda: self.server.run(sockets=[self._socket]), daemon=True)
        self._thread.start()
        until = time.monotonic() + 20
        while not self.server.started and time.monotonic() < until:
            time.sleep(0.02)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, asked: dict[str, Any] | None = None, **headers: str) -> tuple[int, bytes]:
        """Ask; with the cookie, and as the page itself, unless headers say otherwise."""
        sent = {"Cookie": f"{self.keys.name}={self.keys.value}", "Host": f"127.0.0.1:{self.port}"} | {
            k.replace("_", "-"): v for k, v in headers.items()
        }
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)) as line:
            line.request("GET", path + (f"?{urlencode(asked)}" if asked else ""), headers=sent)
            answer = line.getresponse()
            return answer.status, answer.read()

    def json(self, path: str, asked: dict[str, Any] | None = None) -> Any:
        status, body = self.get(path, asked)
        assert status == 200, (path, asked, body)
        return json.loads(body)

    def close(self) -> None:
        self.server.should_exit = True
        self._thread.join(timeout=10)
        self._app.app.state.work.close()
        self._socket.close()
        assert not self._thread.is_alive()  # no stream may hold the app up when it is ended


@contextlib.contextmanager
def served(runs: Runs, port: int = 0) -> Iterator[Served]:
    """Serve the app for a while."""
    app = Served(runs, port)
    try:
        yield app
    finally:
        app.close()


def _none(target: str) -> Target:
    raise AssertionError("no field is asked for here")
