"""The gradient over time on a probed step: opaque kernels run again, loops read off the graph, within an allowance."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import msgspec
import torch
from torch import Tensor

from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.causes.loops import Loop, loops, record
from gradientflow.depth.probe.chain import Chain
from gradientflow.depth.probe.lyapunov import largest_singular, spectral_radius
from gradientflow.depth.probe.measure import BackwardMeasure
from gradientflow.depth.probe.opaque import Call
from gradientflow.depth.probe.recurrent import MAX_CELLS, measure, reach
from gradientflow.depth.probe.registry import Registry
from gradientflow.depth.probe.tracebacks import let_through
from gradientflow.depth.probe.traced import Trace
from gradientflow.depth.watch.allowance import OVER_TIME, SHARE_OF_EXTRAS, allowed
from gradientflow.depth.watch.sharp import second_pass_refused
from gradientflow.limits import Limit
from gradientflow.records import GradStat, Meta, Probe, Recurrence

_PER_CELL = 4e-4  # seconds per step of a cell, until it was measured
SHORTEST = Limit("time_steps", 32, "chosen: a shorter last part is not worth the while of running it again")


class OverTime:
    """Measures recurrences, as often as a small part of the run's time allows.

    Args:
        registry: who is who among the parameters.
        shield: runs a function of ours so that no exception of it reaches the script.
    """

    def __init__(self, registry: Registry, shield: Callable[..., Any]) -> None:
        self._registry = registry
        self._shield = shield
        self._per_cell = _PER_CELL
        self._spent = 0.0
        self._told = False
        self._carried: dict[tuple[int, ...], tuple[list[float], list[float]]] = {}

    def after(self, probe: Probe, measured: BackwardMeasure, elapsed: float) -> None:
        """Write the recurrences into the probe; call it after the backward pass, while the weights are as they were.

        Args:
            probe: with its operations and their gradients.
            measured: the backward pass, with the forward half and what was kept of opaque calls.
            elapsed: seconds since the run began.
        """
        began = time.perf_counter()
        trace = measured.trace
        for call in trace.calls.values():
            left = allowed(OVER_TIME, SHARE_OF_EXTRAS, elapsed) - self._spent - (time.perf_counter() - began)
            found = self._shield(self._again, call, left)
            if isinstance(found, str):
                trace.note(f"gradient over time not measured: {found}")
            elif found:
                self._told = True
                for one in found:
                    one.weight = self._registry.find(call.weights[one.layer * call.directions + one.backwards][1])
                probe.recurrent.extend(found)
        trace.calls.clear()
        self._shield(self._loops, probe, measured)
        self._spent += time.perf_counter() - began

    def _again(self, call: Call, seconds: float) -> list[Recurrence] | str:
        """Run one opaque call again, the last part of it where the whole takes too long."""
        each = call.layers * call.directions
        affordable = int(min(MAX_CELLS, seconds / self._per_cell)) // each
        whole = call.steps
        if whole > affordable and (affordable < SHORTEST or not call.shorten(affordable)):
            if self._told:  # by an earlier probe
                return []
            return (
                f"{call.cell} takes {whole} time steps in {each} layers and directions, and to run it again would cost more "
                f"than watching may cost on this script"
            )
        began = time.perf_counter()
        try:
            return measure(call)
        except RuntimeError as problem:  # no memory left, say
            let_through(problem)
            return f"{call.cell} could not be run again ({str(problem).splitlines()[0][:120]})"
        finally:
            self._per_cell = 0.5 * self._per_cell + 0.5 * (time.perf_counter() - began) / (call.steps * each)

    def before(self, probe: Probe, trace: Trace, root: Tensor, elapsed: float) -> None:
        """Look for loops, and send gradients through them apart from the script's own backward pass, which is yet to come."""
        self._carried = {}
        graph = Graph(msgspec.structs.replace(probe, ops=trace.ops), self._meta())
        found = [loop for loop in loops(graph) if not set(loop.states) & trace.calls.keys()]
        if not found:
            return
        began = time.perf_counter()
        reason = second_pass_refused(root, trace)
        if reason is not None:
            trace.note(f"what a loop alone carries back over time was not measured: {reason}")
            return
        for loop in found:
            left = allowed(OVER_TIME, SHARE_OF_EXTRAS, elapsed) - self._spent - (time.perf_counter() - began)
            if left <= 0:
                trace.note("what a loop alone carries back over time was not measured: it would cost too much")
                break
            chain = Chain([trace.traced[s].outputs for s in loop.states], trace.ops[loop.states[-1]].value.shape)
            try:
                passed = chain.measure(root, left)
            except RuntimeError as problem:
                let_through(problem)
                trace.note(
                    f"what a loop alone carries back over time was not measured: {str(problem).splitlines()[0][:120]}"
                )
                break
            if passed is not None:
                self._carried[tuple(loop.calls)] = passed
        self._spent += time.perf_counter() - began

    def _meta(self) -> Meta:
        return Meta("", [], "", "", "", "", params=self._registry.params)

    def _loops(self, probe: Probe, measured: BackwardMeasure) -> None:
        graph = Graph(probe, self._meta())
        for loop in loops(graph):
            one = record(graph, loop)
            if one.cell == "lstm_cell":  # an operation with two results, h and c
                one.norms, one.memory = ([_norm(measured.at_output(op, part)) for op in loop.states] for part in (0, 1))
            self._weigh(one, loop)
            if tuple(loop.calls) in self._carried:
                one.carried, one.lyapunov = self._carried[tuple(loop.calls)]
                one.reach = reach(one.carried)
            probe.recurrent.append(one)
        self._carried = {}

    def _weigh(self, one: Recurrence, loop: Loop) -> None:
        w = self._registry.tensor(loop.weight) if loop.weight is not None else None
        if w is None or w.dim() != 2 or w.shape[0] != w.shape[1] or w.is_sparse or w.is_complex():
            return
        with torch.no_grad():
            plain = w.detach().float() if w.dtype != torch.float64 else w.detach()
            one.radius, one.sigma = spectral_radius(plain), largest_singular(plain)


def _norm(grad: GradStat | None) -> float:
    return 0.0 if grad is None else math.inf if grad.nonfinite else grad.norm
