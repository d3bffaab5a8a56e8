"""Of several optimizers: what each did by itself, since their losses, gradients and steps are not one another's."""

from __future__ import annotations

import itertools

from gradientflow.depth.causes import budget, places
from gradientflow.depth.causes.case import Case, rounded
from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.causes.trend import Trend
from gradientflow.records import Budget, Finding, Loss, Optimizer, Trained

MODULES = 3  # that are named of what an optimizer trains
FOLLOWED = 8  # optimizers whose way back is worked out: the first
TOLD = 4  # that a sentence names
UNTRACED = "none of its backward passes was traced"
MANY = f"it is worked out for the first {FOLLOWED} optimizers only"


def each(case: Case, step: int | None = None) -> list[Trained]:
    """Return a row for every optimizer that stepped, where there are several; none where there is one.

    Args:
        case: the run.
        step: the probed step that the verdict looks at; an optimizer that has a share in it is shown there.
    """
    stepped = [(t.optimizer, t) for t in case.trends if t.optimizer is not None and t.steps]
    if len(stepped) <= 1:
        return []
    losses = case.run.losses()
    rows = [_row(case, o, t, losses.get(o.index, []), _graph(case, o, step), UNTRACED) for o, t in stepped[:FOLLOWED]]
    return rows + [_row(case, o, t, losses.get(o.index, []), None, MANY) for o, t in stepped[FOLLOWED:]]


def _row(
    case: Case, optimizer: Optimizer, trend: Trend, losses: list[float], graph: Graph | None, why_not: str
) -> Trained:
    """Return what one optimizer did, with the way back in a graph; where there is none, why not."""
    place = places.of_optimizer(optimizer, case.meta)
    return Trained(
        optimizer.name, len(trend.steps), Loss(losses[0], losses[-1]) if losses else Loss(),
        place.file if place else None, place.line if place else None,
        rounded(graph.body_decades) if graph is not None else None,
        index=optimizer.index, trains=_trains(case, optimizer),
        budget=budget.build(graph) if graph is not None else Budget(note=why_not),
    )  # fmt: skip


def main(rows: list[Trained], shown: Budget, findings: list[Finding]) -> Budget:
    """Return the budget that the verdict looks at: of the way that a finding's line lies on, else of the first at that step.

    Args:
        rows: what each optimizer did; none where there is one.
        shown: the budget of the whole step, where there is no other.
        findings: the most telling first.
    """
    here = [r.budget for r in rows if r.budget.by_op and r.budget.step == shown.step]
    place = findings[0].place if findings else None
    on_it = [b for b in here if place and any((s.file, s.line) == (place.file, place.line) for s in b.by_op)]
    return next(iter(on_it or here), shown)


def _graph(case: Case, optimizer: Optimizer, step: int | None) -> Graph | None:
    """Return a probe with the way back to what this optimizer trains: of its own backward calls the one at the verdict's step,
    else its first; where it never had one, of a call that it stepped on with others.
    """
    own = frozenset(optimizer.params)
    graphs = [g for g in case.graphs if g.probe.optimizer == optimizer.index] or case.graphs
    finite = {g.probe.step for g in case.finite}
    for graph in sorted(graphs, key=lambda g: (g.probe.step != step, g.probe.step not in finite)):
        mine = Graph(graph.probe, case.meta, own)
        if mine.path:
            return mine
    return None


def _trains(case: Case, optimizer: Optimizer) -> str:
    """Return the modules whose parameters it holds, each as far as its parameters' names agree."""
    params = case.meta.params
    roots: dict[str, list[list[str]]] = {}
    for index in optimizer.params:
        parts = params[index].name.split(".") if 0 <= index < len(params) else []
        if parts:
            roots.setdefault(parts[0], []).append(parts[:-1] or parts)
    names = [".".join(_shared(found)) for found in roots.values()]
    return ", ".join([*names[:MODULES], *(["…"] if names[MODULES:] else [])])


def _shared(paths: list[list[str]]) -> list[str]:
    """Return what all of them begin with."""
    return [names[0] for names in itertools.takewhile(lambda names: len(set(names)) == 1, zip(*paths, strict=False))]


def told(rows: list[Trained]) -> str:
    """Say in words what each did: steps, loss, and what its gradient changes by on its way back."""
    parts = []
    for row in rows[:TOLD]:
        of = f" of {row.trains}" if row.trains else ""
        told = f"{row.name}{of} took {row.steps} steps"
        if row.loss.first is not None and row.loss.last is not None:
            told += f", loss {_signed(f'{row.loss.first:.4g}')} to {_signed(f'{row.loss.last:.4g}')}"
        if row.decades is not None:
            told += f", gradient {_signed(f'{row.decades:+.1f}')} decades"
        parts.append(told)
    parts += [f"{len(rows) - TOLD} more optimizers"] if rows[TOLD:] else []
    return "; ".join(parts)


def _signed(number: str) -> str:
    return "−" + number[1:] if number.startswith("-") else number
