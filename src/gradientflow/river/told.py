"""Paths, ensembles and comparisons as records: plain numbers that reports draw and JSON carries, without torch."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from gradientflow import records
from gradientflow.records import Apart, Check, Drops, Flow, Rest, Spent, Story, Track
from gradientflow.river.fields.base import Field
from gradientflow.river.paths.compare import Comparison
from gradientflow.river.paths.edges import stability_edge
from gradientflow.river.paths.path import Certificates, Cost, Ensemble, Path

MOMENTS = 4000  # moments of one path that go into a record
FEW = 8  # parameters up to which start and end are written out
FINE = 1500  # points that a path in the plane is drawn with, about
PARTS = 32  # between two moments at most
STILL = 1e-3  # of the way so far: a shorter move of a descent is not drawn
CLOSE = 5e-3  # of the spread of all drops: closer is one place
TRAIL = 240  # and the trail of one of many drops


def tell(
    field: Field,
    *,
    target: str,
    t: float,
    stories: list[tuple[Path, list[Path], Comparison | None]] | None = None,
    drops: Ensemble | None = None,
    portrait: records.Portrait | None = None,
    about: str = "",
    notes: list[str] | None = None,
) -> Flow:
    """Return all that was solved as one record.

    Args:
        field: what it was solved on.
        target: what the user called it.
        t: the flow time asked for.
        stories: for each drop its path, its descents, and their comparison (None where there is none).
        drops: many drops solved at once.
        portrait: the plane, for its points at rest.
        about: a line on the field.
        notes: what else a reader should know.

    Example:
        >>> from gradientflow.river.fields.base import Potential
        >>> tell(Potential(lambda w: (w * w).sum(), start=[1.0, 2.0], name="bowl"), target="bowl", t=1.0).size
        2
    """
    told = []
    for k, (path, descents, comparison) in enumerate(stories or []):
        told.append(
            Story(
                drop=k + 1,
                flow=track(path, field),
                descents=_descents(descents, comparison, field),
                apart=[] if comparison is None else apart(comparison),
            )
        )
    compared = [c.cost for _, _, c in stories or [] if c is not None]
    return Flow(
        target=target,
        field=field.name,
        size=_size(field, stories or [], drops),
        dtype=str(field.dtype).removeprefix("torch."),
        potential=field.potential,
        t=t,
        description=about,
        stories=told,
        drops=None if drops is None else many(drops, field),
        comparing=spent(sum(compared, Cost())) if compared else None,
        fixed=[] if portrait is None else portrait.fixed,
        notes=list(notes or []),
    )


# ── one path ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def track(path: Path, field: Field) -> Track:
    """Return one path as a record, thinned to `MOMENTS` moments; `moments` says how many there were."""
    n = len(path.times)
    keep = torch.arange(n)
    if n > MOMENTS:  # thinned out, but for moments at which the sharpness is known
        even, known = (
            torch.linspace(0, n - 1, MOMENTS, dtype=torch.float64).round().long(),
            (~path.sharpness.isnan()).nonzero()[:, 0],
        )
        keep = torch.unique(torch.cat([even, known[:: max(1, len(known) // MOMENTS)]]))
    plane = path.final.numel() == 2
    few = path.final.numel() <= FEW
    clock, points = _drawn(path, field) if plane else ([], [])
    return Track(
        label=path.label,
        kind=path.kind,
        method=path.method,
        times=[float(x) for x in path.times[keep]],
        loss=None if path.loss is None else numbers(path.loss[keep]),
        grad_norm=numbers(path.grad_norm[keep]),
        sharpness=numbers(path.sharpness[keep]),
        lambda_min=numbers(path.lambda_min[keep]),
        sharpness_bound=[] if path.sharpness_bound is None else numbers(path.sharpness_bound[keep]),
        step=[float(x) for x in path.step[keep]],
        stages=[int(x) for x in path.stages[keep]],
        ending=path.status,
        spent=spent(path.cost),
        checks=checks(path.certificates),
        loss_floor=[] if path.loss_floor is None else numbers(path.loss_floor[keep]),
        grad_floor=[] if path.grad_floor is None else numbers(path.grad_floor[keep]),
        points=points,
        clock=clock,
        start=[float(x) for x in path.start] if few else [],
        final=[float(x) for x in path.final] if few else [],
        notes=list(path.notes),
        settings=plain(path.settings),
        conserved=laws(field, path.start, path.final),
        moments=n,
        steps=int(path.settings.get("steps", n - 1)),
    )


def _drawn(path: Path, field: Field) -> tuple[list[float], list[tuple[float, float]]]:
    """The path in the plane and its times, where θ was kept: a flow finer than its moments, of a descent the steps that move."""
    if path.theta is None:
        ends = torch.stack([path.start, path.final])
        return _clocked(path.times[[0, -1]], ends)
    if path.kind != "descent":
        parts = max(1, min(PARTS, FINE // max(len(path.times) - 1, 1)))
        return _clocked(between(path.times, parts), finer(field, path.times, path.theta, FINE, whole=True))
    times, points = _clocked(path.times, path.theta)
    kept = steps(points)
    return [times[k] for k in kept], [points[k] for k in kept]


def _clocked(times: Tensor, points: Tensor) -> tuple[list[float], list[tuple[float, float]]]:
    """Return times and points, without those that are not finite."""
    known = torch.isfinite(points).all(1)
    return times.to(points.device)[known].tolist(), pairs(points[known])


def steps(points: list[tuple[float, float]]) -> list[int]:
    """Return which points to draw: not those closer than `STILL` of the way so far to the last one that stays.

    The way so far is the largest distance from the start. Long steps all stay, so that a zig-zag is drawn as one; the
    thousands of steps at a place of rest become one.
    """
    kept, way = [0][: len(points)], 0.0
    for k in range(1, len(points) - 1):
        way = max(way, math.dist(points[k], points[0]))
        if math.dist(points[k], points[kept[-1]]) > STILL * way:
            kept.append(k)
    return [*kept, len(points) - 1] if len(points) > 1 else kept


def between(times: Tensor, parts: int) -> Tensor:
    """Return times with so many parts between each two, evenly."""
    if len(times) < 2:
        return times
    s = torch.arange(parts, dtype=torch.float64) / parts
    return torch.cat([(times[:-1, None] + (times[1:] - times[:-1])[:, None] * s).reshape(-1), times[-1:]])


def finer(field: Field, times: Tensor, theta: Tensor, about: int, *, whole: bool = False) -> Tensor:
    """Return points between the kept ones, by cubic Hermite interpolation with the field's own rates.

    A slope that would carry further than three times the chord is cut to that (Fritsch & Carlson 1980): a fast transient
    at the end of a long step is not the path within it.

    Args:
        field: for the rates at the points.
        times: of the points, shape (n,).
        theta: the points, shape (n, P).
        about: how many points to return, about; never fewer than n.
        whole: with the points that are not finite, so that each still has its time.

    Returns:
        Shape (m, P), the given points among them.
    """
    n = len(times)
    parts = max(1, min(PARTS, about // max(n - 1, 1)))
    if n < 2 or parts == 1:
        return theta
    rate = field.evaluate(theta.to(field.dtype)).rate.double()
    a, b = theta[:-1].double(), theta[1:].double()
    h = (times[1:] - times[:-1]).double()[:, None].to(a.device)
    chord = (b - a).norm(dim=1, keepdim=True)
    first, last = (_cut(h * r, chord) for r in (rate[:-1], rate[1:]))
    s = torch.arange(parts, dtype=torch.float64, device=a.device)[:, None, None] / parts
    cubic = (
        a * ((1 + 2 * s) * (1 - s) ** 2)
        + b * (s * s * (3 - 2 * s))
        + first * (s * (1 - s) ** 2)
        + last * (s * s * (s - 1))
    )
    inner = cubic.transpose(0, 1).reshape(-1, theta.shape[1])
    out = torch.cat([inner, theta[-1:].double()])
    return out if whole else out[torch.isfinite(out).all(1)]


def _cut(slope: Tensor, chord: Tensor) -> Tensor:
    size = slope.norm(dim=1, keepdim=True)
    share: Tensor = (3 * chord / size.clamp_min(1e-300)).clamp_max(1.0)
    return slope.nan_to_num(0.0, 0.0, 0.0) * share


def laws(field: Field, start: Tensor, final: Tensor) -> dict[str, tuple[float, float]]:
    """Return what the exact flow keeps constant at both ends, where it is one number and finite."""
    kept = field.conserved(torch.stack([start, final]).to(field.dtype))
    ends = {name: (float(x[0]), float(x[1])) for name, x in kept.items() if x.numel() == 2}
    return {name: pair for name, pair in ends.items() if all(map(math.isfinite, pair))}


# ── many drops ───────────────────────────────────────────────────────────────────────────────────────────────────────


def many(drops: Ensemble, field: Field) -> Drops:
    """Return an ensemble as a record: where its drops came to rest, how many in each place, and their trails."""
    few = drops.final.shape[1] <= FEW
    plane = drops.final.shape[1] == 2
    rests, basin = rest(drops, few)
    return Drops(
        count=len(drops),
        method=drops.method,
        ending=drops.status,
        reasons=dict(Counter(s.reason for s in drops.statuses)),
        ends=[float(x) for x in drops.ends],
        loss=None if drops.loss is None else numbers(drops.loss),
        grad_norm=numbers(drops.grad_norm),
        steps=[int(x) for x in drops.steps],
        spent=spent(drops.cost),
        checks=checks(drops.certificates),
        rests=rests,
        basin=basin,
        start=pairs(drops.start) if plane else [],
        final=pairs(drops.final) if plane else [],
        trails=trails(drops, field) if plane else [],
        notes=list(drops.notes),
        settings=plain(drops.settings),
    )


def rest(drops: Ensemble, few: bool) -> tuple[list[Rest], list[int]]:
    """Group the drops that came to rest by where.

    A drop is at rest where, going on at its speed for as long again, it would move by less than `CLOSE` of the spread of
    all drops; two are in one place where they are closer than that.

    Args:
        drops: the ensemble.
        few: write out where the places are.

    Returns:
        The places, the most visited first, and for each drop the index of its place, −1 for one that still moves.
    """
    ends, final = drops.ends.double().cpu(), drops.final.double().cpu()
    both = torch.cat([drops.start.double().cpu(), final])
    finite = torch.isfinite(both).all(1)
    spread = float((both[finite].amax(0) - both[finite].amin(0)).norm()) if bool(finite.any()) else 0.0
    calm = drops.grad_norm.double().cpu() * ends < CLOSE * spread
    calm &= torch.isfinite(final).all(1)
    places: list[list[int]] = []
    for k in calm.nonzero().flatten().tolist():
        home = next((p for p in places if float((final[k] - final[p[0]]).norm()) < CLOSE * spread), None)
        if home is None:
            places.append([k])
        else:
            home.append(k)
    places.sort(key=lambda p: -len(p))
    basin = [-1] * len(drops)
    told = []
    for n, members in enumerate(places):
        for k in members:
            basin[k] = n
        best = min(members, key=lambda k: float(drops.grad_norm[k]))
        told.append(
            Rest(
                count=len(members),
                loss=None if drops.loss is None else number(drops.loss[best]),
                grad_norm=number(drops.grad_norm[best]),
                at=[float(x) for x in final[best]] if few else [],
            )
        )
    return told, basin


def trails(drops: Ensemble, field: Field) -> list[list[tuple[float, float]]]:
    """Return the path of each drop in the plane, from where it was put to where it ended."""
    if drops.theta is None:
        return [pairs(torch.stack([a, b])) for a, b in zip(drops.start, drops.final, strict=True)]
    told = []
    for k in range(len(drops)):
        points = drops.theta[:, k]
        known = torch.isfinite(points).all(1) & (drops.times <= drops.ends[k])
        line = finer(field, drops.times[known], points[known], TRAIL)
        told.append(pairs(torch.cat([line, drops.final[k : k + 1].to(line.dtype)])))
    return told


# ── small parts ──────────────────────────────────────────────────────────────────────────────────────────────────────


def spent(cost: Cost) -> Spent:
    return Spent(**asdict(cost), equivalents=cost.equivalents)


def checks(certificates: Certificates) -> list[Check]:
    return [Check(c.name, c.ok, number(c.value), number(c.bound), c.text) for c in certificates]


def number(x: Any) -> float | None:
    """A finite number, or None."""
    value = float(x)
    return value if math.isfinite(value) else None


def numbers(x: Tensor) -> list[float | None]:
    return [v if math.isfinite(v) else None for v in x.double().tolist()]


def pairs(points: Tensor) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points.double().tolist() if math.isfinite(x) and math.isfinite(y)]


def plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as JSON can carry them."""
    return {
        k: v if isinstance(v, (bool, int, float, str, type(None), list, dict)) else str(v) for k, v in settings.items()
    }


def _size(field: Field, stories: list[tuple[Path, list[Path], Comparison | None]], drops: Ensemble | None) -> int:
    if field.size:
        return field.size
    if stories:
        return stories[0][0].final.numel()
    return drops.final.shape[1] if drops is not None else 0


def apart(comparison: Comparison) -> list[Apart]:
    """Return a comparison as records, one per descent."""
    return [
        Apart(
            label=b.label,
            times=[float(x) for x in b.times],
            distance=numbers(b.distance),
            relative=numbers(b.relative),
            predicted=[] if b.predicted is None else numbers(b.predicted),
            outputs=[] if b.output is None else numbers(b.output),
            loss=[] if b.loss is None else numbers(b.loss),
            left=b.left,
            crossed=b.crossed,
            why=b.why,
        )
        for b in comparison.beside
    ]


def _descents(descents: list[Path], comparison: Comparison | None, field: Field) -> list[Track]:
    """Descents as records, with the sharpness at which each gets unstable, where a number is known."""
    told = [track(d, field) for d in descents]
    compared = {b.label: b.edge for b in comparison.beside} if comparison is not None else {}
    for one, path in zip(told, descents, strict=True):
        edge = compared[one.label] if one.label in compared else stability_edge(path)
        if edge is not None:
            one.threshold, one.threshold_name = edge, edge_rule(one.settings)
    return told


def edge_rule(settings: dict[str, Any]) -> str:
    """How the edge of stability of SGD is written: 2/η, with momentum β (2 + 2β)/η, of Nesterov's (2 + 2β)/(η(1 + 2β))."""
    if not float(settings.get("momentum") or 0):
        return "2/η"
    return "(2+2β)/(η(1+2β))" if str(settings.get("nesterov")) == "True" else "(2+2β)/η"
