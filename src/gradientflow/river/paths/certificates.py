"""What a path can be checked by without knowing the answer: identities that the exact flow keeps."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from gradientflow.limits import Limit
from gradientflow.river.fields.audit import Remark
from gradientflow.river.fields.base import Field
from gradientflow.river.paths.path import Certificate
from gradientflow.river.paths.witness import Witness

GLOBAL = Limit("error_over_rtol", 30.0, "chosen: 3 % in all where each step may err by a thousandth")
CLIMB = Limit("climb_over_fall_and_rtol", 0.02, "chosen: twice what the step control lets pass in one step")
ROUND_OFF = Limit("climb_in_round_off", 100.0, "chosen: what summing a loss in another order does to it")
BALANCED = Limit("energy_defect_over_loss", 1e-11, "chosen: round-off, where the loss hardly falls")
AMPLIFIED = Limit(
    "growth_times_rtol", 100.0, "chosen: neighbouring paths part by so much that no second run tells the error"
)
SLIDES = Limit("jumps", 8.0, "chosen: a path may cross some kinks; one that slides crosses back and forth")
SLIDING = Limit("jumps_over_steps", 0.05, "chosen: as `jumps`, where there are many steps")
STABLE = Limit(
    "load", 1.5, "chosen: λ is an estimate from above and may have grown within the step; what stays above is rejected"
)
STABLE_FIXED = Limit(
    "load_without_control", 1.05, "chosen: λ is known to about 5 %, and nothing holds a step beyond it"
)

NO_LENGTH = "the path has no length"


def allowed(rtol: float, order: int) -> float:
    """Return what a global relative error may be: `GLOBAL`·rtol at rtol = 10⁻³, and from there as rtol^(p/(p+1)).

    A method of order p that is allowed an error of rtol a step makes steps ~ rtol^(1/(p+1)), and rtol^(p/(p+1)) in all.
    """
    return float(GLOBAL * rtol * (1e-3 / rtol) ** (1 / (order + 1)))


def of_flow(
    field: Field, witness: Witness, *, rtol: float, order: int, row: int = 0, stable: float = STABLE
) -> list[Certificate]:
    """Return the checks of one solved drop, the error estimate excepted."""
    found: list[Certificate] = []
    limit = allowed(rtol, order)
    if field.potential and witness.begin is not None and witness.last is not None:
        first, last = float(witness.begin[row]), float(witness.last[row])
        unit = torch.finfo(field.dtype).eps
        found.append(monotone(first, last, float(witness.climb[row]), float(witness.climb_at[row]), rtol, unit))
        found.append(balance(witness, rtol, row))
    found += [
        conserved(n, float(d[row]), float(witness.laws[n][row].double().norm()), limit, witness, row)
        for n, d in witness.drift.items()
    ]
    if field.potential:
        load = float(witness.load[row])
        found.append(
            Certificate(
                "stability",
                load <= stable,
                load,
                float(stable),
                f"h·λ, with λ measured after the step, was at most {load:.2f} of what the method is stable for",
            )
        )
    return found


def none(name: str, why: str, bound: float = math.nan) -> Certificate:
    """Return a check that could not be made."""
    return Certificate(name, None, math.nan, bound, f"not {'estimated' if name == 'error' else 'checked'}: {why}")


def without_length(found: list[Certificate]) -> list[Certificate]:
    """Return the checks of a path that never left its start: there is nothing they could be true of."""
    return [none(c.name, NO_LENGTH, c.bound) for c in found]


def monotone(first: float, last: float, climb: float, at: float, rtol: float, unit: float = 1e-14) -> Certificate:
    """Check that the loss never rose: dL/dt = −‖∇L‖²."""
    eps = ROUND_OFF * unit * max(abs(first), abs(last))  # what round-off alone does to a loss
    bound = CLIMB * rtol * abs(first - last) + eps
    where = f" at t = {at:.6g}" if climb > bound and not math.isnan(at) else ""
    return Certificate(
        "monotone",
        climb <= bound,
        climb,
        bound,
        f"the loss rose by at most {climb:.2g} in a step{where} (allowed {bound:.2g})",
    )


def energy(first: float, last: float, work: float, limit: float) -> Certificate:
    """Check L(0) − L(t) = ∫‖∇L‖² dt."""
    drop = first - last
    scale = max(abs(drop), 1e-12 * max(abs(first), 1e-300))
    defect = abs(drop - work) / scale
    ok = math.isfinite(defect) and (defect <= limit or abs(drop - work) <= BALANCED * max(abs(first), 1e-300))
    return Certificate(
        "energy",
        ok,
        defect,
        limit,
        f"L(0) − L(t) = {drop:.6g}, ∫‖∇L‖² dt = {work:.6g}: off by {defect:.1e} (allowed {limit:.1e})",
    )


def balance(witness: Witness, rtol: float, row: int) -> Certificate:
    """Check the energy of one solved drop of a field with a loss."""
    assert witness.begin is not None  # a loss
    assert witness.last is not None
    first, last = float(witness.begin[row]), float(witness.last[row])
    doubt = rtol * float(witness.doubt[row]) / max(abs(first - last), 1e-300)
    return energy(first, last, float(witness.work[row]), allowed(rtol, 2) + min(doubt, 1.0))


def unbalanced(field: Field, witness: Witness, rtol: float, row: int) -> bool:
    """Return whether the energy of one solved drop is off; a field that has none is never off."""
    return field.potential and witness.begin is not None and balance(witness, rtol, row).ok is False


def conserved(name: str, drift: float, size: float, limit: float, witness: Witness, row: int) -> Certificate:
    """Check a quantity that the exact flow keeps constant."""
    scale = max(size, 1.0)
    value = drift / scale
    return Certificate(
        f"conserved {name}",
        value <= limit,
        value,
        limit,
        f"{name} drifted by {value:.1e} of its size (allowed {limit:.1e})",
    )


def derivatives(remarks: list[Remark]) -> Certificate:
    """Turn an audit of gradient and Hessian products against finite differences into a check."""
    measured = [r for r in remarks if r.name in ("gradient", "Hessian")]
    wrong = [r for r in measured if r.warning]
    value = max((r.error for r in measured), default=math.nan)
    bound = max((r.doubt for r in measured), default=math.nan)
    text = (
        wrong[0].text
        if wrong
        else f"gradient and Hessian products agree with finite differences to {value:.1e} at the start"
    )
    return Certificate("derivatives", not wrong, value, bound, text)


def error(
    value: float, limit: float, growth: float, rtol: float, *, tighter: bool = True, runs: str = ""
) -> Certificate:
    """Tell the error of an end point as a second run shows it.

    Args:
        value: the error of the first run, relative to the way gone.
        limit: what it may be.
        growth: ∫max(0, −λmin) dt; by exp(growth) neighbouring paths part.
        rtol: of the first run.
        tighter: whether the second run was held to a tighter tolerance; else to a looser one, and its error was scaled.
        runs: how the value was had, in other words.
    """
    if growth > math.log(AMPLIFIED / rtol):
        return Certificate(
            "error", False, float("nan"), limit,
            f"neighbouring paths part by up to e^{growth:.1f} along this one: what a step at rtol {rtol:g} may err decides "
            f"where it ends, from growth × rtol = {float(AMPLIFIED):g} on; tighten rtol and compare",
        )  # fmt: skip
    ok = math.isfinite(value) and value <= limit
    why = "" if ok else "; the path may amplify errors here: tighten rtol and compare"
    how = runs or ("a second, tighter run" if tighter else "a second, looser run, and how errors should shrink")
    return Certificate(
        "error",
        ok,
        value,
        limit,
        f"the end is off by about {value:.1e} of the way gone (allowed {limit:.1e}), from {how}{why}",
    )


def at_kinks(found: list[Certificate], kinks: list[str], jumps: int, steps: int, share: float) -> list[Certificate]:
    """Name the cause where checks are broken because the path slides along kinks; they stay broken.

    Args:
        found: all checks of a path whose steps are held by an error control.
        kinks: the functions with kinks that the loss is made of.
        jumps: steps across which the gradient changed by far more than its Hessian allows for.
        steps: all steps.
        share: the part of the flow time that those steps took.
    """
    if not kinks:
        return found
    end = next((c for c in found if c.name == "error" and math.isfinite(c.value)), None)
    harm = "" if end is None else f" The end is off by about {end.value:.1e} of the way gone all the same (see error)."
    mend = "A smooth function (tanh, GELU, softplus) mends it."
    where = ", ".join(kinks)
    slides = jumps >= SLIDES and jumps >= SLIDING * steps
    why = (
        f". The cause is a kink ({where}): across {jumps} of {steps} steps ({100 * share:.1g} % of the time) the gradient jumped though "
        f"its Hessian allows no such change (more than {int(SLIDES)} are no chance); the path slides along the kink, or crosses it back and forth.{harm} {mend}"
    )
    at = f". The point is a kink ({where}), where the gradient jumps.{harm} {mend}"
    across = f". The loss has kinks ({where}), across which ∫‖∇L‖² is had less exactly than the path"
    across += f".{harm}" if end is not None else "; how far off the end is was not estimated (see error)."
    right = end is not None and end.ok is True
    out = []
    for c in found:
        if c.ok is False and c.name == "energy" and not slides and (right or end is None):
            c = replace(c, text=c.text + across)
        elif c.ok is False and c.name in ("monotone", "energy", "stability", "lipschitz") and slides:
            c = replace(c, text=c.text + why)
        elif c.ok is False and c.name == "lipschitz":
            c = replace(c, text=c.text + at)
        out.append(c)
    return out
