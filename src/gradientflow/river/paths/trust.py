"""The checks that a solved path or ensemble carries: what was seen on the way, the derivatives, and a second run."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import torch
from torch import Tensor

from gradientflow.errors import FieldError
from gradientflow.river.fields.audit import audit
from gradientflow.river.fields.base import Field
from gradientflow.river.fields.kinks import kinks_of
from gradientflow.river.fields.loss import LossField
from gradientflow.river.paths import certificates as checks
from gradientflow.river.paths.ending import passed_singular
from gradientflow.river.paths.integrate import Flow
from gradientflow.river.paths.keep import Keep, Sampler
from gradientflow.river.paths.loop import Limits, run
from gradientflow.river.paths.meter import Counted
from gradientflow.river.paths.path import Certificate
from gradientflow.river.paths.witness import Witness
from gradientflow.river.solvers.base import lengths

TIGHTER = 10.0  # the first run's tolerance over the second's
TIGHTER_AT_KINKS = 4.0  # there steps go like √rtol, and along a kink like rtol
LOOSER = 30.0  # the second run's over the first's, where the arithmetic has no digits for a tighter one
SAMPLED = 64  # drops of an ensemble that are solved a second time, at most
AFFORDED = 0.3  # of max_gradients that a path may have taken: the second run takes up to twice as many
MOST = 5.0  # times what the path took, that a second run may take: a tighter one takes about twice as much, or slides
DIGITS = 100.0  # units of round-off that a tolerance must be worth
PRODUCTS = 12  # of the power iteration on the Jacobian of a field that is no loss; the last half is counted


def checked(
    motion: Flow, witness: Witness, settings: dict[str, Any], field: Field, theta: Tensor, limits: Limits
) -> tuple[list[Certificate], list[str]]:
    """Return the checks of all drops, and what the audit of their field has to say besides.

    Of many drops each check is the worst of its kind, with a count of the broken ones. What a path went through on its way
    (a point that is not Lipschitz, a kink that it slides along) is seen of a single drop only: see `Witness`.
    """
    order, drops, said = _order(motion), len(theta), list[str]()
    witness.part(torch.arange(drops), motion.t, motion.sharpness()[1])
    each = [
        checks.without_length(made) if float(motion.t[i]) <= 0 else made
        for i in range(drops)
        for made in [checks.of_flow(field, witness, rtol=motion.rtol, order=order, row=i, stable=_stable(motion))]
    ]
    found = [worst(list(column), range(drops)) for column in zip(*each, strict=True)]
    sampled = torch.linspace(0, drops - 1, min(drops, SAMPLED), dtype=torch.float64).round().long()
    rows = sampled.tolist()
    some = "" if len(rows) == drops else f" (made for {len(rows)} of the {drops} drops, evenly over their numbers)"
    if not bool((motion.t > 0).any()):
        return [*found, checks.none("error", checks.NO_LENGTH)], said
    if not field.potential:
        found.append(worst(_stability(motion, sampled), rows, some))
    singular = passed_singular(motion.meter, witness, at_rest=motion.still)
    motion.release()
    if isinstance(field, LossField):
        remarks = audit(Counted(motion.meter), theta[0])
        found.append(checks.derivatives(remarks))
        said = [str(r) for r in remarks if r.warning or r.name == "kinks"]
    if singular is not None:
        found.append(singular)
    found.append(worst(_errors(motion, witness, settings, field, theta, limits, rows), rows, some))
    if motion.fixed is None and any(c.ok is False for c in found):
        share = witness.jumping / max(float(motion.t[0]), 1e-300)
        found = checks.at_kinks(found, kinks_of(field, theta[:1]), witness.jumps, witness.steps, share)
    return found, said


def worst(each: list[Certificate], drops: range | list[int], remark: str = "") -> Certificate:
    """Return the check that is worst over drops, saying of which drop it speaks and how many are broken or not made."""
    if len(each) == 1:
        return each[0]

    def rank(k: int) -> tuple[int, float]:
        c = each[k]
        share = c.value / c.bound if c.bound else 0.0
        return {False: 2, True: 1, None: 0}[c.ok], share if math.isfinite(share) else math.inf

    i = max(range(len(each)), key=rank)
    c = each[i]
    if c.ok is None:
        why, n = Counter(x.text for x in each).most_common(1)[0]
        return Certificate(c.name, None, c.value, c.bound, f"{why}, for {n} of {len(each)} drops{remark}")
    broken, none = sum(x.ok is False for x in each), sum(x.ok is None for x in each)
    more = f"{broken} of {len(each)} drops broken; " if broken else ""
    left = f"; not made for {none} drops" if none else ""
    return Certificate(c.name, c.ok, c.value, c.bound, f"{more}worst, drop {drops[i]}: {c.text}{left}{remark}")


def _errors(
    motion: Flow, witness: Witness, settings: dict[str, Any], field: Field, theta: Tensor, limits: Limits, rows: list[int]
) -> list[Certificate]:  # fmt: skip
    """Measure the error of some drops by solving them again, more tightly, to where they ended; the same counter counts.

    A looser run would cost less, but what it tells of the first rests on how errors shrink with the tolerance: that holds
    neither across kinks, nor on paths whose steps grow with time, nor where errors happen to cancel. It is asked only where
    the arithmetic has no digits for a tighter run.
    """
    limit = checks.allowed(motion.rtol, _order(motion))

    def none(why: str) -> Certificate:
        return checks.none("error", why, limit)

    out: dict[int, Certificate] = {}
    for i in rows:
        ended = motion.statuses[i]
        if settings["step"] is not None:
            out[i] = none("the step length is fixed")
        elif float(motion.t[i]) <= 0:
            out[i] = none(checks.NO_LENGTH)
        elif ended is None or not ended.ok:
            out[i] = none(f"the path ended by {'interrupt' if ended is None else ended.reason}")
        elif limits.max_gradients is not None and motion.meter.equivalents > AFFORDED * limits.max_gradients:
            out[i] = none("it would spend more than max_gradients")
    kinked = bool(kinks_of(field, theta[:1]))
    own, why = motion.meter.equivalents, f"rtol {motion.rtol:g} leaves no room for another run"
    for rtol in (motion.rtol / (TIGHTER_AT_KINKS if kinked else TIGHTER), min(LOOSER * motion.rtol, 0.1)):
        left = [i for i in rows if i not in out]
        if not left or DIGITS * torch.finfo(theta.dtype).eps > rtol or motion.rtol < rtol < 3 * motion.rtol:
            continue
        again = _again(motion, field, theta, limits, settings, left, rtol, MOST * own)
        if isinstance(again, str):
            why = again
            continue
        part = _part(motion, rtol, kinked=kinked)
        stopped = any(s is not None and s.reason == "cancelled" for s in again.statuses)
        for k, i in enumerate(left):
            ended = again.statuses[k]
            if ended is None or not ended.ok:
                why = f"the second run ended by {ended.reason if ended else 'interrupt'}"
                continue
            value = float((motion.theta[i] - again.theta[k]).norm()) / part / _way(witness, theta, i)
            out[i] = checks.error(value, limit, float(witness.growth[i]), motion.rtol, tighter=rtol < motion.rtol)
        if stopped:  # who interrupts a check wants no other one instead
            break
    return [out.get(i) or none(why) for i in rows]


def _part(motion: Flow, rtol: float, *, kinked: bool) -> float:
    """Return how far the end of a run at another tolerance is from the first's, over the first's error.

    With steps ~ rtol^(1/k), k the order of the estimate, and errors ~ hᵖ the error goes like rtol^(p/k), in the same
    direction. Across kinks the errors of two runs have little to do with each other, and go like about √rtol.
    """
    if kinked and rtol < motion.rtol:
        return 1.0
    methods = [s for s in (*motion.solvers, motion.starter) if s.name in motion.used]
    share = min((s.order / s.error_order for s in methods), default=2 / 3)
    if kinked:
        share = min(share, 0.5)
    return abs(1.0 - math.pow(rtol / motion.rtol, share))


def _again(
    motion: Flow, field: Field, theta: Tensor, limits: Limits, settings: dict[str, Any], rows: list[int], rtol: float,
    most: float,
) -> Flow | str:  # fmt: skip
    """Solve some drops once more to where they ended, at another tolerance; a sentence where that is not possible."""
    ends, spend = motion.t[rows], motion.meter.equivalents + most
    again = Flow(
        motion.meter, theta if len(rows) == len(theta) else theta[rows], float(ends.max()), motion.solvers, rtol,
        motion.atol * rtol / motion.rtol, seed=int(settings["seed"]) + 1, ends=ends, lean=True, told=False,
    )  # fmt: skip
    try:
        nothing = Sampler(Keep(at=[0.0], theta=False), again.theta)  # its end is asked of the motion
        run(again, nothing, Witness(field, again), Limits(spend, limits.max_seconds, progress=limits.progress))
    except FieldError as problem:
        return str(problem)
    return again


def _way(witness: Witness, theta: Tensor, i: int) -> float:
    return max(float(witness.far[i]), 1e-9 * float(theta[i].norm()), 1e-300)


def _stability(motion: Flow, rows: Tensor) -> list[Certificate]:
    """Check, on a field that is no loss, the last step against what the method is stable for.

    ρ is the mean growth of a vector under the Jacobian where the drops have come to: for complex pairs as for real
    eigenvalues. What the method bears is that along the negative real line.
    """
    theta, here = motion.take(rows)
    apply = motion.meter.linearize(theta, here)
    maker = torch.Generator().manual_seed(1)
    v = torch.randn(theta.shape[1], generator=maker, dtype=torch.float64).to(theta).expand_as(theta)
    total = torch.zeros(len(rows), dtype=torch.float64)
    for k in range(PRODUCTS):
        v = apply(v / v.norm(dim=1, keepdim=True).clamp_min(1e-300))
        if k >= PRODUCTS // 2:
            total += lengths(v).clamp_min(1e-300).log()
    rho = (total / (PRODUCTS - PRODUCTS // 2)).exp()
    spans = motion.spans[rows]  # the last steps; fixed ones are all alike, but for one cut short by the end
    if motion.fixed is not None:
        spans = torch.full_like(spans, motion.fixed / motion.solvers[0].reach(motion.solvers[0].stages(0.0)))
    loads, bound = (spans * rho).tolist(), _stable(motion)
    return [
        Certificate(
            "stability", load <= bound, load, bound,
            f"step × ρ, with ρ the Jacobian's spectral radius at the end, was {load:.2f} of what the method is stable for",
        )
        if math.isfinite(load)
        else Certificate("stability", None, load, bound, "not measured: the Jacobian is not finite at the end")
        for load in loads
    ]  # fmt: skip


def _order(motion: Flow) -> int:
    """Return the lowest order of the methods that made the path: what its errors scale with."""
    return min((s.order for s in (*motion.solvers, motion.starter) if s.name in motion.used), default=2)


def _stable(motion: Flow) -> float:
    """Return what h·λ may be of the bound: without an error control nothing holds a method that goes beyond."""
    controlled = motion.fixed is None and getattr(motion.solvers[0], "rule", None) is None
    return checks.STABLE if controlled else checks.STABLE_FIXED
