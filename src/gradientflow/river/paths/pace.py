"""How far a step of a flow may go: the first one, one that has to hit a moment, and what another method would dare."""

from __future__ import annotations

import torch
from torch import Tensor

from gradientflow.river.fields.base import Evaluation
from gradientflow.river.paths.course import Course
from gradientflow.river.solvers.base import Solver, lengths
from gradientflow.river.solvers.explicit import RungeKutta


def first_steps(flow: Course, rows: Tensor, solver: Solver) -> None:
    """Choose the first step of drops that have none: so that its error is well within what is allowed."""
    new = rows[flow.h[rows].isnan()]
    if len(new) == 0:
        return
    rho = flow.spectrum.rho(new).nan_to_num(0.0)
    if flow.fixed is not None or (isinstance(solver, RungeKutta) and solver.rule is not None):
        rule = solver.rule if isinstance(solver, RungeKutta) and solver.rule else 1.0
        flow.h[new] = flow.fixed if flow.fixed is not None else rule / rho.clamp_min(1e-300)
        return
    theta, here = flow.take(new)
    speed = lengths(here.rate)
    length = lengths(theta).clamp_min(1e-3)
    guess = torch.where(rho > 0, 1.0 / rho.clamp_min(1e-300), 0.01 * length / speed.clamp_min(1e-300))
    guess = guess.clamp_max(flow.t_end)
    column = guess.to(theta)[:, None]
    point = torch.addcmul(theta, here.rate, column)
    change = flow.meter(point).rate.sub_(here.rate).mul_(column)
    del point
    error = flow.tolerance.size(change, theta, theta)
    error = torch.where(torch.isfinite(error), error, torch.full_like(error, 1e12))
    factor = (0.01 / error.clamp_min(1e-30)) ** (1.0 / (solver.order + 1))
    flow.h[new] = (guess * factor).clamp_max(flow.t_end)


def ahead(flow: Course, rows: Tensor) -> Tensor:
    """Return the time that a step may reach: the end, or the next moment that is to be hit exactly."""
    if flow.stops is None:
        return flow.ends[rows]
    after = torch.searchsorted(flow.stops, flow.t[rows] * (1 + 1e-14), right=True)
    padded = torch.cat([flow.stops, torch.tensor([flow.t_end], dtype=torch.float64)])
    return torch.minimum(padded[after], flow.ends[rows])


def other_length(
    flow: Course,
    before: Tensor,
    after: Tensor,
    start: Evaluation,
    there: Evaluation,
    h: Tensor,
    on: Tensor,
    solver: Solver,
) -> Tensor | None:
    """Return the length at which RKC2's own estimate, read off this explicit step, would just be allowed."""
    if solver.stabilized or len(flow.solvers) == 1:
        return None
    defect = (before - after).mul_(0.8)
    defect.add_((start.rate + there.rate).mul_(0.4 * h.to(before)[:, None]))
    error = flow.tolerance.size(defect, before, after).clamp_min(1e-12)
    other: Tensor = h * (0.8 * error ** (-1.0 / 3.0)).clamp(0.05, 20.0)
    return other
