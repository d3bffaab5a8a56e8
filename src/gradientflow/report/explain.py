"""A finding in words: where it is, what was measured and against which threshold, why it ranks where it does, what would help."""

from __future__ import annotations

from collections.abc import Iterator

from gradientflow.limits import GATES
from gradientflow.records import Finding, Run, Verdict
from gradientflow.report import closing, tell, words
from gradientflow.report.causes import short


def explain(verdict: Verdict, run: Run | None = None, number: int | None = None, folder: str | None = None) -> str:
    """Return the evidence of one finding, or of all of them and of the certificates, as plain text.

    Args:
        verdict: what the run means.
        run: what was seen of it, for source lines; None: only the verdict is at hand.
        number: of the finding, from 1; None: all.
        folder: the run's folder, for the next command.

    Raises:
        ValueError: there is no finding of that number.
    """
    count = len(verdict.findings)
    if number is not None and not 1 <= number <= count:
        have = f"findings 1 to {count}" if count > 1 else "finding 1 only" if count else "no finding"
        raise ValueError(f"finding {number} is not there: this run has {have}")
    lines = [
        f"{words.one_line(verdict.script)}, {words.count(verdict.steps, 'step')}: {words.one_line(verdict.symptom)}"
    ]
    if not count:
        lines += ["", tell.headline(verdict)]
    for k, finding in enumerate(verdict.findings, 1):
        if number in (None, k):
            lines += ["", *_one(finding, k, run)]
    if number is None and verdict.certificates:
        lines += [
            "",
            "What was proven",
            *(f"  {c.name}: {c.state.replace('-', ' ')}. {words.one_line(c.why)}" for c in verdict.certificates),
        ]
    following = closing.next_command(verdict, folder, run)
    if following is not None and not following.startswith("gradientflow explain "):
        lines += ["", f"Next: {following}"]
    return "\n".join(lines) + "\n"


def _one(f: Finding, rank: int, run: Run | None) -> Iterator[str]:
    yield f"{rank}. {f.symptom} because of {f.cause}, confidence {tell.confidence(f)}"
    yield f"   {short(f.cause)}."
    if f.place is not None:
        yield f"   Where: {'   '.join(tell.place(f.place, run.meta if run else None))}"
        for no, text, marked in tell.excerpt(tell.source(run, f.place.file), f.place.line):
            yield f"     {'>' if marked else ' '} {no:>5}  {text}"
    yield f"   What: {words.one_line(f.summary)}"
    facts = [x for x in tell.facts(f.evidence) if x.name != tell.GATES_ROW]
    if facts:
        yield "   Measured:"
    for x in facts:
        yield f"     {x.name}: {x.value}" + (f", held against {x.threshold}" if x.threshold else "")
    gates = f.evidence.get(GATES)
    if isinstance(gates, dict) and gates:
        yield f"   Decided on the way, by these limits: {tell.spell_all(gates)}"
    if f.reason:
        yield f"   Ranks lower: {words.one_line(f.reason)}."
    for remedy in f.remedies:
        came = tell.replayed(remedy) if remedy.replayed is not None else tell.NOT_REPLAYED
        yield f"   Would help: {words.one_line(remedy.text)} [{came}]"
