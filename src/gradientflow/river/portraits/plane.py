"""A plane of parameter space: a point and two orthonormal directions, and the way into it and out of it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from gradientflow import records
from gradientflow.errors import UsageError
from gradientflow.limits import Limit
from gradientflow.river.paths.path import Cost

PARALLEL = Limit(
    "sine_between_directions",
    1e-6,
    "chosen: of what is left of the second direction, six digits have cancelled by then",
)
MARKED = 4096  # parameters, evenly, that tell one plane from another
ROOM = 1 << 27  # bytes of points, in double precision, that are projected at once


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """Two orthonormal directions a, b through a point c: θ(x, y) = c + x a + y b.

    Coordinates are distances in θ. Make one with `Plane.spanned` (two directions), `Plane.through` (three points), or
    ``gf.plane`` (principal directions of a path, Hessian directions, …).

    Attributes:
        centre: c, shape (P,).
        axes: a and b, shape (2, P), in float32 at least.
        kind: "pca", "sharpest", "gradient", "random", "points" or "directions".
        names: what each direction is.
        about: which plane this is, in a sentence.
        share: of the variance of the path's points along each direction, for "pca".
        curvature: aᵀHa and bᵀHb at c, where they are known; NaN for one that is not.
        reach: half a side of a picture that suits it, where no path says which part to show; 0: not known.
        marks: points in it that have a name.
        cost: what finding it took.
        notes: what a reader of the picture should know.

    Example:
        >>> diagonal = Plane.spanned(torch.zeros(3), torch.tensor([1.0, 1.0, 0.0]), torch.tensor([0.0, 1.0, 0.0]))
        >>> x, y, off = diagonal.project(torch.tensor([2.0, 1.0, 5.0]))
        >>> [round(float(c), 6) for c in (x, y, off)]
        [2.12132, -0.707107, 5.0]
        >>> [round(float(c), 5) for c in diagonal.lift(x, y)]
        [2.0, 1.0, 0.0]
    """

    centre: Tensor
    axes: Tensor
    kind: str = "directions"
    names: tuple[str, str] = ("1st direction", "2nd direction")
    about: str = "through a point, along two directions"
    share: tuple[float, float] | None = None
    curvature: tuple[float, float] | None = None
    reach: float = 0.0
    marks: dict[str, tuple[float, float]] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)
    notes: tuple[str, ...] = ()

    @staticmethod
    def spanned(centre: Tensor, first: Tensor, second: Tensor) -> Plane:
        """Return the plane through a point along two directions; the second is made orthogonal to the first.

        Args:
            centre: the point, shape (P,).
            first, second: of any length but zero, shape (P,).

        Raises:
            UsageError: a direction is zero or not finite, or the two are parallel.
        """
        if not centre.shape == first.shape == second.shape or centre.dim() != 1 or len(centre) < 2:
            raise UsageError(
                f"a plane wants a point and two directions of shape (P,), P ≥ 2; got {tuple(centre.shape)}, "
                f"{tuple(first.shape)} and {tuple(second.shape)}."
            )
        like = centre if centre.is_floating_point() else centre.double()
        a, b = _unit(first, "first"), _unit(second, "second")
        for _ in range(2):  # once leaves what rounding made of it
            b = b - torch.dot(a, b) * a
        left = float(b.norm())
        if left <= PARALLEL:
            raise UsageError(
                f"the two directions of a plane are parallel: the sine between them is {left:.1e}, expected more than "
                f"{float(PARALLEL):g}. Take another second direction."
            )
        kind = torch.promote_types(like.dtype, torch.float32)  # three digits of a direction would leak by themselves
        return Plane(like.detach().clone(), torch.stack([a, b / left]).to(dtype=kind, device=like.device))

    @staticmethod
    def through(first: Tensor, second: Tensor, third: Tensor) -> Plane:
        """Return the plane through three points: the first is the origin, the second lies on the first axis.

        Raises:
            UsageError: they lie on a line.

        Source: Izmailov et al. 2018 (Averaging weights leads to wider optima), section 3.2, for planes through three
        networks.

        Example:
            >>> flat = Plane.through(torch.zeros(3), torch.tensor([2.0, 0.0, 0.0]), torch.tensor([1.0, 1.0, 0.0]))
            >>> flat.marks
            {'1st point': (0.0, 0.0), '2nd point': (2.0, 0.0), '3rd point': (1.0, 1.0)}
        """
        plane = Plane.spanned(first, second - first, third - first)
        x, y, _ = plane.project(torch.stack([first, second, third]))
        marks = dict(
            zip(("1st point", "2nd point", "3rd point"), zip(x.tolist(), y.tolist(), strict=True), strict=True)
        )
        return replace(
            plane, kind="points", about="through three points", marks=marks,
            names=("from the 1st point to the 2nd", "towards the 3rd point, at right angles"),
        )  # fmt: skip

    @property
    def size(self) -> int:
        """P, the number of parameters."""
        return len(self.centre)

    @property
    def key(self) -> str:
        """The name under which ``gf.Keep(plane=…)`` keeps a path's shadow in it: another plane has another one."""
        told = torch.stack([self.centre, *self.axes])
        some = told[:, :: max(1, self.size // MARKED)].double().cpu().contiguous()
        return f"plane {zlib.crc32(some.numpy().tobytes()):08x}"

    def __call__(self, theta: Tensor) -> Tensor:
        """Return what `project` does in one tensor, (…, 3)."""
        return torch.stack(self.project(theta), dim=-1)

    def project(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return where points stand above the plane: both coordinates, and the distance out of it.

        Args:
            theta: shape (P,) or (n, P).

        Returns:
            x, y and the distance, each of shape () or (n,), float64, on the CPU.
        """
        if theta.shape[-1] != self.size:
            raise UsageError(
                f"a point of {theta.shape[-1]} parameters was held against a plane of {self.size}: expected (…, {self.size})."
            )
        axes, centre = self.axes.double(), self.centre.double()
        parts = []
        for rows in torch.split(theta.reshape(-1, self.size), max(1, ROOM // (8 * self.size))):
            away = rows.detach().to(centre) - centre
            at = away @ axes.T
            parts.append(torch.cat([at, away.addmm_(at, axes, alpha=-1).norm(dim=1, keepdim=True)], dim=1).cpu())
        out = torch.cat(parts).reshape(*theta.shape[:-1], 3)
        return out[..., 0], out[..., 1], out[..., 2]

    def lift(self, x: Tensor | float, y: Tensor | float) -> Tensor:
        """Return θ at coordinates, shape (…, P), of the centre's dtype."""
        first, second = (torch.as_tensor(c, dtype=torch.float64).to(self.axes)[..., None] for c in (x, y))
        return (self.centre + first * self.axes[0] + second * self.axes[1]).to(self.centre)

    def split(self, rate: Tensor) -> tuple[Tensor, Tensor]:
        """Return what of rates runs in the plane, and which share leaves it.

        Args:
            rate: shape (B, P).

        Returns:
            The components along both axes, (B, 2), and the leak ‖f⊥‖/‖f‖, (B,): 0 in the plane, 1 at right angles to it, NaN
            for a rate of zero. Both float64, on the CPU.
        """
        rate = rate.to(self.axes)
        along = rate @ self.axes.T
        rest = torch.addmm(rate, along, self.axes, alpha=-1)
        leak = rest.norm(dim=1).double() / rate.norm(dim=1).double()
        return along.double().cpu(), leak.clamp_max(1.0).cpu()

    def moved(self, theta: Tensor) -> Plane:
        """Return the parallel plane through a point; coordinates stay what they were."""
        _, _, off = self.project(theta)
        away = theta.to(self.axes) - self.centre.to(self.axes)
        out = (away - (away @ self.axes.T) @ self.axes).to(self.centre)
        about = f"{self.about}; moved {float(off):.3g} at right angles to itself, to pass through a point"
        return replace(self, centre=self.centre + out, about=about, curvature=None, cost=Cost())

    def told(self) -> records.Plane:
        """Return it as a record, without its directions."""
        curvature = None
        if self.curvature is not None:
            first, second = (x if x == x else None for x in self.curvature)
            curvature = (first, second)
        return records.Plane(
            self.kind, self.names, self.about, self.size, share=self.share, curvature=curvature, marks=dict(self.marks)
        )

    def __repr__(self) -> str:
        return f"<plane {self.kind!r} of {self.size} parameters: {self.about}>"


def _unit(direction: Tensor, which: str) -> Tensor:
    direction = direction.detach().double()
    length = float(direction.norm())
    if not 0 < length < float("inf"):
        raise UsageError(f"the {which} direction of a plane has length {length:g}; expected a finite one above 0.")
    return direction / length
