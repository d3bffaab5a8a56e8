"""The line to name: for an operation, for an initialisation, for an optimizer. Reads source text, runs none of it."""

from __future__ import annotations

import ast
from functools import lru_cache

from gradientflow.records import Meta, Op, Operand, Optimizer, Param, Place


def of_op(op: Op, meta: Meta) -> Place:
    """Return the place of an operation: its line in the model's code; for a ready-made layer that the code only reaches by
    calling the model or a container of layers, the line where that layer was made.
    """
    if (op.ready or not op.inside) and op.made_file is not None:
        line = element_line(meta.sources.get(op.made_file, ""), op.made_line, op.made_key)
        made = by_class(meta.sources.get(op.made_file, ""), op.module_class) if line is None else None
        return Place(op.made_file, line or made or op.made_line, op.module, op.name)
    return Place(op.file, op.line, op.module, op.name)


def of_data(op: Op, operand: Operand, meta: Meta) -> Place:
    """Return where data comes from: the line that made it, else the line of the training loop that hands it over."""
    if operand.file is not None:
        return Place(operand.file, operand.line, None, "data")
    if op.stack:
        file, line = op.stack[-1] if op.inside else op.stack[0]
        return Place(file, line, op.module, op.name)
    return of_op(op, meta)


def of_init(param: Param, op: Op | None = None) -> Place:
    """Return the line that gave a parameter its first values: its initialisation, else where it was made."""
    module = param.name.rpartition(".")[0] or None
    name = param.init or (f"default init of {param.module_class}" if param.module_class else None)
    if param.init_file is not None:
        return Place(param.init_file, param.init_line, module, name)
    if param.file is not None:
        return Place(param.file, param.line, module, name)
    return Place(op.file, op.line, op.module, op.name) if op is not None else Place(module=module)


def of_optimizer(optimizer: Optimizer | None, meta: Meta) -> Place | None:
    """Return the line that made an optimizer; where that was not seen, the one call of its class in the script."""
    if optimizer is None:
        return None
    if optimizer.made_file is not None:
        return Place(optimizer.made_file, optimizer.made_line, None, optimizer.name)
    file = optimizer.file or meta.script
    line = by_class(meta.sources.get(file, ""), optimizer.name)
    if line is not None:
        return Place(file, line, None, optimizer.name)
    return Place(optimizer.file, optimizer.line, None, f"{optimizer.name}.step") if optimizer.file else None


def of_group(optimizer: Optimizer | None, meta: Meta, group: int) -> Place | None:
    """Return the line of a parameter group: its element of the list that the optimizer was given, or the call that added it; where
    neither can be told, the line that made the optimizer.
    """
    made = of_optimizer(optimizer, meta)
    if optimizer is None or made is None or made.file is None or len(optimizer.groups) <= 1:
        return made
    lines = group_lines(meta.sources.get(made.file, ""), made.line, optimizer.name)
    if not group < len(optimizer.groups) <= len(lines):
        return made
    return Place(made.file, lines[group], None, f"{optimizer.name}, group {group}")


def of_option(optimizer: Optimizer | None, meta: Meta, option: str) -> Place | None:
    """Return the line of the group in which an option is largest, where groups differ in it; else that of the optimizer."""
    given = [group.options.get(option) or 0.0 for group in optimizer.groups] if optimizer is not None else []
    sizes = [abs(float(v)) if isinstance(v, (bool, int, float)) else 0.0 for v in given]
    if len(set(sizes)) <= 1:
        return of_optimizer(optimizer, meta)
    return of_group(optimizer, meta, sizes.index(max(sizes)))


def group_lines(source: str, line: int | None, name: str) -> list[int]:
    """Return the lines of the groups of the optimizer made on a line: those it is given as a list, then those added; none where the
    list cannot be read.

    Example:
        >>> group_lines("o = SGD([\\n  {'params': a},\\n  {'params': b},\\n], lr=1)\\no.add_param_group({'params': c})", 1, "SGD")
        [2, 3, 5]
    """
    tree = _tree(source)
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call)] if tree is not None else []
    made = next((c for c in calls if c.lineno == line and _called(c) == name), None)
    if made is None:
        return []
    given = next((k.value for k in made.keywords if k.arg == "params"), made.args[0] if made.args else None)
    appended: list[ast.Call] = []
    if isinstance(given, ast.Name) and tree is not None:  # a list that was put together before
        wanted = given.id
        lists = [
            n.value for n in ast.walk(tree) if isinstance(n, ast.Assign) and any(_is_name(t, wanted) for t in n.targets)
        ]
        given = lists[0] if len(lists) == 1 else None
        appended = [
            c
            for c in calls
            if _called(c) == "append" and isinstance(c.func, ast.Attribute) and _is_name(c.func.value, wanted)
        ]
    added = [c.lineno for c in calls if _called(c) == "add_param_group"]
    if not isinstance(given, (ast.List, ast.Tuple)):
        return [made.lineno, *sorted(added)] if added and not appended else []
    if not all(isinstance(e, (ast.Dict, ast.Call)) for e in given.elts):
        return []
    return [e.lineno for e in given.elts] + sorted(c.lineno for c in appended) + sorted(added)


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def of_call(meta: Meta, name: str) -> Place | None:
    """Return the line of the only call of `name(...)` in the script."""
    for file, source in meta.sources.items():
        line = by_class(source, name)
        if line is not None:
            return Place(file, line, None, name)
    return None


def of_last_call(meta: Meta, name: str) -> Place | None:
    """Return the line of the last call of `name(...)` in the script."""
    tree = _tree(meta.sources.get(meta.script, ""))
    lines = (
        [n.lineno for n in ast.walk(tree) if isinstance(n, ast.Call) and _called(n) == name] if tree is not None else []
    )
    return Place(meta.script, max(lines), None, name) if lines else None


def of_schedule(meta: Meta) -> Place | None:
    """Return the line that changes the learning rate: where a scheduler of torch.optim is made, or `group["lr"]` is set."""
    for file, source in meta.sources.items():
        tree = _tree(source)
        for node in ast.walk(tree) if tree is not None else ():
            if isinstance(node, ast.Call) and _is_schedule(_called(node)):
                return Place(file, node.lineno, None, _called(node))
        for node in ast.walk(tree) if tree is not None else ():
            if isinstance(node, (ast.Assign, ast.AugAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                if any(
                    isinstance(t, ast.Subscript) and isinstance(t.slice, ast.Constant) and t.slice.value == "lr"
                    for t in targets
                ):
                    return Place(file, node.lineno, None, "lr")
    return None


_REWRITING = (  # the likeliest first
    "copy_", "load_state_dict", "set_", "swap_tensors", "reset_parameters", "clamp_", "clip_", "fill_", "mul_",
)  # fmt: skip


def of_rewriting(meta: Meta) -> Place | None:
    """Return a line that may write weights outside an optimizer: a call that writes to a tensor or a module, else an assignment to
    `.data`; the likeliest kind first, and of that the last.
    """
    found: list[tuple[int, int, str, str]] = []
    for file, source in meta.sources.items():
        tree = _tree(source)
        for node in ast.walk(tree) if tree is not None else ():
            name = _called(node) if isinstance(node, ast.Call) else None
            if isinstance(node, ast.Call) and name in _REWRITING:
                found.append((_REWRITING.index(name), -node.lineno, file, name))
            elif isinstance(node, ast.Assign) and any(
                isinstance(t, ast.Attribute) and t.attr == "data" for t in node.targets
            ):
                found.append((len(_REWRITING), -node.lineno, file, "data"))
    if not found:
        return None
    _, line, file, name = min(found)
    return Place(file, -line, None, name)


def of_forgetting(meta: Meta) -> Place | None:
    """Return a line that throws away what an optimizer remembers: its `state` is cleared or assigned, or a state is loaded into it."""
    for file, source in meta.sources.items():
        tree = _tree(source)
        for node in ast.walk(tree) if tree is not None else ():
            cleared = node.func if isinstance(node, ast.Call) and _called(node) in ("clear", "pop", "popitem") else None
            if isinstance(cleared, ast.Attribute) and _is_state(cleared.value):
                return Place(file, cleared.lineno, None, "state")
            targets = node.targets if isinstance(node, (ast.Assign, ast.Delete)) else []
            if any(_is_state(t) or (isinstance(t, ast.Subscript) and _is_state(t.value)) for t in targets):
                return Place(file, targets[0].lineno, None, "state")
        for node in ast.walk(tree) if tree is not None else ():
            if isinstance(node, ast.Call) and _called(node) == "load_state_dict":
                return Place(file, node.lineno, None, "load_state_dict")
    return None


def _is_state(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "state"


def _is_schedule(name: str | None) -> bool:
    others = ("ReduceLROnPlateau", "CosineAnnealingWarmRestarts", "SequentialLR", "ChainedScheduler")
    return name is not None and (name in others or (name.endswith("LR") and name[:1].isupper()))


@lru_cache(maxsize=64)
def _tree(source: str) -> ast.Module | None:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError):
        return None


@lru_cache(maxsize=64)
def _calls(source: str) -> tuple[ast.Call, ...]:
    """All calls in a source text: asked for with every operation of a way back."""
    tree = _tree(source)
    return tuple(node for node in ast.walk(tree) if isinstance(node, ast.Call)) if tree is not None else ()


def element_line(source: str, line: int | None, key: str | None) -> int | None:
    """Return the line of element `key` of the container call that begins on `line`; None where it cannot be told.

    Example:
        >>> element_line("net = Sequential(\\n  Linear(2, 2),\\n  ReLU(),\\n)", 1, "1")
        3
    """
    if line is None or key is None or not key.isdigit():
        return None
    position = int(key)
    for node in _calls(source):
        if node.lineno == line and _called(node) in ("Sequential", "ModuleList"):
            args = node.args
            if len(args) == 1 and isinstance(args[0], (ast.List, ast.Tuple)):
                args = args[0].elts
            if position < len(args) and not any(isinstance(a, ast.Starred) for a in args[: position + 1]):
                return args[position].lineno
    return None


def by_class(source: str, name: str | None) -> int | None:
    """Return the line of the only call of `name(...)` in a source text; None where there is none or more than one."""
    lines = [node.lineno for node in _calls(source) if _called(node) == name] if name is not None else []
    return lines[0] if len(lines) == 1 else None


def _called(node: ast.Call) -> str | None:
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else None
