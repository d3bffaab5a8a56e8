"""Who is random in a field whose evaluations differ: found by looking, not by guessing."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from gradientflow.river.fields import chance
from gradientflow.river.fields.base import Evaluation, Field
from gradientflow.river.fields.batches import digest
from gradientflow.torch_internals import is_batch_norm, is_dropout

ROUND_OFF = (
    1e3  # in units of the dtype's: sums of many terms in another order; dropout and its like are mostly 10⁴ and more
)

T = TypeVar("T")


def twice(make: Callable[[], T]) -> tuple[T, T]:
    """Return what is made with two different states of every global random generator."""
    out = []
    for seed in (1, 2):
        with chance.shaken(seed):
            out.append(make())
    return out[0], out[1]


def same(a: Tensor | None, b: Tensor | None) -> bool:
    """Return whether two tensors are equal bit for bit, NaN being equal to NaN."""
    if a is None or b is None:
        return a is b
    return bool(((a == b) | (a.isnan() & b.isnan())).all())


def gap(one: Evaluation, two: Evaluation) -> float:
    """Return the larger of the relative differences of rate and value; infinite where one is not finite."""
    return max(_gap(one.rate, two.rate), _gap(one.value, two.value))


def repeats(one: Evaluation, two: Evaluation) -> bool:
    """Return whether two evaluations agree to round-off."""
    return gap(one, two) <= ROUND_OFF * torch.finfo(one.rate.dtype).eps


def drawn(make: Callable[[], Evaluation], device: torch.device) -> bool:
    """Return whether evaluations that differ by no more than round-off differ by chance, and not by the order of sums.

    They do where they agree bit for bit as soon as the random state is the same; and, on a processor, where they differ
    even in one thread, in which every sum has its order. On other devices nothing is known that is as sure.
    """
    if _agree(make, seeds=(1, 1)) and not _agree(make, seeds=(1, 2)):
        return True
    if device.type != "cpu":
        return False
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        return not _agree(make, seeds=(1, 1))
    finally:
        torch.set_num_threads(threads)


def _agree(make: Callable[[], Evaluation], *, seeds: tuple[int, int]) -> bool:
    """Return whether two evaluations agree bit for bit, twice over, from these random states."""
    for _ in range(2):
        out = []
        for seed in seeds:
            with chance.shaken(seed):
                out.append(make())
        if not (same(out[0].rate, out[1].rate) and same(out[0].value, out[1].value)):
            return False
    return True


def _gap(a: Tensor | None, b: Tensor | None) -> float:
    if a is None or b is None:
        return 0.0 if a is b else float("inf")
    if same(a, b):
        return 0.0
    size = torch.maximum(a.norm(), b.norm()).clamp_min(torch.finfo(a.dtype).tiny)
    ratio = float((a - b).norm() / size)
    return ratio if ratio == ratio else float("inf")


# ── the cause ────────────────────────────────────────────────────────────────────────────────────────────────────────


def cause(field: Field, row: Tensor, one: Evaluation, two: Evaluation) -> str:
    """Return sentences that name what makes two evaluations differ, and the call that mends it.

    Modules of PyTorch's own that draw are switched off for a moment, to see whether it was they. Otherwise every module
    is watched through two evaluations, and the innermost one is named that answers one input in two ways.
    """
    modules = modules_of(field)
    active = {name: m for name, m in modules.items() if _draws(m)}
    if active:
        with _switched_off(active):
            quiet = repeats(*twice(lambda: field.evaluate(row)))
            more = "" if quiet else f" It is not alone: without it they still differ. {_inside(field, row, modules)}"
        told = ", ".join(f"{name!r} ({type(m).__name__}, p={_rate(m):g})" for name, m in list(active.items())[:6])
        return f"Cause: dropout in train mode: {told}. Call model.eval() before making the field, or set p=0.{more}"
    if same(one.value, two.value) and one.value is not None:
        return (
            "Cause: the losses agree and the gradients do not: some backward pass draws random numbers or keeps a state. "
            "Look into torch.autograd.Function subclasses and gradient hooks of the model."
        )
    return _inside(field, row, modules)


def _inside(field: Field, row: Tensor, modules: dict[str, nn.Module]) -> str:
    marks: list[tuple[str, str, str]] = []

    def note(name: str) -> Callable[..., None]:
        return lambda module, args, kwargs, out: marks.append((name, digest([args, kwargs]), digest([out])))

    def watched() -> dict[tuple[str, int], tuple[str, str]]:
        marks.clear()
        field.evaluate(row)
        return _numbered(marks)

    hooks = [m.register_forward_hook(note(name), with_kwargs=True) for name, m in modules.items()]
    try:
        first, second = twice(watched)
    finally:
        for hook in hooks:
            hook.remove()
    for (name, call), (given, got) in first.items():
        other = second.get((name, call))
        if other is not None and other[0] == given and other[1] != got:
            module = modules[name]
            what = (
                f"module {name!r} ({type(module).__name__})"
                if name
                else f"the forward of {type(module).__name__} itself"
            )
            mend = (
                "Call model.eval() if that is for training only; else take it out."
                if module.training
                else "Take it out."
            )
            return f"Cause: {what} gives two answers to one input: it draws random numbers or keeps a state. {mend}"
    if first:
        return (
            "Cause: the loss itself: every module repeats, so the loss function draws random numbers or keeps a state. "
            "Take that out."
        )
    return (
        "Cause: the function itself draws random numbers or keeps a state. Take that out, or draw the numbers once, before "
        "the field is made."
    )


def _numbered(marks: list[tuple[str, str, str]]) -> dict[tuple[str, int], tuple[str, str]]:
    """Return the calls in their order, by module and by how often it was called before."""
    out: dict[tuple[str, int], tuple[str, str]] = {}
    calls: dict[str, int] = {}
    for name, given, got in marks:
        out[name, calls.get(name, 0)] = given, got
        calls[name] = calls.get(name, 0) + 1
    return out


# ── modules ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def modules_of(field: Field) -> dict[str, nn.Module]:
    """Return the modules of a loss field, or those that a plain function holds on to."""
    model = getattr(field, "model", None)
    found: dict[str, nn.Module] = dict(model.modules()) if model is not None else {}
    for holder in (getattr(model, "function", None), getattr(field, "_loss", None), getattr(field, "_f", None)):
        for module in _held(holder):
            for name, inner in module.named_modules():
                found.setdefault(name, inner)
    return found


def batch_norms(field: Field) -> list[str]:
    """Return the names of batch norms that use the statistics of the batch."""
    return [n for n, m in modules_of(field).items() if is_batch_norm(m) and (m.training or m.running_mean is None)]


def quoted(names: list[str], most: int = 4) -> str:
    """Return names with quotation marks, the first few of them."""
    return ", ".join(repr(n) for n in names[:most]) + (" …" if len(names) > most else "")


def _held(function: Any) -> Iterator[nn.Module]:
    """Yield the modules in a function's closure, in the globals it names, and the one it is a method of."""
    while isinstance(function, functools.partial):
        function = function.func
    things = [getattr(function, "__self__", None)]
    for cell in getattr(function, "__closure__", None) or ():
        with contextlib.suppress(ValueError):  # a cell that is not yet filled
            things.append(cell.cell_contents)
    code = getattr(function, "__code__", None)
    if code is not None:
        things += [function.__globals__.get(name) for name in code.co_names]
    yield from (thing for thing in things if isinstance(thing, nn.Module))


def _draws(module: nn.Module) -> bool:
    """Return whether a module of PyTorch's own draws random numbers as it stands."""
    if not module.training:
        return False
    if isinstance(module, nn.RNNBase):
        return module.dropout > 0 and module.num_layers > 1
    return _rate(module) > 0


def _rate(module: nn.Module) -> float:
    if is_dropout(module):
        return float(module.p)
    return float(module.dropout) if isinstance(module, nn.MultiheadAttention | nn.RNNBase) else 0.0


@contextlib.contextmanager
def _switched_off(modules: dict[str, nn.Module]) -> Iterator[None]:
    """Put modules that are in train mode into eval mode for a while."""
    try:
        for module in modules.values():
            module.training = False
        yield
    finally:
        for module in modules.values():
            module.training = True
