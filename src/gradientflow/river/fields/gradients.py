"""Loss, gradient and curvature of a model over all its data, at one point or at many.

Points come as rows, (B, P). A single row is differentiated at the parameters themselves, as plain PyTorch would do; several
rows are vectorised with ``torch.func.vmap`` in groups that fit into memory, or taken one by one where a module forbids it.
Every sum over batches runs in the order of the data.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from gradientflow.errors import FieldError
from gradientflow.river.fields.base import Linear
from gradientflow.river.fields.batches import Batches
from gradientflow.river.fields.compiled import Compiled
from gradientflow.river.fields.model import Model
from gradientflow.river.fields.objective import Objective

ROOM = 2**28  # bytes of activations that rows evaluated together may hold on a CPU; four times that elsewhere


class Gradients:
    """L = Σ_b c_b loss(model(x_b; θ), y_b), divided by Σ_b c_b for a mean, and its derivatives.

    Args:
        model, objective, batches: what L is made of.
        accumulate: dtype of the sums over batches; None for that of θ.
        chunk: rows that are evaluated together; None chooses by the memory of their activations.
        compile: compile the gradient at a single row.
        notes: told here when rows cannot be evaluated together.
    """

    def __init__(
        self,
        model: Model,
        objective: Objective,
        batches: Batches,
        *,
        accumulate: torch.dtype | None = None,
        chunk: int | None = None,
        compile: bool = False,
        notes: list[str] | None = None,
    ) -> None:
        self.model, self.objective, self.batches, self.space = model, objective, batches, model.space
        self.chunk = chunk
        self.notes = [] if notes is None else notes
        self._sums = self.space.dtype if accumulate is None else torch.promote_types(accumulate, self.space.dtype)
        self._alone = batches.number == 1
        self._together = True  # until a module is met that cannot be vectorised
        self._compiled = Compiled(model, objective, steady=not batches.stream) if compile else None
        self._seat: tuple[Tensor, list[Tensor]] | None = None

    # ── a group of rows ──────────────────────────────────────────────────────────────────────────────────────────────

    def leaves(self, theta: Tensor) -> list[Tensor]:
        """Return what is differentiated: the parameters of a single row, or else all rows in one."""
        if len(theta) == 1:
            return [part.detach().requires_grad_() for part in self.space.split(theta[0])]
        return [theta.detach().requires_grad_()]

    def _seated(self, theta: Tensor) -> list[Tensor]:
        """Return leaves with the values of a single row that are written anew each time: for graphs that do not stay.

        Making a tensor that requires a gradient costs more than filling one, which shows on small networks.
        """
        if not self.space.plain:
            return self.leaves(theta)
        if self._seat is None:
            flat = torch.empty(self.space.size, dtype=self.space.dtype, device=self.space.device)
            self._seat = flat, [part.detach().requires_grad_() for part in self.space.split(flat)]
        flat, leaves = self._seat
        if theta.shape[1] != self.space.size:
            self.space.split(theta)  # says what is wrong
        flat.copy_(theta.detach()[0])
        return leaves

    def losses(self, leaves: Sequence[Tensor], x: Any, y: Any, *, many: bool) -> Tensor:
        """Return the loss of one batch: a scalar, or (b,) for many rows."""
        if not many:
            return self.model.loss(leaves, x, y, self.objective)
        one = lambda row: self.model.loss(self.space.split(row), x, y, self.objective)  # noqa: E731
        out: Tensor = torch.func.vmap(one)(leaves[0])
        return out

    def join(self, parts: Sequence[Tensor], *, many: bool) -> Tensor:
        """Return derivatives with respect to the leaves as rows, (b, P)."""
        return parts[0].contiguous() if many else self.space.join(parts)[None]

    def added(self, of: Callable[[Any, Any], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Return what a function of a batch gives, added up over the batches as the reduction asks."""
        if self._alone:
            x, y, _ = self.batches.first()
            return of(x, y)
        totals: tuple[Tensor, ...] = ()
        amounts = 0.0
        for x, y, n in self.batches:
            amount = self.objective.amount(y, n)
            if not amount:
                continue  # no target of it counts, and its mean is 0/0
            parts = of(x, y)
            totals = totals or tuple(
                torch.zeros_like(part, dtype=self._sums, device=self.space.device) for part in parts
            )
            for total, part in zip(totals, parts, strict=True):
                total.add_(part.to(total), alpha=amount)
            amounts += amount
        if not totals:
            raise FieldError("no target in data counts: all are equal to ignore_index, or their classes weigh nothing.")
        if self.objective.reduction == "mean":
            for total in totals:
                total.div_(amounts)
        return totals

    # ── loss and gradient ────────────────────────────────────────────────────────────────────────────────────────────

    def slope(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return ∇L, (B, P), a tensor that nobody else holds, and L, (B,)."""
        if len(theta) == 1:
            slope, loss = self._slope_of_one(theta)
            return slope[None], loss[None]
        pairs = self._in_groups(self._slope_of_many, theta)
        return torch.cat([slope for slope, _ in pairs]), torch.cat([loss for _, loss in pairs])

    def _slope_of_one(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        if self._compiled is not None:
            row, compiled = theta[0], self._compiled
            slope, loss = self.added(lambda x, y: compiled(row, x, y))
            return slope, loss
        leaves = self._seated(theta)

        def of(x: Any, y: Any) -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                loss = self.model.loss(leaves, x, y, self.objective)
                slopes = derivative([loss], leaves)
            return self.space.join(slopes), loss.detach()

        slope, loss = self.added(of)
        return slope, loss

    def _slope_of_many(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        if len(theta) == 1:
            return self.slope(theta)

        def of(x: Any, y: Any) -> tuple[Tensor, Tensor]:
            with torch.enable_grad(), self.model.twice():
                leaves = self.leaves(theta)
                losses = self.losses(leaves, x, y, many=True)
                slopes = derivative([losses.sum()], leaves)
            return self.join(slopes, many=True), losses.detach()

        slope, loss = self.added(of)
        return slope, loss

    def loss(self, theta: Tensor) -> Tensor:
        """Return L, (B,)."""
        with torch.no_grad():
            return self._loss(theta) if len(theta) == 1 else torch.cat(self._in_groups(self._loss, theta))

    def _loss(self, theta: Tensor) -> Tensor:
        many = len(theta) > 1
        with self.model.twice() if many else self.model.once():
            parts = [theta] if many else self.space.split(theta[0])
            (loss,) = self.added(lambda x, y: (self.losses(parts, x, y, many=many),))
        return loss if many else loss[None]

    # ── curvature ────────────────────────────────────────────────────────────────────────────────────────────────────

    def curvature(self, theta: Tensor) -> Linear:
        """Return v ↦ ∇²L v at θ, (B, P) → (B, P).

        Where one batch and one group of rows are all there is, the graph of the gradient is kept, and a product costs one
        more backward pass. Otherwise it is built anew for each product, and memory stays that of one batch.
        """
        if self._alone and len(theta) <= self._most(second=True):
            kept: list[Linear] = self._in_groups(
                lambda rows: self._curve(rows, *self.batches.first()[:2]), theta, second=True
            )
            if len(kept) == 1:
                return kept[0]
        return lambda v: torch.cat(self._in_groups(self._product, theta, v, second=True))

    def _product(self, theta: Tensor, v: Tensor) -> Tensor:
        (total,) = self.added(lambda x, y: (self._curve(theta, x, y)(v),))
        return total.to(v)

    def _curve(self, theta: Tensor, x: Any, y: Any) -> Linear:
        """Return v ↦ ∇² v of one batch, with the graph of its gradient kept."""
        many = len(theta) > 1
        with torch.enable_grad(), self.model.twice():
            leaves = self.leaves(theta)
            losses = self.losses(leaves, x, y, many=many)
            slopes = derivative([losses.sum() if many else losses], leaves, create_graph=True)

        def product(v: Tensor) -> Tensor:
            along = [v] if many else self.space.split(v[0])
            with self.model.twice():
                out = self.join(derivative(slopes, leaves, along, retain_graph=True), many=many)
            return out.clone() if out.data_ptr() == v.data_ptr() else out

        return product

    # ── groups ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _most(self, *, second: bool = False) -> int:
        """Return how many rows go together; the graph of a gradient holds more than that of a loss."""
        if not self._together:
            return 1
        if self.chunk is None:
            self.chunk = max(
                1, self._room() // (2 * self._activations() + 4 * self.space.size * self.space.dtype.itemsize)
            )
        return max(1, self.chunk // 3) if second else self.chunk

    def _room(self) -> int:
        return ROOM if self.space.device.type == "cpu" else 4 * ROOM

    def _activations(self) -> int:
        """Return the bytes that one row keeps for its backward pass, at the first batch."""
        held: dict[int, int] = {}

        def note(saved: Tensor) -> Tensor:
            held[saved.data_ptr()] = saved.nbytes
            return saved

        x, y, _ = self.batches.first()
        leaves = [part.detach().clone().requires_grad_() for part in self.model.present().values()]
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda saved: saved):
            self.losses(leaves, x, y, many=False)
        return sum(held.values())

    def _in_groups(self, of: Callable[..., Any], *rows: Tensor, second: bool = False) -> list[Any]:
        """Return what a function of rows gives for each group of them; for single rows where they cannot go together."""
        if self._together and len(rows[0]) > 1:
            most = self._most(second=second)
            try:
                with warnings.catch_warnings():  # PyTorch warns where it would go row by row itself, and slowly
                    warnings.filterwarnings("error", message="There is a performance drop")
                    return [of(*group) for group in zip(*(torch.split(r, most) for r in rows), strict=True)]
            except (torch.OutOfMemoryError, FieldError):
                raise
            except (RuntimeError, NotImplementedError, ValueError, TypeError, UserWarning) as problem:
                self._together = False
                why = (str(problem).strip().splitlines() or [type(problem).__name__])[0][:160]
                self.notes.append(f"drops are evaluated one by one: {self.model.name} cannot be vectorised ({why}).")
        return [of(*group) for group in zip(*(torch.split(r, 1) for r in rows), strict=True)]


def derivative(
    outputs: Sequence[Tensor],
    leaves: Sequence[Tensor],
    weights: Iterable[Tensor] | None = None,
    *,
    create_graph: bool = False,
    retain_graph: bool | None = None,
) -> list[Tensor]:
    """Return ∂(Σ weightsᵀ outputs)/∂leaves, zeros where nothing depends on them."""
    along = [None] * len(outputs) if weights is None else list(weights)
    live = [(out, w) for out, w in zip(outputs, along, strict=True) if out.requires_grad]
    if not live:
        return [torch.zeros_like(leaf) for leaf in leaves]
    return list(
        torch.autograd.grad(
            [out for out, _ in live], leaves, None if weights is None else [w for _, w in live],
            create_graph=create_graph, retain_graph=retain_graph, allow_unused=True, materialize_grads=True,
        )
    )  # fmt: skip
