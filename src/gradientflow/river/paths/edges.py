"""The sharpness that an optimizer can bear, and when a flow passes it: between two times at which it was measured."""

from __future__ import annotations

from torch import Tensor

from gradientflow.river.fields.base import Field
from gradientflow.river.paths.path import Cost, Path
from gradientflow.river.paths.sharpness import sharpness

Interval = tuple[float, float]
FINE = 1e-2  # residual of the sharpness between two known times: of its size


def stability_edge(descent: Path) -> float | None:
    """Return the sharpness above which an optimizer cannot follow the flow; None where it depends on its own scaling."""
    s, rate = descent.settings, descent.settings.get("lr")
    if rate is None or s.get("scheduled"):
        return None
    if s["optimizer"] != "SGD":
        return None
    beta = float(s.get("momentum", "0") or 0)
    if s.get("nesterov") == "True":
        return (2 + 2 * beta) / (float(rate) * (1 + 2 * beta))
    return (2 + 2 * beta) / float(rate)


def adaptive_edge(descent: Path) -> float | None:
    """Return the largest stable eigenvalue of P^−½ H P^−½ for Adam, (2+2β₁)/((1−β₁)η), and for RMSProp, 2/η; else None."""
    s, rate = descent.settings, descent.settings.get("lr")
    if rate is None or s.get("scheduled") or s["optimizer"] not in ("Adam", "AdamW", "RMSprop"):
        return None
    if s["optimizer"] == "RMSprop":
        return 2 / float(rate)
    beta = 0.9 if "betas" not in s else float(str(s["betas"]).strip("()[] ").split(",")[0])
    return (2 + 2 * beta) / ((1 - beta) * float(rate))


def bracket(edge: float, *measured: Path | tuple[Tensor, Tensor]) -> Interval | None:
    """Return the last measured time before the first at which a measured value is above the edge, and that one; both 0 where
    it is above from the start.

    Args:
        edge: the sharpness.
        measured: paths of one flow, or times and values, NaN where nothing was measured.

    Example:
        >>> import torch
        >>> bracket(2.0, (torch.arange(4.0), torch.tensor([1.0, float("nan"), 3.0, 1.0])))
        (0.0, 2.0)
    """
    series = [(m.times, m.sharpness) if isinstance(m, Path) else m for m in measured]
    seen = sorted((float(t), float(y)) for times, ys in series for t, y in zip(times, ys, strict=True) if y == y)
    before = 0.0
    for t, y in seen:
        if y > edge:
            return before, t
        before = t
    return None


def narrowed(
    field: Field, found: Interval | None, edge: float, times: Tensor, theta: Tensor
) -> tuple[Interval | None, Cost]:
    """Return a narrower interval, by measuring at points of the flow that lie within: half of them each time.

    Args:
        field: whose flow it is.
        found: where the edge is crossed.
        edge: the sharpness.
        times: flow times at which the flow's points are known, ascending, shape (n,).
        theta: those points, shape (n, P).
    """
    cost = Cost()
    while found is not None:
        inside = ((times > found[0]) & (times < found[1])).nonzero()[:, 0]
        if len(inside) == 0:
            break
        k = int(inside[len(inside) // 2])
        there = sharpness(field, theta[k], tolerance=FINE)
        cost = cost + there.cost
        found = (found[0], float(times[k])) if float(there) > edge else (float(times[k]), found[1])
    return found, cost
