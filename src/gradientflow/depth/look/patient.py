"""The patient as it was: whatever a forward and a backward pass change in a model is put back afterwards.

What is put back: the values of parameters and buffers (the running averages of a batch normalisation), `.grad`, the
attributes of every module (a counter, a hidden state that is kept, train and eval flags, hooks), values of tensors in the
batch, and the state of every random generator. What is not: what the user's own code does outside of the model, such as
appending to a list.
"""

from __future__ import annotations

import copy
import dataclasses
import random
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gradientflow.depth.look.values import values
from gradientflow.errors import UsageError
from gradientflow.torch_internals import (
    accumulation_hooks,
    backward_hooks,
    buffers_of,
    forget_backward_hooks,
    parameters_of,
)

_MOST_DEEP = 4  # levels of lists and dicts in which tensors of a batch are looked for
_HOLDERS = (dict, OrderedDict, defaultdict, Counter, list, deque, set)  # what a plain copy of their entries puts back


@contextmanager
def untouched(model: nn.Module | None, *things: Any) -> Iterator[None]:
    """Run a block, then put a model, the tensors in `things`, and the random generators back as they were.

    Inside the block gradients are on, every `.grad` begins as None, and hooks that run after a gradient was accumulated
    are off: with the optimizer's step in such a hook, a backward pass would train the model.

    Args:
        model: the model; None puts back `things` and the generators only.
        things: batches and the like: tensors, or lists, tuples and dicts of them.

    Example:
        >>> norm = nn.BatchNorm1d(2)
        >>> with untouched(norm):
        ...     norm(torch.ones(3, 2)).sum().backward()
        >>> norm.running_mean, norm.weight.grad
        (tensor([0., 0.]), None)
    """
    back: list[Callable[[], None]] = []
    try:
        for put_back in _kept(model, things):
            back.append(put_back)
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        _put_back(back)


def _put_back(back: list[Callable[[], None]]) -> None:
    """Put everything back, whatever cannot be; the first error is raised at the end."""
    failed: Exception | None = None
    for put_back in back:
        try:
            put_back()
        except Exception as problem:
            failed = failed or problem
    if failed is not None:
        raise failed


def _kept(model: nn.Module | None, things: tuple[Any, ...]) -> Iterator[Callable[[], None]]:
    """Keep everything, piece by piece, and yield what puts it back.

    Raises:
        UsageError: the values of a tensor cannot be copied, so they could not be put back.
    """
    yield from _generators()
    found: dict[int, tuple[str, Tensor]] = {}
    for path, module in model.named_modules() if model is not None else ():
        yield _attributes(module)
        for name, t in [*parameters_of(module).items(), *buffers_of(module).items(), *module.__dict__.items()]:
            if isinstance(t, torch.Generator):
                yield _generator(t)
            elif not name.startswith("_") or isinstance(t, Tensor):
                for part in tensors_in(t):
                    found.setdefault(id(part), (f"{path}.{name}".lstrip("."), part))
    for thing in things:
        for t in tensors_in(thing):
            found.setdefault(id(t), ("a tensor of the batch", t))
    for name, t in found.values():
        try:
            yield values(t)
        except Exception as problem:
            raise UsageError(
                f"{name} ({t.layout}, {t.dtype}, on {t.device}) cannot be copied ({type(problem).__name__}: {problem}), so a look "
                f"could not leave it as it was. Look at a copy: diagnose(lambda: make_model(), …)."
            ) from problem
    for _, t in found.values():
        yield _gradient(t)


def tensors_in(thing: Any, depth: int = _MOST_DEEP) -> Iterator[Tensor]:
    """Yield the tensors in a value, and in the lists, tuples, mappings and dataclasses of which it is made."""
    if isinstance(thing, Tensor):
        yield thing
    elif depth and isinstance(thing, (Mapping, list, tuple, deque, set)):
        for entry in list(thing.values() if isinstance(thing, Mapping) else thing):
            yield from tensors_in(entry, depth - 1)
    elif depth and dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        for field in dataclasses.fields(thing):
            yield from tensors_in(getattr(thing, field.name, None), depth - 1)


def _attributes(module: nn.Module) -> Callable[[], None]:
    """Keep a module's attributes, and what stands in those that are dicts, lists and sets: hooks, children, a history."""
    own = dict(module.__dict__)
    inner = {name: copy.copy(value) for name, value in own.items() if type(value) in _HOLDERS}

    def put_back() -> None:
        _refill(module.__dict__, own)
        for name, entries in inner.items():
            _refill(own[name], entries)

    return put_back


def _refill(live: Any, kept: Any) -> None:
    """Give a dict, a list or a set the very entries it had."""
    if _entries(live) != _entries(kept):
        live.clear()
        live.extend(kept) if isinstance(live, (list, deque)) else live.update(kept)


def _entries(holder: Any) -> list[Any]:
    if isinstance(holder, set):
        return sorted(map(id, holder))
    return [(k, id(v)) for k, v in holder.items()] if isinstance(holder, dict) else list(map(id, holder))


def _gradient(t: Tensor) -> Callable[[], None]:
    """Keep a leaf's `.grad` and its hooks, and take away the first and those after accumulation for the time being."""
    if not t.is_leaf:
        return _nothing
    grad, asked = t.grad, t.requires_grad
    hooks = accumulation_hooks(t)
    own = dict(hooks or {})
    before = backward_hooks(t)
    those = dict(before or {})
    t.grad = None
    if own and hooks is not None:
        hooks.clear()  # PyTorch keeps this very dict: a new one, or None, would change nothing

    def put_back() -> None:
        if t.requires_grad != asked:
            t.requires_grad_(asked)
        t.grad = grad
        after = accumulation_hooks(t)
        if after:
            after.clear()
        if own and hooks is not None:
            hooks.update(own)
        if before is not None:
            _refill(before, those)
        else:
            forget_backward_hooks(t)

    return put_back


def _generators() -> Iterator[Callable[[], None]]:
    """Keep the state of the generators of Python, NumPy (if it is in use) and PyTorch, on every device in use."""
    python, cpu = random.getstate(), torch.get_rng_state()
    yield lambda: random.setstate(python)
    yield lambda: torch.set_rng_state(cpu)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        drawn = numpy.random.get_state()
        yield lambda: numpy.random.set_state(drawn)
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states = torch.cuda.get_rng_state_all()
        yield lambda: torch.cuda.set_rng_state_all(states)
    if torch.backends.mps.is_available():
        mps = torch.mps.get_rng_state()
        yield lambda: torch.mps.set_rng_state(mps)


def _generator(generator: torch.Generator) -> Callable[[], None]:
    state = generator.get_state()
    return lambda: _restore(generator, state)


def _restore(generator: torch.Generator, state: Tensor) -> None:
    generator.set_state(state)


def _nothing() -> None:
    """Nothing is to be put back."""
