"""Inputs and targets brought to a size that a network learns from: standardised where the data is made."""

from __future__ import annotations

import ast

from gradientflow.depth.remedies.writing.job import Job
from gradientflow.depth.remedies.writing.origins import origin
from gradientflow.depth.remedies.writing.patch import number
from gradientflow.depth.remedies.writing.source import NoEditError

_TARGETS = ("y", "t", "target", "label", "price", "out", "ys", "yb")


def scale_input(job: Job) -> None:
    """Standardise the inputs column by column; settings: `mean` and `std`, or `factor`."""
    _scale(job, target=False)


def scale_target(job: Job) -> None:
    """Standardise the targets; settings: `mean` and `std`, or `factor`."""
    _scale(job, target=True)
    job.patch.notes.append(
        "the network now predicts standardised targets: undo it (× std + mean) where predictions are used"
    )


def _scale(job: Job, target: bool) -> None:
    for line in _made_at(job, target):
        for stmt in job.source.on_line(line, ast.stmt):
            if isinstance(stmt, (ast.Assign, ast.AnnAssign)) and any(job.source.nodes(ast.Call, stmt)) and stmt.value:
                _after_assignment(job, stmt, target)
            elif isinstance(stmt, (ast.Return, ast.Expr)) and not job.patch:
                _wrap(job, stmt, target)
    found = origin(job, target) if not job.patch else None
    if found is not None and isinstance(found[0], ast.Assign):
        _after_assignment(job, found[0], target, found[1])
    if not job.patch:
        raise NoEditError("where the data is made was not seen, and the text does not show it")


def _made_at(job: Job, target: bool) -> list[int]:
    """The lines where the data is made: those of the change, if they are of data, else those that the record shows."""
    given = sorted({p.line for p in job.places if p.op in ("data", None) and p.line is not None})
    if given and not any(_computed(job, line) for line in given):
        return given
    inputs, targets = job.entering()
    found = targets if target else inputs
    return [line for line in list(found)[:1] if not _computed(job, line)]


def _computed(job: Job, line: int) -> bool:
    """Whether what a line makes is not data: a gradient flows to it, or it makes an optimizer or a parameter."""
    made = {o.made_line for o in job.meta.optimizers if o.made_file == job.file}
    made |= {p.line for p in job.meta.params if p.file == job.file}
    return line in made or any(op.grad is not None for op in job.ops([line]))


def _after_assignment(job: Job, stmt: ast.Assign | ast.AnnAssign, target: bool, name: str | None = None) -> None:
    targets = stmt.targets if isinstance(stmt, ast.Assign) else [stmt.target]
    if len(targets) != 1:
        raise NoEditError("the line gives the data several names")
    names = targets[0].elts if isinstance(targets[0], (ast.Tuple, ast.List)) else [targets[0]]
    if not all(isinstance(n, (ast.Name, ast.Attribute)) for n in names):
        raise NoEditError("the data has no plain name")
    texts = [job.source.segment(n) for n in names]
    chosen = _chosen(texts, target)
    if name is not None and name not in chosen:
        chosen = [name]
    if not chosen:
        raise NoEditError("which of the names holds the data cannot be told")
    if _whole_numbers(job, stmt):
        raise NoEditError("the line makes whole numbers, such as the numbers of tokens or classes")
    if isinstance(stmt.value, ast.Call) and _is_loader(job, stmt.value):
        raise NoEditError("the line makes a loader, not data")
    holder: ast.stmt = stmt
    if len(chosen) == 1:
        for other, made in _siblings(job, stmt, chosen[0]):
            chosen.append(other)
            holder = max(holder, made, key=lambda s: s.lineno)
    holder = _last_use(job, holder, set(chosen))
    job.patch.after(holder, *_standardised(job, chosen, _fixed(job, stmt, target), target))


def _made_next(job: Job, stmt: ast.stmt) -> list[ast.stmt]:
    """The statements after one, as long as they only make data: up to the first loop, definition, layer or return."""
    block = job.source.block(stmt)
    found: list[ast.stmt] = []
    for after in block[block.index(stmt) + 1 :]:
        if not isinstance(after, ast.Assign) or _computed(job, after.lineno):
            break
        found.append(after)
    return found


def _siblings(job: Job, stmt: ast.stmt, name: str) -> list[tuple[str, ast.stmt]]:
    """The parts of the data for testing beside a part for training: `X_test` beside `X_train`, made next to it."""
    found = []
    for part, others in (("train", ("test", "val", "valid", "dev")), ("tr", ("te", "va"))):
        if part not in name.lower().split("_"):
            continue
        for other in others:
            wanted = name.lower().replace(part, other)
            for after in _made_next(job, stmt):
                for n in job.source.nodes(ast.Name, after):
                    if isinstance(n.ctx, ast.Store) and n.id.lower() == wanted:
                        found.append((n.id, after))
    return found


def _last_use(job: Job, stmt: ast.stmt, names: set[str]) -> ast.stmt:
    """The last statement that computes other data from some names before they are used: scaling must come after it."""
    last = stmt
    for after in _made_next(job, stmt):
        assert isinstance(after, ast.Assign)
        reads = [n for n in job.source.nodes(ast.Name, after.value) if isinstance(n.ctx, ast.Load) and n.id in names]
        if any(isinstance(job.source.parents.get(n), (ast.BinOp, ast.Attribute)) for n in reads):
            last = after
    return last


def _fixed(job: Job, stmt: ast.stmt, target: bool) -> tuple[float, float] | None:
    """Mean and spread as numbers: those of the settings; those that were seen, where a line makes one sample at a time."""
    mean, std = job.number("mean"), job.number("std")
    if mean is not None and std:
        return mean, std
    scope = job.source.scope(stmt)
    if not isinstance(scope, ast.FunctionDef) or scope.name != "__getitem__":
        return None
    seen = list(job.entering()[target].values())
    if not seen or not seen[0].std > 0:
        raise NoEditError("the line makes one sample, and the mean and spread of all are not known")
    return seen[0].mean, seen[0].std


def _chosen(texts: list[str], target: bool) -> list[str]:
    """The names among several that are inputs, or targets; the training part first."""
    if len(texts) == 1:
        return texts
    looks = [_target_like(t) for t in texts]
    if any(looks) and not all(looks):
        chosen = [t for t, like in zip(texts, looks, strict=True) if like is target]
    elif len(texts) == 2:
        chosen = [texts[1] if target else texts[0]]
    else:
        return []
    train = [t for t in chosen if "tr" in t.lower()]
    return (
        sorted(chosen, key=lambda t: t not in train)
        if len(chosen) > 1 and train
        else chosen
        if len(chosen) == 1
        else []
    )


def _target_like(name: str) -> bool:
    parts = name.lower().replace(".", "_").split("_")
    return any(
        p in _TARGETS or p.rstrip("s") in _TARGETS or p.startswith(("target", "label", "price", "ytr", "yte"))
        for p in parts
    )


def _whole_numbers(job: Job, stmt: ast.stmt) -> bool:
    """Whether a line makes numbers of tokens or classes, by how it is written; several names at once are not looked at."""
    source = job.source
    value = getattr(stmt, "value", None)
    if not isinstance(value, ast.Call):
        return False
    name = source.torch_name(value.func) or (value.func.attr if isinstance(value.func, ast.Attribute) else "")
    kinds = [source.dotted(k.value).rpartition(".")[2] for k in value.keywords if k.arg == "dtype"]
    return name in ("randint", "arange", "randperm", "long", "int", "argmax") or bool(
        {"long", "int64", "int32"} & {*kinds}
    )


def _is_loader(job: Job, call: ast.Call) -> bool:
    return job.source.dotted(call.func).rpartition(".")[2].endswith(("Loader", "Dataset"))


def _standardised(job: Job, names: list[str], fixed: tuple[float, float] | None, target: bool) -> list[str]:
    factor = job.number("factor")
    if factor is not None:
        return [f"{n} = {n} * {number(factor)}" for n in names]
    if fixed is not None:
        return [f"{n} = ({n} - {number(fixed[0])}) / {number(fixed[1])}".replace("- -", "+ ") for n in names]
    first = names[0]
    axis = "" if target else "0"
    if len(names) == 1:
        return [f"{first} = ({first} - {first}.mean({axis})) / ({first}.std({axis}) + 1e-8)"]
    centre, spread = job.source.fresh("mean", "centre"), job.source.fresh("std", "spread")
    lines = [f"{centre}, {spread} = {first}.mean({axis}), {first}.std({axis}) + 1e-8"]
    return lines + [f"{n} = ({n} - {centre}) / {spread}" for n in names]


def _wrap(job: Job, stmt: ast.Return | ast.Expr, target: bool) -> bool:
    """Data made inside an expression: give it to a function that standardises, which is put before the statement."""
    source, patch = job.source, job.patch
    makers = [
        c
        for c in source.nodes(ast.Call, stmt)
        if source.torch_name(c.func) in ("tensor", "as_tensor", "from_numpy", "stack", "randn", "rand")
    ]
    outer = [c for c in makers if not any(c in source.nodes(ast.Call, o) and o is not c for o in makers)]
    outer.sort(key=lambda c: (c.lineno, c.col_offset))
    if len(outer) == 2:
        outer = [outer[1] if target else outer[0]]
    if len(outer) != 1:
        return False
    factor = job.number("factor")
    if factor is not None:
        patch.replace(outer[0], f"{source.segment(outer[0])} * {number(factor)}")
        return True
    whole = outer[0]
    parent = source.parents.get(whole)
    while isinstance(parent, ast.Attribute) and isinstance(
        source.parents.get(parent), ast.Call
    ):  # .float(), .to(device)
        whole = source.parents[parent]  # type: ignore[assignment]
        parent = source.parents.get(whole)
    top: ast.stmt = stmt
    for above in source.above(stmt):
        if isinstance(above, ast.stmt) and isinstance(source.parents.get(above), ast.Module):
            top = above
    function = source.fresh("standardised", "standardise_columns")
    axis = "" if target else "0"
    patch.before(
        top, f"def {function}(data):", f"\treturn (data - data.mean({axis})) / (data.std({axis}) + 1e-8)", "", ""
    )
    patch.wrap(whole, f"{function}(", ")")
    return True
