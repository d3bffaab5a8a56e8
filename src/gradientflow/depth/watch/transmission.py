"""Is the gradient that backward left in `.grad` the one that the optimizer finds there? Asked on probed steps.

Between the two a script may clip, scale, unscale, zero or exchange gradients. Each call that writes to one is seen by the
function mode, which stays on the stack until the step, and is told with its line and its factor. What hooks on a
parameter do to its gradient happens within backward, and is found by comparing what the graph sends with what is stored.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from gradientflow.depth.probe import calls
from gradientflow.depth.probe.frames import OURS, USER, classify, file_name
from gradientflow.depth.probe.hooked import Hook
from gradientflow.depth.probe.registry import Registry
from gradientflow.depth.probe.shards import local
from gradientflow.depth.watch.rotation import Piece, Rotation
from gradientflow.depth.watch.vectors import factor, norm
from gradientflow.ops import writes
from gradientflow.records import HOOK, UNSCALE, Alteration, Passed
from gradientflow.torch_internals import readable

_SET_GRAD = Tensor.grad.__set__  # type: ignore[union-attr]
_UNSCALING = "_amp_foreach_non_finite_check_and_unscale_"
_WRAPPERS = ("inner", "wrapper", "decorate_context")  # that PyTorch puts around functions of its own
_MOST = 60  # alterations that are told of one step
_FEW = 8  # parameters that an alteration names


class Transmission:
    """Follows the gradients of one window from backward to the step.

    Args:
        registry: who is who among the parameters.
        shield: runs a function of ours so that no exception of it reaches the script.
    """

    def __init__(self, registry: Registry, shield: Callable[..., Any]) -> None:
        self._registry = registry
        self._shield = shield
        self._delivered: dict[int, Tensor] = {}  # by index of the parameter
        self._now: dict[int, Tensor] = {}
        self._pieces: dict[int, Piece] = {}
        self._inside: dict[int, tuple[float, float]] = {}  # norm that the graph sent, what hooks made of it
        self._by_hooks: list[Alteration] = []
        self.inner: list[Alteration] = []  # what hooks on tensors within the graph did
        self._calls: list[Alteration] = []
        self._first: dict[int, Tensor] = {}  # the gradients as they were before the last of them

    @property
    def alterations(self) -> list[Alteration]:
        """What changed the gradients: hooks within backward, then calls behind it."""
        return [*self._by_hooks, *self._calls]

    @property
    def open(self) -> bool:
        """Whether a gradient is on its way."""
        return bool(self._delivered)

    def cleared(self) -> bool:
        """Whether nothing is left of what the last backward call delivered."""
        some = [i for i, g in self._delivered.items() if bool(g.any())]
        left = [g for i in some if (t := self._registry.tensor(i)) is not None and (g := t.grad) is not None]
        return bool(some) and not any(bool(local(g).any()) for g in left if readable(g) and not g.is_sparse)

    def begin(self) -> None:
        """A new window: nothing is on its way."""
        self._delivered, self._now, self._pieces = {}, {}, {}
        self._inside, self._by_hooks, self.inner, self._calls, self._first = {}, [], [], [], {}

    def hooked(self, found: list[Hook]) -> None:
        """Take in what hooks of the script's did to gradients within the backward call that is measured."""
        self.inner = _by_line([hook for hook in found if hook.param is None])
        for hook in found:
            if hook.param is None:
                continue
            times, _ = factor([hook.before], [_or_nothing(hook)])
            if times is not None:
                sent, so_far = self._inside.get(hook.param, (norm([hook.before]), 1.0))
                self._inside[hook.param] = sent, so_far * times
        self._by_hooks = _by_line([hook for hook in found if hook.param is not None])

    def delivered(self, own: Iterable[int]) -> None:
        """Backward has returned: keep what it left, of as much as fits a fixed room. What was done to gradients before (cleared
        between two calls, say) is in it.

        Args:
            own: the parameters that this thread trains. (To read a gradient that another thread is replacing may end the process.)
        """
        self._calls = []
        ours = [(i, t) for i in own if (t := self._registry.tensor(i)) is not None]
        live = [(i, t) for i, t in ours if (g := t.grad) is not None and readable(g)]
        with torch.no_grad():
            pieces = Rotation([local(t) for _, t in live]).next()
            self._pieces = {live[piece.index][0]: piece for piece in pieces}
            kept = {i: self._read(i, live[piece.index][1]) for i, piece in self._pieces.items()}
        self._delivered = {i: g for i, g in kept.items() if g is not None}
        self._now = dict(self._delivered)

    def watched(self, func: Callable[..., Any], args: tuple[Any, ...], run: Callable[[], Any], out: Any = None) -> Any:
        """Run a call of the script's behind backward; where it writes to a gradient, note the line and the factor.

        Args:
            func: what is called, with `args`.
            run: makes the call.
            out: what the call was told to write to.
        """
        raw = getattr(func, "__name__", "")
        touched: list[int] = []
        if raw == "__set__" and func == _SET_GRAD:
            touched = self._shield(self._whose, args[:1]) or []
        elif writes(raw) or out is not None:
            touched = self._shield(self._written, calls.tensors([*args[:1], out])) or []
        result = run()
        if touched:
            self._shield(self._note, raw, touched, sys._getframe(1))
        return result

    def arrived(self, indices: Iterable[int]) -> list[Passed]:
        """The step begins: return how the gradients of these parameters compare with what backward left."""
        found = []
        with torch.no_grad():
            for i in indices:
                before, t = self._delivered.get(i), self._registry.tensor(i)
                if before is None or t is None:
                    continue
                after = self._read(i, t)
                inside = self._inside.get(i, (None, None))
                if after is None:
                    found.append(Passed(i, norm([before]), 0.0, 0.0 if norm([before]) else None, None, *inside))
                elif after.shape == before.shape:
                    found.append(Passed(i, norm([before]), norm([after]), *factor([before], [after]), *inside))
        return found

    def kept(self, index: int) -> tuple[Piece, Tensor] | None:
        """Return which part of a parameter's gradient was kept when backward returned, and that part."""
        found = self._delivered.get(index)
        return None if found is None else (self._pieces[index], found)

    def _read(self, index: int, t: Tensor) -> Tensor | None:
        g = t.grad
        if g is None or not readable(g):
            return None
        g = local(g.detach())
        return self._pieces[index].of(g.to_dense() if g.is_sparse else g).clone()

    def _whose(self, given: tuple[Any, ...]) -> list[int]:
        found = [self._registry.find(t) for t in given if isinstance(t, Tensor)]
        return [i for i in found if i is not None and i in self._delivered]

    def _written(self, tensors: list[Tensor]) -> list[int]:
        """Return the parameters whose gradient lies in the memory of one of these tensors."""
        wanted = {local(t).untyped_storage().data_ptr() for t in tensors if not t.is_sparse and readable(t)}
        return [
            i for i in self._delivered
            if (p := self._registry.tensor(i)) is not None and p.grad is not None and not p.grad.is_sparse
            and local(p.grad).untyped_storage().data_ptr() in wanted
        ]  # fmt: skip

    def _note(self, raw: str, touched: list[int], frame: FrameType) -> None:
        changed: dict[int, Tensor] = {}  # as they were before
        for i in touched:
            t = self._registry.tensor(i)
            old, new = self._now.get(i), self._read(i, t) if t is not None else None
            if old is None:
                continue
            new = torch.zeros_like(old) if new is None else new
            if new.shape == old.shape:
                self._now[i] = new
                if not torch.equal(old, new):
                    changed[i] = old
        if not changed:
            return
        name, file, line = called_by(frame, raw)
        last = self._calls[-1] if self._calls else None
        if last is None or (last.name, last.file, last.line) != (name, file, line):
            if len(self._calls) >= _MOST:
                return
            last, self._first = Alteration(name, file, line, 0, None), {}
            self._calls.append(last)
        self._first = changed | self._first  # (a loop over parameters, or several writes to one, is one change)
        last.tensors, last.params = len(self._first), sorted(self._first)[:_FEW]
        last.factor, last.cosine = factor([*self._first.values()], [self._now[i] for i in self._first])


def _by_line(found: Sequence[Hook]) -> list[Alteration]:
    """Return what hooks changed, those of one line together."""
    by_line: dict[tuple[str | None, int | None], list[Hook]] = {}
    for hook in found:
        by_line.setdefault((hook.file, hook.line), []).append(hook)
    changed = []
    for (file, line), hooks in by_line.items():
        before, after = [h.before for h in hooks], [_or_nothing(h) for h in hooks]
        if all(torch.equal(a, b) for a, b in zip(before, after, strict=True)):
            continue
        params = list(dict.fromkeys(h.param for h in hooks if h.param is not None))
        changed.append(Alteration(HOOK, file, line, len(params) or len(hooks), *factor(before, after), params[:_FEW]))
    return changed


def _or_nothing(hook: Hook) -> Tensor:
    """Return what a hook left, zeros where it left none."""
    same = hook.after is not None and hook.after.shape == hook.before.shape
    return hook.after if hook.after is not None and same else torch.zeros_like(hook.before)


def called_by(frame: FrameType | None, raw: str) -> tuple[str, str | None, int | None]:
    """Return the function that the script's line calls (`clip_grad_norm_`, not what it does inside), and that line."""
    name = "grad = …" if raw == "__set__" else raw
    while frame is not None:
        owner = classify(frame.f_code)
        if owner == USER:
            name = UNSCALE if raw == _UNSCALING else name
            return name, file_name(frame.f_code), frame.f_lineno
        if owner != OURS and not frame.f_code.co_name.startswith(("_", "<")) and frame.f_code.co_name not in _WRAPPERS:
            name = frame.f_code.co_name
        frame = frame.f_back
    return name, None, None
