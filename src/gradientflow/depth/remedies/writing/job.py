"""What one edit is about: the change, the finding it is for, what was seen, and the file to be edited."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from gradientflow.depth.remedies.writing.patch import Patch
from gradientflow.depth.remedies.writing.source import NoEditError, Source
from gradientflow.ops import LAYER_KINDS
from gradientflow.records import Change, Finding, Op, Optimizer, Place, Run, ValueStat

INITIALISED = ("Linear", "Conv1d", "Conv2d", "Conv3d")


class Job:
    """One edit in the making.

    Args:
        change: the remedy.
        finding: what it is for.
        run: what was seen, with the source texts.

    Raises:
        NoEditError: the lines of the change are in several files, or the file's text is not at hand.
    """

    def __init__(self, change: Change, finding: Finding, run: Run) -> None:
        self.change, self.finding, self.run, self.meta = change, finding, run, run.meta
        self.settings = change.settings
        places = [p for p in change.places if p.file and p.line]
        if not places and not change.places and finding.place is not None and finding.place.file:
            places = [finding.place]
        files = {p.file for p in places}
        if len(files) > 1:
            raise NoEditError("the lines are in several files")
        self.places: list[Place] = list({(p.line, p.op): p for p in places}.values())
        self.file = next((f for f in files if f), None) or self._step_file() or run.meta.script
        self._sources: dict[str, Source] = {}
        self.enter(self.file)

    def _step_file(self) -> str | None:
        return next((o.file for o in self.meta.optimizers if o.file), None)

    def enter(self, file: str) -> None:
        """Go on in another file; nothing may be changed yet."""
        if file not in self.meta.sources:
            raise NoEditError(f"the text of {file} was not kept")
        if file not in self._sources:
            self._sources[file] = Source(self.meta.sources[file])
        self.file, self.source = file, self._sources[file]
        self.patch = Patch(self.source)

    @property
    def lines(self) -> list[int]:
        """The lines of the change in the file, in order."""
        return sorted({p.line for p in self.places if p.line is not None and p.file == self.file})

    def number(self, *names: str) -> float | None:
        """Return the first of some settings that is a number."""
        for name in names:
            value = self.settings.get(name)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                return float(value)
        return None

    def word(self, *names: str) -> str | None:
        """Return the first of some settings that is a text."""
        return next((v for v in (self.settings.get(n) for n in names) if isinstance(v, str)), None)

    # ── what was seen ────────────────────────────────────────────────────────────────────────────────────────────────

    def ops(self, lines: list[int] | None = None) -> Iterator[Op]:
        """Return the operations of the probed steps in this file, at some lines or at all."""
        for probe in self.run.probes:
            for op in probe.ops:
                if op.file == self.file and (lines is None or op.line in lines):
                    yield op

    def ran_at(self, op: Op, lines: list[int]) -> bool:
        """Whether an operation stands on one of some lines in this file, or is a layer that was made on one."""
        if (op.file == self.file and op.line in lines) or (op.made_file == self.file and op.made_line in lines):
            return True
        element = self.element(op)
        return element is not None and element.lineno in lines

    def entering(self) -> tuple[dict[int, ValueStat], dict[int, ValueStat]]:
        """Return what is known of inputs and of targets: line in this file where they are made → their values, first seen.

        Data that enters the operations of the change's lines counts as input, or all that enters a layer; data that a loss
        compares with counts as target.
        """
        inputs: dict[int, ValueStat] = {}
        near: dict[int, ValueStat] = {}
        targets: dict[int, ValueStat] = {}
        for op in self.run.probes[0].ops if self.run.probes else []:
            for operand in op.operands:
                value, line = operand.value, operand.line
                if operand.op is not None or operand.param is not None or value is None or line is None:
                    continue
                if operand.file != self.file or value.numel < 2 or "float" not in value.dtype:
                    continue
                if op.kind == "loss" or (op.name in ("sub", "rsub") and not targets):
                    targets.setdefault(line, value)
                elif op.kind in LAYER_KINDS or op.name in ("matmul", "mul"):
                    inputs.setdefault(line, value)
                    if self.ran_at(op, self.lines):
                        near.setdefault(line, value)
        return near or inputs, targets

    def element(self, op: Op) -> ast.expr | None:
        """Return the element of an `nn.Sequential(...)` in this file that ran as an operation; None where it is none."""
        if op.made_file != self.file or op.made_key is None or not op.made_key.isdigit():
            return None
        position = int(op.made_key)
        for call in self.source.nodes(ast.Call):
            if call.lineno != op.made_line or self.source.torch_name(call.func) != "nn.Sequential":
                continue
            items: list[ast.expr] = call.args
            if (
                len(items) == 1
                and isinstance(items[0], ast.Starred)
                and isinstance(items[0].value, (ast.List, ast.Tuple))
            ):
                items = items[0].value.elts
            if position < len(items) and not any(isinstance(i, ast.Starred) for i in items[: position + 1]):
                return items[position]
        return None

    def building_lines(self, lines: list[int]) -> list[int]:
        """Return the lines that build the list in `nn.Sequential(*layers)`, where such a call is made at some lines.

        Lines that only call the container are followed to where it was made.
        """
        source = self.source
        made = {op.made_line for op in self.ops(lines) if op.made_file == self.file}
        found: set[int] = set()
        for call in source.nodes(ast.Call):
            if call.lineno not in {*lines, *made} or source.torch_name(call.func) != "nn.Sequential":
                continue
            names = {a.value.id for a in call.args if isinstance(a, ast.Starred) and isinstance(a.value, ast.Name)}
            scope = source.scope(call)
            for stmt in source.nodes(ast.stmt, scope):
                target = stmt.targets[0] if isinstance(stmt, ast.Assign) else getattr(stmt, "target", None)
                if isinstance(stmt, ast.Expr) and isinstance(stmt.value, ast.Call):
                    function = stmt.value.func
                    grows = isinstance(function, ast.Attribute) and function.attr in ("append", "extend")
                    target = function.value if grows and isinstance(function, ast.Attribute) else None
                if isinstance(target, ast.Name) and target.id in names and not isinstance(stmt, ast.For):
                    found.add(stmt.lineno)
        return sorted(found)

    def activation_lines(self) -> list[int]:
        """Return the lines in this file where activations ran, and where those that are modules were made."""
        lines: set[int] = set()
        for op in self.run.probes[0].ops if self.run.probes else []:
            if op.kind != "activation":
                continue
            element = self.element(op)
            if element is not None:
                lines.add(element.lineno)
            elif op.made_file == self.file and op.made_line is not None:
                lines.add(op.made_line)
            if op.file == self.file and op.line is not None:
                lines.add(op.line)
        return sorted(lines)

    @property
    def optimizer(self) -> Optimizer | None:
        """The optimizer the change is for: the one named in the settings, or at the change's line, else the busiest."""
        wanted = self.number("optimizer")
        every = self.meta.optimizers
        if wanted is not None:
            return next((o for o in every if o.index == int(wanted)), None)
        for place in self.places:
            for o in every:
                if (place.file, place.line) in ((o.made_file, o.made_line), (o.file, o.line)):
                    return o
        return max(every, key=lambda o: o.steps, default=None)

    # ── the loop ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def constructor(self) -> ast.Call:
        """Return the call that made the optimizer; goes into its file if nothing was changed yet.

        Raises:
            NoEditError: it cannot be told which call it was.
        """
        optimizer = self.optimizer
        if optimizer is None:
            raise NoEditError("no optimizer was seen")
        file = optimizer.made_file or optimizer.file or self.file
        if file != self.file:
            if self.patch:
                raise NoEditError("the optimizer is made in another file")
            self.enter(file)
        calls = [c for c in self.source.nodes(ast.Call) if self._makes(c, optimizer.name)]
        if optimizer.made_line is not None:
            here = [c for c in calls if c.lineno <= optimizer.made_line <= (c.end_lineno or c.lineno)]
            calls = here or calls
        if len(calls) != 1:
            raise NoEditError(f"{len(calls)} calls could have made the optimizer")
        return calls[0]

    def _makes(self, call: ast.Call, name: str) -> bool:
        return self.source.dotted(call.func).rpartition(".")[2] == name

    def step_statement(self) -> tuple[ast.stmt, ast.Call]:
        """Return the statement that calls the optimizer's `step`, and the call.

        Raises:
            NoEditError: it cannot be told where that is.
        """
        optimizer = self.optimizer
        if optimizer is None or optimizer.file is None:
            raise NoEditError("no optimizer step was seen")
        if optimizer.file != self.file:
            if self.patch:
                raise NoEditError("the optimizer steps in another file")
            self.enter(optimizer.file)
        found = [
            c
            for c in self.source.on_line(optimizer.line, ast.Call)
            if isinstance(c.func, ast.Attribute) and c.func.attr == "step"
        ]
        if len(found) != 1:
            raise NoEditError(f"{len(found)} calls of step on line {optimizer.line}")
        statement = self.source.statement(found[0])
        if not isinstance(statement, (ast.Expr, ast.Assign)):
            raise NoEditError("the step is part of a larger statement")
        return statement, found[0]

    def stepper(self, call: ast.Call) -> str:
        """Return how the optimizer is written where it steps: `opt` for `opt.step()` and for `scaler.step(opt)`."""
        if call.args and self.closure(call) is None and not isinstance(call.args[0], (ast.Lambda, ast.Constant)):
            return self.source.segment(call.args[0])
        assert isinstance(call.func, ast.Attribute)
        return self.source.segment(call.func.value)

    def closure(self, call: ast.Call) -> ast.FunctionDef | None:
        """Return the function given to `step(closure)`."""
        given = [*call.args, *(k.value for k in call.keywords if k.arg == "closure")]
        if not given or not isinstance(given[0], ast.Name):
            return None
        defined = [f for f in self.source.nodes(ast.FunctionDef) if f.name == given[0].id]
        return defined[0] if len(defined) == 1 else None

    def backwards(self, statement: ast.stmt, call: ast.Call | None) -> list[ast.stmt]:
        """Return the statements that call `backward` and belong to a step: in its closure, or before it in its loop."""
        closure = self.closure(call) if call is not None else None
        if closure is not None:
            return sorted(self._backward_within(closure), key=lambda s: s.lineno)
        for outer in [statement, *self.source.above(statement)]:
            if isinstance(outer, (ast.For, ast.While, ast.FunctionDef, ast.AsyncFunctionDef, ast.Module)):
                found = [s for s in self._backward_within(outer) if s.lineno <= statement.lineno]
                if found:
                    return sorted(found, key=lambda s: s.lineno)
        return []

    def _backward_within(self, outer: ast.AST) -> list[ast.stmt]:
        return [
            self.source.statement(c)
            for c in self.source.nodes(ast.Call, outer)
            if isinstance(c.func, ast.Attribute) and c.func.attr == "backward"
        ]

    def backward(self) -> ast.stmt:
        """Return the first statement that calls `backward` for a step.

        Raises:
            NoEditError: there is none in this file.
        """
        if self.optimizer is not None and self.optimizer.file is not None:
            found = self.backwards(*self.step_statement())
        else:
            found = self._backward_within(self.source.tree)
            found = found if len(found) == 1 else []
        if not found:
            raise NoEditError("no call of backward that belongs to the step")
        return found[0]

    def loss(self, backward: ast.stmt) -> ast.expr:
        """Return what a statement calls `backward` on.

        Raises:
            NoEditError: the loss is handed over as an argument (`accelerator.backward(loss)`), or a gradient is.
        """
        for call in self.source.nodes(ast.Call, backward):
            if isinstance(call.func, ast.Attribute) and call.func.attr == "backward" and not call.args:
                return call.func.value
        raise NoEditError("backward is not called on the loss itself")

    def model(self) -> tuple[ast.stmt, str]:
        """Return the statement that made the model, and the model's name there.

        The model is what the optimizer was given the parameters of; where that cannot be read, the only object made from
        a class of this file that is an `nn.Module`, or from `nn.Sequential`.

        Raises:
            NoEditError: it cannot be told which.
        """
        name: str | None = None
        try:
            call = self.constructor()
            for c in self.source.nodes(ast.Call, call):
                if isinstance(c.func, ast.Attribute) and c.func.attr in ("parameters", "named_parameters"):
                    name = self.source.segment(c.func.value)
                    break
        except NoEditError:
            name = None
        modules = self.modules()
        made = []
        for stmt in self.source.nodes(ast.Assign):
            target = self.source.segment(stmt.targets[0])
            calls = [c for c in self.source.nodes(ast.Call, stmt.value) if self._is_module(c, modules)]
            if len(stmt.targets) == 1 and calls and (target == name if name else not target.startswith("self.")):
                made.append((stmt, target))
        if len(made) != 1:
            raise NoEditError(f"{len(made)} statements could have made the model")
        return made[0]

    def modules(self) -> set[str]:
        """Return the names of the classes of this file that are modules, as far as their bases can be read."""
        known: set[str] = set()
        classes = sorted(self.source.nodes(ast.ClassDef), key=lambda c: c.lineno)
        for _ in range(3):
            for c in classes:
                if any(
                    self.source.dotted(b).rpartition(".")[2] == "Module" or self.source.dotted(b) in known
                    for b in c.bases
                ):
                    known.add(c.name)
        return known

    def _is_module(self, call: ast.Call, modules: set[str]) -> bool:
        name = self.source.dotted(call.func)
        return name in modules or name == "torch.nn.Sequential"
