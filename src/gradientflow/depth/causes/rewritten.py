"""Weights that are rewritten between two steps, so that what training did is taken back again and again."""

from __future__ import annotations

import math
from collections import Counter
from statistics import fmean, median

from gradientflow.depth.causes import places
from gradientflow.depth.causes.case import Case, rounded
from gradientflow.depth.causes.remedies import remedies
from gradientflow.depth.causes.trend import LEARNS_WELL, Trend
from gradientflow.limits import Limit, told
from gradientflow.records import REWRITES, Finding, Place, Rewrite

UNDONE = Limit("update_taken_back", 0.5, "chosen: half of the last update; a projection or a small average takes less")
ALL_UNDONE = Limit("update_taken_back_each_time", 0.99, "chosen: nothing of it is left, where it happens at each step")
SETBACK = Limit("loss_regained", 0.3, "chosen: of what the loss had gained, lost again behind the typical rewrite")
SAME = Limit(
    "late_over_early", 0.85, "chosen: the loss behind late rewrites over that behind early ones; less is learning"
)
SAWTOOTH = Limit(
    "lost_over_gained", 0.8, "chosen: of what was gained between rewrites, lost at them; a fifth of the way is left"
)
REPLACED = Limit(
    "share_of_the_weights", 0.5, "chosen: of the weights' size, taken or put in at a rewrite; they are others behind it"
)
OFTEN = Limit("share_of_steps", 0.5, "chosen: from here on it is a part of each step")
TIMES = Limit("rewrites", 2, "chosen: once is a checkpoint that is loaded")


def line(case: Case, mine: list[Rewrite]) -> Place | None:
    """Return the line of the call that rewrites weights: as it was seen most often, else the likeliest in the source."""
    seen = Counter((r.file, r.line, r.name) for r in mine if r.file is not None)
    if not seen:
        return places.of_rewriting(case.meta)
    (file, at, name), _ = seen.most_common(1)[0]
    return Place(file, at, None, name)


def rewritten(case: Case) -> list[Finding]:
    """Judge what rewriting weights between steps did to the loss."""
    found = []
    for trend in case.trends:
        index = trend.optimizer.index if trend.optimizer is not None else 0
        mine = [r for r in case.run.rewrites if r.optimizer == index]
        finding = _broken(case, mine) or _undone(case, trend, mine)
        if finding is not None:
            found.append(finding)
    return found


def _broken(case: Case, mine: list[Rewrite]) -> Finding | None:
    """Numbers that are not finite were written between two steps, the first of this run."""
    bad = next((r for r in mine if not math.isfinite(r.size)), None)
    first = case.first_bad_step
    if bad is None or (first is not None and first < bad.step):
        return None
    if any(not math.isfinite(s.weight or 0.0) for s in case.run.steps if s.step < bad.step):
        return None
    place = line(case, mine)
    return Finding(
        "not-finite", "weights-rewritten", 0.9, place,
        f"Ahead of step {bad.step} weights are not finite that the step before had left finite: they were written in between, by "
        f"no optimizer.",
        {"step": bad.step, "share_rewritten": rounded(bad.share)}, remedies("keep-weights", at=place),
    )  # fmt: skip


def _undone(case: Case, trend: Trend, mine: list[Rewrite]) -> Finding | None:
    """Updates are taken back, and the loss begins anew each time."""
    back = [r for r in mine if r.undone is not None and r.undone >= UNDONE]
    each = len(mine[:REWRITES]) + REWRITES * len(mine[REWRITES:]) > OFTEN * len(trend.steps)
    if each and trend.stuck and max(r.size for r in mine) >= REPLACED:
        back = mine
    elif each and not (trend.stuck and back and median(r.undone or 0.0 for r in back) >= ALL_UNDONE):
        return None
    if len(back) < TIMES or not trend.measured:
        return None
    losses = {s.step: s.loss for s in trend.steps if s.loss is not None and math.isfinite(s.loss)}
    order = sorted(losses)
    behind, ahead, setback = [], [], []
    for r in back:
        at = next((k for k, step in enumerate(order) if step >= r.step), None)
        if at is None or at == 0:
            continue
        before, after = losses[order[at - 1]], losses[order[at]]
        gained = trend.start - before
        behind.append(after)
        ahead.append(before)
        if gained > 0:
            setback.append((after - before) / gained)
    again = len(behind) >= TIMES and setback and median(setback) >= SETBACK
    if not each and not (again and (_as_before(behind) or _sawtooth(trend, ahead, behind))):
        return None
    place = line(case, mine)
    times = "at each step" if each else f"{len(back)} times"
    return Finding(
        "crawling", "weights-rewritten", 0.9 if each else 0.85, place,
        f"Between two steps the weights are rewritten, {times} (the first ahead of step {back[0].step}), and what training did is "
        f"taken back: the loss behind it is {fmean(behind) if behind else trend.end:.4g} on average, and began at {trend.start:.4g}.",
        {"step": back[0].step, "rewrites": len(back), "update_taken_back": rounded(median(r.undone or 0.0 for r in back)),
         "share_rewritten": rounded(median(r.share for r in back)), "loss_regained": rounded(median(setback)) if setback else None}
        | told(UNDONE, gates=(TIMES, OFTEN, SETBACK, SAME, SAWTOOTH, LEARNS_WELL, ALL_UNDONE, REPLACED)),
        remedies("keep-weights", at=place),
    )  # fmt: skip


def _as_before(behind: list[float]) -> bool:
    """Whether the loss behind late rewrites is no lower than behind early ones."""
    part = max(1, len(behind) // 3)
    early, late = fmean(behind[:part]), fmean(behind[-part:])
    return late >= SAME * early


def _sawtooth(trend: Trend, ahead: list[float], behind: list[float]) -> bool:
    """Whether rewrites lose most of what is gained between them, in a run that does not learn well."""
    gained = math.fsum(max(a - b, 0.0) for a, b in zip([trend.start, *behind], ahead, strict=False))
    lost = math.fsum(max(b - a, 0.0) for a, b in zip(ahead, behind, strict=True))
    return trend.progress < LEARNS_WELL and lost >= SAWTOOTH * gained > 0
