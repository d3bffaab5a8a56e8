"""What a record of a run must hold to be judged: what it points to is there, and its numbers are of their kind.

Types are checked where a record is decoded. Here it is asked what no type says: operations that are numbered as they stand
and that consume what ran before them, so that no walk along a graph turns in a circle; parameters and optimizers that exist;
norms that are not negative, shapes of tensors that a machine can hold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from gradientflow.records.seen import GradStat, Meta, Note, Op, Optimizer, Param, ParamNorms, Probe, Step, ValueStat

NOT_RECORDED = "(not recorded)"
MOST_ENTRIES = 2**63  # of a tensor
DEEPEST = 8  # lists in lists of an optimizer's options


def sound_meta(data: Any) -> tuple[Meta, list[str]]:
    """Decode the description of a run, as far as it is one.

    Args:
        data: what stands in its row.

    Returns:
        The description, and the parts that were left out, each with the reason. A part that is left out is as if nothing had
        been recorded there.
    """
    try:
        found: Any = msgspec.msgpack.decode(data)
        if not isinstance(found, dict):
            raise TypeError(f"expected named fields, got {type(found).__name__}")
    except Exception as problem:  # msgspec may raise any of a dozen kinds
        found, lost = {}, [f"all of it ({type(problem).__name__}: {problem})"]
    else:
        lost = []
    kept: dict[str, Any] = {"script": NOT_RECORDED, "argv": [], **dict.fromkeys(("cwd", "started", "python", "torch"), "")}
    for field in msgspec.structs.fields(Meta):
        if field.name not in found:
            lost += [f"{field.name} (missing)"] if field.required and found else []
            continue
        try:
            value = msgspec.convert(found[field.name], field.type)
            fault = _fault_of_part(field.name, value, kept)
        except Exception as problem:
            fault = str(problem).partition(" - at")[0]
        if fault:
            lost.append(f"{field.name} ({fault})")
        else:
            kept[field.name] = value
    return Meta(**kept), lost


def _fault_of_part(name: str, value: Any, kept: dict[str, Any]) -> str:
    if name in ("elapsed", "overhead", "steps", "backwards"):
        return "" if 0 <= value < math.inf else f"{value} is no such number"
    if name == "params":
        return _first(_fault_of_param(k, p) for k, p in enumerate(value))
    if name == "optimizers":
        return _first(_fault_of_optimizer(k, o, len(kept.get("params", []))) for k, o in enumerate(value))
    return ""


def _fault_of_param(k: int, param: Param) -> str:
    if param.index != k:
        return f"parameter {k} is numbered {param.index}"
    return _fault_of_shape(param.shape)


def _fault_of_optimizer(k: int, optimizer: Optimizer, params: int) -> str:
    if optimizer.index != k:
        return f"optimizer {k} is numbered {optimizer.index}"
    if _depth(optimizer.options) > DEEPEST:
        return f"the options of optimizer {k} are no options"
    return _out_of_range("parameter", optimizer.params, params)


def fault_of(record: Step | ParamNorms | Probe | Note, meta: Meta) -> str:
    """Return why a record cannot be judged, in words; empty where it is sound.

    Args:
        record: of the right types.
        meta: the description of its run, sound itself.
    """
    match record:
        case Step():
            return _first(_faults_of_step(record, meta))
        case ParamNorms():
            return _first(_faults_of_norms(record, meta))
        case Probe():
            return _first(_faults_of_probe(record, meta))
    return ""


def _faults_of_step(step: Step, meta: Meta) -> Iterator[str]:
    yield _fault_of_time(step.step, step.at)
    if meta.optimizers:
        yield _out_of_range("optimizer", [step.optimizer], len(meta.optimizers))
    for name in ("grad", "weight", "update", "nonfinite", "backwards"):
        yield _negative(name, getattr(step, name))


def _faults_of_norms(norms: ParamNorms, meta: Meta) -> Iterator[str]:
    yield _fault_of_time(norms.step, 0.0)
    yield _out_of_range("parameter", norms.params, len(meta.params))
    if not len(norms.params) == len(norms.grad) == len(norms.weight) == len(norms.update):
        yield f"{len(norms.params)} parameters with {len(norms.grad)} gradients, {len(norms.weight)} weights, {len(norms.update)} updates"


def _faults_of_probe(probe: Probe, meta: Meta) -> Iterator[str]:
    n, params = len(probe.ops), len(meta.params)
    yield _fault_of_time(probe.step, probe.at)
    for k, op in enumerate(probe.ops):
        yield from (f"operation {k}: {fault}" for fault in _faults_of_op(k, op, params) if fault)
    yield _out_of_range("operation", [probe.root] if probe.root is not None else [], n)
    if meta.optimizers and probe.optimizer is not None:
        yield _out_of_range("optimizer", [probe.optimizer], len(meta.optimizers))
    yield _out_of_range("parameter", [*(s.param for s in probe.params), *probe.without_grad], params)
    yield _out_of_range("parameter", (c.param for c in probe.cuts if c.param is not None), params)
    yield _out_of_range("operation", (c.op for c in probe.cuts if c.op != -1), n)
    for state in probe.params:
        yield _negative("norm", state.norm) or _fault_of_grad(state.grad)
    for one in probe.recurrent:
        yield _out_of_range("operation", one.ops, n) or ("" if one.ops and one.norms else "a recurrence without steps")
        yield _out_of_range("parameter", [one.weight] if one.weight is not None else [], params)
        yield _first(_negative("a norm over time", x) for x in (*one.norms, *one.memory, *one.aligned, *one.carried))
    if probe.isometry is not None:
        for stretch in (*probe.isometry.stretches, *([probe.isometry.whole] if probe.isometry.whole else [])):
            yield _out_of_range("operation", (stretch.source, stretch.target), n)
            yield _first(_negative("a singular value", x) for x in (stretch.mean, stretch.top, stretch.bottom))


def _faults_of_op(k: int, op: Op, params: int) -> Iterator[str]:
    if op.index != k:
        yield f"it is numbered {op.index}"
    yield _fault_of_value(op.value)
    yield _fault_of_grad(op.grad)
    for operand in op.operands:
        if operand.op is not None and not 0 <= operand.op < k:
            yield f"it consumes operation {operand.op}, which did not run before it"
        if operand.param is not None:
            yield _out_of_range("parameter", [operand.param], params)
        yield _fault_of_grad(operand.grad)
        yield _fault_of_value(operand.value) if operand.value is not None else ""


def _fault_of_time(step: int, at: float) -> str:
    return _negative("step", step) or ("" if math.isfinite(at) else f"at second {at}")


def _fault_of_value(value: ValueStat) -> str:
    return _fault_of_shape(value.shape) or _first(_negative(n, getattr(value, n)) for n in ("std", "nan", "inf", "absmin"))


def _fault_of_grad(grad: GradStat | None) -> str:
    return "" if grad is None else _first(_negative(n, getattr(grad, n)) for n in ("norm", "rms", "nan", "inf"))


def _fault_of_shape(shape: list[int]) -> str:
    if len(shape) > 64 or any(d < 0 for d in shape) or math.prod(shape) >= MOST_ENTRIES:
        return f"no tensor has the shape {str(shape[:4])[:60]}"
    return ""


def _negative(name: str, value: float | None) -> str:
    return f"{name} is {value:g}" if value is not None and value < 0 else ""


def _out_of_range(what: str, numbers: Iterable[int], count: int) -> str:
    return next((f"there is no {what} {x}" for x in numbers if not 0 <= x < count), "")


def _first(faults: Iterable[str]) -> str:
    return next((fault for fault in faults if fault), "")


def _depth(value: Any, at: int = 0) -> int:
    """How deep lists and maps are nested, as far as that matters."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return at if at > DEEPEST else max((_depth(v, at + 1) for v in inner), default=at)
