"""How fast the app answers a drag: answers a second of the running app, beside the same solves without it.

python benchmarks/drag.py [--seconds 4]

The app is started in this process and asked over its own socket, one ask after the other, as the page asks: a drop that moves,
its flow and one optimizer in turn. `solved` are the same paths, asked of the solver with nothing around it; `answer` is the
middle time from ask to the flow's own part. For a network of 2,928 parameters on a plane `first` is what the page waits for.
Times of a busy machine say little: the load is printed with them.
"""

from __future__ import annotations

import argparse
import http.client
import os
import statistics
import threading
import time
from collections.abc import Callable, Iterator

import msgspec
import torch
import uvicorn

import gradientflow as gf
from gradientflow.app.drops import DRAG, MANY, SHARE
from gradientflow.app.fields import Fields
from gradientflow.app.guard import Keys
from gradientflow.app.paths import Drop, coarse, descent, drop_of
from gradientflow.app.server import serve
from gradientflow.app.start import HOST, _listen
from gradientflow.app.work import Token
from gradientflow.cli.target import Target, load
from gradientflow.records import DropAsk, PlaneAsk, Rival

NET = "net.py:make"
STARTS = {
    "w1w2": (1.9, -1.2, 20.0, 0.45),
    "himmelblau": (0.1, 0.2, 1.0, 0.01),
    "rosenbrock": (-1.2, 1.0, 20.0, 1e-3),
    NET: (0.1, 0.1, 20.0, 0.1),
}


def net() -> gf.LossField:
    """A classifier of 2,928 parameters on 200 samples."""
    torch.manual_seed(0)
    x = torch.randn(200, 20)
    layers = [
        torch.nn.Linear(20, 46),
        torch.nn.Tanh(),
        torch.nn.Linear(46, 40),
        torch.nn.Tanh(),
        torch.nn.Linear(40, 2),
    ]
    return gf.LossField(
        torch.nn.Sequential(*layers), torch.nn.functional.cross_entropy, (x, (x[:, 0] * x[:, 1] > 0).long())
    )


def asks(target: str, level: str = "drag") -> Iterator[DropAsk]:
    """A drop that moves a little with each ask."""
    x, y, t, lr = STARTS[target]
    plane = "pca~20" if target == NET else ""
    k = 0
    while True:
        at = (x + 1e-3 * (k % 50), y)
        yield DropAsk(target, at, t, "bench", [Rival("gd", lr)], level, turn=k, plane=plane)  # type: ignore[arg-type]
        k += 1


class Asker:
    """Speaks with the app over its socket, as the page does."""

    def __init__(self, port: int, keys: Keys) -> None:
        self.link = http.client.HTTPConnection(HOST, port)
        self.headers = {
            "Cookie": f"{keys.name}={keys.value}",
            "Origin": f"http://{HOST}:{port}",
            "Content-Type": "application/json",
        }

    def ask(self, path: str, ask: msgspec.Struct) -> float:
        """Return seconds until the first part of the answer; all of it is read."""
        began = time.perf_counter()
        self.link.request("POST", path, msgspec.json.encode(ask), self.headers)
        answer = self.link.getresponse()
        answer.read(8)
        first = time.perf_counter() - began
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status}")
        return first


def paced(one: Callable[[], object], seconds: float) -> tuple[int, float]:
    """Repeat for some seconds; return how often, and in how long."""
    one()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        one()
        count += 1
    return count, time.perf_counter() - began


def alone(d: Drop) -> None:
    """The solves of one answer, and nothing else."""
    spell = MANY if d.plane is not None else DRAG
    coarse(d, SHARE * spell)
    descent(d, d.ask.rivals[0], (1 - SHARE) * spell)


def row(target: str, seconds: float, asker: Asker, fields: Fields) -> None:
    """Measure one field, and print it."""
    moving = asks(target)
    times: list[float] = []
    count, took = paced(lambda: times.append(asker.ask("/api/drop", next(moving))), seconds)
    solves, spent = paced(lambda: alone(drop_of(fields, next(moving), Token())), seconds)
    print(f"{target:12} {count / took:8.1f} {solves / spent:10.1f} {1e3 * statistics.median(times):10.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0, help="for each row, default 4")
    seconds = parser.parse_args().seconds
    field = net()
    fields = Fields(NET, lambda text: Target(field, time=20.0) if text == NET else load(text, None))
    listening = _listen(None)
    port = int(listening.getsockname()[1])
    keys = Keys(port, b"k" * 32)
    server = uvicorn.Server(uvicorn.Config(serve(fields, keys), log_level="warning", lifespan="off", ws="none"))
    threading.Thread(target=lambda: server.run(sockets=[listening]), daemon=True).start()
    asker = Asker(port, keys)
    asker.ask("/api/plane", PlaneAsk(NET, "pca~20", "bench", ["own"]))
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {torch.get_num_threads()} threads of torch")
    print(f"{'field':12} {'app /s':>8} {'solved /s':>10} {'answer ms':>10}")
    for target in STARTS:
        row(target, seconds, asker, fields)
    server.should_exit = True


if __name__ == "__main__":
    main()
