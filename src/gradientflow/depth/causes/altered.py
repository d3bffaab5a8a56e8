"""The gradient that backward left is not the one that the optimizer found: zeroed, turned, or scaled out of all proportion."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import msgspec

from gradientflow.depth.causes import places
from gradientflow.depth.causes.case import Case, rounded
from gradientflow.depth.causes.remedies import remedies
from gradientflow.depth.causes.signs import ROSE
from gradientflow.depth.causes.trend import LEARNS_WELL, SPIKE, STUCK, Trend
from gradientflow.limits import Limit, told
from gradientflow.records import HOOK, UNSCALE, Alteration, Finding, Passed, Place, Probe, Transit

USUAL = Limit("share_of_steps", 0.8, "chosen: of the steps that were looked at; once is an accident")
SHRUNK = Limit("gradient_left", 1e-3, "chosen: three decades; a clip that does its work takes one or two")
EARLY = Limit(
    "gradient_left_by_an_early_clip",
    0.1,
    "chosen: a decade; a clip of what the scaled loss sends is a slip at any factor",
)
GROWN = Limit("gradient_times", 30.0, "chosen: a decade and a half; averages and sums over a few batches stay below")
DROWNED = Limit(
    "cosine_to_the_gradient", 0.5, "chosen: three quarters of what arrives, squared, are something else then"
)
UNDONE = Limit(
    "scale_left", 1e-3, "chosen: a factor is undone to that; half precision rounds a power of two to nothing"
)


@dataclass
class Way:
    """What became of the gradient on one probed step: norms on either side, and what changed it."""

    step: int
    delivered: float
    arrived: float
    factor: float | None  # with its sign; without what `unscale_` took
    transit: Transit
    calls: list[Alteration]  # those that changed gradients of this optimizer's

    @property
    def cosine(self) -> float:
        """Of the angle between what was delivered and what arrived; 0 where nothing did."""
        whole = math.fsum(_through(p) * _sent(p) ** 2 for p in self.transit.passed)
        return whole / (self.delivered * self.arrived) if self.arrived > 0 else 0.0

    @property
    def unscaling(self) -> str:
        """What to do for the scale to be gone."""
        by_hand = all(a.name != UNSCALE for a in self.transit.alterations)
        return "take the scale away" if by_hand else "call `scaler.unscale_(optimizer)`"

    @property
    def raised(self) -> float:
        """The largest of the factors in the way: a clip ahead of a call hides what that multiplies by."""
        known = [abs(a.factor) for a in self.calls if a.factor is not None and a.name != UNSCALE]
        return max(known, default=0.0)

    def culprit(self, wanted: float) -> Alteration | None:
        """The call whose factor is nearest to the one that is to be explained, on a log scale."""
        known = [a for a in self.calls if a.factor is not None and a.name != UNSCALE]
        return min(known, key=lambda a: abs(_log(a.factor) - _log(wanted)), default=None)


def _log(x: float | None) -> float:
    return math.log10(max(abs(x or 0.0), 1e-300)) + (1000.0 if (x or 0.0) < 0 else 0.0)


def ways(case: Case, trend: Trend) -> list[Way]:
    """The ways of an optimizer's probed steps on which something was delivered, all of it finite."""
    found = []
    for probe in case.run.probes:
        transit = probe.transit
        mine = trend.optimizer is None or probe.optimizer == trend.optimizer.index
        if transit is None or not transit.passed or not mine:
            continue
        delivered = math.hypot(*map(_sent, transit.passed))
        arrived = math.hypot(*(p.arrived for p in transit.passed))
        if not (math.isfinite(delivered) and math.isfinite(arrived) and delivered > 0):
            continue
        its = {p.param for p in transit.passed}
        scale = _scale(probe)
        calls = [_known(a, scale) for a in transit.alterations if not a.params or not its.isdisjoint(a.params)]
        factor = math.fsum(_through(p) * (_sent(p) / delivered) ** 2 for p in transit.passed)
        scaled = math.prod(a.factor for a in calls if a.name == UNSCALE and a.factor)
        found.append(Way(probe.step, delivered, arrived, factor / scaled, transit, calls))
    return found


def _scale(probe: Probe) -> float:
    """What the loss was multiplied by, last of all, before backward was called on it; 1 where it was not."""
    root = probe.ops[probe.root] if probe.root is not None else None
    scalars = [s for s in root.scalars if s] if root is not None else []
    if root is None or len(scalars) != 1 or root.name not in ("mul", "div"):
        return 1.0
    return scalars[0] if root.name == "mul" else 1 / scalars[0]


def _known(a: Alteration, scale: float) -> Alteration:
    """Return an alteration, as an unscaling where it takes away what the loss was multiplied by."""
    undoes = scale != 1.0 and a.factor is not None and abs(a.factor * scale - 1) < UNDONE
    return msgspec.structs.replace(a, name=UNSCALE) if undoes and a.name != HOOK else a


def _sent(p: Passed) -> float:
    """The norm of what the graph sent to a parameter."""
    return p.delivered if p.sent is None else p.sent


def _through(p: Passed) -> float:
    """What became of it until the step, within backward and behind it."""
    behind = p.factor if p.factor is not None else 0.0
    return behind if p.inside is None else p.inside * (behind if p.delivered > 0 else 1.0)


def altered(case: Case) -> list[Finding]:
    """Judge each optimizer by what its gradient went through on the way from backward to the step, and within backward."""
    return [
        f
        for trend in case.trends
        if (seen := ways(case, trend)) and (f := _judged(case, trend, seen) or _turned(trend, seen)) is not None
    ]


def _turned(trend: Trend, seen: Sequence[Way]) -> Finding | None:
    """A hook on a tensor within the graph turns the gradient around, or takes it, and the loss does not fall: on purpose it would
    (a gradient is reversed for one of two losses).
    """
    found = [a for w in seen for a in w.transit.inner if a.factor is not None and a.factor <= SHRUNK and a.file]
    if not trend.measured or not found or len(found) < USUAL * len(seen):
        return None
    rises = trend.end - trend.start > ROSE * trend.spread
    if not (rises or trend.progress < STUCK):
        return None
    last = found[-1]
    place = Place(last.file, last.line, None, HOOK)
    factor = median(a.factor or 0.0 for a in found)
    what = "turns the gradient around" if factor < 0 else "takes the gradient"
    return Finding(
        "diverging" if rises else "crawling", "gradient-altered", 0.75, place,
        f"A hook on a tensor inside the network ({last.file}:{last.line}) {what} for all that lies before it (factor {factor:.3g}), and the "
        f"loss goes from {trend.start:.4g} to {trend.end:.4g}.",
        {"factor": rounded(factor), "steps_looked_at": len(seen), "steps_with_it": len(found)}
        | told(SHRUNK, gates=(USUAL, ROSE, STUCK)),
        remedies("keep-gradient", at=place),
    )  # fmt: skip


def _judged(case: Case, trend: Trend, seen: Sequence[Way]) -> Finding | None:
    factors = [w.factor for w in seen if w.factor is not None]
    usual = median(factors)
    last = seen[-1]
    where = _named(case, trend, last, usual)
    evidence = {
        "step": last.step, "steps_looked_at": len(seen), "factor": rounded(usual), "delivered": rounded(last.delivered),
        "arrived": rounded(last.arrived),
    } | told(gates=(USUAL,))  # fmt: skip
    place, by = where
    if _most(f == 0.0 for f in factors):
        return Finding(
            "disconnected", "gradient-altered", 0.95, place,
            f"Backward delivers a gradient of norm {last.delivered:.3g}, and the optimizer finds exactly zero: {by} takes all of "
            f"it, at each of {len(seen)} steps looked at.",
            evidence, remedies("keep-gradient", at=place),
        )  # fmt: skip
    rises = trend.measured and (trend.end - trend.start > ROSE * trend.spread or trend.first_bad is not None)
    if _most(f < 0.0 for f in factors) and rises:
        return Finding(
            "diverging", "gradient-altered", 0.92, place,
            f"{by} turns the gradient around between backward and the step (factor {usual:.3g}), and the loss rises from "
            f"{trend.start:.4g} to {trend.end:.4g}.",
            evidence | told(gates=(ROSE,)), remedies("keep-gradient", at=place),
        )  # fmt: skip
    early = early_clip(last)
    shrunk = EARLY if early else SHRUNK
    still = (
        trend.measured and trend.progress < STUCK and trend.spike <= SPIKE
    )  # (a clip holds back a loss that runs away)
    if _most(abs(f) <= shrunk for f in factors) and still:
        return Finding(
            "crawling", "gradient-altered", 0.85, place,
            f"{by} leaves {abs(usual):.2g} of the gradient that backward delivers ({last.delivered:.3g} → {last.arrived:.3g})"
            f"{early}, and the loss stays at {trend.end:.4g}.",
            evidence | told(shrunk, gates=(STUCK, SPIKE)), remedies("keep-gradient", at=place),
        )  # fmt: skip
    if _most(abs(w.cosine) < DROWNED for w in seen if w.factor) and any(w.calls for w in seen) and (rises or still):
        return _drowned(case, trend, seen, evidence, "diverging" if rises else "crawling")
    grown = [max(abs(w.factor or 0.0), w.raised) for w in seen]
    if _most(f >= GROWN for f in grown) and trend.measured and trend.progress < LEARNS_WELL:
        usual = median(grown)
        place, by = _named(case, trend, last, usual)
        symptom = "not-finite" if trend.first_bad is not None else "diverging" if trend.spike > SPIKE else "oscillating"
        return Finding(
            symptom, "gradient-altered", 0.8, place,
            f"{by} multiplies the gradient by {abs(usual):.3g} between backward and the step ({last.delivered:.3g} → "
            f"{last.arrived:.3g}).",
            evidence | told(GROWN, gates=(LEARNS_WELL, SPIKE)), remedies("keep-gradient", at=place),
        )  # fmt: skip
    return None


def _drowned(case: Case, trend: Trend, seen: Sequence[Way], evidence: dict[str, Any], symptom: str) -> Finding:
    """Say that most of what arrives is something else than the gradient."""
    last, cosine = seen[-1], median(w.cosine for w in seen)
    place, by = _named(case, trend, last, median(w.factor or 0.0 for w in seen))
    return Finding(
        symptom, "gradient-altered", 0.85, place,
        f"Most of what the optimizer steps on is not the gradient: {by} puts something else in ({last.delivered:.3g} → {last.arrived:.3g}, "
        f"cosine {cosine:.2g} to what backward delivers), and the loss goes from {trend.start:.4g} to {trend.end:.4g}.",
        evidence | {"cosine_to_the_gradient": rounded(cosine)} | told(DROWNED, gates=(ROSE, STUCK, SPIKE, UNDONE)),
        remedies("keep-gradient", at=place),
    )  # fmt: skip


def _most(those: Iterable[bool]) -> bool:
    flags = list(those)
    return sum(flags) >= USUAL * len(flags)


def _named(case: Case, trend: Trend, way: Way, usual: float) -> tuple[Place | None, str]:
    """Return the line that changed the gradient, and how it is called in a sentence."""
    found = way.culprit(usual)
    if found is not None and found.file is not None:
        name = (
            f"a hook ({found.file}:{found.line})" if found.name == HOOK else f"{found.name} ({found.file}:{found.line})"
        )
        return Place(found.file, found.line, None, found.name), name
    if found is not None and found.name == HOOK and (made := places.of_call(case.meta, "register_hook")) is not None:
        return made, f"a hook ({made.file}:{made.line})"
    place = places.of_optimizer(trend.optimizer, case.meta)
    return place, "something between backward and the step, by a way that no call of PyTorch's shows,"


def early_clip(way: Way) -> str:
    """Say that a clip came before the unscaling, where it did; nothing where it did not."""
    names = [a.name for a in way.calls]
    if UNSCALE not in names:
        return ""
    before = [a for a in way.calls[: names.index(UNSCALE)] if a.factor is not None and 0 <= a.factor < 1]
    if not before:
        return ""
    return f": {before[0].name} (line {before[0].line}) sees the gradient of the scaled loss; {way.unscaling} before it"
