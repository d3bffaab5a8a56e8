"""Whether a path slides along a kink: steps that cross back and forth, ever so short, are ended by proof and not by patience.

Where the loss falls towards a kink from both sides, as |w| does at 0, the flow stays on it (Filippov 1988, §4). A solver
that knows only the two gradients takes steps as short as its tolerance for as long as that lasts.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gradientflow.limits import Limit
from gradientflow.records import Status
from gradientflow.river.fields.kinks import kinks_of
from gradientflow.river.paths.motion import Motion, Piece
from gradientflow.river.solvers.base import lengths

COLLAPSED = Limit("step_over_longest", 0.125, "chosen: a path whose steps are about as long as ever is left alone")
REST = Limit("gradients_to_the_end", 2_000.0, "chosen: a path that arrives for less is let go on")
MOST = Limit("gradients_to_the_end_over_spent", 8.0, "chosen: nor is a path ended that has most of its cost behind it")
JUMPS = Limit("jump_left", 0.5, "chosen: what is smooth has as little of its change left as of the distance")
STEEP = Limit(
    "jump_over_first_jump",
    10.0,
    "chosen: at a millionth of the distance the jump of √|x| is a thousand times as large, that of |x| as large as ever",
)
FASTER = Limit(
    "speed_over_speed_of_long_steps",
    10.0,
    "chosen: a path comes to a kink as fast as it goes; at a singular point, as the logarithm's at 0, without bound",
)
WINDOW = 24  # steps from one look at the pace to the next; doubled where there was no kink
FARTHEST = 8  # doublings of the last step within which the kink is looked for
HALVINGS = 40  # of the distance between its two sides, at most
DIGITS = 1_000.0  # units of round-off in θ that they are apart at least


class Slide:
    """Watches the pace of each drop; where it has collapsed, looks for a kink ahead that the flow cannot leave."""

    def __init__(self, motion: Motion) -> None:
        drops = len(motion.t)
        self.steps, self.wait = torch.zeros(drops, dtype=torch.int64), torch.full((drops,), WINDOW)
        self.begin, self.spent = motion.t.clone(), torch.zeros(drops, dtype=torch.float64)  # since the last look
        self.longest, self.total = (torch.zeros(drops, dtype=torch.float64) for _ in range(2))
        self.calm = torch.zeros(drops, dtype=torch.float64)  # largest speed while steps were about as long as ever

    def ends(self, piece: Piece, motion: Motion, afford: float | None) -> dict[int, Status]:
        """Count a piece; return the drops that are to end, and why.

        Args:
            piece: what was just added.
            motion: what moves them.
            afford: gradients that may be spent from here on, where somebody said so: then they are.
        """
        if not piece.falls or piece.rate0 is None:
            return {}
        rows, found = piece.rows, {}
        self.longest[rows] = torch.maximum(self.longest[rows], piece.t1 - piece.t0)
        long = piece.t1 - piece.t0 >= COLLAPSED * self.longest[rows]
        self.calm[rows] = torch.where(long, torch.maximum(self.calm[rows], piece.speed0), self.calm[rows])
        self.steps[rows] += 1
        self.spent[rows] += piece.stages
        self.total[rows] += piece.stages
        for k in (self.steps[rows] >= self.wait[rows]).nonzero()[:, 0].tolist():
            i = int(rows[k])
            went = float(motion.t[i] - self.begin[i])
            rest = (motion.t_end - float(motion.t[i])) / max(went, 1e-300) * float(self.spent[i])
            slow = went < COLLAPSED * float(self.longest[i] * self.steps[i])
            slow = slow and rest > max(REST, MOST * float(self.total[i]))
            if slow and bool(motion.live[i]) and not (afford is not None and rest < afford):
                step = went / float(self.steps[i])
                grown = jump(motion, i, step)
                if grown is not None and grown > JUMPS:
                    faster = float(piece.speed1[k]) / max(float(self.calm[i]), 1e-300)
                    steep = grown >= STEEP or faster > FASTER
                    found[i] = _steep(motion, i, max(grown, faster)) if steep else _status(motion, i, step, rest)
                self.wait[i] *= 2
            self.steps[i], self.spent[i], self.begin[i] = 0, 0.0, motion.t[i]
        return found

    def freeze(self) -> dict[str, Any]:
        """Return all numbers."""
        return dict(vars(self))

    def thaw(self, state: dict[str, Any]) -> None:
        """Take back what `freeze` returned."""
        vars(self).update(state)


def slides(motion: Motion, i: int, step: float) -> bool:
    """Return whether a drop is held at a kink: see `jump`."""
    grown = jump(motion, i, step)
    return grown is not None and JUMPS < grown < STEEP


def jump(motion: Motion, i: int, step: float) -> float | None:
    """Prove that ahead of a drop the gradient jumps, and that the flow goes to that jump from both sides.

    With f the rate on this side and g beyond, the jump g − f of a gradient stands at right angles to the kink: the flow comes
    to it from here where ⟨f, g − f⟩ < 0, and from there where ⟨g, g − f⟩ > 0. A smooth rate may turn as well; but what it
    changes by shrinks with the distance, and a jump stays. Where it grows instead, as that of √|x| does, the rate is infinitely
    steep there: no kink along which a flow goes on.

    Args:
        motion: what moves the drop.
        i: which drop it is.
        step: about the length of its steps, in flow time.

    Returns:
        The jump from as near as arithmetic allows, over that where it was found; None where there is none to hold the flow.
    """
    here, f = motion.theta[i : i + 1], motion.here.rate[i : i + 1]
    for k in range(FARTHEST):
        there = here + 2.0**k * step * f
        g = motion.meter(there).rate
        if _opposed(f, g):
            break
    else:
        return None
    first = float(lengths(g - f))
    near = DIGITS * torch.finfo(here.dtype).eps * float(lengths(here))
    for _ in range(HALVINGS):
        if float(lengths(there - here)) < near:  # nearer there is the kink itself, and numbers of no side
            break
        middle = 0.5 * (here + there)
        m = motion.meter(middle).rate
        if float(lengths(m - f)) > float(lengths(g - m)):
            there, g = middle, m
        else:
            here, f = middle, m
    return float(lengths(g - f)) / first if _opposed(f, g) else None


def _opposed(f: Tensor, g: Tensor) -> bool:
    jump = g - f
    return float((f * jump).sum()) < 0 < float((g * jump).sum())


def _status(motion: Motion, i: int, step: float, rest: float) -> Status:
    field, t = motion.meter.field, float(motion.t[i])
    kinds = kinks_of(field, motion.theta[i : i + 1])
    named = f" ({', '.join(kinds)})" if kinds else ""
    return Status(
        "sliding", f"at t = {t:.6g} the path has come to a kink{named} that it cannot leave: the loss falls towards it from both "
        f"sides. The flow slides along it from there (Filippov 1988), which is not solved; steps of {step:.1g} back and forth "
        f"would take about {rest:.2g} gradients to t = {motion.t_end:g}.",
        "Round the kink off over a width ε (sqrt(x² + ε²) for |x|, softplus(x/ε)·ε for ReLU), or take proximal steps instead "
        f"(soft thresholding for an L1 term). A looser rtol makes longer steps; max_gradients={_round_up(2 * rest)} lets it go on.",
    )  # fmt: skip


def _steep(motion: Motion, i: int, grown: float) -> Status:
    return Status(
        "not-lipschitz", f"at t = {float(motion.t[i]):.9g} the path meets a point where dθ/dt is not Lipschitz: it turns round there, "
        f"and grows {grown:.2g}-fold from as near as can be told, as that of a logarithm or a root does at 0. The flow has no unique continuation there (Picard–Lindelöf "
        "fails).", "Keep the operation away from its singular point (log(x + eps), sqrt(x + eps), clamp), or stop before this time.",
    )  # fmt: skip


def _round_up(x: float) -> int:
    return int(float(f"{1.05 * x:.1e}"))
