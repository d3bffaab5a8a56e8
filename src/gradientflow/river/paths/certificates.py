"""What a path can be checked by without knowing the answer: identities that the exact flow keeps."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gradientflow.errors import UsageError
from gradientflow.river.fields.audit import Remark
from gradientflow.river.fields.base import Field, as_field
from gradientflow.river.paths.path import Certificate, Certificates
from gradientflow.river.paths.witness import Witness
from gradientflow.river.solvers.base import lengths

AMPLIFIED = 100.0  # times rtol: the growth of neighbouring paths beyond which no second run tells the error
SLIDES = 8  # jumps of the gradient from which on a path is said to slide along kinks
STABLE = 1.5  # λ is an estimate from above and may have grown within the step; what stays above it for long is rejected


def allowed(rtol: float, order: int) -> float:
    """Return what a global relative error may be: 30·rtol at rtol = 10⁻³, and from there as rtol^(p/(p+1)).

    A method of order p that is allowed an error of rtol a step makes steps ~ rtol^(1/(p+1)), and rtol^(p/(p+1)) in all.
    """
    return float(30 * rtol * (1e-3 / rtol) ** (1 / (order + 1)))


def of_flow(
    field: Field, witness: Witness, *, rtol: float, order: int, row: int = 0, stable: float = STABLE
) -> list[Certificate]:
    """Return the checks of one solved drop, the error estimate excepted."""
    found: list[Certificate] = []
    limit = allowed(rtol, order)
    if field.potential and witness.begin is not None and witness.last is not None:
        first, last = float(witness.begin[row]), float(witness.last[row])
        unit = torch.finfo(field.dtype).eps
        found.append(monotone(first, last, float(witness.climb[row]), float(witness.climb_at[row]), rtol, unit))
        doubt = rtol * float(witness.doubt[row]) / max(abs(first - last), 1e-300)
        found.append(energy(first, last, float(witness.work[row]), allowed(rtol, 2) + min(doubt, 1.0)))
    found += [
        conserved(n, float(d[row]), float(witness.laws[n][row].double().norm()), limit, witness, row)
        for n, d in witness.drift.items()
    ]
    if field.potential:
        load = float(witness.load[row])
        found.append(
            Certificate(
                "stability",
                load <= stable,
                load,
                stable,
                f"h·λ, with λ measured after the step, was at most {load:.2f} of what the method is stable for",
            )
        )
    return found


def monotone(first: float, last: float, climb: float, at: float, rtol: float, unit: float = 1e-14) -> Certificate:
    """Check that the loss never rose: dL/dt = −‖∇L‖²."""
    eps = 100 * unit * max(abs(first), abs(last))  # what round-off alone does to a loss
    bound = 0.02 * rtol * abs(first - last) + eps
    where = f" at t = {at:.6g}" if climb > bound and not math.isnan(at) else ""
    return Certificate(
        "monotone",
        climb <= bound,
        climb,
        bound,
        f"the loss rose by at most {climb:.2g} in a step{where} (allowed {bound:.2g})",
    )


def energy(first: float, last: float, work: float, limit: float) -> Certificate:
    """Check L(0) − L(t) = ∫‖∇L‖² dt."""
    drop = first - last
    scale = max(abs(drop), 1e-12 * max(abs(first), 1e-300))
    defect = abs(drop - work) / scale
    ok = math.isfinite(defect) and (defect <= limit or abs(drop - work) <= 1e-11 * max(abs(first), 1e-300))
    return Certificate(
        "energy",
        ok,
        defect,
        limit,
        f"L(0) − L(t) = {drop:.6g}, ∫‖∇L‖² dt = {work:.6g}: off by {defect:.1e} (allowed {limit:.1e})",
    )


def conserved(name: str, drift: float, size: float, limit: float, witness: Witness, row: int) -> Certificate:
    """Check a quantity that the exact flow keeps constant."""
    scale = max(size, 1.0)
    value = drift / scale
    return Certificate(
        f"conserved {name}",
        value <= limit,
        value,
        limit,
        f"{name} drifted by {value:.1e} of its size (allowed {limit:.1e})",
    )


def derivatives(remarks: list[Remark]) -> Certificate:
    """Turn an audit of gradient and Hessian products against finite differences into a check."""
    measured = [r for r in remarks if r.name in ("gradient", "Hessian")]
    wrong = [r for r in measured if r.warning]
    value = max((r.error for r in measured), default=math.nan)
    bound = max((r.doubt for r in measured), default=math.nan)
    text = (
        wrong[0].text
        if wrong
        else f"gradient and Hessian products agree with finite differences to {value:.1e} at the start"
    )
    return Certificate("derivatives", not wrong, value, bound, text)


def error(
    fine: Tensor, coarse: Tensor, way: float, more: float, limit: float, growth: float, rtol: float
) -> Certificate:
    """Estimate the error of the end point from a second run at a looser tolerance.

    With steps ~ rtol^(1/k), k the order of the estimate, and errors ~ hᵖ the looser run errs by `more` = ratio^(p/k) times
    more, and their distance is that much less one. `growth` is ∫max(0, −λmin) dt: by exp(growth) neighbouring paths part.
    """
    if growth > math.log(AMPLIFIED / rtol):
        return Certificate(
            "error", False, float("nan"), limit,
            f"neighbouring paths part by up to e^{growth:.1f} along this one: what a step at rtol {rtol:g} may err decides "
            "where it ends; tighten rtol and compare",
        )  # fmt: skip
    value = float((fine - coarse).norm()) / (more - 1) / max(way, 1e-300)
    ok = math.isfinite(value) and value <= limit
    why = "" if ok else "; the path may amplify errors here: tighten rtol and compare"
    return Certificate(
        "error",
        ok,
        value,
        limit,
        f"the end is off by about {value:.1e} of the way gone (allowed {limit:.1e}), from a second run{why}",
    )


def error_found(value: float, limit: float) -> Certificate:
    """Tell the error of an end point as a run at a tighter tolerance shows it."""
    ok = math.isfinite(value) and value <= limit
    why = "" if ok else "; the path amplifies errors: tighten rtol"
    return Certificate(
        "error", ok, value, limit,
        f"the end is off by about {value:.1e} of the way gone (allowed {limit:.1e}), from a tighter run, as a looser one ended "
        f"elsewhere{why}",
    )  # fmt: skip


def at_kinks(found: list[Certificate], kinks: list[str], jumps: int, steps: int, share: float) -> list[Certificate]:
    """Name the cause where checks are broken because the path slides along kinks; they stay broken.

    Args:
        found: all checks of a path whose steps are held by an error control.
        kinks: the functions with kinks that the loss is made of.
        jumps: steps across which the gradient changed by far more than its Hessian allows for.
        steps: all steps.
        share: the part of the flow time that those steps took.
    """
    if not kinks:
        return found
    end = next((c for c in found if c.name == "error" and math.isfinite(c.value)), None)
    harm = "" if end is None else f" The end is off by about {end.value:.1e} of the way gone all the same (see error)."
    mend = (
        "A smooth function (tanh, GELU, softplus) or more examples mend it; a tighter rtol tells how much it matters."
    )
    where = ", ".join(kinks)
    slides = jumps >= SLIDES and jumps >= 0.05 * steps
    why = (
        f". The cause is a kink ({where}): across {jumps} of {steps} steps ({100 * share:.1g} % of the time) the gradient jumped though "
        f"its Hessian allows no such change; the path slides along the kink, or crosses it back and forth.{harm} {mend}"
    )
    at = f". The point is a kink ({where}), where the gradient jumps.{harm} {mend}"
    out = []
    for c in found:
        if c.ok is False and c.name in ("monotone", "energy", "stability", "lipschitz") and slides:
            c = replace(c, text=c.text + why)
        elif c.ok is False and c.name == "lipschitz":
            c = replace(c, text=c.text + at)
        out.append(c)
    return out


def of_points(field: Field, times: Tensor, theta: Tensor, *, rtol: float = 1e-3, checks: int = 3) -> Certificates:
    """Check anybody's path, given as points at flow times.

    Args:
        field: the flow it claims to follow.
        times: flow times, ascending, shape (n,).
        theta: points, shape (n, P).
        rtol: relative tolerance the path is held to.
        checks: intervals re-solved with our own solver, spread over the path; 0 for none.

    Returns:
        monotone, energy, conserved quantities, and `residual`: the largest distance, over the re-solved intervals, between
        where the path goes and where the flow goes from the same point, relative to the way gone in all.

    Example:
        >>> from gradientflow.river import Potential
        >>> t = torch.linspace(0, 1, 50, dtype=torch.float64)
        >>> bowl = Potential(lambda w: 0.5 * (w**2).sum())
        >>> of_points(bowl, t, torch.exp(-t)[:, None]).ok
        True
        >>> of_points(bowl, t, torch.exp(-1.1 * t)[:, None]).ok
        False
    """
    field = as_field(field)
    times, theta = _points(times, theta)
    limit = allowed(rtol, 2)
    found: list[Certificate] = []
    at = [field.evaluate(w[None]) for w in theta]
    rates = torch.cat([e.rate for e in at])
    values = None if at[0].value is None else torch.stack([e.value[0] for e in at if e.value is not None]).double()
    squares = torch.linalg.vecdot(rates, rates).double()
    if field.potential and values is not None:
        rises = values.diff().nan_to_num(math.inf)
        worst = int(rises.argmax())
        found.append(
            monotone(
                float(values[0]), float(values[-1]), float(rises[worst].clamp_min(0)), float(times[worst + 1]), rtol
            )
        )
        work, doubt = _work(times, squares)
        found.append(
            energy(
                float(values[0]),
                float(values[-1]),
                work,
                limit + doubt / max(abs(float(values[0] - values[-1])), 1e-300),
            )
        )
    for name, law in field.conserved(theta).items():
        flat = law.reshape(len(theta), -1).double()
        drift = float((flat - flat[0]).norm(dim=1).max())
        scale = max(float(flat[0].norm()), 1.0)
        found.append(
            Certificate(
                f"conserved {name}",
                drift / scale <= limit,
                drift / scale,
                limit,
                f"{name} drifted by {drift / scale:.1e} of its size (allowed {limit:.1e})",
            )
        )
    if checks:
        found.append(_residual(field, times, theta, rates, rtol, limit, checks))
    return Certificates(found)


def _residual(
    field: Field, times: Tensor, theta: Tensor, rates: Tensor, rtol: float, limit: float, checks: int
) -> Certificate:
    """Solve some intervals again: `checks` spread over the path, and as many where points and rates fit together worst.

    The gap is relative to the way that the path goes there, or on average in as much time: many small gaps add up.
    """
    from gradientflow.river.paths.solve import flow

    h = times.diff()
    ways = lengths(theta.diff(dim=0))
    mean = lengths(theta - theta[0]).nan_to_num(0.0).max() * h / (times[-1] - times[0])
    scale = torch.maximum(ways, mean).clamp_min(1e-300)
    chord = 0.5 * h.to(theta)[:, None] * (rates[1:] + rates[:-1])  # where the rates at both ends would lead
    misfit = (lengths(theta.diff(dim=0) - chord) / scale).nan_to_num(math.inf)
    some = min(checks, len(h))
    picks = {*torch.linspace(0, len(h) - 1, some).round().long().tolist(), *misfit.topk(some).indices.tolist()}
    worst, when = 0.0, 0.0
    for k in sorted(picks):
        gap = math.inf
        if bool(torch.isfinite(theta[k : k + 2]).all()) and bool(torch.isfinite(rates[k]).all()):
            again = flow(field, float(h[k]), start=theta[k], rtol=min(rtol, 1e-3) * 0.1, certify=False)
            gap = float((again.final - theta[k + 1]).norm()) / float(scale[k])
        if not gap <= worst:
            worst, when = gap, float(times[k])
    return Certificate(
        "residual", worst <= limit, worst, limit,
        f"from its own point at t = {when:.6g} the flow ends {worst:.1e} of the way to the path's next point beside it "
        f"(allowed {limit:.1e})",
    )  # fmt: skip


def _points(times: Any, theta: Any) -> tuple[Tensor, Tensor]:
    """Return anybody's path as tensors, checked."""
    times = torch.as_tensor(times, dtype=torch.float64)
    theta = theta if isinstance(theta, Tensor) else torch.as_tensor(theta, dtype=torch.float64)
    if theta.dim() != 2 or times.shape != theta.shape[:1] or len(times) < 2:
        raise UsageError(
            f"certify got times of shape {tuple(times.shape)} and points of shape {tuple(theta.shape)}; expected (n,) and "
            "(n, P), at least two points."
        )
    if not bool((times.diff() > 0).all()):
        raise UsageError("certify got times that do not ascend; expected flow times, each after the one before.")
    return times, theta


def _work(times: Tensor, squares: Tensor) -> tuple[float, float]:
    """Return ∫‖∇L‖² dt over the points, and how far two quadratures of it are apart.

    Between two points ‖∇L‖² is taken as geometric (a decaying mode is). A sum of decaying modes lies below, at most down
    to the smaller of both ends, and a path that turns lies between the ends: both are doubt.
    """
    h = times.diff()
    a, b = squares[:-1].clamp_min(1e-300), squares[1:].clamp_min(1e-300)
    ratio = torch.log(b / a)
    geometric = torch.where(ratio.abs() < 1e-6, 0.5 * (a + b), (b - a) / ratio)
    linear, least = 0.5 * (a + b), torch.minimum(a, b)
    total = float((h * geometric).sum())
    return total, float((h * torch.maximum(linear - geometric, geometric - least)).sum())
