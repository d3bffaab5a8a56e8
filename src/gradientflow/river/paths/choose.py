"""Which method takes the next step of each drop: the one that pays fewer gradients per unit of flow time, and why.

Costs are compared, not labels: an explicit method pays its stages for a step that accuracy and stability allow; a
stabilized one pays √(h·ρ) for a step that accuracy alone allows. On explicit steps the stabilized method's error comes
for nothing (its estimate needs the two ends and their rates, which are there). On stabilized steps the explicit method
is tried when even the length it is stable for would be the better buy; each try that fails makes the next one rarer.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gradientflow.river.solvers.base import Solver

BETTER = 0.75  # a switch must promise to cost at most this share
COMFORT = 0.35  # of its stability bound: the length at which an explicit method also damps what is stiff
PATIENCE = 6  # steps with a method before the next switch; doubled by each switch back


class Chooser:
    """The method of each drop, as an index into `solvers`; one method means no choice."""

    def __init__(self, solvers: list[Solver], drops: int) -> None:
        self.solvers = solvers
        start = len(solvers) - 1  # stabilized first: with ρ known its first steps are cheap on either kind of flow
        self.now = torch.full((drops,), start, dtype=torch.int64)
        self.since = torch.zeros(drops, dtype=torch.int64)
        self.patience = torch.full((drops,), 0, dtype=torch.int64)
        self.switches = 0

    def weigh(self, rows: Tensor, h: Tensor, rho: Tensor, other_h: Tensor | None, settled: Tensor) -> Tensor:
        """Decide after an accepted step; return which rows switched, as a mask over `rows`.

        Args:
            rows: the drops, all of one method now.
            h: the step that this method's controller proposes.
            rho: spectral radius.
            settled: which rows' step lengths are not still growing fast: before that, prices say nothing.
            other_h: after an explicit step, the length whose error the stabilized method would just be allowed.
        """
        none = torch.zeros(len(rows), dtype=torch.bool)
        if len(self.solvers) == 1 or len(rows) == 0:
            return none
        explicit, stabilized = self.solvers
        self.since[rows] += 1
        if int(self.now[rows[0]]) == 1:
            price = _stages(stabilized, h * rho) / h
            rival = explicit.stages(0.0) * rho / (COMFORT * explicit.reach(0))
        else:
            if other_h is None:
                return none
            price = explicit.stages(0.0) / h
            rival = _stages(stabilized, other_h * rho) / other_h
        go = settled & (rival < BETTER * price) & (self.since[rows] > self.patience[rows]) & torch.isfinite(rival)
        if bool(go.any()):
            gone = rows[go]
            self.now[gone] = 1 - self.now[gone]
            self.since[gone] = 0
            self.patience[gone] = (2 * self.patience[gone]).clamp(PATIENCE, 200)
            self.switches += len(gone)
        return go


def _stages(solver: Solver, z: Tensor) -> Tensor:
    return torch.tensor([float(solver.stages(x)) if x < 1e8 else 1e4 for x in z.tolist()], dtype=torch.float64)
