"""Where trials are measured: beside the baseline, beside their own start, and beside each other. Nothing is run here."""

from __future__ import annotations

import math
from collections.abc import Sequence

from gradientflow.depth.replay.judging import Measured, clearly_better, outcome_of, remains_of, signed
from gradientflow.depth.replay.stats import Difference, compare, fall
from gradientflow.depth.replay.trial import Attempt, ends, tails
from gradientflow.depth.replay.unit import unit
from gradientflow.records import FAILED, NO_WIN, NOT_TRIED, WIN, WORSE, Change, Finding, Trial, Verdict

_RANK = {WIN: 0, NO_WIN: 1, WORSE: 2, FAILED: 3, NOT_TRIED: 4}
_SIGN = "wrong-sign"


class Bench:
    """The baseline, and every trial as it is held against it.

    `sign` is −1 where the script's loss falls because its sign is wrong: then a fall is not what is wanted, of no trial.

    Args:
        verdict: of the watched run.
        base: the script as it is, run once.
    """

    def __init__(self, verdict: Verdict, base: Attempt) -> None:
        if base.outlook is None:
            raise ValueError("a baseline without an outlook")
        self.findings = verdict.findings
        self.baselines: dict[str, list[Attempt]] = {"": [base]}  # by the unit of their losses; one per seed each
        self.outlook = base.outlook
        finite = [x for x in base.losses.values() if math.isfinite(x)]
        falls = bool(finite) and finite[-1] < finite[0]
        self.sign = -1.0 if falls and any(f.cause == _SIGN for f in verdict.findings) else 1.0

    def judged(self, index: int, changes: list[Change], attempts: Sequence[Attempt]) -> Trial:
        """Return what came of a trial.

        Args:
            index: of the finding that it is for.
            changes: what was changed.
            attempts: its runs, one per seed.
        """
        first, finding = attempts[0], self.findings[index]
        if first.failure is not None or first.outlook is None or first.verdict is None:
            return Trial(changes, index, FAILED, first.failure or "nothing was recorded", after=first.outlook)
        if first.idle is not None:
            return Trial(changes, index, NOT_TRIED, first.idle)
        own = self.baselines.get(unit(changes), [])
        pairs = [(b, a) for b, a in zip(own, attempts, strict=False) if not (a.failure or b.failure or b.idle)]
        before = pairs[0][0].outlook if pairs else None
        if before is None:
            return Trial(changes, index, NO_WIN, "what the loss is without it cannot be told in the same unit")
        bases, runs = [b for b, _ in pairs], [a for _, a in pairs]
        difference = self._difference(bases, runs)
        trial = Trial(changes, index, "", "", seeds=len(pairs), after=first.outlook)
        trial.before = before.loss_last if before is not self.outlook else None
        trial.gone, trial.remains = _gone(finding, first), remains_of(first.verdict)
        if difference is not None:
            trial.difference, trial.low, trial.high = (
                x if math.isfinite(x) else None for x in (difference.mean, difference.low, difference.high)
            )
        measured = Measured(difference, self._fall(runs), self._fall(bases))
        seen = Trial(changes, index, "", "", after=signed(first.outlook, self.sign), gone=trial.gone)
        trial.outcome, trial.reason = outcome_of(seen, finding, signed(before, self.sign), measured)
        if self.sign < 0:
            trial.reason += " (of the loss's negative, since its sign is wrong)"
        return trial

    def lower(self, first: Sequence[Attempt], second: Sequence[Attempt]) -> bool:
        """Whether the first trial's loss is clearly lower than the second's, on the seeds that both have; never where the two
        are not in the same unit.
        """
        if first and second and unit(first[0].changes) != unit(second[0].changes):
            return False
        pairs = [(a, b) for a, b in zip(first, second, strict=False) if a.failure is None and b.failure is None]
        found = self._difference([b for _, b in pairs], [a for a, _ in pairs])
        return found is not None and clearly_better(found)

    def ranked(self, trials: Sequence[Trial], attempts: Sequence[Sequence[Attempt]]) -> list[int]:
        """Return the indices of trials, the best first: the outcome decides, then the loss by its interval, then whether the
        symptom is gone, then the fewer changes, and the mean loss last.
        """
        order: list[int] = []
        for rank in sorted(set(_RANK.values())):
            left = [k for k, t in enumerate(trials) if _RANK[t.outcome] == rank]
            while left:
                leader = min(left, key=lambda k: self._last(trials[k]))
                level = [k for k in left if k == leader or not self.lower(attempts[leader], attempts[k])]
                best = min(level, key=lambda k: (not trials[k].gone, len(trials[k].changes), self._last(trials[k])))
                order.append(best)
                left.remove(best)
        return order

    def _last(self, trial: Trial) -> float:
        last = trial.after.loss_last if trial.after is not None else None
        return math.inf if last is None else self.sign * last

    def _difference(self, bases: Sequence[Attempt], runs: Sequence[Attempt]) -> Difference | None:
        base, other = tails(bases, runs)
        return compare(self._signed(base), self._signed(other))

    def _fall(self, runs: Sequence[Attempt]) -> Difference | None:
        starts, last = ends(runs)
        return fall(self._signed(starts), self._signed(last))

    def _signed(self, losses: list[list[float]]) -> list[list[float]]:
        return losses if self.sign == 1.0 else [[self.sign * x for x in one] for one in losses]


def _gone(finding: Finding, attempt: Attempt) -> bool:
    """Whether what was found is found no more: neither its symptom nor its cause, and all values are finite."""
    if attempt.verdict is None or attempt.outlook is None or not attempt.outlook.finite:
        return False
    if attempt.verdict.symptom == "not-measured":
        return False
    return not any(f.symptom == finding.symptom or f.cause == finding.cause for f in attempt.verdict.findings)
