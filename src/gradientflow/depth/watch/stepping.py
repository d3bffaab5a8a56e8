"""The second budget: from the gradient that backward left to the update, stage by stage, for each parameter group.

Measured on probed steps: the weights ahead of the step are kept, of as many entries as the rotation gives, and behind the
step every stage of the optimizer's own rule is worked out again from the state it left. What the rule demands and what the
weights did differ by rounding, and by whatever else moved them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer as TorchOptimizer

from gradientflow.depth.probe.registry import Registry
from gradientflow.depth.watch.optimizers import Watched, options_of
from gradientflow.depth.watch.rotation import Piece
from gradientflow.depth.watch.transmission import Transmission
from gradientflow.depth.watch.update_rules import RULES, Explained, Stages
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
        kept = None if grad is None or not readable(grad) else grad.detach()
        dense = kept.to_dense() if kept is not None and kept.is_sparse else kept
        self.arrived = torch.zeros_like(delivered) if dense is None else piece.of(dense).clone()
        self.skipped = grad is None
        self.weights = piece.of(t.detach()).clone()

    def state(self, optimizer: TorchOptimizer) -> dict[str, Any]:
        """Return the optimizer's state of this part of the parameter, in wide precision."""
        found: dict[str, Any] = {}
        for key, value in optimizer.state.get(self.tensor, {}).items():
            same = isinstance(value, Tensor) and value.shape == self.tensor.shape
            found[key] = wide(self.piece.of(value)) if same else value
        return found


class Stepping:
    """Measures one optimizer's step, group by group.

    Args:
        registry: who is who among the parameters.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._parts: list[list[_Part]] = []

    def before(self, optimizer: TorchOptimizer, way: Transmission) -> None:
        """Keep what the step is going to change."""
        self._parts = []
        with torch.no_grad():
            for group in optimizer.param_groups:
                parts = []
                for p in group["params"]:
                    index = self._registry.find(p)
                    kept = way.kept(index) if index is not None else None
                    if index is not None and kept is not None and readable(p) and not p.is_sparse:
                        parts.append(_Part(index, p, *kept))
                self._parts.append([part for part in parts if part.weights.shape == part.delivered.shape])

    def after(self, optimizer: TorchOptimizer, watched: Watched) -> list[GroupStep]:
        """Return every group's stages."""
        groups, self._parts = self._parts, []
        own = type(optimizer).__module__.startswith("torch.optim")
        rule = RULES.get(watched.record.name) if own else None
        with torch.no_grad():
            return [
                _measured(number, optimizer, optimizer.param_groups[number], parts, rule)
                for number, parts in enumerate(groups)
                if parts and number < len(optimizer.param_groups)
            ]


def _measured(
    number: int, optimizer: TorchOptimizer, group: dict[str, Any], parts: list[_Part], rule: Any
) -> GroupStep:
    columns: list[Stages] = []
    eps: list[tuple[float, int]] = []
    for part in parts:
        explained: Explained | None = None
        if rule is not None and not part.skipped:
            explained = rule(wide(part.arrived), wide(part.weights), part.state(optimizer), group)
        if explained is None and not part.skipped:
            rule = None
        columns.append(explained.stages if explained is not None else [])
        if explained is not None and explained.eps_rules is not None:
            eps.append((explained.eps_rules, part.weights.numel()))
    moved = [wide(part.weights) - wide(part.piece.of(part.tensor.detach())) for part in parts]
    found = GroupStep(
        group=number, params=[part.index for part in parts], entries=sum(part.weights.numel() for part in parts), options=options_of(group),
        stages=[Stage(GRADIENT, norm(p.delivered for p in parts)), Stage(BETWEEN, norm(p.arrived for p in parts))],
        boxed=rule is None,
    )  # fmt: skip
    if rule is None:
        rate = found.options.get("lr")
        if rate:
            found.stages.append(Stage(RULE, norm(moved) / abs(rate)))
        found.stages.append(Stage(RATE if rate else RULE, norm(moved)))
        return found
    stepped = [k for k, column in enumerate(columns) if column]
    for place, (name, _) in enumerate(columns[stepped[0]] if stepped else []):
        found.stages.append(Stage(name, norm(columns[k][place][1] for k in stepped)))
    found.stages.append(Stage(ROUNDING, norm(moved)))
    found.eps_rules = sum(share * n for share, n in eps) / sum(n for _, n in eps) if eps else None
    _compare(found, [parts[k] for k in stepped], [columns[k][-1][1] for k in stepped], [moved[k] for k in stepped])
    return found


def _compare(found: GroupStep, parts: list[_Part], wanted: list[Tensor], moved: list[Tensor]) -> None:
    """Hold what the weights did against what the rule demands."""
    size = norm(wanted)
    if not wanted or not size > 0:
        return
    still = [(w != 0) & (m == 0) for w, m in zip(wanted, moved, strict=True)]
    asked = sum(int((w != 0).sum()) for w in wanted)
    found.lost = sum(int(s.sum()) for s in still) / max(asked, 1)
    found.lost_energy = norm(w * s for w, s in zip(wanted, still, strict=True)) ** 2 / size**2
    found.unexplained = norm(_beyond(p, w, m) for p, w, m in zip(parts, wanted, moved, strict=True)) / size


def _beyond(part: _Part, wanted: Tensor, moved: Tensor) -> Tensor:
    """Return how far each entry is from what the rule demands, beyond what rounding can explain."""
    format_ = part.weights.real if part.weights.is_complex() else part.weights
    unit = torch.finfo(format_.dtype).eps
    return ((moved - wanted).abs() - unit * (wide(part.weights).abs() + _OPERATIONS * wanted.abs())).clamp(min=0.0)
