"""The Jacobian view, on request: singular values from layer to layer and end to end, on the graph the script just built.

Under the refusals of the sharpness: no second pass where it could run code of the script's a second time.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import msgspec
from torch import Tensor

from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.probe.jacobian import measure, stations, way_out
from gradientflow.depth.probe.measure import BackwardMeasure
from gradientflow.depth.probe.tracebacks import let_through
from gradientflow.depth.probe.traced import Trace
from gradientflow.depth.watch.sharp import second_pass_refused
from gradientflow.limits import Limit
from gradientflow.records import Isometry, Meta, Probe, Stretch
from gradientflow.torch_internals import hooks_of

STRETCHES = 32  # stretches; of more stations an even choice is taken
SECONDS = 30.0  # for one probe, about
HOOKED = "the script has hooks of its own on its parameters, and a second backward could call them again"
SHARE = Limit("share_for_jacobians", 0.05, "chosen: of the run's time, that later probes may take")


class IsometryMeter:
    """Measures on the first probed step, and on later ones where that costs no more than `SHARE` of the run's time."""

    def __init__(self) -> None:
        self._spent = 0.0
        self._last: float | None = None

    def measure(self, roots: Sequence[Tensor], backward: BackwardMeasure, probe: Probe) -> Isometry | None:
        """Return the singular values; None where it is not the time, or with the reason in the trace's notes.

        Args:
            roots: what backward is about to be called on.
            backward: the backward half of the probe, surveyed.
            probe: its record so far.
        """
        if self._last is not None and self._spent + self._last > SHARE * probe.at:
            return None
        began = time.perf_counter()
        trace, registry, reached = backward.trace, backward.registry, backward.reached
        used = {o.param for i in reached for o in trace.ops[i].operands if o.param is not None}
        params = [t for i in used if (t := registry.tensor(i)) is not None]
        hooked = any(map(hooks_of, params))
        for root in roots:
            reason = HOOKED if hooked else second_pass_refused(root, trace)
            if reason is not None:
                trace.note(f"Jacobians not measured: {reason}")
                return None
        graph = Graph(msgspec.structs.replace(probe, ops=trace.ops), Meta("", [], "", "", "", "", registry.params))
        stops = stations(trace.ops, reached, graph.joints)
        stops = [i for i in stops if way_out(trace, i) is not None]
        if len(stops) < 2:
            trace.note("Jacobians not measured: no two layers lie behind each other in this step")
            return None
        if len(stops) > STRETCHES + 1:
            trace.note(f"Jacobians: {len(stops) - 1} stretches from layer to layer, joined to {STRETCHES}")
            stops = [stops[k * (len(stops) - 1) // STRETCHES] for k in range(STRETCHES + 1)]
        whole = self._one(trace, stops[0], stops[-1], SECONDS / 3)
        stretches: list[Stretch] = []
        pairs = list(itertools.pairwise(stops))
        for done, (source, target) in enumerate(pairs):
            left = SECONDS - (time.perf_counter() - began)
            found = self._one(trace, source, target, left / (len(pairs) - done))
            if found is not None:
                stretches.append(found)
        self._last = time.perf_counter() - began
        self._spent += self._last
        return Isometry(stretches, whole, self._last) if stretches or whole is not None else None

    @staticmethod
    def _one(trace: Trace, source: int, target: int, seconds: float) -> Stretch | None:
        try:
            return measure(trace, source, target, seconds=seconds)
        except RuntimeError as problem:
            let_through(problem)
            name = trace.ops[target].module or trace.ops[target].name
            trace.note(f"Jacobian up to {name} not measured: {str(problem).splitlines()[0][:120]}")
            return None
