"""Isolation: the output of one sample depends on that sample only."""

from __future__ import annotations

from collections.abc import Sequence

from gradientflow.depth.causes import samples
from gradientflow.depth.causes.case import Case, counted, rounded
from gradientflow.depth.causes.certificates import broken
from gradientflow.limits import APART
from gradientflow.records import Certificate, Finding, Isolation

NAME = "isolation"


def isolation(case: Case, findings: Sequence[Finding]) -> Certificate:
    """Return whether samples kept to themselves on the probed steps that were looked at, and by what they are joined if not.

    Args:
        case: the run.
        findings: what the rules found.
    """
    if (told := broken.by(NAME, findings, lambda f: f.cause == "mixed-samples")) is not None:
        return told
    seen = [(g, i) for g in case.graphs if (i := samples.looked_at(g)) is not None]
    if not seen:
        return Certificate(NAME, "not-measured", _why_not(case))
    graph, last = next(((g, i) for g, i in seen if i.mixers), seen[-1])
    numbers = {
        "probes": len(seen), "samples": last.batch, "share_outside_the_sample": rounded(max(i.outside for _, i in seen)),
        "batch_normalisation": any(i.normed for _, i in seen),
    }  # fmt: skip
    if any(i.outside > 0 and not _apart(i) for _, i in seen):
        names = sorted({graph.probe.ops[i].name for i in last.mixers})
        by = f" through {', '.join(names)}" if names else ""
        why = (
            f"samples are joined{by}, as for neighbours, similarities or statistics of the batch; whether that is meant cannot be "
            f"told: of the gradient of one output {last.outside:.0%} arrives at others"
        )
        return Certificate(NAME, "not-measured", why, numbers)
    beside = ", but for the statistics of batch normalisation" if numbers["batch_normalisation"] else ""
    why = (
        f"the output of one sample does not depend on the other {last.batch - 1} of its batch{beside} "
        f"({counted(len(seen), 'look')})"
    )
    return Certificate(NAME, "held", why, numbers)


def _apart(isolation: Isolation) -> bool:
    return not isolation.mixers and isolation.outside <= APART


def _why_not(case: Case) -> str:
    said = [p.isolation for p in case.run.probes if isinstance(p.isolation, str)]
    return said[-1] if said else "no probed step was looked at"
