"""What is said where nothing was found: what was measured and proven of a healthy run, or why nothing could be measured."""

from __future__ import annotations

import sys

from gradientflow.depth.causes import certificates, flow, latent, several
from gradientflow.depth.causes.case import Case
from gradientflow.depth.causes.passes import LATE
from gradientflow.records import Certificate, Run, Verdict


def sentence(case: Case, verdict: Verdict) -> str:
    """Return the summary of a verdict without findings."""
    return _not_measured(case, verdict) if verdict.symptom == "not-measured" else _healthy(case, verdict)


def damaged(run: Run) -> bool:
    """Whether something of the record could not be read; a note says what."""
    return any(n.kind == "record" for n in run.notes)


def _not_measured(case: Case, verdict: Verdict) -> str:
    """Say why nothing could be measured."""
    if damaged(case.run):  # whatever is not there may have been in what is lost
        return "The record of this run is damaged, and what can be read of it is not enough to judge. Run the script again."
    if case.meta.backwards == 0 and case.meta.transformed:
        return (
            "The gradient is taken by torch.func (grad, vjp, vmap), inside which nothing is watched: whether steps were taken was not "
            "seen, and nothing is said of them. To have it watched, take the gradient by loss.backward() or torch.autograd.grad."
        )
    if case.meta.backwards == 0:
        return (
            "The script never called backward, so no gradient could be watched. Train in the script itself: "
            "loss.backward() and optimizer.step(), or torch.autograd.grad."
        )
    if any(s.grad is not None for s in case.run.steps):
        if case.meta.compiled:
            why, mend = "the model is compiled, and the watcher stepped aside", " Try it without torch.compile."
        elif case.meta.transformed:
            why, mend = "it is taken by torch.func, inside which nothing is watched", ""
        elif case.meta.late >= LATE:
            why = (
                "each step comes ahead of the backward call of its own batch, and uses the gradient of the batch before"
            )
            mend = " Call optimizer.step() behind loss.backward()."
        elif verdict.watch.errors:
            why, mend = "an error of the watcher, told apart", ""
        else:
            why, mend = "no backward call of a traced step passed by where the watcher listens", ""
        return (
            f"The gradient of {verdict.steps} steps was seen{_finite(case)}, but no operation could be traced on "
            f"its way ({why}): nothing can be said about depth.{mend}"
        )
    if verdict.steps or any(o.steps for o in case.meta.optimizers):
        return (
            f"{verdict.steps} steps were taken, but what was seen of them is not in the record: nothing can be said. "
            "Run it again, with --out naming a folder that the script leaves alone."
        )
    return (
        "The script called backward, but no optimizer took a step and no update by hand was seen: there is no training "
        "to judge. Call optimizer.step() after loss.backward()."
    )


def _healthy(case: Case, verdict: Verdict) -> str:
    """Say what was measured to call a run healthy."""
    parts = []
    decades = verdict.budget.body_decades
    if verdict.optimizers:
        parts.append(several.told(verdict.optimizers))
    elif decades is not None:
        limit = "limit" if abs(decades) <= flow.DECADES else "in a run that learns; else the limit is"
        parts.append(
            f"the gradient changes by {_signed(decades)} decades{_factor(decades)} between the last and the first layer "
            f"({limit} ±{flow.DECADES:g})"
        )
    if not verdict.optimizers and verdict.loss.first is not None and verdict.loss.last is not None:
        rises = case.main.measured and case.main.end > case.main.start
        parts.append(
            f"the loss goes from {verdict.loss.first:.4g} to {verdict.loss.last:.4g}"
            + (" (that it rises was not judged)" if rises else "")
        )
    sharp = [g.probe.sharpness.value for g in case.finite if g.probe.sharpness is not None]
    if sharp:
        parts.append(f"sharpness up to {max(sharp):.3g}")
    if near := latent.remark(case):
        parts.append(f"no fault yet, but {near}")
    text = ", ".join(parts) or "every gradient seen was alive"
    unseen = "; what the damaged record does not show was not judged" if damaged(case.run) else ""
    return f"Nothing wrong was found in {verdict.steps} steps: {text}{_proven(verdict.certificates)}{unseen}."


def _finite(case: Case) -> str:
    """Say that what was seen is finite, where it was."""
    return " and is finite" if certificates.finite(case, []).state == "held" else ""


def _proven(checked: list[Certificate]) -> str:
    """Say which certificates held, and which were not measured."""
    parts = [
        f"{words}: {', '.join(names)}"
        for words, state in (("proven", "held"), ("not measured", "not-measured"))
        if (names := [c.name for c in checked if c.state == state])
    ]
    return "; ".join(["", *parts])


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


def _factor(decades: float) -> str:
    """Say what so many decades are as a factor, where a float holds it."""
    return f", ×{10.0**decades:.2g}," if abs(decades) < sys.float_info.max_10_exp else ""
