"""What a replay says against a finding: remedies that act on its cause, and nothing is better. Dry: it reads trials."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from gradientflow.limits import Limit
from gradientflow.records import NO_WIN, WIN, WORSE, Doubt, Finding, Trial

ODDS = Limit(
    "odds_left_after_a_trial", 0.5, "chosen: a remedy of the right cause is given an even chance to fail all the same"
)


def doubts(findings: Sequence[Finding], trials: Sequence[Trial], dropped: Collection[int] = ()) -> list[Doubt]:
    """Return the findings whose remedies were tried and made nothing better: no loss is lower, no symptom gone.

    A trial tests a finding where it is for it, or makes a change that the finding names. Each halves the odds of the cause.
    What could not be tried, or failed, says nothing.

    Args:
        findings: of the verdict, with the confidence that the rules gave them.
        trials: what was tried.
        dropped: indices of trials of several changes that were no better than fewer of them.

    Example:
        >>> from gradientflow.records import Change
        >>> finding = Finding("vanishing", "init-too-small", 0.9, None, "", {}, [])
        >>> doubts([finding], [Trial([Change("rescale-init", "")], 0, NO_WIN, "")])[0].after
        0.82
        >>> doubts([finding], [Trial([Change("rescale-init", "")], 0, WIN, "")])
        []
    """
    found = []
    for index, finding in enumerate(findings):
        kinds = {r.kind for r in finding.remedies}
        own = [
            t
            for k, t in enumerate(trials)
            if k not in dropped
            and t.outcome in (WIN, NO_WIN, WORSE)
            and (t.finding == index or any(c.kind in kinds for c in t.changes))
        ]
        alone = [t for t in own if len(t.changes) == 1 and t.outcome != WIN]
        if not alone or any(t.outcome == WIN or t.gone for t in own):
            continue
        found.append(
            Doubt(index, finding.cause, len(alone), finding.confidence, lowered(finding.confidence, len(alone)))
        )
    return found


def lowered(confidence: float, trials: int) -> float:
    """Return what is left of a confidence after so many trials that made nothing better.

    Example:
        >>> lowered(0.9, 0), lowered(0.9, 1), lowered(0.9, 4), lowered(1.0, 1)
        (0.9, 0.82, 0.36, 0.99)
    """
    if trials <= 0:
        return confidence
    sure = min(confidence, 0.995)  # (odds of what is certain have no half)
    odds = sure / (1.0 - sure) * ODDS**trials
    return round(odds / (1.0 + odds), 2)
