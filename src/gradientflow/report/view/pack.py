"""A run for one page: what the app would send when it is asked, all at once and within bounds. The same records give the same page."""

from __future__ import annotations

import base64
import sys
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import TypeVar

import msgspec

from gradientflow.limits import Limit
from gradientflow.records import Excerpt, Inlined, InlinedWay, Own
from gradientflow.report import words
from gradientflow.report.guard import guarded
from gradientflow.report.view.course import curves, mapped
from gradientflow.report.view.moment import Moment
from gradientflow.report.view.opened import number, tick, view
from gradientflow.report.view.ways import ops_seen, routes, users, way

POINTS = 800  # of a curve
STEPS = Limit("probed_steps_of_a_page", 32, "chosen: enough to scrub over training")
ROWS = Limit(
    "rows_of_a_page", 4000, "measured: some 250 bytes a row as they lie in the page, so that a page stays below 2 MB"
)
CELLS = Limit("cells_of_a_page", 200_000, "chosen: a byte each that hardly packs; the app sends 500,000")
TIMES = 8  # states of a recurrence weigh as much as one row
T = TypeVar("T")


@dataclass
class _Packing:
    """What is being put into a page."""

    excerpts: list[Excerpt] = field(default_factory=list)
    places: dict[tuple[str, int], int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def part(self, name: str, make: Callable[[], T]) -> T | None:
        """Return a part; where it cannot be made None, and the page says so."""
        return guarded(name, make, self.problems.append)

    def source(self, found: Excerpt | None) -> int | None:
        """Return the number of an excerpt; each is held once. (Where the file lies on this machine is nobody else's business.)"""
        if found is None:
            return None
        found.path = None
        at = self.places.setdefault((found.file, found.line), len(self.excerpts))
        if at == len(self.excerpts):
            self.excerpts.append(found)
        return at


def inlined(name: str, moment: Moment) -> Inlined:
    """Return a run as a page holds it.

    Args:
        name: of the run, as a command would name it; empty: there is none on disk.
        moment: the run.
    """
    run, packing = moment.run, _Packing()
    opened = view(name, moment)
    for finding in opened.told:
        packing.source(finding.excerpt)
    ways = _ways(moment, packing)
    place = {k: at for at, k in enumerate(ways)}  # a probe's number in the page
    opened.probes = [tick(at, run.probes[k]) for k, at in place.items()]
    opened.at = place.get(opened.at) if opened.at is not None else None
    owns = [_own(moment, own, packing) for own in opened.own]
    for own in opened.own:
        own.probe = place.get(own.probe) if own.probe is not None else None
    for at, one in [*enumerate(ways.values()), *((own.probe, one) for own, one in zip(opened.own, owns, strict=True))]:
        if one is not None and at is not None:
            one.way = msgspec.structs.replace(one.way, probe=at)
    drawn, floats = packing.part("the curves", lambda: curves(moment, POINTS)) or (None, [])
    told = f"This page holds {len(ways)} of {words.count(len(run.probes), 'probed step')}; gradientflow app shows all of them."
    return Inlined(
        view=opened, ways=list(ways.values()), owns=owns, excerpts=packing.excerpts, curves=drawn, floats=_packed(floats),
        weights=packing.part("the map of gradients", lambda: mapped(run, biases=False, cells=int(CELLS))),
        biases=packing.part("the map of biases", lambda: mapped(run, biases=True, cells=int(CELLS))),
        thinned=[told] if len(ways) < len(run.probes) else [], problems=packing.problems,
    )  # fmt: skip


def _ways(moment: Moment, packing: _Packing) -> dict[int, InlinedWay | None]:
    """The ways back of as many probes as fit, by number; the verdict's own in any case."""
    chosen: dict[int, InlinedWay | None] = {}
    room = int(ROWS)
    for k in _wanted(moment):
        made = packing.part(f"the way back at step {moment.run.probes[k].step}", partial(_way, moment, k, packing))
        weight = _weight(made) if made is not None else 0
        if chosen and weight > room:
            break
        room, chosen[k] = room - weight, made
    return dict(sorted(chosen.items()))


def _wanted(moment: Moment) -> list[int]:
    """The probes that a page holds, what its reader looks at first in front: the verdict's, each optimizer's own, those that a
    finding names, the first that is not finite, the ends; then others spread over training.
    """
    run, verdict = moment.run, moment.verdict
    every = [k for k, p in enumerate(run.probes) if p.root is not None] or list(range(len(run.probes)))
    if not every:
        return []
    steps = [own.budget.step for own in verdict.optimizers] + [f.evidence.get("step") for f in verdict.findings]
    named = [k for k in every if run.probes[k].step in steps]
    broken = [k for k in every if tick(k, run.probes[k]).broken][:1]
    count = min(int(STEPS), len(every))
    spread = [every[k * (len(every) - 1) // max(1, count - 1)] for k in sorted(range(count), key=_halved)]
    looked_at = number(run, moment.looked_at)
    first = [looked_at] if looked_at is not None else []
    rest = range(len(run.probes))  # at last those that have no way back, where there is room
    return list(dict.fromkeys([*first, *named, *broken, every[-1], every[0], *spread, *rest]))[: int(STEPS)]


def _halved(k: int) -> int:
    """A place in an order that halves gaps: whatever of it is left out at the end, the rest lies evenly."""
    return int(f"{k:032b}"[::-1], 2)


def _way(moment: Moment, k: int, packing: _Packing, own: int | None = None) -> InlinedWay:
    made = way(moment, k, own)
    ops = list(ops_seen(moment, k, own))
    sources = [packing.source(op.excerpt) for op in ops]
    for op in ops:
        op.excerpt = None
    parted = packing.part(f"where routes part at step {made.step}", lambda: routes(moment, k))
    return InlinedWay(made, parted, ops, sources, {str(p): row for p, row in users(moment, k, own).items()})


def _own(moment: Moment, own: Own, packing: _Packing) -> InlinedWay | None:
    """The way back of an optimizer whose probe has another's."""
    if own.way is None or own.probe is None:
        return None
    return packing.part(f"the way back of {own.name}", partial(_way, moment, own.probe, packing, own.way))


def _weight(made: InlinedWay) -> int:
    """How many rows it weighs as much as."""
    times = sum(len(t.values) for t in made.routes.times) if made.routes is not None else 0
    return len(made.ops) + (len(made.routes.branches) if made.routes is not None else 0) + times // TIMES


def _packed(floats: list[list[float]]) -> str:
    flat = array("f", chain.from_iterable(floats))  # what float32 does not hold is infinite there
    if sys.byteorder == "big":
        flat.byteswap()
    return base64.b64encode(flat.tobytes()).decode("ascii")
