"""A probed window: what lies between two optimizer steps, its forward traced and its first backward call measured."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer as TorchOptimizer

from gradientflow.depth.probe.calls import grad_fn
from gradientflow.depth.probe.measure import BackwardMeasure
from gradientflow.depth.probe.registry import Registry
from gradientflow.depth.probe.tape import Tape
from gradientflow.depth.probe.trace import Tracer
from gradientflow.depth.probe.traced import Trace
from gradientflow.depth.watch.allowance import SHARE_OF_EXTRAS, SHARPNESS, allowed
from gradientflow.depth.watch.buffers import buffers_within
from gradientflow.depth.watch.cheap import norm_of_grads
from gradientflow.depth.watch.checking import Checks
from gradientflow.depth.watch.falling import Falling
from gradientflow.depth.watch.isometry import IsometryMeter
from gradientflow.depth.watch.optimizers import Optimizers, Watched
from gradientflow.depth.watch.overtime import OverTime
from gradientflow.depth.watch.sharp import SharpnessMeter
from gradientflow.depth.watch.shield import Effort, Shield
from gradientflow.depth.watch.stepping import Stepping
from gradientflow.depth.watch.transmission import Transmission
from gradientflow.depth.watch.writers import Writers
from gradientflow.records import HOOK, Descent, Probe, Transit
from gradientflow.torch_internals import any_global_backward_hook, readable

NO_GRAPH = "backward was called on a loss that no operation leads to"


class Window:
    """The window that is open, one after the other.

    Args:
        registry: who is who among the parameters.
        tracer: sees the forward.
        optimizers: those that have stepped so far.
        shield: protects the script from us.
        clock: seconds since the run began.
    """

    def __init__(
        self, registry: Registry, tracer: Tracer, optimizers: Optimizers, shield: Shield, clock: Callable[[], float]
    ) -> None:
        self.reason: str | None = None  # why it is probed
        self.isometry: IsometryMeter | None = None  # on request: singular values of Jacobians
        self.over_time = OverTime(registry, shield)
        self.way = Transmission(registry, shield)
        self.stepping = Stepping(registry)
        self.writers = Writers(registry, shield)
        self.falling = Falling()
        self.search: Callable[..., Any] | None = None  # runs the calls between two steps, to see which writes weights
        self._beside = False  # something beside an optimizer's rule moved its weights in a step that was looked at
        self._hunting = False  # the calls within a step are looked at
        self.probe: Probe | None = None
        self.root: Tensor | None = None  # what the last backward call was called on
        self.backwards = 0  # calls in it
        self.again = 0  # calls on what one was called on before
        self.cleared = 0  # calls ahead of which nothing was left of what the one before had delivered
        self.late = 0  # calls on what had been computed ahead of the step before, in all windows
        self._ahead: frozenset[int] = frozenset()  # nodes that were computed ahead of the last step
        self._roots: list[Any] = []
        self._registry, self._tracer, self._optimizers = registry, tracer, optimizers
        self._shield, self._clock = shield, clock
        self._meter = SharpnessMeter()
        self._checks = Checks()
        self._on_sharpness = 0.0
        self._measured = False
        self._loose: Probe | None = None  # of a backward call on a loss without a graph
        self._left: Trace | None = None  # what this window traced, for the next
        self.rest: Trace | None = None  # what the window before traced, where several optimizers step in turn

    def saw(self, root: Tensor) -> None:
        """Count a backward call."""
        self.root = Tensor.detach(root) if readable(root) else None
        self.backwards += 1
        if self.reason is not None:
            self.again += any(ref() is root for ref in self._roots)
            self._roots.append(weakref.ref(root))

    def open(self, reason: str | None) -> None:
        """Begin a window."""
        unused = self.reason is not None and not self._measured
        self._ahead = frozenset(map(id, self._tracer.trace.owner)) if unused else frozenset()
        self.reason, self.probe, self._measured, self.backwards = reason, None, False, 0
        self._loose = None
        self.rest, self._left = self._left if reason is not None else None, None
        self.again, self.cleared, self._roots = 0, 0, []
        self.way.begin()
        self._tracer.between = None
        wanted = reason is not None and self.falling.wanted(self._clock())
        self._tracer.tape = Tape() if wanted else None
        self.falling.begin(self._tracer.tape)

    def drop(self) -> None:
        """What was seen of this window is nothing to go by."""
        self.reason = self.probe = self._loose = self.rest = self._left = None
        self.way.begin()
        self._tracer.between = self._tracer.tape = None
        self.falling.begin(None)

    @property
    def waits(self) -> bool:
        """Whether the next backward call is to be measured."""
        return self._tracer.recording and self.reason is not None and not self._measured

    def before_backward(
        self, roots: list[Tensor], step: int, first_here: bool, leaves_them: bool
    ) -> BackwardMeasure | None:
        """Get ready for a backward call; None where nothing of its graph was traced.

        Args:
            roots: what it is called on.
            step: number of the step it belongs to.
            first_here: no other backward call was seen in this window, and this one adds to `.grad`.
            leaves_them: it leaves the gradients in `.grad`, as they arrive there.
        """
        began = time.perf_counter()
        trace = self._tracer.trace
        measure = BackwardMeasure(trace, self._registry, self._shield)
        root = measure.survey(roots)
        self.late += bool(self._ahead) and self._computed_ahead(roots)
        if trace.earlier and trace.settle(measure.reached):
            measure = BackwardMeasure(trace, self._registry, self._shield)
            root = measure.survey(roots)
        if root is None:  # wait for the next backward call
            self._without_graph(roots, step)
            return None
        self._measured = True
        self._tracer.recording = False
        self._registry.name_modules(trace.roots.values())
        reached = sorted({o.param for i in measure.reached for o in trace.ops[i].operands if o.param is not None})
        self._registry.name_leaves(reached, trace.last_where)
        for watched in self._optimizers:
            mine = first_here and watched.thread == self._tracer.thread
            watched.carried = norm_of_grads(watched.params) if mine else None
        self.probe = Probe(
            step=step, at=self._clock(), reason=self.reason or "", loss=None, root=root, ops=[], params=[],
            batch=measure.batch(), notes=trace.notes,
            without_grad=sorted(trace.without_grad),
        )  # fmt: skip
        if not self._optimizers and first_here:
            self.probe.carried = norm_of_grads([t for i in reached if (t := self._registry.tensor(i)) is not None])
        plain = [
            t if type(t) is Tensor else t.as_subclass(Tensor) for t in roots
        ]  # methods of the script's are not called
        self._told(self._shield(self._keep_forward, plain[0], leaves_them))
        self._shield(self._sharpness, plain[0], reached)
        self._shield(self._checks.measure, plain[0], measure, self.probe)
        if self.isometry is not None:
            self.probe.isometry = self._shield(self.isometry.measure, plain, measure, self.probe)
        self._shield(self.over_time.before, self.probe, trace, plain[0], self._clock())
        measure.attach(leaves_them)
        self.probe.cost = time.perf_counter() - began
        return measure

    def _computed_ahead(self, roots: list[Tensor]) -> bool:
        """Whether backward is called on what was computed ahead of the last step."""
        called = [node for t in roots if (node := grad_fn(t)) is not None]
        return not self._ahead.isdisjoint(map(id, [*called, *self._tracer.trace.owner]))

    def _without_graph(self, roots: list[Tensor], step: int) -> None:
        """Keep what was traced before a backward call on a leaf (`loss.requires_grad_()`): the cut that made it one is in it."""
        loss, trace = roots[0], self._tracer.trace
        leaf = loss.requires_grad and loss.grad_fn is None and Tensor.numel(loss) == 1
        if not leaf or not trace.ops or self._loose is not None or self._registry.find(loss) is not None:
            return
        self._loose = Probe(
            step=step, at=self._clock(), reason=self.reason or "", loss=float(Tensor.detach(loss)), root=None, ops=trace.ops,
            params=[], notes=[*trace.notes, NO_GRAPH], without_grad=sorted(trace.without_grad), cuts=trace.cuts,
        )  # fmt: skip

    def called_again(self) -> None:
        """Another backward call in a window that is measured: what was cleared before it is not left over."""
        self.cleared += self.way.open and self.way.cleared()
        for watched in self._optimizers if self._measured else ():
            if watched.carried:
                watched.carried = min(watched.carried, norm_of_grads(watched.params))

    def _keep_forward(self, root: Tensor, leaves_them: bool) -> str | None:
        """End the tape at the loss. Return why it will not be run again."""
        self._tracer.tape = None
        refused = "the script has hooks of its own in the graph" if self._tracer.trace.hooked else None
        if any_global_backward_hook() or not leaves_them:
            refused = "gradients are returned, or shared with other processes, or there are hooks on all modules"
        return self.falling.backward(root, self._clock(), refused)

    def _told(self, found: Descent | str | None) -> None:
        """Write what a step did to its loss, or why that is not known, into the probe."""
        if self.probe is not None and found is not None:
            self.probe.descent = found

    def _sharpness(self, root: Tensor, reached: Sequence[int]) -> None:
        """Measure the sharpness within a small part of the run's time; not for an adaptive optimizer, of whose stability it
        says nothing.
        """
        effort = Effort()
        allowance = allowed(SHARPNESS, SHARE_OF_EXTRAS, self._clock()) - self._on_sharpness
        live = [(i, t) for i in reached if (t := self._registry.tensor(i)) is not None and t.requires_grad]
        reachable = {i for i, _ in live}
        owner = next((w for w in self._optimizers if not reachable.isdisjoint(w.record.params)), None)
        if owner is not None:
            if owner.record.adaptive:
                return
            its = set(owner.record.params)
            live = [(i, t) for i, t in live if i in its]
        if self.probe is not None:
            self.probe.sharpness = self._meter.measure(root, [t for _, t in live], self._tracer.trace, allowance)
            self._on_sharpness += effort.seconds

    def after_backward(self, measure: BackwardMeasure) -> bool:
        """Take in what a backward call brought; return whether there is a probe of it."""
        began = time.perf_counter()
        measure.detach()
        measure.finish()
        probe, trace = self.probe, self._tracer.trace
        if probe is None:
            return False
        probe.loss = float(Tensor.sum(Tensor.float(self.root))) if self.root is not None else None
        probe.params = measure.param_states()
        self._shield(self.way.hooked, measure.hooked.found())
        probe.ops = trace.ops
        self._shield(self.over_time.after, probe, measure, self._clock())
        probe.cuts, probe.hooks = trace.cuts, trace.hooks
        probe.buffers = self._shield(buffers_within, trace.roots.values())
        probe.cost += time.perf_counter() - began
        self._left = trace.rest() if self._optimizers.several else None
        trace.release()
        return True

    def delivered(self) -> None:
        """A backward call of a measured window has returned: follow what it left in `.grad` from here on."""
        if self.probe is not None:
            self._told(self._shield(self.falling.delivered))
            self.way.delivered(self._own(self.probe))
            self._tracer.between = self._between

    def _own(self, probe: Probe) -> list[int]:
        """Return the parameters of this thread: those that its backward call reached, and those of its optimizers."""
        mine = [w.record.params for w in self._optimizers if w.thread == self._tracer.thread]
        return sorted({*(s.param for s in probe.params), *(i for params in mine for i in params)})

    def _between(self, func: Callable[..., Any], args: tuple[Any, ...], run: Callable[[], Any], out: Any = None) -> Any:
        """Run a call between backward and the step, and see what it writes to: gradients, and weights where that is looked for."""
        if self.search is None:
            return self.way.watched(func, args, run, out)
        return self.search(func, args, lambda: self.way.watched(func, args, run, out), out)

    @property
    def looks_within(self) -> bool:
        """Whether the calls within the coming step are to be seen."""
        return self._beside and self.probe is not None and self.way.open

    def before_step(self, optimizer: TorchOptimizer, watched: Watched) -> None:
        """An optimizer is about to step on what was delivered."""
        self._tracer.between = None
        if self.probe is None or not self.way.open:
            return
        self._hunting = self.looks_within
        if self._hunting:
            self.writers.watch(watched.record.params)
            self._tracer.between = self.writers.watched
        passed = self.way.arrived(watched.record.params)
        hooks = any(a.name == HOOK for a in self.way.alterations)
        self._told(self._shield(self.falling.before_step, watched.params, hooks))
        self.probe.transit = Transit(
            passed,
            self.way.alterations,
            again=self.again,
            passes=self.backwards,
            cleared=self.cleared,
            inner=self.way.inner,
        )
        self.stepping.before(optimizer, self.way)

    def after_step(self, optimizer: TorchOptimizer, watched: Watched) -> None:
        """It has stepped."""
        if self.probe is None or self.probe.transit is None:
            return
        self._told(self._shield(self.falling.after_step, watched.params))
        self.probe.transit.groups = groups = self.stepping.after(optimizer, watched)
        others = [g.foreign for g in groups if g.foreign is not None]
        by = self.writers.found() if self._hunting else None
        for other in others:
            other.name, other.file, other.line = by if by is not None else (None, None, None)
        self._beside, self._hunting = bool(others) and by is None, False

    def take(self) -> Probe | None:
        """Return the probe, once; None where none was finished (a backward call that was cut short left it without)."""
        probe, self.probe = self.probe, None
        if probe is None and not self._measured:
            probe, self._loose = self._loose, None
            return probe
        return probe if probe is not None and self._measured and probe.ops else None
