"""A model under watch: one forward and backward pass, or some steps of training, as a run for the rules to judge."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from types import FrameType

import torch
from torch import Tensor, nn

from gradientflow.depth.causes import Later
from gradientflow.depth.look.arguments import check_model
from gradientflow.depth.look.question import Question
from gradientflow.depth.look.sources import make_known
from gradientflow.depth.probe.frames import set_base
from gradientflow.depth.probe.stats import units_alike
from gradientflow.depth.watch.cheap import CheapTier
from gradientflow.depth.watch.memory import Memory
from gradientflow.depth.watch.monitor import Monitor
from gradientflow.depth.watch.recorder import Recorder
from gradientflow.depth.watch.schedule import Schedule
from gradientflow.depth.watch.shield import Shield
from gradientflow.errors import UsageError
from gradientflow.files import here
from gradientflow.limits import Limit
from gradientflow.records import ABSENT, Probe, Run, Step
from gradientflow.torch_internals import lost

Optimizer = torch.optim.Optimizer | Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
_AGAIN = 3  # steps after which a claim that one look cannot make is looked at again
GIVEN_UP = Limit("losses_not_finite", 3, "chosen: in a row; a loss scaler may need one or two to find its scale")


class Look:
    """Runs a model under watch and keeps what is needed to look again.

    Args:
        question: what is asked of the model.
        caller: the user's frame that holds the model in a variable.
    """

    def __init__(self, question: Question, caller: FrameType | None) -> None:
        self._question = question
        self._caller = caller
        self._model: nn.Module | None = None

    def over(
        self,
        build: Callable[[], nn.Module],
        optimizer: Optimizer | None,
        steps: int,
        *,
        held: nn.Module | None = None,
        every: int | None = None,
    ) -> Run:
        """Watch a model being built, and then one backward pass of it, or some steps of training.

        Args:
            build: returns the model; may build it.
            optimizer: trains it; None for one backward pass.
            steps: of the training.
            held: the model that the caller's variable holds, where it is not this one.
            every: probe every so many steps.
        """
        set_base(str(here()))
        recorder, shield = Recorder(Memory(), "", []), Shield()
        monitor = Monitor(recorder, Schedule(every), shield)
        recorder.attach(monitor)
        monitor.start()
        try:
            model = build()
            check_model(model)
            if monitor.compiled:
                raise UsageError(
                    "the function that builds the model compiles it, or a part of it, and compiled code cannot be traced. Expected "
                    "one that leaves torch.compile out; or give the compiled model itself, which is looked at as it was written."
                )
            model = getattr(model, "_orig_mod", model)
            self._model = model
            recorder.meta.script = type(model).__name__
            shield(make_known, model, monitor.registry, monitor.births, self._caller, held)
            if optimizer is None:
                self._once(model, monitor, recorder)
            else:
                self._train(model, optimizer, steps)
        finally:
            monitor.stop()
        for error in [*lost(), *shield.errors]:
            recorder.note("watcher", error)
        recorder.meta.ended = "finished"
        run = recorder.finish()
        if optimizer is None:
            run.meta.unit, run.meta.steps, run.meta.backwards = "backward", len(run.steps), len(run.steps)
        return run

    def over_copy(self, model: nn.Module, optimizer: Optimizer | None, steps: int, every: int | None = None) -> Run:
        """Watch a copy of a model in training.

        Raises:
            UsageError: the model cannot be copied, or its loss is not that of the copy.
        """
        try:
            twin, tool = _copied(model, optimizer if isinstance(optimizer, torch.optim.Optimizer) else None)
        except Exception as problem:
            raise UsageError(
                f"{type(model).__name__} cannot be copied ({type(problem).__name__}: {problem}), and the model itself is not to "
                f"be trained. Give a function that builds it instead: diagnose(lambda: make_model(), …)."
            ) from problem
        if tool is not None and not {id(p) for g in tool.param_groups for p in g["params"]} & set(
            map(id, twin.parameters())
        ):
            raise UsageError(
                "the optimizer holds none of the model's parameters; expected one that was made for this model."
            )
        run = self.over(lambda: twin, tool if tool is not None else optimizer, steps, held=model, every=every)
        if any(p.grad is not None for p in model.parameters()):
            raise UsageError(
                "the loss uses the model itself, not the copy that is trained. Let it take the model as an argument: "
                "def loss(model, batch): …"
            )
        return run

    def again(self) -> Later | None:
        """Look once more at a copy that has taken some small steps, whatever the scale of the loss; None if it has none."""
        if self._model is None:
            return None
        first = {name: _likeness(p) for name, p in self._model.named_parameters()}
        for p in self._model.parameters():
            p.grad = None
        try:
            run = self.over_copy(self._model, _small_steps, _AGAIN, every=1)
        except UsageError:
            return None
        later = {name: _likeness(p) for name, p in self._model.named_parameters()}  # now the copy
        likeness = {name: alike if alike is not None else later[name] for name, alike in first.items()}
        return Later(run, {name: alike for name, alike in likeness.items() if alike is not None})

    def _once(self, model: nn.Module, monitor: Monitor, recorder: Recorder) -> None:
        value = self._question(model)
        trace = monitor.tracer.trace
        if value.requires_grad:
            value.backward()  # type: ignore[no-untyped-call]
        else:  # no way back from the loss: what was computed is all there is to see
            recorder.add(
                Probe(
                    1,
                    monitor.elapsed,
                    "first",
                    float(value.detach()),
                    None,
                    trace.ops,
                    [],
                    without_grad=sorted(trace.without_grad),
                )
            )
        params = [p for p in model.parameters() if p.requires_grad]
        if not params or not value.requires_grad:
            return
        tier = CheapTier(params)
        tier.before()
        norms = tier.after(value, False)
        recorder.step(
            Step(
                step=1, at=monitor.elapsed, optimizer=0, lr=None, loss=norms.loss, grad=norms.all_grad,
                weight=norms.all_weight, update=None, nonfinite=norms.nonfinite,
            )
        )  # fmt: skip
        indices = [monitor.registry.index_of(p) for p in params]
        norms.update = [ABSENT] * len(params)  # no step was taken
        recorder.add(norms.record(1, 0, indices))

    def _train(self, model: nn.Module, optimizer: Optimizer, steps: int) -> None:
        tool = optimizer
        if not isinstance(tool, torch.optim.Optimizer):
            tool = tool(p for p in model.parameters() if p.requires_grad)
        if not isinstance(tool, torch.optim.Optimizer):
            raise UsageError(
                f"the optimizer's function returned {type(tool).__name__}; expected a torch.optim.Optimizer over the parameters."
            )
        bad = 0

        def closure() -> Tensor:
            tool.zero_grad()
            value = self._question(model)
            if value.requires_grad:
                value.backward()  # type: ignore[no-untyped-call]
            return value

        for _ in range(steps):
            if isinstance(tool, torch.optim.LBFGS):
                value = tool.step(closure)  # type: ignore[no-untyped-call]
            else:
                value = closure()
                tool.step()
            bad = 0 if math.isfinite(float(value.detach())) else bad + 1
            if bad >= GIVEN_UP:
                return


def _copied(
    model: nn.Module, optimizer: torch.optim.Optimizer | None
) -> tuple[nn.Module, torch.optim.Optimizer | None]:
    """Copy a model, and an optimizer of its parameters over the copy, with what its own `__getstate__` leaves out."""
    left_out = {}
    if optimizer is not None:
        kept = optimizer.__getstate__()
        left_out = {k: v for k, v in vars(optimizer).items() if k not in kept and "hook" not in k}
    twin, tool, more = copy.deepcopy((model, optimizer, left_out))
    for name, value in more.items():
        vars(tool).setdefault(name, value)
    return twin, tool


def _likeness(p: nn.Parameter) -> float | None:
    """Return how alike the rows of a parameter's gradient are; None where it has none, or it is zero."""
    return units_alike(p.grad) if p.grad is not None and not p.grad.is_sparse else None


def _small_steps(params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Steps by the sign of the gradient alone: the same for a loss and a million times that loss."""
    return torch.optim.Rprop(params, lr=1e-3)
