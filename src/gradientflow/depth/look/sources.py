"""Where a model that was built before anybody watched was made: read from source text, none of which is run.

Three things are read: the `self.name = …` lines of the model's own classes, the elements of container calls
(`nn.Sequential(…)`), and, for a model that is a ready-made container, the assignment to the variable that holds it. What
cannot be told by reading is left unknown; a model that is built under watch (a factory) needs none of this.
"""

from __future__ import annotations

import ast
import linecache
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

from torch import nn

from gradientflow.depth.probe.births import Births
from gradientflow.depth.probe.frames import OURS, USER, Where, classify, variables_of
from gradientflow.depth.probe.registry import Registry
from gradientflow.files import shown
from gradientflow.records import Param
from gradientflow.torch_internals import children_of, parameters_of

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

Init = tuple[str, str, int, str | None]  # function, file, line, the parameter it is for; None where that is any
Made = tuple[str, ast.expr]  # the file it is in, as Python names it, and the expression that made it


def text_of(file: str) -> str:
    """Return the source text of a file, or of a cell of a notebook, that Python has seen; "" where it is not known."""
    return "".join(linecache.getlines(file))


def named(file: str) -> str:
    """Return a file as the records name it: relative where it lies below the working directory."""
    return str(shown(Path(file))) if os.path.isabs(file) else file


def cell(file: str) -> str | None:
    """Return what the notebook calls a cell, as `In[3]`, from the file name that Python knows it by; None for other files."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    told = getattr(getattr(shell, "compile", None), "format_code_name", None)
    found = told(file) if told is not None else None
    return str(found[1]) if found else None


def cells() -> list[str]:
    """Return the file names of the notebook's cells that have run, the latest first; nothing outside of a notebook."""
    return (
        [file for file in reversed(list(linecache.cache)) if cell(file) is not None] if "IPython" in sys.modules else []
    )


def make_known(
    model: nn.Module, registry: Registry, births: Births, caller: FrameType | None, held: nn.Module | None = None
) -> None:
    """Tell the registry of every parameter of a model, and, where it can be read, on which line each layer was made.

    Args:
        model: the model. What was seen when it was built stands.
        registry: who is who among the parameters.
        births: the lines where modules were made.
        caller: the user's frame that holds the model in a variable.
        held: what that variable holds, where it is not this model but the one it was copied from.
    """
    reader = Reader()
    nodes: dict[int, Made] = {}
    fresh: list[Param] = []
    root = reader.of_variable(held if held is not None else model, caller)
    if root is not None:
        nodes[id(model)] = root
    for module in model.modules():
        own = nodes.get(id(module))
        for name, child in children_of(module).items():
            if child is None:
                continue
            if isinstance(module, _CONTAINERS):
                made = reader.element(own, name)
                if own is not None:
                    births.modules.setdefault(id(child), (named(own[0]), own[1].lineno, name))
            else:
                made = reader.attribute(module, name, type(child).__name__)
                if made is not None:
                    births.modules.setdefault(id(child), (named(made[0]), made[1].lineno, name))
            if made is not None:
                nodes.setdefault(id(child), made)
        for name, parameter in parameters_of(module).items():
            if parameter is not None and registry.find(parameter) is None:
                made = reader.attribute(module, name, "Parameter") or own
                where = Where(named(made[0]), made[1].lineno) if made is not None else Where()
                registry.made(parameter, where, (module, name))
                fresh.append(registry.params[registry.index_of(parameter)])
                fresh[-1].module_class = None  # it may have been initialised otherwise than by default
    inits = reader.inits(model, reader.holder or caller) if fresh else []
    paths = {registry.find(p): name for name, p in model.named_parameters()}
    for known in fresh:
        own_inits = {i[:3] for i in inits if i[3] is None or f".{paths.get(known.index)}".endswith(f".{i[3]}")}
        if len(own_inits) == 1 and len(known.shape) >= 2:
            known.init, known.init_file, known.init_line = own_inits.pop()


class Reader:
    """Reads syntax trees, each file once."""

    def __init__(self) -> None:
        self._trees: dict[str, ast.Module | None] = {}
        self.holder: FrameType | None = None  # the frame whose variable holds the model

    def tree(self, file: str) -> ast.Module | None:
        """Return the tree of a file."""
        if file not in self._trees:
            try:
                self._trees[file] = ast.parse(text_of(file))
            except (SyntaxError, ValueError, RecursionError):
                self._trees[file] = None
        return self._trees[file]

    def body(self, code: CodeType) -> ast.AST | None:
        """Return the tree of one function, or of the whole file where the code is a module's."""
        tree = self.tree(code.co_filename)
        if tree is None or code.co_name == "<module>":
            return tree
        for node in ast.walk(tree):
            if isinstance(node, _FUNCTIONS) and node.name == code.co_name:
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                if first == code.co_firstlineno:
                    return node
        return None

    def attribute(self, module: nn.Module, name: str, kind: str) -> Made | None:
        """Return what a module's class assigns to `self.name`, in the nearest class that does so: where there are several
        such lines the last that calls `kind`, or the last of all.
        """
        for method in _methods(type(module)):
            body = self.body(method.__code__)
            found = [
                node.value
                for node in (ast.walk(body) if body is not None else ())
                if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None
                and any(isinstance(t, ast.Attribute) and t.attr == name for t in _targets(node))
            ]  # fmt: skip
            if found:
                fitting = [
                    v for v in found if isinstance(v, ast.Call) and ast.unparse(v.func).rpartition(".")[2] == kind
                ]
                return method.__code__.co_filename, (fitting or found)[-1]
        return None

    def element(self, container: Made | None, key: str) -> Made | None:
        """Return what stands at position `key` of a container call; the call itself where that cannot be told."""
        if container is None:
            return None
        file, call = container
        if not isinstance(call, ast.Call):
            return container
        args: list[ast.expr] = list(call.args)
        if len(args) == 1 and isinstance(args[0], (ast.List, ast.Tuple)):
            args = list(args[0].elts)
        plain = key.isdigit() and int(key) < len(args) and not any(isinstance(a, ast.Starred) for a in args)
        if not plain or isinstance(args[int(key)], (ast.ListComp, ast.GeneratorExp)):
            return container
        return file, args[int(key)]

    def of_variable(self, model: nn.Module, caller: FrameType | None) -> Made | None:
        """Return what was assigned to the variable that holds a model, looked for from the caller's frame outwards."""
        frame = caller
        while frame is not None:
            if classify(frame.f_code) == USER:
                found = self._in_frame(model, frame)
                if found is not None:
                    self.holder = frame
                    return found
            frame = frame.f_back
        return None

    def _in_frame(self, model: nn.Module, frame: FrameType) -> Made | None:
        code = frame.f_code
        if code.co_name != "<module>":
            found = self._assigned(model, variables_of(frame), [(code.co_filename, self.body(code))], frame)
            if found is not None:
                return found
        files = [code.co_filename, *(f for f in cells() if f != code.co_filename)]
        return self._assigned(model, frame.f_globals, [(f, self.tree(f)) for f in files], frame)

    def _assigned(
        self, model: nn.Module, scope: dict[str, Any], bodies: list[tuple[str, ast.AST | None]], frame: FrameType
    ) -> Made | None:
        """Return what was assigned to a model's variable, in the first body that assigns to it."""
        names = [n for n, v in scope.items() if v is model and not n.startswith("_")]
        line = frame.f_lineno if frame.f_code.co_name == "<module>" or scope is not frame.f_globals else None
        for file, body in bodies:
            for name in names:
                found = _assignment(body, name, line if file == frame.f_code.co_filename else None)
                if found is not None:
                    return self._followed(file, found, frame.f_globals)
        return None

    def _followed(self, file: str, value: ast.expr, scope: dict[str, Any]) -> Made:
        """Follow `model = make(…)` into a function of the user's that returns a container."""
        if isinstance(value, ast.Call):
            function = _function(value.func, scope)
            if function is not None:
                body = self.body(function.__code__)
                returned = [n.value for n in ast.walk(body) if isinstance(n, ast.Return)] if body is not None else []
                last = returned[-1] if returned else None
                if isinstance(last, ast.Name):
                    last = _assignment(body, last.id)
                if isinstance(last, ast.Call):
                    return function.__code__.co_filename, last
        return file, value

    def inits(self, model: nn.Module, caller: FrameType | None) -> list[Init]:
        """Return the `nn.init` calls for weights in the code the model comes from.

        That code is the methods of its classes, the caller's function (or script, or cell), and the functions these name.
        """
        code: dict[CodeType, dict[str, Any]] = {
            f.__code__: f.__globals__ for m in model.modules() for f in _methods(type(m))
        }
        if caller is not None and classify(caller.f_code) == USER:
            code[caller.f_code] = caller.f_globals
        for scope, body in [(scope, self.body(c)) for c, scope in code.items()]:
            for node in ast.walk(body) if body is not None else ():
                called = _function(node, scope)
                if called is not None:
                    code.setdefault(called.__code__, called.__globals__)
        found = {
            (name, named(c.co_filename), line, path) for c in code for name, line, path in _init_calls(self.body(c))
        }
        return list(found)


def _function(node: ast.AST, scope: dict[str, Any]) -> FunctionType | None:
    """Return the function of the user's that a name, or a name in a module of his, stands for."""
    found: Any = None
    if isinstance(node, ast.Name):
        found = scope.get(node.id)
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        module = scope.get(node.value.id)
        found = vars(module).get(node.attr) if isinstance(module, ModuleType) else None
    return found if isinstance(found, FunctionType) and classify(found.__code__) == USER else None


def _methods(cls: type) -> Iterator[FunctionType]:
    """Yield the user's methods of a class and its bases, `__init__` first."""
    for base in cls.__mro__:
        own = vars(base)
        for name in sorted(own, key=lambda n: n != "__init__"):
            if isinstance(own[name], FunctionType) and classify(own[name].__code__) == USER:
                yield own[name]


def _targets(node: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target]


def _assignment(body: ast.AST | None, name: str, before: int | None = None) -> ast.expr | None:
    """Return the last value that a body assigns to a name, up to a line; of all, where there is none up to it."""
    found = [
        node.value
        for node in (ast.walk(body) if body is not None else ())
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None
        and any(isinstance(t, ast.Name) and t.id == name for t in _targets(node))
    ]  # fmt: skip
    past = [v for v in found if before is None or v.lineno <= before]
    return max(past or found, key=lambda v: v.lineno, default=None)


def _init_calls(tree: ast.AST | None) -> Iterator[tuple[str, int, str | None]]:
    """Yield (function, line, parameter) of calls `init.something_(…)` that are not about a bias.

    The parameter is the path behind the first name, `out.weight` of `self.out.weight` and `0.weight` of `net[0].weight`;
    None where the call is for any weight: `init.normal_(p)`, `init.normal_(m.weight)`.
    """
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr.endswith("_"):
            of = node.func.value
            module = of.attr if isinstance(of, ast.Attribute) else of.id if isinstance(of, ast.Name) else ""
            about = ast.unparse(node.args[0]) if node.args else ""
            if module == "init" and hasattr(nn.init, node.func.attr) and "bias" not in about:
                path = about.replace("[", ".").replace("]", "").removesuffix(".data").partition(".")[2]
                yield node.func.attr, node.lineno, path if "." in path else None


def user_frame(frame: FrameType | None) -> FrameType | None:
    """Return the innermost frame that is not ours."""
    while frame is not None and classify(frame.f_code) == OURS:
        frame = frame.f_back
    return frame
