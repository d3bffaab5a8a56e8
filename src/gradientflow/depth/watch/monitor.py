"""The watcher: PyTorch's own hooks around every optimizer step, and a function mode on the probed ones.

Between two optimizer steps lies a *window*. On a probed window the function mode is on the stack and traces the
forward; the first backward call in it is measured op by op. On every window the cheap tier reads norms around the step.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, distributed
from torch.optim import Optimizer as TorchOptimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from gradientflow.depth.probe.births import Births
from gradientflow.depth.probe.leaves import uncollected
from gradientflow.depth.probe.measure import BackwardMeasure
from gradientflow.depth.probe.registry import Registry
from gradientflow.depth.probe.trace import Tracer, nothing
from gradientflow.depth.probe.tracebacks import cleaned
from gradientflow.depth.probe.traced import Trace
from gradientflow.depth.watch.cheap import Norms, direction_wanted
from gradientflow.depth.watch.compiled import CompileWatch, exporting
from gradientflow.depth.watch.leading import Leader
from gradientflow.depth.watch.losses import LossFinder
from gradientflow.depth.watch.manual import ManualSteps
from gradientflow.depth.watch.optimizers import Optimizers, Watched, number_of
from gradientflow.depth.watch.post import Post
from gradientflow.depth.watch.rewriting import Rewriting
from gradientflow.depth.watch.schedule import Schedule
from gradientflow.depth.watch.shield import Shield
from gradientflow.depth.watch.sink import Sink
from gradientflow.depth.watch.warned import Warnings
from gradientflow.depth.watch.window import Window
from gradientflow.limits import Limit
from gradientflow.records import Step
from gradientflow.torch_internals import never_compile

_NORMS_EVERY_STEP = 256  # per-parameter norms of every step up to here, then thinned in proportion


BY_HAND = Limit("backward_calls", 50, "chosen: an optimizer that was made and has not stepped by then will not")


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
        self.began = time.perf_counter()
        self.registry = Registry()
        self.births = Births(self.registry, shield)
        self.tracer = Tracer(self.registry, self.births, self._around_backward, shield)
        self.losses = LossFinder(self._seen_backward, lambda: self._in_backward, shield)
        self.compile_watch = CompileWatch(lambda: shield(self._step_aside))
        self.compiled = False
        self.warnings = Warnings(shield, lambda: self.steps)
        self.manual = ManualSteps(self._manual_step)
        self.optimizers = Optimizers(self.registry, self.births)
        self.window = Window(self.registry, self.tracer, self.optimizers, shield, lambda: self.elapsed)
        self.steps = 0
        self.backwards = 0
        self.elsewhere = 0  # steps in other threads than the one that is watched
        self.rewriting = Rewriting(self.registry, shield)
        self.probed = 0
        self.last_loss: float | None = None
        self.on_probe: Callable[[], None] | None = None
        self._handles: list[Any] = []
        self._post = Post(self.tracer, shield)
        self._in_backward = False  # a backward call that the mode saw is running
        self._called_backward = False  # in the window that is open
        self._by_backward = False  # an optimizer has stepped after a call of `backward`
        self._before_this_step = 0
        self._leader = Leader()

    # ── life ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Register the hooks and open the first window."""
        self.began = time.perf_counter()
        self._handles = [
            register_optimizer_step_pre_hook(partial(self.shield, self._before)),
            register_optimizer_step_post_hook(self._after_step),
        ]
        never_compile(Tracer.__torch_function__, Shield.__call__, Monitor._after_step, *Post.HOOKS, *Births.HOOKS)
        self.shield.interrupted = self._interrupted
        self.births.open(self.compile_watch.notice, self._step_aside)
        self.tracer.awake = self._awake
        self.warnings.open()
        self.shield(self._open_window, 1)

    def stop(self) -> None:
        """Remove every hook; close what is open; the mode leaves the stack where it is on top of it."""
        if not self.optimizers:
            self.shield(self.manual.before_backward)
            if not self.manual.confirmed:  # backward was called, but nothing was ever updated: keep what was measured
                self.shield(self._send_probe, 1, None)
        self.warnings.close()
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
        spent = self.shield.effort - self.window.falling.spent  # (which has an allowance of its own)
        reason = self.schedule.due(coming, self.elapsed, spent, max(1, self.optimizers.at_once))
        self.window.open(None if self.compiled else reason)
        if self.window.reason is not None:
            self.tracer.fresh(self.window.rest)
            self.window.rest = None
            self.tracer.recording = self.tracer.listening = True
            self._post.enter()
        else:
            self._quiet()
            if self.tracer.trace.ops:
                self.tracer.fresh()  # a window that was traced but not measured holds its graph no longer
        search = self.shield(self.rewriting.search) if self.rewriting.searching and not self.compiled else None
        self.window.search = self.tracer.between = search
        if search is not None:
            self._post.enter()

    def _quiet(self) -> None:
        """Stop tracing and take the mode off the stack."""
        self.tracer.recording = self.tracer.listening = False
        self._post.leave()

    def _awake(self) -> None:
        """A torch call is seen by the mode."""
        self.compile_watch.notice()
        self._post.heed()

    def _step_aside(self) -> None:
        """PyTorch begins to compile: no mode may be on the stack, now or in later steps, or it would be compiled too. An
        export is over when it is over: it costs this window only.
        """
        self.window.reason = None
        if exporting():
            self._quiet()
            return
        self.compiled = True
        self.tracer.births = None
        self.tracer.awake = nothing
        self._quiet()

    def _interrupted(self) -> None:
        """An exception of the script's came while we worked: what was half seen of this window is nothing to go by."""
        self.window.drop()
        self.tracer.recording = False
        self.tracer.fresh()

    # ── backward ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _around_backward(self, call: str, roots: list[Tensor], inputs: list[Tensor], run: Callable[[], Any]) -> Any:
        """Run the script's backward call, measured where it is the first of a probed window."""
        if call == "grad" and self._beside(inputs):
            return run()
        self._called_backward |= call == "backward"
        # (an optimizer that was made will step: what moves before is an attack, or a look around)
        by_hand = not self.optimizers and (not self.births.optimizers or self.backwards >= BY_HAND)
        if by_hand:
            self.shield(self.manual.bound_anew, roots)
            self.shield(self.manual.before_backward)
        measure = None
        if self.window.waits:
            accumulates = call == "backward"
            measure = self.shield(self._before_backward, roots, accumulates, accumulates and not is_distributed())
        else:
            self.shield(self._seen_backward, roots[0])
            if call == "backward":
                self.shield(self.window.called_again)
        self._in_backward = True
        try:
            result = run()
        finally:
            self._in_backward = False
            if measure is not None:
                self.shield(self._after_backward, measure)
            if call == "backward":
                self.shield(self.window.delivered)
        if by_hand:
            self.shield(self._after_manual, inputs, result)
            if self.manual.confirmed and self.stop_after is not None and self.shield.at_home:
                self.stop_after(self.steps)
        return result

    def _beside(self, inputs: list[Tensor]) -> bool:
        """Whether a call of `torch.autograd.grad` trains nothing: it differentiates by data (an attack, a step of Langevin's), or
        stands in a script whose optimizers step after calls of `backward`.
        """
        if self._by_backward:
            return True
        params = self.registry.params
        known = [i for t in inputs if (i := self.registry.find(t)) is not None]
        if any(params[i].is_parameter or params[i].optimizer is not None for i in known):
            return False
        return bool(self.optimizers) or any(p.is_parameter for p in params)

    def _seen_backward(self, root: Tensor) -> None:
        self.window.saw(root)
        self.births.trained = True
        self.backwards += 1

    def _before_backward(self, roots: list[Tensor], accumulates: bool, leaves_them: bool) -> BackwardMeasure | None:
        first_here = self.window.backwards == 0
        self._seen_backward(roots[0])
        with uncollected(len(self.registry)):
            return self.window.before_backward(roots, self.steps + 1, first_here and accumulates, leaves_them)

    def _after_backward(self, measure: BackwardMeasure) -> None:
        with uncollected(len(self.registry)):
            measured = self.window.after_backward(measure)
        if measured:
            self._hook_losses(measure.order)

    def _hook_losses(self, order: Sequence[int]) -> None:
        """Hook the parameter of each optimizer whose gradient comes first."""
        for watched in self.optimizers:
            if watched.hooked:
                continue
            its = set(watched.record.params)
            first = next((i for i in order if i in its), None)
            tensor = self.registry.tensor(first) if first is not None else None
            if tensor is not None:
                watched.hooked = True
                self.losses.hook([tensor])

    # ── optimizer steps ──────────────────────────────────────────────────────────────────────────────────────────

    def _before(self, optimizer: TorchOptimizer, args: Any, kwargs: Any) -> None:
        if not self._leader.leads() and not self._take_over():
            return
        self.compile_watch.notice()
        watched = self.optimizers.watch(optimizer)
        self.manual.forget()
        watched.thread = self.tracer.thread
        self.tracer.births = None
        window = self.window
        if window.looks_within:
            self.tracer.recording = False
        elif window.backwards or window.reason is None:  # else the forward of a closure is still to come in the step
            self._quiet()
        with uncollected(len(self.registry)):
            self.shield(window.before_step, optimizer, watched)
            self.shield(self._compare, watched)
            watched.cheap.before(direction_wanted(watched.record.steps + 1))
        self._before_this_step = window.backwards

    def _compare(self, watched: Watched) -> None:
        """Look whether the weights are those that the step before left."""
        found = self.rewriting.compare(watched, self.steps + 1)
        if found is not None:
            self.sink.add(found)

    def _take_over(self) -> bool:
        """Watch this thread, where the one that was watched is at rest."""
        if not self._leader.take_over():
            return False
        self.tracer.thread = threading.get_ident()
        self.window.root, self.window.backwards = None, 0
        self.window.drop()
        return True

    def _after_step(self, optimizer: TorchOptimizer, args: Any, kwargs: Any) -> None:
        if not self.shield.at_home:
            return
        if not self._leader.leads():
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
        self.tracer.between = None
        watched = self.optimizers.known(optimizer)
        if watched is None:
            return
        self._by_backward |= self._called_backward
        window, record = self.window, watched.record
        with uncollected(len(self.registry)):
            norms = watched.cheap.after(window.root, window.backwards > self._before_this_step)
            watched.continuity.after()
            self.shield(window.after_step, optimizer, watched)
        window.root = None
        record.steps += 1
        self._count(record.params, norms)
        if not watched.hooked:
            self._hook_losses([record.params[i] for i in reversed(norms.graded)])
        group = optimizer.param_groups[watched.main_group]
        self.shield(
            self._emit, record.params, norms, record.index, window.backwards, number_of(group.get("lr")),
            number_of(group.get("momentum")),
        )  # fmt: skip
        self.shield(self._send_probe, self.steps, watched)
        self.shield(self._open_window, self.steps + 1)

    def _count(self, indices: list[int], norms: Norms) -> None:
        for place in norms.graded:
            self.registry.params[indices[place]].graded += 1

    def _emit(
        self, indices: list[int], norms: Norms, optimizer: int, backwards: int, lr: float | None, momentum: float | None
    ) -> None:
        step = Step(
            step=self.steps, at=self.elapsed, optimizer=optimizer, lr=lr, loss=norms.loss, grad=norms.all_grad,
            weight=norms.all_weight, update=norms.all_update, nonfinite=norms.nonfinite, backwards=backwards,
            momentum=momentum, along=norms.along,
        )  # fmt: skip
        if step.loss is not None:
            self.last_loss = step.loss
        self.sink.step(step)
        if step.step % (step.step // _NORMS_EVERY_STEP + 1) == 0 or step.nonfinite:
            self.sink.add(norms.record(step.step, optimizer, indices))
        self.schedule.saw(step)

    def _send_probe(self, step: int, watched: Watched | None) -> None:
        probe = self.window.take()
        if probe is None:
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
        if self.window.probe is not None:
            live = [(s.param, t) for s in self.window.probe.params if (t := self.registry.tensor(s.param)) is not None]
            self.manual.know([i for i, _ in live], [t for _, t in live])
        with uncollected(len(self.registry)):
            self.manual.after_backward(self.window.root, inputs, result)
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
        self._count(indices, norms)
        self._emit(indices, norms, 0, 1, None, None)


def is_distributed() -> bool:
    """Whether gradients are exchanged between processes as they arrive: what lies in `.grad` is then everybody's."""
    return distributed.is_available() and distributed.is_initialized()
