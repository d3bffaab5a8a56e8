"""Functions of the script's own (`torch.autograd.Function`): where their backward is written, and whether it heeds what it is given.

A backward pass is linear in the gradient g that comes in: twice of g gives twice of what goes out, and −g its negative. One
that gives the same for all three leaves g out of its product. It is called apart from the script's own pass only where its
source shows that a call more changes nothing: no state, no random numbers, no writing in place, no code of others.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from types import CodeType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node

from gradientflow.depth.probe.frames import USER, Where, classify, file_name
from gradientflow.depth.probe.registry import Registry
from gradientflow.depth.probe.stats import value_stat
from gradientflow.depth.probe.tracebacks import let_through
from gradientflow.limits import Limit
from gradientflow.ops import writes
from gradientflow.records import Linearity, Op, Operand
from gradientflow.torch_internals import function_behind, output_metadata

LARGEST = Limit("entries_of_a_function", 4_000_000, "chosen: three more calls over more entries take as long as a step")
_DRAWING = frozenset({
    "rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "normal", "bernoulli", "multinomial",
    "poisson", "dropout", "manual_seed", "seed", "backward", "grad", "save_for_backward", "set_grad_enabled", "save", "load",
    "register_hook", "item", "numpy", "apply", "set_default_dtype", "empty", "empty_like",
})  # fmt: skip
_ELSEWHERE = frozenset(
    {"ops", "distributed", "cuda", "random", "utils", "_C", "classes", "rpc"}
)  # parts of PyTorch with a state
_PLAIN_CALLS = frozenset(
    {"len", "range", "tuple", "list", "float", "int", "bool", "isinstance", "zip", "enumerate", "max", "min"}
)
_MODULES = ("torch", "F", "math")
_STATEMENTS = (ast.Assign, ast.AnnAssign, ast.Return, ast.Expr, ast.If, ast.Pass)
_UNSAFE = (
    ast.AugAssign, ast.Delete, ast.Global, ast.Nonlocal, ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr, ast.Lambda,
    ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Raise, ast.With, ast.For, ast.While, ast.Try,
)  # fmt: skip


def function_of(node: Node | None) -> type | None:
    """Return the class of a node's function, where it is one of the script's own."""
    found = function_behind(node) if node is not None else None
    code = _code(found)
    return found if code is not None and classify(code) == USER else None


def _code(function: Any) -> CodeType | None:
    backward = inspect.unwrap(getattr(function, "backward", None) or getattr(function, "vjp", None) or _code)
    code = getattr(backward, "__code__", None)
    return code if isinstance(code, CodeType) and backward is not _code else None


def place_of(function: type) -> tuple[CodeType | None, int | None]:
    """Return the code of a function's backward and the line of what it returns last."""
    code = _code(function)
    lines = [line for *_, line in code.co_lines() if line is not None] if code is not None else []
    return code, max(lines, default=None)


def row_of(index: int, function: type, t: Tensor, operands: list[Operand], where: Where, registry: Registry) -> Op:
    """Return the operation that a function of the script's is: no mode sees its call, so its line is that of its backward.

    Args:
        index: the operation's.
        function: its class.
        t: what it made.
        operands: what it made it of.
        where: the line that runs, which takes its result.
        registry: who is who among the modules.
    """
    code, line = place_of(function)
    return Op(
        index=index, name=function.__name__, kind="other", file=file_name(code) if code is not None else None, line=line,
        function=function.__name__, module=registry.path_of(where.modules[0], where.modules[-1]) or None if where.modules else None,
        module_class=type(where.modules[0]).__name__ if where.modules else None, operands=operands, value=value_stat(t),
        stack=where.stack, custom=Linearity(why="it was not reached"),
    )  # fmt: skip


def linearity(node: Node, function: type, generator: torch.Generator) -> Linearity:
    """Call a function's backward with g, 2g and −g, and compare what it gives.

    Args:
        node: of a graph that is still there.
        function: its class.
        generator: draws g; never the script's.
    """
    if not _harmless(function):
        return Linearity(why="its source does not show that one call more changes nothing")
    edges = [GradientEdge(target, nr) for target, nr in node.next_functions if target is not None]
    known = output_metadata(node, 0)
    if not edges or known is None:
        return Linearity(why="this PyTorch does not tell the shape of a gradient before it is there")
    shape, dtype, device = known
    if not dtype.is_floating_point or torch.Size(shape).numel() > LARGEST:
        return Linearity(why=f"its gradient has {torch.Size(shape).numel()} entries of {dtype}")
    drawn = torch.randint(1, 9, shape, generator=generator).to(
        device=device, dtype=dtype
    )  # (small whole numbers: exact)
    try:
        once, twice, minus = (_sent(node, edges, factor * drawn) for factor in (1.0, 2.0, -1.0))
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as problem:
        let_through(problem)
        return Linearity(why=f"it could not be called apart ({str(problem).splitlines()[0][:120]})")
    size = float(once.norm())
    if not size or not bool(torch.isfinite(once).all()):
        return Linearity(error=0.0 if not size else None, why="" if not size else "what it gives is not finite")
    error = float((twice - 2 * once).norm()) / (2 * size)
    return Linearity(error=error, ignores=bool((twice == once).all() and (minus == once).all()))


def _sent(node: Node, edges: list[GradientEdge], g: Tensor) -> Tensor:
    found = torch.autograd.grad([GradientEdge(node, 0)], edges, [g], retain_graph=True, allow_unused=True)
    parts = [f.detach().reshape(-1).double().cpu() for f in found if f is not None]
    return torch.cat(parts) if parts else torch.zeros(1, dtype=torch.float64)


def _harmless(function: type) -> bool:
    """Whether the source of a backward shows that it only computes: what it takes from its context, and calls of PyTorch's."""
    try:
        backward = inspect.unwrap(function.backward)  # type: ignore[attr-defined]
        tree = ast.parse(textwrap.dedent(inspect.getsource(backward)))
        if not _is_current(_code(function), inspect.findsource(backward)[0]):
            return False
    except (OSError, TypeError, SyntaxError, AttributeError, ValueError):
        return False
    made = tree.body[0] if tree.body else None
    if not isinstance(made, ast.FunctionDef):
        return False
    local = {a.arg for a in made.args.args}
    local |= {n.id for n in ast.walk(made) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    nodes = [n for statement in made.body for n in ast.walk(statement)]
    return not any(isinstance(n, _UNSAFE) or not _calm(n, local) for n in nodes)


def _is_current(code: CodeType | None, lines: list[str]) -> bool:
    """Whether a file's text is that of the code that runs: it may have been edited since."""
    todo = [compile("".join(lines), "backward", "exec", dont_inherit=True)]
    while todo and code is not None:
        found = todo.pop()
        if (found.co_name, found.co_firstlineno) == (code.co_name, code.co_firstlineno):
            return (found.co_code, found.co_names, found.co_consts) == (code.co_code, code.co_names, code.co_consts)
        todo += [c for c in found.co_consts if isinstance(c, CodeType)]
    return False


def _calm(node: ast.AST, local: set[str]) -> bool:
    if isinstance(node, ast.stmt):
        return isinstance(node, _STATEMENTS)
    if isinstance(node, (ast.Attribute, ast.Subscript)):
        return isinstance(node.ctx, ast.Load)
    if not isinstance(node, ast.Call):
        return True
    if any(k.arg in ("out", "inplace") for k in node.keywords):
        return False
    if isinstance(node.func, ast.Name):
        return node.func.id in _PLAIN_CALLS
    if not isinstance(node.func, ast.Attribute):
        return False
    name, root = node.func.attr, node.func.value
    if name in _DRAWING or writes(name):
        return False
    while isinstance(root, (ast.Attribute, ast.Call, ast.Subscript)):
        if isinstance(root, ast.Attribute) and root.attr in _ELSEWHERE:
            return False
        root = root.func if isinstance(root, ast.Call) else root.value
    if isinstance(root, ast.Name) and root.id not in local:
        return root.id in _MODULES
    return hasattr(Tensor, name)
