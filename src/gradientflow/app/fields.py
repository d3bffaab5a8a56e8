"""The fields that are open: the one that the app was called with, and those of the zoo that a page may choose by name."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from gradientflow.app.planes import KINDS, Planes
from gradientflow.app.tales import TALES
from gradientflow.app.turns import Turns
from gradientflow.errors import UsageError
from gradientflow.records import Named, Opened

if TYPE_CHECKING:
    from torch import nn

    from gradientflow.river import Field

FIRST = "w1w2"  # the field that a page opens with where nobody named one; its first water is packaged
SHOWN = (
    "w1w2", "himmelblau", "double-well", "rosenbrock", "quadratic", "saddle", "styblinski-tang", "beale", "van-der-pol",
    "bilinear-game", "dirac-gan", "linear-net", "diagonal-net",
)  # fmt: skip


class Target(Protocol):
    """What the command line's loader returns; see `gradientflow flow`."""

    @property
    def field(self) -> Field: ...
    @property
    def about(self) -> str: ...
    @property
    def time(self) -> float | None: ...


class Fields:
    """Opens fields, each once.

    Args:
        called: the TARGET that the app was called with.
        load: from a target to its field; it imports torch, and the user's own file.
    """

    def __init__(self, called: str, load: Callable[[str], Target]) -> None:
        self.called, self._load = called, load
        self._open: dict[str, Target] = {}
        self._planes: dict[str, Planes] = {}
        self._turns: dict[str, Turns] = {}
        self._lock = threading.Lock()

    def get(self, target: str) -> Target:
        """Return a field.

        Raises:
            UsageError: it is neither the app's own nor one that a page may choose, or it has a single parameter.
        """
        if target != self.called and target not in SHOWN:
            raise UsageError(
                f"the app was started for {self.called}; of other fields a page may open those with a name."
            )
        with self._lock:
            if target not in self._open:
                found = self._load(target)
                if found.field.size == 1:
                    raise UsageError(
                        f"{found.field.name} has one parameter, and a picture two. Solve it with gradientflow flow {target} --time T."
                    )
                from gradientflow import river

                self._turns[target] = Turns(
                    shared=found.field.size <= 2 and not isinstance(found.field, river.LossField)
                )
                if found.field.size > 2:
                    self._planes[target] = Planes(found.field)
                self._open[target] = found
            return self._open[target]

    def planes(self, target: str) -> Planes | None:
        """Return the planes of a field of more than two parameters; None of one that is drawn whole."""
        self.get(target)
        return self._planes.get(target)

    def turns(self, target: str) -> Turns:
        """Return who may evaluate a field."""
        self.get(target)
        return self._turns[target]

    def opened(self, target: str) -> Opened:
        """Return what a page must know of a field to open it."""
        from gradientflow import river

        found = self.get(target)
        field = found.field
        with self.turns(target).mine(urgent=True):
            rate = _rate(field, field.start(), found.time or 10.0)
        start = field.start()
        many = self.planes(target) is not None
        begin = (1.0, 1.0) if start is None else (0.0, 0.0) if many else (float(start[0]), float(start[1]))
        box = None if many else getattr(field, "box", None)
        sides = _around(begin) if box is None else _sides(box)
        t = found.time or 10.0
        kinds = [k for k in KINDS if field.potential or k not in ("sharpest", "gradient")] if many else []
        named = [Named(n, river.zoo.named(n).text) for n in SHOWN]
        return Opened(
            target=target, name=field.name, about=found.about, size=field.size or 2, potential=field.potential, box=sides, start=begin, t=t,
            lr=rate, fields=named, tales=list(TALES), planes=kinds, layers=many and module_of(field) is not None,
        )  # fmt: skip


def module_of(field: Field) -> nn.Module | None:
    """Return the network whose flow a field is, where it is a module and no function."""
    from gradientflow import river

    return field.model.modules().get("") if isinstance(field, river.LossField) else None


def _sides(box: Any) -> tuple[float, float, float, float]:
    """A field's own box as four numbers; it may say it as two pairs."""
    x0, x1, y0, y1 = (float(x) for side in box for x in (side if hasattr(side, "__len__") else [side]))
    return x0, x1, y0, y1


def _around(at: tuple[float, float]) -> tuple[float, float, float, float]:
    """A box around a point, for a field that says none."""
    reach = max(2.0, 2 * max(map(abs, at)))
    return -reach, reach, -reach, reach


def _rate(field: Any, start: Any, t: float) -> float:
    """A learning rate that follows the flow visibly: a fifth of what is stable at the start, one digit."""
    from gradientflow import river

    if not field.potential:
        return float(f"{t / 200:.0e}")
    try:
        top = abs(float(river.sharpness(field, [1.0, 1.0] if start is None else start)))
    except Exception:  # a field whose Hessian cannot be had is no reason not to open
        return float(f"{t / 200:.0e}")
    return float(f"{min(0.4 / max(top, 1e-12), t / 20):.0e}")
