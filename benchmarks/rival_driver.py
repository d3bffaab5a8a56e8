"""Runs one training script with one rival around it. Started by benchmarks/rivals.py with the rival's own Python.

    python rival_driver.py RIVAL SCRIPT OUT.json

Needs nothing but PyTorch and the rival: no part of gradientflow is imported. The rival is attached as its documentation
says, at the first optimizer the script makes, to the module that holds the optimizer's parameters; so the script itself
stays as it is. OUT.json gets what the rival said, in its own words, and for each module the script's lines that made and
called it.
"""

from __future__ import annotations

import contextlib
import io
import json
import runpy
import sys
import traceback
import warnings
import weakref
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

EVERY = 25  # steps between two looks of a rival that has to be called by hand


class Script:
    """The script under way: its models, its steps, its losses, and the lines where modules are made and called."""

    def __init__(self, file: Path) -> None:
        self.file = str(file)
        self.modules: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self.made: dict[int, int] = {}
        self.called: dict[int, set[int]] = {}
        self.model: nn.Module | None = None
        self.roots: list[nn.Module] = []
        self.names: dict[int, str] = {}
        self.steps = self.backwards = 0
        self.loss: float | None = None
        self.inputs: tuple[Any, ...] | None = None

    def line(self) -> int | None:
        """The script's line that is running."""
        frame = sys._getframe(1)
        while frame is not None:
            if frame.f_code.co_filename == self.file:
                return frame.f_lineno
            frame = frame.f_back  # type: ignore[assignment]
        return None

    def places(self) -> dict[str, list[int]]:
        """For each module by its name, the script's lines that made it and called it."""
        found: dict[str, list[int]] = {}
        for root in self.roots:
            for name, module in root.named_modules():
                lines = {self.made.get(id(module)), *self.called.get(id(module), ())} - {None}
                found[(self.names.get(id(root), "") + name).strip(".")] = sorted(x for x in lines if x is not None)
        return found

    def know(self, params: set[int]) -> None:
        """Find the modules that hold an optimizer's parameters: the outermost of them are the model."""
        holders = [m for m in list(self.modules) if params & {id(p) for p in m.parameters()}]
        inner = {id(c) for m in holders for c in m.modules() if c is not m}
        self.roots = sorted((m for m in holders if id(m) not in inner), key=lambda m: self.made.get(id(m)) or 0)
        if len(self.roots) == 1:
            self.model = self.roots[0]
        elif self.roots:
            self.model = nn.ModuleList(self.roots)
            self.names = {id(m): f"{k}." for k, m in enumerate(self.roots)}


class Rival:
    """A tool around the script. `attach` once, then `before_step` and `after_step` around every step, `end` at the end."""

    needs = ""  # the package

    def __init__(self, script: Script) -> None:
        self.script = script
        self.findings: list[dict[str, Any]] = []

    def begin(self) -> None:
        """Called before the script starts."""

    def attach(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Called when the script has made its first optimizer."""

    def before_step(self) -> None:
        """Called before each optimizer step."""

    def after_step(self) -> None:
        """Called after each optimizer step."""

    def end(self) -> None:
        """Called after the script's last line."""

    def say(self, kind: str, severity: str, text: str, layer: str | None = None, line: int | None = None) -> None:
        """Keep one finding."""
        self.findings.append({"kind": kind, "severity": severity, "text": text, "layer": layer, "line": line})


class TorchMortem(Rival):
    """Its Autopsy around the whole run."""

    needs = "torchmortem"

    def attach(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        import torchmortem

        self.autopsy = torchmortem.Autopsy(model, optimizer=optimizer)
        self.autopsy.attach()

    def after_step(self) -> None:
        self.autopsy.step(**({} if self.script.loss is None else {"loss": self.script.loss}))

    def end(self) -> None:
        self.autopsy.detach()
        report = self.autopsy.get_report()
        for f in sorted(report.findings if report else [], key=lambda f: -int(f.severity)):
            for layer in f.affected_layers or [None]:
                self.say(f.title, f.severity.name.lower(), f.summary, layer)


class TorchAudit(Rival):
    """Its autopatch, looking every so many steps."""

    needs = "torch_audit"

    def attach(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        import torch_audit

        self.auditor = torch_audit.autopatch(model, optimizer=optimizer, every_n_steps=EVERY)

    def end(self) -> None:
        order = {"FATAL": 0, "ERROR": 1, "WARN": 2, "INFO": 3}
        for f in sorted(self.auditor.findings, key=lambda f: order[f.severity.value]):
            layer = f.module_path or (f.entity or "").rpartition(".")[0] or None
            self.say(f.rule_id, f.severity.value.lower(), f.message, layer)


class TorchDiag(Rival):
    """Its two checks, called after some of the backward passes and at the end."""

    needs = "torchdiag"

    def _look(self) -> None:
        import torchdiag

        model = self.script.model
        if model is None:
            return
        with contextlib.redirect_stdout(io.StringIO()):
            stats = torchdiag.check_gradients(model)
        for name, stat in stats.items():
            if stat["status"] != "OK":
                self.say(stat["status"], "warning", f"{name}: {stat}", name.rpartition(".")[0])

    def before_step(self) -> None:
        if self.script.steps in (0, EVERY, 4 * EVERY):
            self._look()

    def end(self) -> None:
        import torchdiag

        model, inputs = self.script.model, self.script.inputs
        if model is None or inputs is None or len(inputs) != 1 or isinstance(model, nn.ModuleList):
            return
        with contextlib.redirect_stdout(io.StringIO()):
            report = torchdiag.check_dead_neurons(model, inputs[0])
        for layer, found in report.items():
            if found["dead_pct"] > 20:
                self.say("DEAD", "critical" if found["dead_pct"] > 50 else "warning", str(found), layer)


class TorchLens(Rival):
    """Its gradient_flow_audit on the traces of a few steps, each in place of the script's own forward pass."""

    needs = "torchlens"

    def attach(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.trace: Any = None
        self.looks = 0
        if isinstance(model, nn.ModuleList):
            raise RuntimeError("several modules are trained together; it traces one")
        self._plan(model)
        whole = torch.Tensor.backward

        def backward(loss: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            trace, self.trace = self.trace, None
            if trace is None:
                return whole(loss, *args, **kwargs)
            trace.log_backward(loss, **{k: v for k, v in kwargs.items() if k == "retain_graph"})
            self._audit(trace)
            return None

        torch.Tensor.backward = backward  # type: ignore[method-assign,assignment]

    def _plan(self, model: nn.Module) -> None:
        """Trace the model's next forward pass instead of running it."""
        import torchlens
        from torchlens.options import CaptureOptions

        def forward(*args: Any, **kwargs: Any) -> Any:
            del model.forward
            options = CaptureOptions(backward_ready=True, save_grads=True, save_raw_output=True)
            if not torch.is_grad_enabled():
                return model.forward(*args, **kwargs)
            self.trace = torchlens.trace(model, list(args), input_kwargs=kwargs, capture=options)
            if len(self.trace.output_layers) == 1:
                return self.trace[self.trace.output_layers[0]].out
            return self.trace.raw_output

        model.forward = forward  # type: ignore[method-assign]

    def _audit(self, trace: Any) -> None:
        import torchlens

        self.looks += 1
        rows, attrs = torchlens.debug.gradient_flow_audit_rows(trace, grad_scale=1.0)
        if not rows:
            raise RuntimeError(attrs.get("message", "no rows"))
        for row in rows:
            if row["verdict"] in ("vanishing", "exploding", "dead", "nonfinite"):
                context = getattr(trace[row["op"]], "code_context", None) or []
                lines = [int(c.line_number) for c in context if getattr(c, "file", "") == self.script.file]
                self.say(row["verdict"], "warning", row["op"], row["module"], lines[-1] if lines else None)

    def after_step(self) -> None:
        if self.script.steps in (EVERY, 4 * EVERY) and self.script.model is not None:
            self._plan(self.script.model)

    def end(self) -> None:
        if not self.looks:
            raise RuntimeError("the module's forward was not called under a backward pass; nothing to audit")


class AnomalyMode(Rival):
    """PyTorch's own, switched on for the whole run."""

    needs = "torch"

    def begin(self) -> None:
        torch.autograd.set_detect_anomaly(True)


RIVALS: dict[str, type[Rival]] = {
    "torchlens": TorchLens,
    "torchmortem": TorchMortem,
    "torch-audit": TorchAudit,
    "torchdiag": TorchDiag,
    "anomaly mode": AnomalyMode,
}


class Drive:
    """Hooks a rival into PyTorch, runs the script, and keeps what went wrong on the rival's side apart from the script's."""

    def __init__(self, rival: str, file: Path) -> None:
        self.script = Script(file)
        self.rival = RIVALS[rival](self.script)
        self.attached = False
        self.crash: str | None = None
        self.error: str | None = None

    def guarded(self, what: Any, *args: Any) -> None:
        """Call the rival; once it has failed it is left alone."""
        if self.crash is None:
            try:
                what(*args)
            except Exception as problem:
                self.crash = f"{type(problem).__name__}: {str(problem).splitlines()[0][:200] if str(problem) else ''}"

    def hook(self) -> None:
        """Follow modules, optimizers, steps and losses through PyTorch's own doors."""
        script, hooks = self.script, torch.nn.modules.module
        born = nn.Module.__init__

        def init(module: nn.Module, *args: Any, **kwargs: Any) -> None:
            born(module, *args, **kwargs)
            script.modules.add(module)
            line = script.line()
            if line is not None:
                script.made.setdefault(id(module), line)

        nn.Module.__init__ = init  # type: ignore[method-assign]

        def calls(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if script.steps < 2:
                line = script.line()
                if line is not None:
                    script.called.setdefault(id(module), set()).add(line)
            if module is script.model:
                script.inputs = inputs

        hooks.register_module_forward_pre_hook(calls)
        made = torch.optim.Optimizer.__init__

        def optimizer(opt: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> None:
            made(opt, *args, **kwargs)
            if not self.attached:
                self.attached = True
                script.know({id(p) for g in opt.param_groups for p in g["params"]})
                if script.model is not None:
                    self.guarded(self.rival.attach, script.model, opt)

        torch.optim.Optimizer.__init__ = optimizer  # type: ignore[method-assign]
        back = torch.Tensor.backward

        def backward(loss: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            script.loss = float(loss.detach().float().sum())
            script.backwards += 1
            return back(loss, *args, **kwargs)

        torch.Tensor.backward = backward  # type: ignore[method-assign,assignment]

        def before(opt: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
            if script.model is not None:
                self.guarded(self.rival.before_step)

        def after(opt: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
            script.steps += 1
            if script.model is not None:
                self.guarded(self.rival.after_step)

        register_optimizer_step_pre_hook(before)
        register_optimizer_step_post_hook(after)

    def run(self) -> dict[str, Any]:
        """Run the script; return what is to be written."""
        heard: list[str] = []
        warnings.showwarning = lambda message, *rest, **more: heard.append(str(message))
        self.hook()
        self.rival.begin()
        sys.argv = [self.script.file]
        sys.path.insert(0, str(Path(self.script.file).parent))
        try:
            runpy.run_path(self.script.file, run_name="__main__")
        except SystemExit as ending:
            self.error = f"exit {ending.code}" if ending.code not in (0, None) else None
        except Exception as problem:
            self.error = f"{type(problem).__name__}: {problem}"
            frames = traceback.extract_tb(problem.__traceback__)
            package = self.rival.needs
            if package != "torch" and any(f"/{package}/" in f.filename for f in frames):
                self.crash = self.crash or self.error
        apart = isinstance(self.rival, AnomalyMode)
        if apart:
            self._anomaly(heard)
        elif self.script.model is None:
            return self._told(why="no nn.Module holds what the optimizer trains")
        else:
            self.guarded(self.rival.end)
        return self._told()

    def _anomaly(self, heard: list[str]) -> None:
        """What anomaly mode says: the error names a backward node, the warning before it the forward call's traceback."""
        if self.error is None or "returned nan values" not in self.error:
            return
        trail = "\n".join(h for h in heard if "Traceback of forward call" in h)
        lines = [
            int(part.split("line ")[1].split(",")[0])
            for part in trail.splitlines()
            if f'"{self.script.file}"' in part and "line " in part
        ]
        self.rival.say("anomaly", "error", self.error, None, lines[-1] if lines else None)

    def _told(self, why: str | None = None) -> dict[str, Any]:
        return {
            "could_not": why,
            "crash": self.crash,
            "script_error": self.error,
            "steps": self.script.steps,
            "findings": self.rival.findings,
            "places": self.script.places(),
        }


def main() -> None:
    rival, script, out = sys.argv[1:]
    file = Path(script).resolve()
    told = Drive(rival, file).run()
    Path(out).write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    main()
