"""Watch a few lines of training in this process, and look at what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.watch.isometry import IsometryMeter
from gradientflow.depth.watch.monitor import Monitor
from gradientflow.depth.watch.schedule import Schedule
from gradientflow.depth.watch.shield import Shield
from gradientflow.records import Meta, ParamNorms, Probe, Run, Step


class ListSink:
    """Keeps every record in memory."""

    def __init__(self) -> None:
        self.run = Run(Meta("test", [], "", "", "", ""))

    def step(self, step: Step) -> None:
        self.run.steps.append(step)

    def add(self, record: ParamNorms | Probe) -> None:
        (self.run.probes if isinstance(record, Probe) else self.run.norms).append(record)  # type: ignore[arg-type]


@contextmanager
def watched(every: int | None = 1, *, jacobian: bool = False, sharpness: bool = True) -> Iterator[Run]:
    """Watch what happens in the block; the run it yields is complete after the block. No error of ours may pass."""
    sink, shield = ListSink(), Shield()
    monitor = Monitor(sink, Schedule(every), shield)
    if jacobian:
        monitor.window.isometry = IsometryMeter()
    if not sharpness:  # half of what a probe costs
        monitor.window._meter._refused = "not asked for here"
    sink.run.meta.params = monitor.registry.params
    monitor.start()
    try:
        yield sink.run
    finally:
        monitor.stop()
    sink.run.meta.optimizers = [w.record for w in monitor.optimizers]
    sink.run.meta.steps = monitor.steps
    sink.run.meta.backwards = monitor.backwards
    sink.run.meta.elapsed = monitor.elapsed
    sink.run.meta.unit = monitor.unit
    assert not shield.errors, shield.errors


def probe_of(train: Callable[[], None], *, jacobian: bool = False) -> Graph:
    """Return the graph of the one probed backward pass in `train`; its sharpness is not measured."""
    with watched(jacobian=jacobian, sharpness=False) as run:
        train()
    assert len(run.probes) == 1
    return Graph(run.probes[0], run.meta)
