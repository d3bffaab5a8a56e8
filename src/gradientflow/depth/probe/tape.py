"""The calls of a forward pass, kept so that its loss can be worked out again with other weights: the same batch, the same random
numbers, the same branch.

What has a place in the graph is worked out again; all else (data, and what was detached) stays what it was, as the gradient sees
it. Anything whose second run could do harm, or give another answer, is refused, with the reason.
"""

from __future__ import annotations

import contextlib
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import Parameter

from gradientflow.depth.probe.calls import grad_fn, tensors
from gradientflow.limits import Limit
from gradientflow.ops import RECURRENT
from gradientflow.torch_internals import readable

CALLS = Limit("calls_of_a_forward_pass", 5000, "chosen: some hundred layers; each is kept with its arguments")
ROOM = Limit("bytes_of_data", 1 << 28, "chosen: 256 MB of batches that the script itself may have let go of")
_NORMS = {
    "batch_norm": 5,
    "instance_norm": 5,
}  # where among the arguments it says whether the batch's own statistics are used
_STATISTICS = ("running_mean", "running_var")
_LOOK_UP = frozenset({"embedding", "embedding_bag"})
_DRAWS = ("drop", "rrelu", "bernoulli", "multinomial", "normal", "rand", "gumbel", "attention", "exponential", "uniform", "poisson")  # fmt: skip


class Refused(Exception):
    """The forward pass cannot be run a second time without harm."""


@dataclass(frozen=True, slots=True)
class _Made:
    """What an earlier call made."""

    slot: int


@dataclass(frozen=True, slots=True)
class _Given:
    """A tensor of the script's: data, or a leaf; and how often it had been written to."""

    tensor: Tensor
    version: int | None  # None: it may change (a weight)


@dataclass(slots=True)
class _Call:
    func: Callable[..., Any]
    args: Any
    kwargs: Any
    outs: list[int]  # slots, in the order of `tensors(out)`
    needs: list[int]
    noise: tuple[torch.device, Tensor] | None
    cast: tuple[tuple[str, torch.dtype], ...]


class Tape:
    """Keeps the calls of one forward pass."""

    def __init__(self) -> None:
        self.why = ""  # it cannot be run again
        self.began: float | None = None  # when the first call was kept
        self._calls: list[_Call] = []
        self._known: dict[int, tuple[weakref.ref[Tensor], int]] = {}  # results that are alive, by `id`
        self._root = 0
        self._last: dict[int, int] = {}  # the call that a result is needed by last
        self._slots = 0
        self._writes = False
        self._data: dict[int, int] = {}  # bytes of what is held, by `id`

    def refuse(self, why: str) -> None:
        """Keep nothing more, and let go of all."""
        if not self.why:
            self.why = why
        self._calls, self._known = [], {}

    # ── while it runs ────────────────────────────────────────────────────────────────────────────────────────────

    def before(self, func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """A call is about to be made: keep the state of the random numbers it may draw."""
        if self.why:
            return None
        first = next(iter(tensors(args)), None)
        if first is None or first.device.type == "cpu":
            return torch.device("cpu"), torch.get_rng_state()
        name = getattr(func, "__name__", "")
        if first.device.type == "cuda" and (name in RECURRENT or any(part in name for part in _DRAWS)):
            return first.device, torch.cuda.get_rng_state(first.device)
        return None

    def see(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        out: Any,
        noise: Any,
        inplace: bool,
    ) -> None:
        """Keep a call whose result has a place in the graph."""
        if self.why:
            return
        try:
            name = getattr(func, "__name__", "")
            if len(self._calls) >= CALLS:
                raise Refused(f"it makes more than {CALLS:.0f} calls")
            if name == "grad":
                raise Refused("a derivative is a part of the loss")
            self.began = time.perf_counter() if self.began is None else self.began
            args, kwargs = _harmless(name, args, kwargs)
            if inplace:
                self._writes = True
                if not args or not isinstance(args[0], Tensor) or self._slot(args[0]) is None:
                    raise Refused(f"{name} writes into a tensor that was no part of the graph")
            needs: list[int] = []
            kept, named = self._held(args, needs), self._held(kwargs, needs)
            if noise is not None and noise[0].type == "cpu" and torch.equal(noise[1], torch.get_rng_state()):
                noise = None
            outs = [self._name(t) for t in tensors(out)]
            self._calls.append(_Call(func, kept, named, outs, needs, noise, _casts()))
        except Refused as refused:
            self.refuse(str(refused))

    def _name(self, t: Tensor) -> int:
        self._slots += 1
        if grad_fn(t) is not None:
            self._known[id(t)] = weakref.ref(t), self._slots
        return self._slots

    def _held(self, value: Any, needs: list[int]) -> Any:
        """Return a value with what it holds of tensors in a form that can be filled in again."""
        if isinstance(value, Tensor):
            return self._tensor(value, needs)
        if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
            return type(value)(self._held(v, needs) for v in value)
        if isinstance(value, dict):
            return {k: self._held(v, needs) for k, v in value.items()}
        if isinstance(value, Generator):
            raise Refused("it draws from a generator of the script's own")
        return value

    def _tensor(self, t: Tensor, needs: list[int]) -> Any:
        if type(t) not in (Tensor, Parameter) or not readable(t):
            raise Refused(f"it computes with a {type(t).__name__}")
        if grad_fn(t) is None:
            if not t.requires_grad:
                self._data[id(t)] = t.untyped_storage().nbytes()
                if sum(self._data.values()) > ROOM:
                    raise Refused(f"its data take more than {ROOM / 1e6:.0f} MB")
            return _Given(t, None if t.requires_grad else _version(t))
        slot = self._slot(t)
        if slot is None:
            raise Refused("a part of it (a function of the script's own, or compiled code) is not seen")
        needs.append(slot)
        return _Made(slot)

    def _slot(self, t: Tensor) -> int | None:
        found = self._known.get(id(t))
        return found[1] if found is not None and found[0]() is t else None

    def sweep(self) -> None:
        """Let go of calls whose results the script has dropped, and of what they were given."""
        if self._writes or self.why:
            return
        alive = {slot for ref, slot in self._known.values() if ref() is not None}
        self._calls = _leading_to(alive, self._calls)
        self._known = {at: known for at, known in self._known.items() if known[0]() is not None}

    # ── afterwards ───────────────────────────────────────────────────────────────────────────────────────────────

    def end_at(self, root: Tensor) -> None:
        """Backward is called: keep what leads to the loss, and no more."""
        slot = self._slot(root)
        if self.why or slot is None or root.numel() != 1:
            self.refuse("backward was not called on one number that the forward pass ends at")
            return
        last = next(k for k, c in enumerate(self._calls) if slot in c.outs)
        calls = self._calls[: last + 1]
        if not self._writes:
            calls = _leading_to({slot}, calls)
        self._calls, self._root, self._known = calls, slot, {}
        self._last = {s: k for k, call in enumerate(calls) for s in (*call.needs, *call.outs)}

    def leaves(self) -> list[Tensor]:
        """Return the weights that it computes with, each once."""
        found: dict[int, Tensor] = {}
        for call in self._calls:
            for given in _given((call.args, call.kwargs)):
                if given.version is None:
                    found[id(given.tensor)] = given.tensor
        return list(found.values())

    def loss(self, instead: Mapping[int, Tensor] | None = None) -> float:
        """Return the loss of the same batch with the weights as they are now, or with others in the place of some (by `id`).

        Raises:
            Refused: it cannot be worked out again.
        """
        if self.why:
            raise Refused(self.why)
        made: dict[int, Tensor] = {}
        devices = {g.tensor.device for call in self._calls for g in _given((call.args, call.kwargs))}
        if strange := [d.type for d in devices if d.type not in ("cpu", "cuda")]:
            raise Refused(f"the random numbers of {strange[0]} are not known")
        with torch.no_grad(), _untouched(devices), _quiet():
            for k, call in enumerate(self._calls):
                for out, t in zip(call.outs, tensors(_run(call, made, instead or {})), strict=True):
                    made[out] = t
                for slot in {*call.needs, *call.outs}:
                    if self._last[slot] <= k and slot != self._root and not self._writes:
                        made.pop(slot, None)
            return float(made[self._root])


def _leading_to(wanted: set[int], calls: list[_Call]) -> list[_Call]:
    """Return the calls that these results stand on, in their order."""
    wanted, kept = set(wanted), []
    for call in reversed(calls):
        if wanted.intersection(call.outs):
            kept.append(call)
            wanted.update(call.needs)
    return kept[::-1]


def _run(call: _Call, made: dict[int, Tensor], instead: Mapping[int, Tensor]) -> Any:
    args, kwargs = _filled(call.args, made, instead), _filled(call.kwargs, made, instead)
    if call.noise is not None:
        device, state = call.noise
        torch.set_rng_state(state) if device.type == "cpu" else torch.cuda.set_rng_state(state, device)
    with _cast(call.cast):
        out = call.func(*args, **kwargs)
    return args[0] if out is None and call.outs else out


def _filled(value: Any, made: dict[int, Tensor], instead: Mapping[int, Tensor]) -> Any:
    """Return arguments with the tensors that stand for what is noted in them."""
    if isinstance(value, _Made):
        return made[value.slot]
    if isinstance(value, _Given):
        if value.version is not None and _version(value.tensor) != value.version:
            raise Refused("data that it computed with was written to since")
        return instead.get(id(value.tensor), value.tensor)
    if type(value) in (list, tuple):
        return type(value)(_filled(v, made, instead) for v in value)
    return {k: _filled(v, made, instead) for k, v in value.items()} if isinstance(value, dict) else value


def _given(value: Any) -> Iterator[_Given]:
    if isinstance(value, _Given):
        yield value
    elif isinstance(value, (list, tuple)):
        for v in value:
            yield from _given(v)
    elif isinstance(value, dict):
        yield from _given(list(value.values()))


def _version(t: Tensor) -> int:
    try:
        return int(t._version)
    except RuntimeError as problem:  # made under `torch.inference_mode`
        raise Refused("it computes with a tensor that was made for inference") from problem


def _harmless(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return a call's arguments such that it changes nothing but its result: without the statistics that a normalisation keeps up."""
    if name in _LOOK_UP and (
        kwargs.get("max_norm") is not None or (len(args) > 3 and isinstance(args[3], (int, float)))
    ):
        raise Refused(f"{name} with max_norm writes to its weights")
    if name in _NORMS:
        at = _NORMS[name]
        own = (
            args[at]
            if len(args) > at
            else kwargs.get("training", kwargs.get("use_input_stats", name == "instance_norm"))
        )
        if own:
            kwargs = {k: None if k in _STATISTICS else v for k, v in kwargs.items()}
            args = tuple(None if k in (1, 2) else v for k, v in enumerate(args))
    return args, kwargs


def _casts() -> tuple[tuple[str, torch.dtype], ...]:
    """Return the devices on which numbers are cast by themselves, and to what."""
    return tuple((d, torch.get_autocast_dtype(d)) for d in ("cpu", "cuda") if torch.is_autocast_enabled(d))


@contextlib.contextmanager
def _cast(wanted: tuple[tuple[str, torch.dtype], ...]) -> Iterator[None]:
    """Cast as was cast when the call was made first; with a cache of its own, so that no copy of an older weight is used."""
    now = _casts()
    if not wanted and not now:
        yield
        return
    with contextlib.ExitStack() as stack:
        for device in {d for d, _ in (*wanted, *now)}:
            dtype = dict(wanted).get(device)
            on = dtype is not None
            stack.enter_context(
                torch.autocast(device, dtype=dtype or torch.get_autocast_dtype(device), enabled=on, cache_enabled=False)
            )
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep warnings to ourselves: the script had them when it made the calls. (Filters stay: to touch them would show others anew.)"""
    shown = warnings.showwarning
    warnings.showwarning = lambda *args, **kwargs: None
    try:
        yield
    finally:
        warnings.showwarning = shown


@contextlib.contextmanager
def _untouched(devices: set[torch.device]) -> Iterator[None]:
    """Give the random numbers back as they were."""
    used = {torch.device("cpu"), *devices}
    states = [(d, torch.get_rng_state() if d.type == "cpu" else torch.cuda.get_rng_state(d)) for d in used]
    try:
        yield
    finally:
        for device, state in states:
            torch.set_rng_state(state) if device.type == "cpu" else torch.cuda.set_rng_state(state, device)
