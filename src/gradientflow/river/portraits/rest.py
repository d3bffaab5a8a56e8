"""Points at rest: where to look for them, how to get onto them, and of which kind they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gradientflow.river.portraits.sample import Patch

CANDIDATES = 256  # candidates that are followed up
SMALL = 1e-9  # ‖f‖ at a point at rest, over a middling ‖f‖ in the box
ZERO = 1e-5  # an eigenvalue, over the larger one, that counts as zero
APART = 2e-3  # points closer than this share of the diagonal are one


@dataclass(frozen=True, slots=True)
class Found:
    """One point at rest: where, (2,); its kind; the eigenvalues of ∂f/∂θ, (2,) complex, and their vectors, (2, 2)."""

    at: Tensor
    kind: str
    eigenvalues: Tensor
    vectors: Tensor


def candidates(patch: Patch, rate: Tensor, n: int) -> Tensor:
    """Return samples to begin from: slower than all eight neighbours, or in a cell where both components change sign.

    Args:
        patch: field and box.
        rate: the samples of a grid, (n², 2).
        n: samples along each side.

    Returns:
        Points, (B, 2), the slowest first.
    """
    speed = rate.norm(dim=1).reshape(n, n).nan_to_num(nan=float("inf"), posinf=float("inf"))
    padded = torch.nn.functional.pad(speed[None, None], (1, 1, 1, 1), value=float("inf"))[0, 0]
    shifts = [padded[i : i + n, j : j + n] for i in range(3) for j in range(3) if (i, j) != (1, 1)]
    slow = torch.stack([speed <= other for other in shifts]).all(0)
    signs = (rate > 0).reshape(n, n, 2)
    corners = torch.stack([signs[:-1, :-1], signs[1:, :-1], signs[:-1, 1:], signs[1:, 1:]])
    turns = (corners.any(0) & ~corners.all(0)).all(-1)
    slow[:-1, :-1] |= turns
    slow &= speed.isfinite()
    rows, columns = slow.nonzero(as_tuple=True)
    order = speed[rows, columns].argsort()
    if len(order) > CANDIDATES:  # a valley has many: thin evenly, but keep the slowest
        order = torch.cat([order[: CANDIDATES // 2], order[CANDIDATES // 2 :][:: len(order) // (CANDIDATES // 2)]])
    x0, x1, y0, y1 = patch.box
    step = torch.tensor([(x1 - x0) / (n - 1), (y1 - y0) / (n - 1)], dtype=torch.float64)
    corner = torch.tensor([x0, y0], dtype=torch.float64)
    return corner + step * torch.stack([columns[order], rows[order]], 1)


def polish(patch: Patch, points: Tensor, rounds: int = 60) -> Tensor:
    """Move points onto f = 0 by Levenberg–Marquardt steps; return those that got there and are in the box, (B, 2)."""
    if not len(points):
        return points
    damp = torch.full((len(points),), 1e-3, dtype=torch.float64)
    f = patch.rate(points)
    eye = torch.eye(2, dtype=torch.float64)
    for _ in range(rounds):
        if bool((f.norm(dim=1) <= 1e-3 * SMALL * patch.typical).all()):
            break
        jac = patch.jacobian(points)
        normal = jac.mT @ jac
        scale = normal.diagonal(dim1=1, dim2=2).sum(1).clamp_min(1e-300)
        matrix = normal + (damp * scale)[:, None, None] * eye
        step = torch.linalg.solve_ex(matrix, -(jac.mT @ f[:, :, None]))[0][:, :, 0]
        length = step.norm(dim=1, keepdim=True)
        step = step.nan_to_num(0.0, 0.0, 0.0) * (0.1 * patch.diagonal / length.clamp_min(1e-300)).clamp_max(1.0)
        there = patch.rate(points + step)
        better = there.norm(dim=1) < f.norm(dim=1)
        points = torch.where(better[:, None], points + step, points)
        f = torch.where(better[:, None], there, f)
        damp = torch.where(better, damp * 0.1, damp * 8).clamp(1e-15, 1e6)
    good = (f.norm(dim=1) <= SMALL * patch.typical) & patch.inside(points, 1e-6)
    return points[good]


def typed(patch: Patch, point: Tensor) -> Found:
    """Return a point at rest with its kind, by the eigenvalues of the Jacobian there."""
    values, vectors = torch.linalg.eig(patch.jacobian(point[None])[0])
    real, imaginary = values.real, values.imag
    size = float(values.abs().max())
    nothing = size <= 1e-7 * patch.typical / patch.diagonal
    zero = values.abs() <= ZERO * size
    if nothing:
        kind = "degenerate"
    elif bool(zero.any()):
        kind = "valley" if float(real[~zero][0]) < 0 else "ridge"
    elif bool((imaginary.abs() > 1e-7 * size).any()):
        mean = float(real.mean())
        kind = "centre" if abs(mean) <= 1e-6 * size else "spiral-sink" if mean < 0 else "spiral-source"
    else:
        kind = "saddle" if float(real[0] * real[1]) < 0 else "sink" if float(real[0]) < 0 else "source"
    return Found(point, kind, values, vectors)


def sort_out(
    patch: Patch, found: Tensor, follow: Callable[[Found], Tensor | None]
) -> tuple[list[Found], list[tuple[str, Tensor]]]:
    """Split what was found into single points and curves of points at rest.

    Args:
        patch: field and box.
        found: points on f = 0, (B, 2), with repeats.
        follow: a point with a zero eigenvalue to the curve through it, (n, 2); None where it is none.

    Returns:
        The points, and the curves with their kind, "valley" or "ridge".
    """
    points: list[Found] = []
    curves: list[tuple[str, Tensor]] = []
    close = APART * patch.diagonal
    for at in found:
        if any(float((at - p.at).norm()) < close for p in points):
            continue
        if any(float((curve - at).norm(dim=1).min()) < 6 * close for _, curve in curves):
            continue
        p = typed(patch, at)
        if p.kind in ("valley", "ridge"):
            curve = follow(p)
            if curve is not None:
                curves.append((p.kind, curve))
                continue
            p = Found(p.at, "degenerate", p.eigenvalues, p.vectors)
        points.append(p)
    return points, curves
