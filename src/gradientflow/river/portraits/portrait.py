"""Portraits: the door. A field of two parameters whole, a larger one in a plane, at once or from coarse to fine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from torch import Tensor

from gradientflow.errors import FieldError, UsageError
from gradientflow.records import Portrait, Spent
from gradientflow.records import Shadow as Seen
from gradientflow.river.fields.base import Field
from gradientflow.river.paths.path import Cost, Path
from gradientflow.river.portraits.axes import KINDS, Chosen, field_of
from gradientflow.river.portraits.axes import plane as made
from gradientflow.river.portraits.box import Box, checked, framed
from gradientflow.river.portraits.plane import Plane
from gradientflow.river.portraits.sample import numbers
from gradientflow.river.portraits.sampling import Progress, Samples, Sounding, nearest
from gradientflow.river.portraits.shadow import near, shadow
from gradientflow.river.portraits.whole import whole

Source = Field | Callable[[Tensor], Tensor] | Path
WHOLE, SLICE = 192, 65  # samples along each side when nobody says: of two parameters, of a plane


def portrait(
    source: Source,
    box: Sequence[float] | None = None,
    n: int | None = None,
    *,
    plane: Chosen | None = None,
    along: Path | Sequence[Path] = (),
    at: Tensor | float | None = None,
    seconds: float | None = None,
    seed: int = 0,
    structure: bool = True,
    progress: Progress | None = None,
) -> Portrait:
    """Sample a field over a box: of two parameters all of it, of more a plane.

    Of two parameters: points at rest, f(θ) = 0, are looked for from the slowest samples by damped Newton steps
    (Levenberg–Marquardt) and typed by the eigenvalues of ∂f/∂θ; where one eigenvalue is zero the curve of such points is
    followed. Separatrices are the stable lines of the saddles, followed backwards in time. A point at rest between the
    samples can be missed.

    In a plane θ(x, y) = c + x a + y b: the loss there is the true one, over all the field's data. The rate f is not in the
    plane; (aᵀf, bᵀf) is drawn, and at every sample leak = ‖f − (aᵀf)a − (bᵀf)b‖/‖f‖ says how much is left out: 0 where the
    picture is true, 1 where nothing of the flow is in it. Paths are drawn as shadows, with their distance from the plane.

    Args:
        source: dθ/dt = f(θ); or a path, which stands for its field and is drawn.
        box: first coordinate from, to, second from, to. None: the field's own ``box``; in a plane one in which the paths
            are seen, or else of a size that suits the plane.
        n: samples along each side, n² gradients in all; in a plane the nearest of 3, 5, 9, 17, 25, 33, 41, 49, 65, 81, 97,
            129, …, of which coarse grids are part of fine ones. None: 192; in a plane 65, or what `seconds` allow.
        plane: which one; see ``gf.plane``. None: only for two parameters; for a path of more, "pca".
        along: paths on the field to draw, as descents beside the flow.
        at: where the plane is taken; see ``gf.plane``.
        seconds: in a plane: measure what a gradient takes, and sample as finely as fits.
        seed: of a random plane.
        structure: of two parameters: look for points at rest, valleys and separatrices; otherwise only sample.
        progress: in a plane: called after each batch with the gradients made of the present grid, and how many it takes;
            what it returns is False to end with the grid before.

    Returns:
        A record of plain numbers; ``spent`` counts the gradients. ``gf.draw`` draws it.

    Raises:
        FieldError: the field has not two parameters, and no plane was named.
        UsageError: the box is missing or empty, or the plane cannot be made.

    Source: Strogatz, Nonlinear Dynamics and Chaos (1994), chapters 5 and 6; Nocedal & Wright, Numerical Optimization
    (2006), section 10.3, for the damped steps. Planes: see ``gf.plane``.

    Example:
        >>> from gradientflow.river.fields.base import Potential
        >>> two = Potential(lambda w: 0.25 * (w[0] ** 2 - 1) ** 2 + 0.5 * w[1] ** 2, start=[0.5, 0.5])
        >>> drawn = portrait(two, (-2, 2, -1, 1), 64)
        >>> sorted((round(p.at[0]), p.kind) for p in drawn.fixed)
        [(-1, 'sink'), (0, 'saddle'), (1, 'sink')]
        >>> many = Potential(lambda w: 0.5 * (w * w).sum(), start=[1.0, 2.0, 3.0])
        >>> seen = portrait(many, (-1, 1, -1, 1), 9, plane="sharpest")
        >>> seen.n, seen.spent.gradients >= 81
        (9, True)
    """
    field = field_of(source)
    if _flat(field, source, plane):
        paths = _paths(source, along)
        own = box if box is not None else getattr(field, "box", None)
        if own is None and paths:
            own = framed([(float(p[0]), float(p[1])) for path in paths for p in (path.start, path.final, *_kept(path))])
        return whole(field, own, n or WHOLE, structure=structure)
    return finest(
        sketches(source, box, n, plane=plane, along=along, at=at, seconds=seconds, seed=seed, progress=progress)
    )  # fmt: skip


def sketches(
    source: Source,
    box: Sequence[float] | None = None,
    n: int | None = None,
    *,
    plane: Chosen | None = None,
    along: Path | Sequence[Path] = (),
    at: Tensor | float | None = None,
    seconds: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Iterator[Portrait]:
    """Sample a plane from coarse to fine: each portrait has all the samples of the one before, and more.

    The first comes after 81 gradients (fewer where `seconds` do not allow so many). Nothing is evaluated while the
    generator is not asked to go on, and closing it ends the work; within a grid `progress` can end it after each batch,
    which takes about a quarter of a second at most.

    Args: as for `portrait`.

    Yields:
        Portraits with more and more samples.

    Example:
        >>> from gradientflow.river.fields.base import Potential
        >>> many = Potential(lambda w: 0.5 * (w * w).sum(), start=[1.0, 2.0, 3.0])
        >>> [drawn.n for drawn in sketches(many, n=33, plane="random")]
        [9, 17, 33]
    """
    field, paths = field_of(source), _paths(source, along)
    found = chosen(source, plane, paths, at, seed)
    shadows = [shadow(path, found) for path in paths]
    frame = checked(box, field.name) if box is not None else suited(found, shadows)
    yield from sounded(field, found, frame, n, seconds, shadows, progress)


def sounded(
    field: Field, found: Plane, box: Box, n: int | None, seconds: float | None, shadows: list[Seen],
    progress: Progress | None = None,
) -> Iterator[Portrait]:  # fmt: skip
    """Sample a box of a plane that is known, from coarse to fine."""
    if seconds is not None and not seconds > 0:
        raise UsageError(f"seconds is how long the sampling may take, above 0; got {seconds!r}.")
    sounding = Sounding(field, found, box, progress)
    side = nearest(n) if n is not None else None if seconds is not None else SLICE
    for samples in sounding.levels(side, seconds):
        yield _portrait(sounding, samples, shadows)


def finest(some: Iterable[Portrait]) -> Portrait:
    """Return the last of portraits that get finer.

    Raises:
        UsageError: it was ended before the first.
    """
    last: Portrait | None = None
    for each in some:
        last = each
    if last is None:
        raise UsageError("the sampling was ended before there was anything to show.")
    return last


def chosen(
    source: Source, kind: Chosen | None, paths: Sequence[Path], at: Tensor | float | None, seed: int
) -> Plane:  # fmt: skip
    """Return the plane that is meant; for paths of which nobody says, that of their principal directions."""
    if kind is None:
        if not paths:
            field = field_of(source)
            raise FieldError(
                f"{field.name} has {field.size} parameters, and a picture two: say which plane of them, plane= one of "
                f"{', '.join(map(repr, KINDS))}, three points, or a gf.Plane; or pass a path."
            )
        kind = "pca"
    rest = paths[1:] if isinstance(source, Path) else paths
    return made(source, kind, along=rest, at=at, seed=seed)


def suited(found: Plane, shadows: Sequence[Seen]) -> Box:
    """Return a box in which the flows' shadows are seen, and the plane's own points; optimizers where they stray little."""
    must = [p for s in shadows if s.kind == "flow" for p in s.points] or [p for s in shadows for p in s.points]
    may = [p for s in shadows if s.kind != "flow" for p in s.points]
    return framed([*must, *found.marks.values()], may, found.reach)


def _portrait(sounding: Sounding, samples: Samples, shadows: list[Seen]) -> Portrait:
    u, v, loss, leak = samples.table.reshape(-1, 4).unbind(1)
    cost = sounding.plane.cost + sounding.meter.cost()
    return Portrait(
        name=sounding.field.name,
        box=sounding.box,
        n=samples.n,
        u=u.tolist(),
        v=v.tolist(),
        loss=None if bool(loss.isnan().all()) else numbers(loss),
        notes=[*sounding.plane.notes, *sounding.notes, *getattr(sounding.field, "notes", ())],
        plane=sounding.plane.told(),
        leak=numbers(leak),
        shadows=shadows,
        near=near(sounding.box),
        spent=_spent(cost),
    )


def _spent(cost: Cost) -> Spent:
    return Spent(
        gradients=cost.gradients, hvps=cost.hvps, losses=cost.losses, seconds=cost.seconds, inside=cost.inside,
        equivalents=cost.equivalents, looking=cost.looking,
    )  # fmt: skip


def _flat(field: Field, source: Source, kind: Chosen | None) -> bool:
    size = field.size or (len(source.final) if isinstance(source, Path) else 0)
    return kind is None and size in (0, 2)


def _paths(source: Source, along: Path | Sequence[Path]) -> list[Path]:
    return [*([source] if isinstance(source, Path) else []), *([along] if isinstance(along, Path) else along)]


def _kept(path: Path) -> list[Tensor]:
    return [] if path.theta is None else list(path.theta)
