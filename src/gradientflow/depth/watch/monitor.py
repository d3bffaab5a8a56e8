"""The watcher: PyTorch's own hooks around every optimizer step, and a function mode on the probed ones.

Between two optimizer steps lies a *window*. On a probed window the function mode is on the stack and traces the
forward; the first backward call in it is measured op by op. On every window the cheap tier reads norms around the step.
"""

from __future__ import annotations

import math
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from torch import Tensor
from torch.optim import Optimizer as TorchOptimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from gradientflow.depth.probe.births import Births
from gradientflow.depth.probe.frames import locate
from gradientflow.depth.probe.measure import BackwardMeasure
from gradientflow.depth.probe.registry import Registry
from gradientflow.depth.probe.trace import Trace, Tracer, nothing
from gradientflow.depth.probe.tracebacks import cleaned
from gradientflow.depth.watch.cheap import CheapTier, Norms, direction_wanted, norm_of_grads, total
from gradientflow.depth.watch.compiled import CompileWatch, exporting
from gradientflow.depth.watch.isometry import IsometryMeter
from gradientflow.depth.watch.losses import LossFinder
from gradientflow.depth.watch.manual import ManualSteps
from gradientflow.depth.watch.overtime import OverTime
from gradientflow.depth.watch.post import Post
from gradientflow.depth.watch.schedule import Schedule
from gradientflow.depth.watch.sharp import SharpnessMeter
from gradientflow.depth.watch.shield import Effort, Shield
from gradientflow.records import ABSENT, Optimizer, ParamNorms, Probe, Step
from gradientflow.torch_internals import readable

_NORMS_EVERY_STEP = 256  # per-parameter norms of every step up to here, then thinned in proportion
_AT_REST = 1.0  # seconds without a step after which another thread may be watched instead
_SHARPNESS_FLOOR = 0.6  # seconds that are always allowed for it


class Sink(Protocol):
    """Where records go: 1. `step` once per step; 2. `add` for anything rarer; 3. neither may raise."""

    def step(self, step: Step) -> None: ...
    def add(self, record: ParamNorms | Probe) -> None: ...


class Watched:
    """One optimizer under watch."""

    def __init__(self, optimizer: TorchOptimizer, record: Optimizer, params: list[Tensor]) -> None:
        self.ref = weakref.ref(optimizer, self._gone)
        self.record = record
        self.params = params
        self.cheap = CheapTier(params)
        self.hooked = False
        self.thread = 0  # that steps it
        self.carried: float | None = None

    def _gone(self, ref: Any) -> None:
        """The script dropped the optimizer: hold its model alive no longer."""
        self.params, self.cheap = [], CheapTier([])


class Monitor:
    """Watches everything that trains in this process between `start` and `stop`.

    Args:
        sink: takes the records.
        schedule: decides which steps are probed.
        shield: protects the script from us.
        stop_after: called after each step with its number; may raise to stop the script.
    """

    def __init__(
        self, sink: Sink, schedule: Schedule, shield: Shield, stop_after: Callable[[int], None] | None = None
    ) -> None:
        self.sink = sink
        self.schedule = schedule
        self.shield = shield
        self.stop_after = stop_after
        self.registry = Registry()
        self.births = Births(self.registry, shield)
        self.tracer = Tracer(self.registry, self.births, self._around_backward, shield)
        self.losses = LossFinder(self._seen_backward, lambda: self._in_backward, shield)
        self.compile_watch = CompileWatch(lambda: shield(self._step_aside))
        self.compiled = False
        self.manual = ManualSteps(self._manual_step)
        self.optimizers: list[Watched] = []
        self.steps = 0
        self.backwards = 0
        self.elsewhere = 0  # steps in other threads than the one that is watched
        self.probed = 0
        self.last_loss: float | None = None
        self.on_probe: Callable[[], None] | None = None
        self.began = time.perf_counter()
        self._by_id: dict[int, Watched] = {}
        self._meter = SharpnessMeter()
        self.isometry: IsometryMeter | None = None  # on request: singular values of Jacobians
        self._over_time = OverTime(self.registry, shield)
        self._on_sharpness = 0.0
        self._handles: list[Any] = []
        self._post = Post(self.tracer, shield)
        self._in_backward = False  # a backward call that the mode saw is running
        self._reason: str | None = None  # why this window is probed
        self._measured = False
        self._probe: Probe | None = None
        self._root: Tensor | None = None
        self._backwards_here = 0
        self._before_this_step = 0
        self._thread = threading.current_thread()  # the one that is watched
        self._stirred = self.began  # when it last came to an optimizer's step

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Register the hooks and open the first window."""
        self.began = time.perf_counter()
        self._handles = [
            register_optimizer_step_pre_hook(partial(self.shield, self._before)),
            register_optimizer_step_post_hook(self._after_step),
        ]
        self.shield.interrupted = self._interrupted
        self.births.open(self.compile_watch.notice, self._step_aside)
        self.tracer.awake = self.compile_watch.notice
        self.shield(self._open_window, 1)

    def stop(self) -> None:
        """Remove every hook; close what is open; the mode leaves the stack where it is on top of it."""
        if not self.optimizers:
            self.shield(self.manual.before_backward)
            if not self.manual.confirmed:  # backward was called, but nothing was ever updated: keep what was measured
                self.shield(self._send_probe, 1, None)
        self.births.close()
        self.compile_watch.close()
        for handle in self._handles:
            handle.remove()
        self.losses.close()
        self._quiet()
        self.tracer.births = None
        self.tracer.trace = Trace()

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self.began

    @property
    def unit(self) -> str:
        """What a step is: an "optimizer" step, or a "backward" call of a script that updates by hand."""
        return "backward" if self.manual.confirmed and not self.optimizers else "optimizer"

    # ── windows ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _open_window(self, coming: int) -> None:
        self._measured = False
        self._probe = None
        self._backwards_here = 0
        self._reason = self.schedule.due(coming, self.elapsed, self.shield.effort, max(1, len(self.optimizers)))
        if self.compiled:
            self._reason = None
        if self._reason is not None:
            self.tracer.fresh()
            self.tracer.recording = self.tracer.listening = True
            self._post.enter()
        else:
            self._quiet()
            if self.tracer.trace.ops:
                self.tracer.fresh()  # a window that was traced but not measured holds its graph no longer

    def _quiet(self) -> None:
        """Stop tracing and take the mode off the stack."""
        self.tracer.recording = self.tracer.listening = False
        self._post.leave()

    def _step_aside(self) -> None:
        """PyTorch begins to compile: no mode may be on the stack, now or in later steps, or it would be compiled too. An
        export is over when it is over: it costs this window only.
        """
        self._reason = None
        if exporting():
            self._quiet()
            return
        self.compiled = True
        self.tracer.births = None
        self.tracer.awake = nothing
        self._quiet()

    def _interrupted(self) -> None:
        """An exception of the script's came while we worked: what was half seen of this window is nothing to go by."""
        self._reason = self._probe = None
        self.tracer.recording = False
        self.tracer.fresh()

    # ── backward ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _around_backward(self, call: str, roots: list[Tensor], inputs: list[Tensor], run: Callable[[], Any]) -> Any:
        """Run the script's backward call, measured where it is the first of a probed window."""
        by_hand = not self.optimizers
        if by_hand:
            self.shield(self.manual.before_backward)
        measure = None
        if self.tracer.recording and self._reason is not None and not self._measured:
            measure = self.shield(self._before_backward, roots)
        else:
            self.shield(self._seen_backward, roots[0])
        self._in_backward = True
        try:
            result = run()
        finally:
            self._in_backward = False
            if measure is not None:
                self.shield(self._after_backward, measure)
        if by_hand:
            self.shield(self._after_manual, inputs, result)
            if self.manual.confirmed and self.stop_after is not None and self.shield.at_home:
                self.stop_after(self.steps)
        return result

    def _seen_backward(self, root: Tensor) -> None:
        self._root = Tensor.detach(root) if readable(root) else None
        self.births.trained = True
        self.backwards += 1
        self._backwards_here += 1

    def _before_backward(self, roots: list[Tensor]) -> BackwardMeasure | None:
        began = time.perf_counter()
        trace = self.tracer.trace
        measure = BackwardMeasure(trace, self.registry, self.shield)
        root = measure.survey(roots)
        first_here = self._backwards_here == 0
        self._seen_backward(roots[0])
        if root is None:  # nothing of this graph was traced: wait for the next backward call
            return None
        self._measured = True
        self.tracer.recording = False
        self.registry.name_modules(trace.roots.values())
        reached = sorted({o.param for i in measure.reached for o in trace.ops[i].operands if o.param is not None})
        self.registry.name_leaves(reached, trace.last_where)
        for watched in self.optimizers:
            mine = first_here and watched.thread == self.tracer.thread
            watched.carried = norm_of_grads(watched.params) if mine else None
        self._probe = Probe(
            step=self.steps + 1, at=self.elapsed, reason=self._reason or "", loss=None, root=root, ops=[], params=[],
            batch=measure.batch(), notes=trace.notes,
            without_grad=sorted(trace.without_grad),
        )  # fmt: skip
        if not self.optimizers and first_here:
            self._probe.carried = norm_of_grads([t for i in reached if (t := self.registry.tensor(i)) is not None])
        self.shield(self._sharpness, roots[0], reached)
        if self.isometry is not None:
            self._probe.isometry = self.shield(self.isometry.measure, roots, measure, self._probe)
        self.shield(self._over_time.before, self._probe, trace, roots[0], self.elapsed)
        measure.attach()
        self._probe.cost = time.perf_counter() - began
        return measure

    def _sharpness(self, root: Tensor, reached: Sequence[int]) -> None:
        """Measure the sharpness within a small part of the run's time; not for an adaptive optimizer, of whose stability it
        says nothing.
        """
        effort = Effort()
        allowance = max(_SHARPNESS_FLOOR, 0.02 * self.elapsed) - self._on_sharpness
        live = [(i, t) for i in reached if (t := self.registry.tensor(i)) is not None and t.requires_grad]
        owner = next((w for w in self.optimizers if {i for i, _ in live} & set(w.record.params)), None)
        if owner is not None:
            live = [(i, t) for i, t in live if i in set(owner.record.params)]
            if owner.record.adaptive:
                return
        if self._probe is not None:
            self._probe.sharpness = self._meter.measure(root, [t for _, t in live], self.tracer.trace, allowance)
            self._on_sharpness += effort.seconds

    def _after_backward(self, measure: BackwardMeasure) -> None:
        began = time.perf_counter()
        measure.detach()
        measure.finish()
        probe, root = self._probe, self._root
        if probe is None:
            return
        probe.loss = float(Tensor.sum(Tensor.float(root))) if root is not None else None
        probe.params = measure.param_states()
        probe.ops = self.tracer.trace.ops
        self.shield(self._over_time.after, probe, measure, self.elapsed)
        probe.cuts = self.tracer.trace.cuts
        probe.cost += time.perf_counter() - began
        self._hook_losses(measure.order)
        self.tracer.trace.release()

    def _hook_losses(self, order: Sequence[int]) -> None:
        """Hook the parameter of each optimizer whose gradient comes first."""
        for watched in self.optimizers:
            mine = [i for i in order if i in set(watched.record.params)]
            first = self.registry.tensor(mine[0]) if mine else None
            if first is not None and not watched.hooked:
                watched.hooked = True
                self.losses.hook([first])

    # ── optimizer steps ──────────────────────────────────────────────────────────────────────────────────────────

    def _before(self, optimizer: TorchOptimizer, args: Any, kwargs: Any) -> None:
        if not self._leads(take_over=True):
            return
        self.compile_watch.notice()
        watched = self._watch(optimizer)
        watched.thread = self.tracer.thread
        self.tracer.births = None
        if self._backwards_here or self._reason is None:  # else the forward of a closure is still to come in the step
            self._quiet()
        watched.cheap.before(direction_wanted(watched.record.steps + 1))
        self._before_this_step = self._backwards_here

    def _after_step(self, optimizer: TorchOptimizer, args: Any, kwargs: Any) -> None:
        if not self.shield.at_home:
            return
        if not self._leads():
            self.elsewhere += 1
            return
        self.steps += 1
        try:
            self.shield(self._after, optimizer)
            if self.stop_after is not None:
                self.stop_after(self.steps)
        except BaseException as problem:
            cleaned(problem)
            raise

    def _after(self, optimizer: TorchOptimizer) -> None:
        self._quiet()
        watched = self._by_id[id(optimizer)]
        record = watched.record
        norms = watched.cheap.after(self._root, self._backwards_here > self._before_this_step)
        self._root = None
        record.steps += 1
        graded = [i for i, g in zip(record.params, norms.grad, strict=True) if g != ABSENT]
        for index in graded:
            self.registry.params[index].graded += 1
        if not watched.hooked:
            self._hook_losses(graded[::-1])
        group = optimizer.param_groups[0]
        self.shield(
            self._emit, record.params, norms, record.index, self._backwards_here, _number(group.get("lr")),
            _number(group.get("momentum")),
        )  # fmt: skip
        self.shield(self._send_probe, self.steps, watched)
        self.shield(self._open_window, self.steps + 1)

    def _leads(self, take_over: bool = False) -> bool:
        """Return whether this thread is the one that is watched. Of several that train at once only one is: what belongs to
        another's model may be written to while we read it. The first to step is it, until it is over or long at rest.
        """
        here = threading.current_thread()
        if here is not self._thread:
            at_rest = not self.steps or _waits(self._thread) or time.perf_counter() - self._stirred > _AT_REST
            if not (take_over and at_rest):
                return False
            self._thread, self.tracer.thread, self._root, self._backwards_here = here, threading.get_ident(), None, 0
            self._reason = self._probe = None
        self._stirred = time.perf_counter()
        return True

    def _watch(self, optimizer: TorchOptimizer) -> Watched:
        """Return what is known of an optimizer, getting to know it at its first step."""
        params = [p for group in optimizer.param_groups for p in group["params"]]
        found = self._by_id.get(id(optimizer))
        if found is not None and found.ref() is optimizer:
            if list(map(id, found.params)) != list(map(id, params)):  # a parameter group was added, a layer replaced
                found.params, found.cheap = params, CheapTier(params)
                found.record.params = [self.registry.index_of(p) for p in params]
            return found
        where = locate(3, modules=False, limit=1)
        made = self.births.optimizers.get(id(optimizer), (None, None))
        record = Optimizer(
            index=len(self.optimizers), name=type(optimizer).__name__,
            options={k: v for k, v in optimizer.defaults.items() if isinstance(v, (int, float, bool, str))}
            | ({"betas": list(optimizer.defaults["betas"])} if "betas" in optimizer.defaults else {}),
            params=[self.registry.index_of(p) for p in params],
            file=where.file, line=where.line, made_file=made[0], made_line=made[1],
        )  # fmt: skip
        for index in record.params:
            if self.registry.params[index].optimizer is None:
                self.registry.params[index].optimizer = record.index
        watched = self._by_id[id(optimizer)] = Watched(optimizer, record, params)
        self.optimizers.append(watched)
        self.manual.forget()
        return watched

    def _emit(
        self, indices: list[int], norms: Norms, optimizer: int, backwards: int, lr: float | None, momentum: float | None
    ) -> None:
        step = Step(
            step=self.steps, at=self.elapsed, optimizer=optimizer, lr=lr, loss=norms.loss, grad=total(norms.grad),
            weight=total(norms.weight), update=total(norms.update),
            nonfinite=sum(not math.isfinite(g) for g in norms.grad), backwards=backwards, momentum=momentum,
            along=norms.along,
        )  # fmt: skip
        if step.loss is not None:
            self.last_loss = step.loss
        self.sink.step(step)
        if step.step % (step.step // _NORMS_EVERY_STEP + 1) == 0 or step.nonfinite:
            self.sink.add(ParamNorms(step.step, optimizer, indices, norms.grad, norms.weight, norms.update))
        self.schedule.saw(step)

    def _send_probe(self, step: int, watched: Watched | None) -> None:
        probe, self._probe = self._probe, None
        if probe is None or not self._measured or not probe.ops:  # (a backward call that was cut short left it without)
            return
        probe.step = step
        if watched is not None:
            probe.optimizer, probe.carried = watched.record.index, watched.carried
        self.probed += 1
        self.sink.add(probe)
        if self.on_probe is not None:
            self.shield(self.on_probe)

    # ── scripts without an optimizer ─────────────────────────────────────────────────────────────────────────────

    def _after_manual(self, inputs: list[Tensor], result: Any) -> None:
        if self._probe is not None:
            live = [(s.param, t) for s in self._probe.params if (t := self.registry.tensor(s.param)) is not None]
            self.manual.know([i for i, _ in live], [t for _, t in live])
        self.manual.after_backward(self._root, inputs, result)
        if self.manual.confirmed:
            self._send_probe(self.steps + 1, None)
            self._open_window(self.steps + 2)
        if not self.compiled:
            self.tracer.listening = True  # without an optimizer's hooks only the mode sees the backward calls
            self._post.enter()

    def _manual_step(self, indices: list[int], norms: Norms) -> None:
        if self.steps == 0:
            self._send_probe(1, None)
            self.tracer.births = None
        self.steps += 1
        for index, g in zip(indices, norms.grad, strict=True):
            self.registry.params[index].graded += g != ABSENT
        self._emit(indices, norms, 0, 1, None, None)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float, Tensor)) and not isinstance(value, bool) else None


def _waits(thread: threading.Thread) -> bool:
    """Whether a thread has ended, or waits for another one to begin or to end."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None and frame.f_code.co_filename == threading.__file__:
        if frame.f_code.co_name in ("join", "start"):
            return True
        frame = frame.f_back
    return not thread.is_alive()
