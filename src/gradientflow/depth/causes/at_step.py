"""The way back at any probed step, beside the one that the verdict looks at."""

from __future__ import annotations

from gradientflow.depth.causes import budget
from gradientflow.depth.causes.graph import Graph
from gradientflow.records import Budget, Probe, Run, Share, Verdict


def way_at(run: Run, verdict: Verdict, probe: Probe) -> Budget:
    """Return the budget of one probe.

    Args:
        run: everything seen.
        verdict: on it. The lines that it blames carry their mark here too, as long as they still do what they are blamed for.
        probe: one of the run's.

    Returns:
        The budget, by a note empty where no way back was traced.
    """
    if probe is looked_at(run, verdict):
        return verdict.budget
    graph = Graph(probe, run.meta)
    if probe.root is None or not graph.reached:
        return Budget(step=probe.step, note="no backward pass was traced in this step")
    if verdict.optimizers and probe.optimizer is not None and probe.optimizer < len(run.meta.optimizers):
        mine = Graph(probe, run.meta, frozenset(run.meta.optimizers[probe.optimizer].params))
        graph = mine if mine.path else graph  # of several, to what the one that stepped here trains
    made = budget.build(graph)
    blamed = {_where(row): row.mark for row in verdict.budget.by_op if row.mark}
    for row in made.by_op:
        mark = blamed.get(_where(row))
        if row.mark is None and mark is not None and _still(mark, row):
            row.mark = mark
    return made


def looked_at(run: Run, verdict: Verdict) -> Probe | None:
    """Return the probe that a verdict's budget was made from; of several optimizers' at one step, that of the budget's own."""
    step = verdict.budget.step
    here = [p for p in run.probes if p.step == step] if step is not None else []
    own = next((o.index for o in verdict.optimizers if o.budget == verdict.budget), None)
    return next((p for p in here if own is None or p.optimizer == own), here[0] if here else None)


def _where(row: Share) -> tuple[str | None, int | None, str, str | None]:
    return row.file, row.line, row.name, row.module


def _still(mark: str, row: Share) -> bool:
    """Whether a row does here what it is blamed for elsewhere."""
    if mark == "dead":
        return row.norm == 0 or row.gain == 0
    if row.decades is None:
        return False
    return row.decades < 0 if mark == "vanishing" else row.decades > 0 if mark == "exploding" else False
