"""Anybody's path, checked: the identities that the exact flow keeps, and some of its intervals solved again."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from gradientflow.errors import UsageError
from gradientflow.river.fields.base import Field, as_field
from gradientflow.river.paths.certificates import allowed, energy, monotone
from gradientflow.river.paths.path import Certificate, Certificates
from gradientflow.river.paths.solve import flow
from gradientflow.river.solvers.base import lengths


def certify(field: Field, times: Tensor, theta: Tensor, *, rtol: float = 1e-3, checks: int = 3) -> Certificates:
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
        >>> certify(bowl, t, torch.exp(-t)[:, None]).ok
        True
        >>> certify(bowl, t, torch.exp(-1.1 * t)[:, None]).ok
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
