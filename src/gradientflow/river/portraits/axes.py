"""Which plane: principal directions of a path, Hessian directions, the gradient, chance; `plane` is the door."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gradientflow.errors import FieldError, UsageError
from gradientflow.river.fields.base import Field, as_field, as_point
from gradientflow.river.paths.meter import Meter
from gradientflow.river.paths.path import Path
from gradientflow.river.paths.sharpness import sharpness
from gradientflow.river.portraits.filters import by_filters
from gradientflow.river.portraits.plane import Plane
from gradientflow.river.portraits.principal import principal

KINDS = ("pca", "sharpest", "gradient", "random")
AGAIN = 4.0  # times the loss at the centre, that a parabola of its curvature has at the side of the picture
HALF = 0.5  # of ‖θ‖: half a side where nothing else is known

Chosen = str | Plane | Tensor | Sequence[Tensor]


def plane(
    source: Field | Callable[[Tensor], Tensor] | Path,
    kind: Chosen = "pca",
    *,
    along: Path | Sequence[Path] = (),
    at: Tensor | float | None = None,
    seed: int = 0,
) -> Plane:
    """Return a plane of a field's parameter space.

    - "pca": the two leading principal directions of the points that a path kept, through its end. With X the points less
      their mean, they are the leading right singular vectors of X, and the share told is σ_k²/Σσ². Where a field is given
      and several paths, all of them, each counting alike, through the first one's end. Wants points: ``keep=gf.Keep(theta=True)``; a few dozen are enough for a large network.
    - "sharpest": the two leading eigenvectors of the Hessian ∇²L at a point, by Lanczos (``gf.sharpness``).
    - "gradient": −∇L at a point, downhill to the right, and the leading eigenvector of ∇²L there, orthonormalised.
    - "random": two Gaussian directions in which each filter has the norm of θ's own filter; biases and other vectors stay.
      A filter is what belongs to one output: a row of a matrix, a kernel of a convolution. To make the second orthogonal to
      the first changes its filters' norms by about 1/√P. A field without matrices has one filter, all of θ.
    - three points (θ₁, θ₂, θ₃), or (3, P): the plane through them, as `Plane.through`.
    - a `Plane`: itself.

    Args:
        source: a field; or a path, which brings its field and is the first of the paths.
        kind: which plane.
        along: paths on the same field.
        at: where "sharpest", "gradient" and "random" are taken: a point, (P,); or a time at which the first path kept its
            point. None: the path's end ("gradient": its start), or else the field's own start.
        seed: of "random".

    Raises:
        UsageError: no such plane, or it wants a path, a loss or a gradient that is not there.

    Source: Lorch 2016 and Li et al. 2018 (Visualizing the loss landscape of neural nets), section 7, for principal
    directions through the end; the same, section 4, for filter normalisation.

    Example:
        >>> from gradientflow.river.paths.solve import flow
        >>> bowl = lambda w: 0.5 * (w[0] ** 2 + 4 * w[1] ** 2 + 9 * w[2] ** 2)
        >>> path = flow(bowl, 3.0, start=[1.0, 1.0, 0.0])
        >>> found = plane(path)
        >>> round(sum(found.share), 6), bool(found.axes[:, 2].abs().max() < 1e-9)
        (1.0, True)
        >>> [round(x, 6) for x in plane(path, "sharpest").curvature]
        [9.0, 4.0]
    """
    if isinstance(kind, Plane):
        return kind
    paths = (*((source,) if isinstance(source, Path) else ()), *((along,) if isinstance(along, Path) else along))
    if not isinstance(kind, str):
        return _three(kind)
    if kind == "pca":
        return principal(paths[:1] if isinstance(source, Path) else paths, seed)
    if kind not in KINDS:
        raise UsageError(
            f"plane={kind!r} is not known; expected one of {', '.join(map(repr, KINDS))}, three points, or a gf.Plane."
        )
    field = field_of(source)
    here = standing(field, paths, at, first=kind == "gradient")
    if kind == "random":
        return by_filters(field, here, seed)
    if not field.potential:
        raise UsageError(
            f"plane={kind!r} is made of a loss's Hessian, and {field.name} has no loss. Take 'pca' or 'random'."
        )
    return _sharpest(field, here) if kind == "sharpest" else _downhill(field, here)


def field_of(source: Field | Callable[[Tensor], Tensor] | Path) -> Field:
    """Return the field, or that of a path.

    Raises:
        UsageError: the path was read from a file and does not know its field.
    """
    if not isinstance(source, Path):
        return as_field(source)
    if source.field is None:
        raise UsageError("this path was read from a file and does not know its field: pass the field, and along=path.")
    return source.field


def standing(field: Field, paths: Sequence[Path], at: Tensor | float | None, *, first: bool) -> Tensor:
    """Return the point that is meant.

    Args:
        field: its own start is meant where there is no path.
        paths: of the first of them the end is meant, or a moment.
        at: a point, or a flow time.
        first: the path's start is meant, not its end.

    Raises:
        UsageError: there is no such point, or it was not kept.
    """
    if isinstance(at, (int, float)):
        if not paths:
            raise UsageError(f"at={at!r} is a time of a path: pass the path, along=path.")
        return moment(paths[0], float(at))[1]
    if at is not None:
        return as_point(at).to(dtype=field.dtype, device=field.device)
    if paths:
        return paths[0].start if first else paths[0].final
    start = field.start()
    if start is None:
        raise FieldError(f"{field.name} has no starting point of its own; say where the plane lies: at=θ.")
    return start


def moment(path: Path, t: float) -> tuple[float, Tensor]:
    """Return the kept moment nearest to a time, and the point there; a path knows its start and end in any case.

    Raises:
        UsageError: the points were not kept.
    """
    k = int((path.times - t).abs().argmin())
    if path.theta is not None:
        return float(path.times[k]), path.theta[k]
    if k in (0, len(path.times) - 1):
        return float(path.times[k]), path.start if k == 0 else path.final
    raise UsageError(
        f"{path.label} kept no points, so where it was at t = {t:g} is not known: solve it with keep=gf.Keep(theta=True)."
    )


# ── the kinds ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _three(points: Tensor | Sequence[Tensor]) -> Plane:
    rows = [as_point(p) for p in points] if not isinstance(points, Tensor) or points.dim() == 2 else []
    if len(rows) != 3:
        raise UsageError(
            "plane=… is one of " + ", ".join(map(repr, KINDS)) + ", a gf.Plane, or three points (θ₁, θ₂, θ₃); "
            f"got {f'{len(rows)} points' if rows else type(points).__name__}. Two directions go into gf.Plane.spanned(centre, first, second)."
        )
    return Plane.through(*rows)


def _sharpest(field: Field, here: Tensor) -> Plane:
    found = sharpness(field, here, k=2)
    meter = Meter(field, here)
    level = float(meter.value(here[None])[0])
    top, next_ = (float(v) for v in found.values)
    made = Plane.spanned(here, *(_signed(v) for v in found.vectors))
    return replace(
        made, kind="sharpest", curvature=(top, next_), reach=_reach(here, level, top), marks={"Hessian taken here": (0.0, 0.0)},
        names=(f"1st Hessian direction, λ = {top:.3g}", f"2nd Hessian direction, λ = {next_:.3g}"),
        about="the two sharpest directions of the Hessian at its centre", cost=found.cost + meter.cost(),
    )  # fmt: skip


def _downhill(field: Field, here: Tensor) -> Plane:
    meter = Meter(field, here)
    there = meter(here[None])
    rate = there.rate[0]
    if not float(rate.norm()) > 0:
        raise UsageError(
            "the gradient is zero at this point and has no direction. Take another point, at=θ, or plane='sharpest'."
        )
    found = sharpness(field, here)
    level = float("nan") if there.value is None else float(there.value[0])
    made = Plane.spanned(here, rate, _signed(found.vectors[0]))
    top = float(found)
    return replace(
        made, kind="gradient", reach=_reach(here, level, top), marks={"gradient taken here": (0.0, 0.0)},
        names=("−∇L, downhill", f"sharpest direction, λ = {top:.3g}, made orthogonal to it"),
        about="the gradient and the sharpest direction of the Hessian at its centre", cost=meter.cost() + found.cost,
    )  # fmt: skip


def _signed(vector: Tensor) -> Tensor:
    """An eigenvector has no sign; it gets that of its largest component."""
    signed: Tensor = vector * torch.sign(vector[vector.abs().argmax()])
    return signed


def _reach(here: Tensor, level: float, top: float) -> float:
    """Return half a side: where a parabola of the sharpest curvature has risen to some times the loss at the centre."""
    most = HALF * float(here.norm()) or 1.0
    if not (level > 0 and top > 0 and math.isfinite(level)):
        return most
    return min(most, max(math.sqrt(2 * AGAIN * level / top), 1e-3 * most))
