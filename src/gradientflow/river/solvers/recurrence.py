"""A three-term recurrence of stages, run for many drops side by side, and the work it does on the way."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gradientflow.river.fields.base import Evaluation
from gradientflow.river.solvers.base import Call, add, rowwise, scaled, squared


@dataclass(frozen=True, slots=True)
class Recurrence:
    """Y_j = (1−μ_j−ν_j) y + μ_j Y_{j−1} + ν_j Y_{j−2} + h (κ_j F_{j−1} + γ_j F_0), for j = 1 … last.

    Lists are indexed by j; entry 0 is unused. `closing` are the weights of y⁺ = y + … where the method ends with a
    combination instead of its last stage: (of Y_s − y, of Y_{s−2} − y, of h F_0).
    """

    mu: tuple[float, ...]
    nu: tuple[float, ...]
    kappa: tuple[float, ...]
    gamma: tuple[float, ...]
    closing: tuple[float, float, float] | None = None
    weights: tuple[float, ...] = ()  # of ‖F_0‖² … ‖F_{s−1}‖², ‖F(y⁺)‖² in ∫‖F‖² dt / h

    @property
    def last(self) -> int:
        return len(self.mu) - 1


class Table:
    """The recurrences of a batch: number j of each list, as one number for a single drop or a column for several.

    A drop whose recurrence is over keeps its last stage: μ = 1, all else 0.
    """

    def __init__(self, rows: list[Recurrence], like: Tensor) -> None:
        self.rows = rows
        self.last = max(r.last for r in rows)
        self.single = rows[0] if len(rows) == 1 else None
        if self.single is not None:
            return
        kinds = {id(r): r for r in rows}
        place = {key: i for i, key in enumerate(kinds)}
        self.which = torch.tensor([place[id(r)] for r in rows], device=like.device)
        n = self.last + 1
        table = torch.zeros(6, len(kinds), n + 1, dtype=torch.float64)
        table[0] = 1.0
        for i, r in enumerate(kinds.values()):
            for k, numbers in enumerate((r.mu, r.nu, r.kappa, r.gamma)):
                table[k, i, : r.last + 1] = torch.tensor(numbers, dtype=torch.float64)
            table[5, i, : r.last] = torch.tensor(r.weights[:-1], dtype=torch.float64)
            table[5, i, n] = r.weights[-1]
        table[4] = 1.0 - table[0] - table[1]
        self.weights = table[5].to(like.device)
        self.numbers = table.to(like)

    def __call__(self, kind: int, j: int) -> float | Tensor:
        """Return μ (0), ν (1), κ (2), γ (3) or 1 − μ − ν (4) of stage j."""
        if self.single is None:
            return self.numbers[kind, self.which, j][:, None]
        r = self.single
        if kind == 4:
            return 1.0 - r.mu[j] - r.nu[j]
        return (r.mu, r.nu, r.kappa, r.gamma)[kind][j]

    def weight(self, j: int) -> float | Tensor:
        """Return the weight of stage j in the work, −1 for the end."""
        if self.single is None:
            return self.weights[self.which, j]
        return self.single.weights[j]


def climb(
    call: Call, theta: Tensor, here: Evaluation, h: Tensor, rows: list[Recurrence]
) -> tuple[Tensor, Tensor, Work]:
    """Run the recurrences of all drops side by side.

    Returns:
        the last stage (or the closing combination), a vector free to use, and the work so far.
    """
    table = Table(rows, theta)
    length: float | Tensor = h if table.single is None else float(h)
    rate0 = here.rate
    work = Work(table, here)
    before, now = theta.clone(), theta.clone()  # Y_{j−2}, Y_{j−1}
    add(now, rate0, table(2, 1) * length)
    kept = torch.empty_like(theta) if rows[0].closing is not None else None  # Y_{s−2}
    for j in range(2, table.last + 1):
        if kept is not None:
            for i, r in enumerate(rows):  # Y_{s−2} is `before` at j = s
                if r.last == j:
                    kept[i].copy_(before[i])
        rate = call(now).rate
        work.at(j - 1, rate)
        before.mul_(table(1, j))
        add(before, now, table(0, j))
        add(before, theta, table(4, j))
        add(before, rate, table(2, j) * length)
        add(before, rate0, table(3, j) * length)
        del rate
        before, now = now, before
    if kept is not None:
        a, b, c = zip(*(r.closing for r in rows if r.closing is not None), strict=True)
        now.mul_(rowwise(list(a), theta))
        add(now, kept, rowwise(list(b), theta))
        add(now, theta, rowwise([1.0 - x - y for x, y in zip(a, b, strict=True)], theta))
        add(now, rate0, scaled(list(c), h))
    return now, before, work


class Work:
    """∫‖dθ/dt‖² over a step from the rates that its stages met, at the times the stages stand for.

    The stages of a Chebyshev method lie at times ~ j²/s², densest where a transient is fastest; integrating the parabolas
    through their ‖rate‖² costs one dot product a stage and follows what the end points alone would miss.
    """

    def __init__(self, table: Table, here: Evaluation) -> None:
        self._table = table
        self._sum = squared(here.rate) * table.weight(0)

    def at(self, j: int, rate: Tensor) -> None:
        """Add stage j."""
        self._sum += squared(rate) * self._table.weight(j)

    def total(self, rate: Tensor, h: Tensor) -> Tensor:
        """Add the end and return the integral."""
        self._sum += squared(rate) * self._table.weight(-1)
        return self._sum * h[:, 0].double()


def quadrature(times: list[float]) -> tuple[float, ...]:
    """Return the weights that integrate, between neighbouring times, the mean of the two parabolas that share the panel.

    At the first and the last panel there is one parabola. Exact for quadratics; the mean removes most of the cubic error.
    """
    n = len(times)
    weights = [0.0] * n
    if n == 2:
        half = 0.5 * (times[1] - times[0])
        return (half, half)
    for i in range(n - 1):
        corners = [k for k in (i - 1, i) if k >= 0 and k + 2 < n]
        for k in corners:
            nodes = times[k : k + 3]
            for m in range(3):
                a, b = (x for q, x in enumerate(nodes) if q != m)
                scale = 1.0 / ((nodes[m] - a) * (nodes[m] - b) * len(corners))
                weights[k + m] += scale * (_area(times[i + 1], a, b) - _area(times[i], a, b))
    return tuple(weights)


def _area(t: float, a: float, b: float) -> float:
    """Return an antiderivative of (t − a)(t − b)."""
    return t**3 / 3 - (a + b) * t**2 / 2 + a * b * t


def stage_weights(mu: list[float], nu: list[float], kappa: list[float], gamma: list[float]) -> tuple[float, ...]:
    """Return the weights of ‖F_0‖² … ‖F_{s−1}‖², ‖F(y⁺)‖² that integrate ‖dθ/dt‖² over a step of length 1."""
    times = [0.0]
    for j in range(1, len(mu) - 1):
        times.append(mu[j] * times[j - 1] + (nu[j] * times[j - 2] if j > 1 else 0.0) + kappa[j] + gamma[j])
    # Left out: a first stage that is of first order and hardly away from the start, and stages beside or beyond the end.
    inner = [0]
    for j, t in enumerate(times[1:], 1):
        late = 1.0 - t < 0.5 * (t - times[inner[-1]])
        if not late and t - times[inner[-1]] > (0.04 / len(times) if j == 1 else 0.0):
            inner.append(j)
    weights = quadrature([*(times[j] for j in inner), 1.0])
    out = [0.0] * len(times)
    for j, weight in zip(inner, weights[:-1], strict=True):
        out[j] = weight
    return (*out, weights[-1])
