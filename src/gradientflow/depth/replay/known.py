"""The steps at which the watched run is known to have been in trouble: every trial is looked at there too."""

from __future__ import annotations

from gradientflow.limits import Limit
from gradientflow.records import Finding, Run, Verdict

MOST = Limit("steps", 24, "chosen: a probe costs a few steps, so this many cost little beside a run")
_NAMED = ("step", "since_step", "steps")  # of a finding's evidence; the last as a list, else it counts


def bad_steps(run: Run, verdict: Verdict, until: int) -> list[int]:
    """Return the steps to look at: those that findings name, those that raised an alarm, and the first without finite values.

    Args:
        run: the watched run.
        verdict: its verdict.
        until: the last step of a trial; later ones are left out.

    Returns:
        At most `MOST` steps, those of the findings first, in order.
    """
    steps = [s for f in verdict.findings for s in named_by(f)]
    bad = next((s.step for s in run.steps if s.nonfinite), None)
    steps += [bad, bad - 1] if bad is not None else []
    steps += [p.step for p in run.probes if p.reason.startswith("trouble")]
    kept = [s for s in dict.fromkeys(steps) if 1 <= s <= until][: int(MOST)]
    return sorted(kept)


def named_by(finding: Finding) -> list[int]:
    """Return the steps that a finding's evidence names.

    Example:
        >>> named_by(Finding("dead", "dead-units", 0.9, None, "", {"step": 40, "since_step": 30}, []))
        [40, 30]
    """
    found: list[int] = []
    for name in _NAMED:
        told = finding.evidence.get(name)
        several = told if isinstance(told, list) else [] if name == "steps" else [told]
        found += [int(s) for s in several if isinstance(s, (int, float))]
    return found
