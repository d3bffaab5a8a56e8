"""Which remedies to try, where, and with which settings: from the record of a run and its verdict. Reads records only.

The top finding's first remedies come first, then those of the findings after it. A remedy becomes a `Change` where the
record says enough to act on: which lines, which numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradientflow.depth.remedies.planner import Planner
from gradientflow.depth.remedies.row import Never
from gradientflow.depth.remedies.table import TABLE
from gradientflow.limits import Limit
from gradientflow.records import Change, Finding, Run, Verdict

TRIED = Limit("trials", 4, "chosen: what a budget of minutes has time for")
FINDINGS = Limit("findings", 4, "chosen: what stands below them is rarely a cause of its own")
FROM_FIRST = Limit("remedies", 2, "chosen: of the top finding, before any of the others'")


def candidates(run: Run, verdict: Verdict, *, most: int = int(TRIED)) -> list[tuple[int, Change]]:
    """Return what to try, the best-supported first.

    Args:
        run: everything seen.
        verdict: its verdict.
        most: how many changes at most.

    Returns:
        Pairs of (index into `verdict.findings`, change).
    """
    planner = Planner(run, verdict)
    found: list[tuple[int, Change]] = []
    seen: set[str] = set()
    for index, change in _in_order(planner, verdict):
        key = f"{change.kind} {change.places} {sorted(change.settings.items())}"
        if key not in seen and len(found) < most:
            seen.add(key)
            found.append((index, change))
    return found


def _in_order(planner: Planner, verdict: Verdict) -> Iterator[tuple[int, Change]]:
    """Yield the top finding's first remedies; then the first of each of the others, and another form (a smaller step, another
    function) of the very first; then what is left.
    """
    first: list[tuple[int, Change]] = []
    second: list[tuple[int, Change]] = []
    rest: list[tuple[int, Change]] = []
    for index, finding in enumerate(verdict.findings[: int(FINDINGS)]):
        planned = [changes for r in finding.remedies if (changes := _planned(planner, finding, r.kind)[0])]
        for rank, (change, *forms) in enumerate(planned):
            early = first if index == 0 and rank < FROM_FIRST else second if index > 0 and rank == 0 else rest
            early.append((index, change))
            rest.extend((index, form) for form in forms)
    top = [pair for pair in rest if first and pair[0] == 0 and pair[1].kind == first[0][1].kind][:1]
    yield from (*first, *second[:1], *top, *second[1:])
    yield from (pair for pair in rest if pair not in top)


def _planned(planner: Planner, finding: Finding, kind: str) -> tuple[list[Change], str]:
    """Return the changes that a remedy can mean here, and why there are none."""
    row = TABLE.get(kind)
    if row is None:
        return [], "it is no remedy that is known"
    if isinstance(row.plan, Never):
        return [], row.plan.why
    try:
        return row.plan(planner, finding), row.unplanned
    except Exception as problem:  # one plan that fails does not take the others down
        return [], f"planning it failed: {type(problem).__name__}: {problem}"


def untried(run: Run, verdict: Verdict) -> list[tuple[int, str, str]]:
    """Return the remedies that cannot be tried on the running script.

    Args:
        run: everything seen.
        verdict: its verdict.

    Returns:
        Triples of (index into `verdict.findings`, kind of remedy, why in words).
    """
    planner = Planner(run, verdict)
    found = []
    for index, finding in enumerate(verdict.findings[: int(FINDINGS)]):
        for remedy in finding.remedies:
            changes, why = _planned(planner, finding, remedy.kind)
            if not changes:
                found.append((index, remedy.kind, why))
    return found
