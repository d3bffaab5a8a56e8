"""Lines of a portrait: curves of points at rest, and the stable lines of saddles."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gradientflow.river.portraits.rest import SMALL, ZERO, Found
from gradientflow.river.portraits.sample import Patch

STRIDE = 1 / 240  # of the diagonal, between points of a curve
LONGEST = 8.0  # diagonals that a line is followed


def trace(patch: Patch, p: Found) -> Tensor | None:
    """Follow the curve of points at rest through p, both ways, to the edge of the box.

    Each point is the one before plus a stride along the null vector of ∂f/∂θ, put back onto f = 0 by the shortest
    Newton steps.

    Returns:
        Points along the curve, (n, 2), or None where there is no curve: p is a single degenerate point.
    """
    null = _null(patch, p.at[None])
    if null is None:
        return None
    ends = torch.stack([p.at, p.at])
    heading = torch.cat([null, -null])
    lines: list[list[Tensor]] = [[], []]
    alive = torch.ones(2, dtype=torch.bool)
    stride = STRIDE * patch.diagonal
    for count in range(int(LONGEST / STRIDE)):
        ahead = _back(patch, ends + stride * heading)
        on = patch.rate(ahead).norm(dim=1) <= 1e3 * SMALL * patch.typical
        moved = ((ahead - ends) * heading).sum(1) > 0.2 * stride
        alive = alive & on & moved
        if not bool(alive.any()):
            break
        tangent = _tangents(patch, ahead, heading)
        alive = alive & tangent.isfinite().all(1)
        for k in (0, 1):
            if alive[k]:
                lines[k].append(ahead[k])
        alive = alive & patch.inside(ahead)
        if count > 4 and float((ahead[0] - ahead[1]).norm()) < 1.5 * stride:  # met: the curve is closed
            lines[1].append(ahead[0])
            break
        ends = torch.where(alive[:, None], ahead, ends)
        heading = torch.where(alive[:, None], tangent, heading)
    if len(lines[0]) + len(lines[1]) < 6:
        return None
    return torch.stack([*reversed(lines[1]), p.at, *lines[0]])


def _back(patch: Patch, points: Tensor, rounds: int = 6) -> Tensor:
    """Put points back onto f = 0 by minimum-norm Newton steps."""
    for _ in range(rounds):
        f = patch.rate(points)
        if float(f.norm(dim=1).max()) <= SMALL * patch.typical:
            break
        step = torch.linalg.pinv(patch.jacobian(points).nan_to_num(0.0), rtol=1e-3) @ f[:, :, None]
        points = points - step[:, :, 0]
    return points


def _null(patch: Patch, points: Tensor) -> Tensor | None:
    """Return the unit null vectors of ∂f/∂θ, (B, 2); None where the first point has none."""
    _, size, rows = torch.linalg.svd(patch.jacobian(points))
    return None if float(size[0, 1]) > 10 * ZERO * float(size[0, 0]) else rows[:, 1]


def _tangents(patch: Patch, points: Tensor, heading: Tensor) -> Tensor:
    """Return null vectors that go on in the heading; NaN where the Jacobian has none any more."""
    _, size, rows = torch.linalg.svd(patch.jacobian(points).nan_to_num(0.0))
    null = rows[:, 1]
    null = null * torch.where((null * heading).sum(1, keepdim=True) < 0, -1.0, 1.0)
    lost = size[:, 1] > 1e-3 * size[:, 0]
    return torch.where(lost[:, None], torch.full_like(null, float("nan")), null)


def separatrices(patch: Patch, saddles: Sequence[Found], stride: float = 1 / 400) -> list[Tensor]:
    """Follow the stable directions of saddles backwards in time, by arc length: dθ/ds = −f/‖f‖, classical Runge–Kutta.

    Args:
        patch: field and box.
        saddles: points of that kind.
        stride: arc length of a step, as a share of the diagonal.

    Returns:
        Two lines (n, 2) for each saddle, from the saddle outwards.
    """
    if not saddles:
        return []
    begins, first = [], []
    for p in saddles:
        k = int(p.eigenvalues.real.argmin())
        away = p.vectors[:, k].real
        away = 1e-4 * patch.diagonal * away / away.norm()
        begins += [p.at, p.at]
        first += [p.at + away, p.at - away]
    ds = stride * patch.diagonal
    at = torch.stack(first)
    lines = [[b, a] for b, a in zip(begins, first, strict=True)]
    alive = torch.ones(len(at), dtype=torch.bool)

    def upstream(points: Tensor) -> Tensor:
        f = patch.rate(points)
        back: Tensor = -f / f.norm(dim=1, keepdim=True).clamp_min(1e-300)
        return back

    for _ in range(int(LONGEST / stride)):
        k1 = upstream(at)
        k2 = upstream(at + 0.5 * ds * k1)
        k3 = upstream(at + 0.5 * ds * k2)
        k4 = upstream(at + ds * k3)
        step = ds / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        alive = alive & step.isfinite().all(1) & (step.norm(dim=1) > 0.3 * ds)  # around a source the four disagree
        at = torch.where(alive[:, None], at + step, at)
        for k in alive.nonzero().flatten().tolist():
            lines[k].append(at[k])
        alive = alive & patch.inside(at, 0.02)
        if not bool(alive.any()):
            break
    return [torch.stack(line) for line in lines]
