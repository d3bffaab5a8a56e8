"""The second budget: from the gradient that backward left to the update, stage by stage, for each parameter group.

Measured on probed steps: the weights ahead of the step are kept, of as many entries as the rotation gives, and behind the
step every stage of the optimizer's own rule is worked out again from the state it left. What the rule demands and what the
weights did differ by rounding, and by whatever else moved them.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer as TorchOptimizer

from gradientflow.depth.probe.registry import Registry
from gradientflow.depth.probe.shards import local
from gradientflow.depth.watch.foreign import Moved, foreign, in_shared_memory
from gradientflow.depth.watch.optimizers import Watched, options_of
from gradientflow.depth.watch.rotation import Piece
from gradientflow.depth.watch.transmission import Transmission
from gradientflow.depth.watch.update_rules import RULES, Explained, Stages, fresh
from gradientflow.depth.watch.vectors import norm, wide
from gradientflow.records import BETWEEN, GRADIENT, RATE, ROUNDING, RULE, GroupStep, Stage
from gradientflow.torch_internals import readable

_OPERATIONS = 16  # that an update is rounded in, at most


class _Part:
    """One parameter ahead of the step."""

    def __init__(self, index: int, t: Tensor, piece: Piece, delivered: Tensor) -> None:
        self.index, self.tensor, self.piece = index, t, piece
        self.delivered = delivered
        grad = t.grad
        kept = None if grad is None or not readable(grad) else local(grad.detach())
        dense = kept.to_dense() if kept is not None and kept.is_sparse else kept
        self.arrived = torch.zeros_like(delivered) if dense is None else piece.of(dense).clone()
        self.skipped = grad is None
        self.weights = piece.of(local(t.detach())).clone()
        self.memory = t.data_ptr() if type(t) in (Tensor, Parameter) else id(t)

    def behind(self) -> Tensor | None:
        """Return the gradient as it is behind the step: a closure or a hook of the script's may have put in another."""
        grad = self.tensor.grad
        if grad is None or not readable(grad):
            return None
        kept = local(grad.detach())
        found = self.piece.of(kept.to_dense() if kept.is_sparse else kept)
        return found if found.shape == self.arrived.shape else None

    def state(self, optimizer: TorchOptimizer) -> dict[str, Any]:
        """Return the optimizer's state of this part of the parameter, in wide precision."""
        found: dict[str, Any] = {}
        for key, value in optimizer.state.get(self.tensor, {}).items():
            same = isinstance(value, Tensor) and value.shape == self.tensor.shape
            found[key] = wide(self.piece.of(local(value))) if same else value
        return found


class Stepping:
    """Measures one optimizer's step, group by group.

    Args:
        registry: who is who among the parameters.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._parts: list[list[_Part]] = []
        self._options: list[dict[str, Any]] = []

    def before(self, optimizer: TorchOptimizer, way: Transmission) -> None:
        """Keep what the step is going to change."""
        self._parts, self._options = [], []
        with torch.no_grad():
            for group in optimizer.param_groups:
                parts = []
                for p in group["params"]:
                    index = self._registry.find(p)
                    kept = way.kept(index) if index is not None else None
                    if index is not None and kept is not None and readable(p) and not p.is_sparse:
                        parts.append(_Part(index, p, *kept))
                self._parts.append([part for part in parts if part.weights.shape == part.delivered.shape])
                self._options.append({k: _kept(v) for k, v in group.items() if k != "params"})

    def after(self, optimizer: TorchOptimizer, watched: Watched) -> list[GroupStep]:
        """Return every group's stages."""
        groups, self._parts = self._parts, []
        own = type(optimizer).__module__.startswith("torch.optim")
        rule = RULES.get(watched.record.name) if own else None
        with torch.no_grad():
            return [
                _measured(number, optimizer, self._options[number], parts, rule)
                for number, parts in enumerate(groups)
                if parts and number < len(optimizer.param_groups)
            ]


def _kept(option: Any) -> Any:
    """Return an option as it is now: a rate that is a tensor may be written to."""
    return option.detach().clone() if isinstance(option, Tensor) else option


@dataclass
class _Account:
    """A group's step as the rule says it: each part's stages, from the gradients and the options that it is worked out with."""

    parts: list[_Part]
    columns: list[Stages]
    eps: list[tuple[float, int]]
    moved: list[Tensor]
    arrived: list[Tensor]
    fresh: bool = True  # all that it remembers is of this one step

    @property
    def wanted(self) -> list[Tensor]:
        """What the rule demands of each part; of parts that lie in the same memory, of all of them together."""
        last = [column[-1][1] for column in self.columns]
        return [
            sum((w for w, q in zip(last, self.parts, strict=True) if q.memory == p.memory), torch.zeros_like(own))
            if sum(q.memory == p.memory and q.weights.shape == p.weights.shape for q in self.parts) > 1
            else own
            for own, p in zip(last, self.parts, strict=True)
        ]

    def unexplained(self) -> float:
        """How much of what was done the rule does not explain, in units of what it demands (of what was done, where that is nothing)."""
        found = norm(_beyond(*both) for both in zip(self.parts, self.wanted, self.moved, strict=True))
        size = self.size()
        return found / size if size > 0 else 0.0

    def size(self) -> float:
        return norm(self.wanted) or norm(self.moved)


def _account(
    parts: list[_Part], optimizer: TorchOptimizer, options: dict[str, Any], rule: Any, behind: bool
) -> _Account | None:
    """Work a step out by the rule, with the gradients as they are ahead of it or `behind`; None where the state does not tell."""
    found = _Account([], [], [], [], [])
    for part in parts:
        grad = part.behind() if behind else None if part.skipped else part.arrived
        if grad is None:
            continue
        explained: Explained | None = rule(wide(grad), wide(part.weights), part.state(optimizer), options)
        if explained is None:
            return None
        found.fresh &= fresh(wide(grad), wide(part.weights), part.state(optimizer), options)
        found.parts.append(part)
        found.columns.append(explained.stages)
        found.arrived.append(grad)
        found.moved.append(wide(part.weights) - wide(part.piece.of(local(part.tensor.detach()))))
        if explained.eps_rules is not None:
            found.eps.append((explained.eps_rules, part.weights.numel()))
    return found


def _best(
    parts: list[_Part], optimizer: TorchOptimizer, before: dict[str, Any], now: dict[str, Any], rule: Any
) -> _Account | None:
    """Return the account that explains most. A hook of the script's may change gradients or options within the step, and a
    closure computes new ones: then the step is what the rule makes of those.
    """
    best = _account(parts, optimizer, now, rule, behind=False)
    if best is None or not best.unexplained() > 0:
        return best
    for options, behind in itertools.product((now, before), (True, False)):
        other = _account(parts, optimizer, options, rule, behind)
        if other is not None and len(other.parts) >= len(best.parts) and other.unexplained() < best.unexplained():
            best = other
    return best


def _measured(
    number: int, optimizer: TorchOptimizer, before: dict[str, Any], parts: list[_Part], rule: Any
) -> GroupStep:
    group = optimizer.param_groups[number]
    account = _best(parts, optimizer, before, group, rule) if rule is not None else None
    moved = [wide(part.weights) - wide(part.piece.of(local(part.tensor.detach()))) for part in parts]
    found = GroupStep(
        group=number, params=[part.index for part in parts], entries=sum(part.weights.numel() for part in parts), options=options_of(group),
        stages=[Stage(GRADIENT, norm(p.delivered for p in parts)), Stage(BETWEEN, norm(p.arrived for p in parts))],
        boxed=account is None,
    )  # fmt: skip
    if account is None:
        rate = found.options.get("lr")
        if rate:
            found.stages.append(Stage(RULE, norm(moved) / abs(rate)))
        found.stages.append(Stage(RATE if rate else RULE, norm(moved)))
        return found
    if account.parts:
        found.stages[-1] = Stage(BETWEEN, norm(account.arrived))
    for place, (name, _) in enumerate(account.columns[0] if account.columns else []):
        found.stages.append(Stage(name, norm(column[place][1] for column in account.columns)))
    found.stages.append(Stage(ROUNDING, norm(moved)))
    eps = account.eps
    found.eps_rules = sum(share * n for share, n in eps) / sum(n for _, n in eps) if eps else None
    if account.parts:
        found.fresh = account.fresh
        _compare(found, account)
    return found


def _compare(found: GroupStep, account: _Account) -> None:
    """Hold what the weights did against what the rule demands."""
    wanted, moved, size = account.wanted, account.moved, account.size()
    if not size > 0:
        return
    beyond = [_beyond(*both) for both in zip(account.parts, wanted, moved, strict=True)]
    found.unexplained = norm(beyond) / size
    found.apart = norm(m - w for w, m in zip(wanted, moved, strict=True)) / size
    if found.unexplained > 0:
        both = [
            Moved(p.index, wide(p.weights), w, m, b)
            for p, w, m, b in zip(account.parts, wanted, moved, beyond, strict=True)
        ]
        shared = all(in_shared_memory(p.tensor) for p in account.parts)
        found.foreign = foreign(both, size, shared)
    asked = norm(wanted)
    if asked > 0:
        still = [(w != 0) & (m == 0) for w, m in zip(wanted, moved, strict=True)]
        found.lost = sum(int(s.sum()) for s in still) / max(sum(int((w != 0).sum()) for w in wanted), 1)
        found.lost_energy = norm(w * s for w, s in zip(wanted, still, strict=True)) ** 2 / asked**2


def _beyond(part: _Part, wanted: Tensor, moved: Tensor) -> Tensor:
    """Return how far each entry is from what the rule demands, beyond what rounding can explain."""
    format_ = part.weights.real if part.weights.is_complex() else part.weights
    unit = torch.finfo(format_.dtype).eps
    return ((moved - wanted).abs() - unit * (wide(part.weights).abs() + _OPERATIONS * wanted.abs())).clamp(min=0.0)
