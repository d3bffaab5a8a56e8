"""Of several optimizers: what each did by itself, since their losses, gradients and steps are not one another's."""

from __future__ import annotations

from gradientflow.depth.causes import places
from gradientflow.depth.causes.case import Case, rounded
from gradientflow.records import Loss, Trained


def each(case: Case) -> list[Trained]:
    """Return a row for every optimizer that stepped, where there are several; none where there is one."""
    stepped = [t for t in case.trends if t.optimizer is not None and t.steps]
    if len(stepped) <= 1:
        return []
    rows = []
    for trend in stepped:
        optimizer = trend.optimizer
        place = places.of_optimizer(optimizer, case.meta)
        graph = next((g for g in case.finite if optimizer and g.probe.optimizer == optimizer.index), None)
        losses = [s.loss for s in trend.steps if s.loss is not None]
        rows.append(
            Trained(
                optimizer.name if optimizer is not None else "", len(trend.steps),
                Loss(losses[0], losses[-1]) if losses else Loss(), place.file if place else None, place.line if place else None,
                rounded(graph.body_decades) if graph is not None else None,
            )
        )  # fmt: skip
    return rows


def told(rows: list[Trained]) -> str:
    """Say in words what each did: steps, loss, and what its gradient changes by on its way back."""
    parts = []
    for row in rows:
        where = f" ({(row.file or '').rpartition('/')[2]}:{row.line})" if row.file else ""
        loss = ""
        if row.loss.first is not None and row.loss.last is not None:
            loss = f", its loss from {row.loss.first:.4g} to {row.loss.last:.4g}"
        way = (
            f", its gradient changes by {row.decades:+.1f} decades".replace("by -", "by −")
            if row.decades is not None
            else ""
        )
        parts.append(f"{row.name}{where} took {row.steps} steps{loss}{way}")
    return "; ".join(parts)
