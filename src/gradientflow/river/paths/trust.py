"""The checks that a solved path or ensemble carries: what was seen on the way, the derivatives, and a second run."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import torch
from torch import Tensor

from gradientflow.river.fields.audit import audit
from gradientflow.river.fields.base import Field
from gradientflow.river.fields.kinks import kinks_of
from gradientflow.river.fields.loss import LossField
from gradientflow.river.paths import certificates as checks
from gradientflow.river.paths.forks import passed_singular
from gradientflow.river.paths.integrate import Flow
from gradientflow.river.paths.loop import Limits
from gradientflow.river.paths.meter import Counted
from gradientflow.river.paths.path import Certificate
from gradientflow.river.paths.rerun import Rerun, order
from gradientflow.river.paths.witness import Witness
from gradientflow.river.solvers.base import lengths

SAMPLED = 64  # drops of an ensemble that are solved a second time, at most
PRODUCTS = 12  # of the power iteration on the Jacobian of a field that is no loss; the last half is counted


def checked(
    motion: Flow, witness: Witness, settings: dict[str, Any], field: Field, theta: Tensor, limits: Limits
) -> tuple[list[Certificate], list[str]]:
    """Return the checks of all drops, and what the audit of their field has to say besides.

    Of many drops each check is the worst of its kind, with a count of the broken ones. What a path went through on its way
    (a point that is not Lipschitz, a kink that it slides along) is seen of a single drop only: see `Witness`.
    """
    drops, said = len(theta), list[str]()
    witness.part(torch.arange(drops), motion.t, motion.sharpness()[1])
    each = [
        checks.without_length(made) if float(motion.t[i]) <= 0 else made
        for i in range(drops)
        for made in [
            checks.of_flow(field, witness, rtol=motion.rtol, order=order(motion), row=i, stable=_stable(motion))
        ]
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
    again = Rerun(motion, witness, settings, field, theta, limits)
    off = {i for i in rows if any(c.name == "energy" and c.ok is False for c in each[i])}
    found.append(worst(again.errors(rows, off), rows, some))
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


def _stable(motion: Flow) -> float:
    """Return what h·λ may be of the bound: without an error control nothing holds a method that goes beyond."""
    controlled = motion.fixed is None and getattr(motion.solvers[0], "rule", None) is None
    return checks.STABLE if controlled else checks.STABLE_FIXED
