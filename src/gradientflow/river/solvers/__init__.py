"""The methods, by name, and which of them `auto` chooses from."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from gradientflow.errors import UsageError
from gradientflow.limits import Limit
from gradientflow.river.solvers.base import Solver
from gradientflow.river.solvers.explicit import dp54, dp87, euler, rk4
from gradientflow.river.solvers.stabilized import RKC2, RKMC2
from gradientflow.river.solvers.twostep import TSRKC3

COARSE = Limit(
    "rtol",
    1e-5,
    "measured on a ReLU net: there the monotone method takes 4 times the gradients of an explicit pair, at 1e-6 8 times",
)
METHODS: dict[str, Callable[[], Solver]] = {
    "rkc2": RKC2,
    "rkmc2": RKMC2,
    "tsrkc3": TSRKC3,
    "dp54": dp54,
    "dp87": dp87,
    "rk4": rk4,
    "euler": euler,
}


def solver(name: str) -> Solver:
    """Return the method of that name.

    Raises:
        UsageError: there is none; the message lists those there are.
    """
    if name not in METHODS:
        near = difflib.get_close_matches(name, [*METHODS, "auto"], 1, 0.5)
        raise UsageError(
            f"method {name!r} is not known. Expected auto or one of {', '.join(METHODS)}."
            + (f" Did you mean {near[0]!r}?" if near else "")
        )
    return METHODS[name]()


def candidates(method: str, rtol: float, *, potential: bool, drops: int = 1, kinked: bool = False) -> list[Solver]:
    """Return what to solve with: one method, or for `auto` the explicit and the stabilized one it switches between.

    Only the flow of a loss has a real spectrum that a stabilized method can count on, so on other fields `auto` is explicit.
    With kinks it is the monotone method alone: the estimates of an explicit pair hardly see a rate that jumps between two
    stages, and RKC2 swings to and fro across a kink, of which the Hessian tells it nothing (benchmarks/claims.py). But its
    steps go like √rtol: below `COARSE` it would take many times as many as methods of higher order, and is left.
    """
    if method != "auto":
        return [solver(method)]
    if kinked and potential and rtol >= COARSE:
        return [RKMC2()]
    explicit = dp54() if rtol > 3e-7 else dp87()
    if not potential:
        return [explicit]
    # The two-step method has coefficients of its own for every pair of step lengths: too many for a crowd of drops.
    return [explicit, RKC2() if rtol > 1e-4 or drops > 16 else TSRKC3()]
