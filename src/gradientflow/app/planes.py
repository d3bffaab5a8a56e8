"""Places in a field of many parameters, said in one line of text each, so that a link holds them: planes, and where drops begin.

    plane  KIND~T, KIND~T(FOOT), random-SEED~T, points~T(FOOT;FOOT;FOOT)
    foot   own: the field's own start; or PLANE@x,y: a point of a plane

A plane is made of the flow from a foot (the field's own start where none is named) to the time T: its principal directions,
the two sharpest directions of the Hessian at its end, the gradient and the sharpest direction at its start, or two random ones
through its end; or it goes through the ends of three flows. What was solved for that is kept, as much as `ROOM` holds.
"""

from __future__ import annotations

import math
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gradientflow.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from gradientflow.river import Field, Keep, Path, Plane

KINDS = ("pca", "sharpest", "gradient", "random", "points")
OWN = "own"
ROOM = 256 << 20  # bytes of paths that are kept
EACH = 32 << 20  # bytes of the points of one path
MOMENTS, LEAST = 160, 24  # at which a path's points are kept; fewer where they are large
LONGEST = 1e6  # flow time
LINE = 400  # letters of a place
DEEP = 3  # places within a place
SOLVING = 3.0  # seconds for a path that a plane is made of
COARSE = 1e-2  # relative error of a step of it

_PLANE = re.compile(r"([a-z]+)(?:-(\d{1,6}))?~([-+.0-9e]{1,24})")
_POINT = re.compile(r"@([-+.0-9e]{1,24}),([-+.0-9e]{1,24})")

Wanted = Callable[[], bool]


class Planes:
    """Planes of one field's parameter space, and paths on it, each made once.

    Args:
        field: of more than two parameters.
    """

    def __init__(self, field: Field) -> None:
        self.field = field
        self._planes: OrderedDict[str, Plane] = OrderedDict()
        self._paths: OrderedDict[str, Path] = OrderedDict()
        self._feet: dict[str, tuple[str, float]] = {}  # of each plane the first foot, and its time
        self._lock = threading.RLock()

    def plane(self, text: str, wanted: Wanted = lambda: True) -> Plane:
        """Return a plane.

        Raises:
            UsageError: it is not written as one, or cannot be made.
        """
        _short(text)
        found, end = self._plane(text, 0, 0, wanted)
        if end != len(text):
            raise _unread(text)
        return found

    def foot(self, text: str, wanted: Wanted = lambda: True) -> Tensor:
        """Return where a drop begins, (P,).

        Raises:
            UsageError: it is not written as a place, or the plane that it lies in cannot be made.
        """
        _short(text)
        found, end = self._foot(text, 0, 0, wanted)
        if end != len(text):
            raise _unread(text)
        return found

    def path(self, foot: str, t: float, wanted: Wanted = lambda: True) -> Path:
        """Return the flow from a foot, coarsely: what planes are made of, the same each time."""
        known = self.kept(f"way {foot} {t!r}")
        if known is not None:
            return known
        from gradientflow import river

        path = river.flow(
            self.field, t, start=self.foot(foot, wanted), rtol=COARSE, atol=0.1 * COARSE, certify=False,
            max_seconds=SOLVING, keep=self.moments(t, sharpness=0), callback=lambda _: not wanted(),
        )  # fmt: skip
        if path.status.reason != "cancelled":
            self.keep(f"way {foot} {t!r}", path)
        return path

    def moments(self, t: float, sharpness: int | None = None, count: int = MOMENTS) -> Keep:
        """Return what is kept of a flow: its points, close together at first, and all over its time."""
        import torch

        from gradientflow import river

        many = max(LEAST, min(count, EACH // (8 * max(self.field.size, 1))))
        early = river.Keep.early(t, many - many // 3)
        even = torch.linspace(0, t, many // 3 + 1, dtype=torch.float64)[:-1]
        return river.Keep(at=sorted({*early.tolist(), *even.tolist()}), theta=True, sharpness=sharpness)

    def keep(self, name: str, path: Path) -> None:
        """Keep a path; the oldest ones go where there is no room."""
        with self._lock:
            self._paths[name] = path
            self._paths.move_to_end(name)
            while len(self._paths) > 1 and sum(map(_bytes, self._paths.values())) > ROOM:
                self._paths.popitem(last=False)

    def kept(self, name: str) -> Path | None:
        """Return a path that was kept."""
        with self._lock:
            return self._paths.get(name)

    def way(self, plane: str, wanted: Wanted = lambda: True) -> Path:
        """Return the flow that a plane is made of; of several the first."""
        self.plane(plane, wanted)
        return self.path(*self._feet[plane], wanted)

    def all_the_way(self, foot: str) -> bool:
        """Whether a kept flow came to where it was asked to go."""
        path = self.kept(foot)
        return path is not None and path.status.ok

    def ridden(self, foot: str, t: float, wanted: Wanted) -> Path:
        """Return the flow of a drop that a plane rides with: the best that was solved of it."""
        return self.kept(foot) or self.path(foot, t, wanted)

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _plane(self, text: str, at: int, depth: int, wanted: Wanted) -> tuple[Plane, int]:
        said = _PLANE.match(text, at)
        if said is None or said[1] not in KINDS or depth > DEEP:
            raise _unread(text)
        t, seed, end = _number(said[3], text), int(said[2] or 0), said.end()
        if not 0 < t <= LONGEST:
            raise UsageError(f"the flow time of a plane: expected a number above 0 and at most {LONGEST:g}, got {t:g}.")
        feet: list[str] = []
        if text[end : end + 1] == "(":
            while text[end] in "(;":
                _, after = self._foot(text, end + 1, depth + 1, wanted)
                feet.append(text[end + 1 : after])
                end = after
                if end >= len(text):
                    raise _unread(text)
            if text[end] != ")":
                raise _unread(text)
            end += 1
        if len(feet) not in ((3,) if said[1] == "points" else (0, 1)):
            raise _unread(text)
        name = text[at:end]
        with self._lock:
            known = self._planes.get(name)
        if known is None:
            known = self._made(said[1], t, seed, feet or [OWN], wanted)
            with self._lock:
                self._planes[name], self._feet[name] = known, (feet[0] if feet else OWN, t)
                if len(self._planes) > max(2, ROOM // (24 * self.field.size)):
                    old, _ = self._planes.popitem(last=False)
                    del self._feet[old]
        return known, end

    def _foot(self, text: str, at: int, depth: int, wanted: Wanted) -> tuple[Tensor, int]:
        if text.startswith(OWN, at):
            start = self.field.start()
            if start is None:
                raise UsageError(f"{self.field.name} has no starting point of its own.")
            return start, at + len(OWN)
        plane, end = self._plane(text, at, depth, wanted)
        said = _POINT.match(text, end)
        if said is None:
            raise _unread(text)
        x, y = (_number(c, text) for c in said.groups())
        if not abs(x) + abs(y) < 1e9:
            raise UsageError("a drop begins at two finite numbers.")
        return plane.lift(x, y).to(dtype=self.field.dtype, device=self.field.device), said.end()

    def _made(self, kind: str, t: float, seed: int, feet: list[str], wanted: Wanted) -> Plane:
        from gradientflow import river

        paths = [self.path(foot, t, wanted) for foot in feet]
        if not wanted():
            raise UsageError("nobody waits for this plane any more.")
        if kind == "points":
            return river.Plane.through(*(p.final for p in paths))
        return river.plane(paths[0], kind, seed=seed)


def foot_in(plane: str, at: tuple[float, float]) -> str:
    """Return the foot of a point in a plane, as text."""
    return f"{plane}@{at[0]!r},{at[1]!r}"


def _bytes(path: Path) -> int:
    theta: Any = path.theta
    return 0 if theta is None else int(theta.numel() * theta.element_size())


def _short(text: str) -> None:
    if len(text) > LINE:
        raise UsageError(f"a place is written in at most {LINE} letters, got {len(text)}.")


def _number(text: str, whole: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise _unread(whole) from None
    return value if math.isfinite(value) else math.inf


def _unread(text: str) -> UsageError:
    return UsageError(
        f"{text[:80]!r} is no place of this field: expected a plane, one of {', '.join(KINDS)}, as in pca~20, or a point of one, pca~20@0.5,-1."
    )
