"""Whether a record that was read makes sense in itself: its indices lead to what there is, and never in a circle.

What judges and draws a run leans on that. A record that does not is left out, with a sentence, and costs nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gradientflow.records import (
    OUTCOMES,
    Isolation,
    Meta,
    Note,
    Param,
    ParamNorms,
    Probe,
    Record,
    Replay,
    Rewrite,
    Step,
)

LARGEST = 1 << 53  # of a step's number: what a float still counts exactly
MOST_PARAMS = 100_000  # beyond this an index is no index


def wrong_with(record: Record) -> str | None:
    """Return what is wrong with a record, None where nothing is."""
    if isinstance(record, Note):
        return None
    if not 0 <= record.step < LARGEST:
        return f"its step is {record.step}"
    if isinstance(record, (Step, Rewrite)):
        return None if 0 <= record.optimizer < MOST_PARAMS else f"its optimizer is {record.optimizer}"
    if isinstance(record, ParamNorms):
        lengths = {len(column) for column in (record.params, record.grad, record.weight, record.update)}
        if len(lengths) > 1:
            return "its columns differ in length"
        return _out_of_range(record.params, "parameter", MOST_PARAMS)
    return _wrong_with_probe(record)


def _wrong_with_probe(probe: Probe) -> str | None:
    count = len(probe.ops)
    for i, op in enumerate(probe.ops):
        if op.index != i:
            return f"operation {i} says that it is {op.index}"
        wrong = _out_of_range((o.op for o in op.operands if o.op is not None), f"operation {i} takes operation", i)
        wrong = wrong or _out_of_range((o.param for o in op.operands if o.param is not None), "parameter", MOST_PARAMS)
        wrong = wrong or _out_of_range((o.cut for o in op.operands if o.cut is not None), "cut", len(probe.cuts))
        if wrong:
            return wrong
    return (
        _out_of_range(_named_params(probe), "parameter", MOST_PARAMS)
        or _out_of_range((i for one in probe.recurrent for i in one.ops), "operation", count)
        or _out_of_range(_ends(probe), "operation", count)
        or _out_of_range(
            (cut.op + 1 for cut in [*probe.cuts, *probe.hooks]), "operation", count + 1
        )  # (−1 is no operation)
    )


def _named_params(probe: Probe) -> Iterator[int]:
    yield from (state.param for state in probe.params)
    yield from probe.without_grad
    if probe.transit is not None:
        yield from (passed.param for passed in probe.transit.passed)
        yield from (i for group in probe.transit.groups for i in group.params)
        yield from (i for change in probe.transit.alterations for i in change.params)
    yield from (cut.param for cut in probe.cuts if cut.param is not None)
    yield from (one.weight for one in probe.recurrent if one.weight is not None)


def _ends(probe: Probe) -> Iterator[int]:
    if probe.root is not None:
        yield probe.root
    if isinstance(probe.isolation, Isolation):
        yield from (probe.isolation.source, probe.isolation.target, *probe.isolation.mixers)
    if probe.isometry is not None:
        for stretch in [*probe.isometry.stretches, *filter(None, [probe.isometry.whole])]:
            yield stretch.source
            yield stretch.target


def _out_of_range(indices: Iterable[int], what: str, count: int) -> str | None:
    wrong = next((i for i in indices if not 0 <= i < count), None)
    return None if wrong is None else f"it names {what} {wrong}, of {count}"


def wrong_with_replay(replay: Replay) -> str | None:
    """Return what is wrong with a replay, None where nothing is."""
    if replay.best is not None and not 0 <= replay.best < len(replay.trials):
        return f"its best is trial {replay.best}, of {len(replay.trials)}"
    for trial in replay.trials:
        if trial.outcome not in OUTCOMES:
            return f"the outcome {trial.outcome!r:.40} is not known"
        if not 0 <= trial.finding < LARGEST or not trial.changes:
            return "a trial is of no finding, or changes nothing"
    counts = [replay.steps, replay.seeds, replay.seconds, replay.budget, replay.baseline.steps]
    counts += [n for t in replay.trials for n in (t.seeds, t.after.steps if t.after is not None else 0)]
    return None if all(0 <= n < LARGEST for n in counts) else "a count in it is none"


def described(meta: Meta, records: Iterable[ParamNorms | Probe]) -> int:
    """Add to a description the parameters that are only named by rows, and return how many: that of a run that was killed
    lags behind them.
    """
    named = [-1]
    for record in records:
        if isinstance(record, ParamNorms):
            named += record.params
        else:
            named += [o.param for op in record.ops for o in op.operands if o.param is not None]
            named += _named_params(record)
    added = [unknown(i) for i in range(len(meta.params), max(named) + 1)]
    meta.params += added
    return len(added)


def unknown(index: int) -> Param:
    """Return what is told of a parameter of which nothing is known."""
    return Param(index, f"parameter {index}", [], "?", requires_grad=True, is_parameter=True)
