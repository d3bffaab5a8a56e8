"""The verdict in a few stable lines, for logs and for coding assistants: `key: value`, each key at most once, in a fixed order.

Held to 300 tokens: a sentence is cut where it gets long, and no more is named than three further findings.
"""

from __future__ import annotations

from gradientflow.records import Finding, Run, Verdict
from gradientflow.report import closing, tell, words

FORM = "gradientflow.brief/1"
SENTENCE, REMEDY = 320, 220  # characters
NUMBERS, ALSO = 5, 3


def brief(verdict: Verdict, run: Run | None = None, folder: str | None = None) -> str:
    """Return the verdict in brief.

    Args:
        verdict: what the run means.
        run: what was seen of it, for the source line; None: only the verdict is at hand.
        folder: the run's folder, for the next command.

    Example:
        >>> from gradientflow.records import Budget, Loss, Watch
        >>> print(brief(Verdict("train.py", 9, Loss(2.0, 1.0), "healthy", [], Budget(), Watch(), "Nothing wrong was found.")))
        form: gradientflow.brief/1
        run: train.py, 9 steps, loss 2 -> 1
        verdict: healthy
        why: Nothing wrong was found.
    """
    loss = (
        f", loss {words.number(verdict.loss.first)} -> {words.number(verdict.loss.last)}"
        if verdict.loss.first is not None
        else ""
    )
    lines = [f"form: {FORM}", f"run: {words.shown(verdict.script)}, {words.count(verdict.steps, 'step')}{loss}"]
    if verdict.findings:
        lines += _found(verdict.findings[0], verdict, run)
    else:
        lines += [f"verdict: {verdict.symptom}", f"why: {_cut(tell.headline(verdict), SENTENCE)}"]
    others = [f"{f.symptom} because of {f.cause}{_at(f)}" for f in verdict.findings[1 : 1 + ALSO]]
    lines += [f"also: {'; '.join(others)}"] if others else []
    for state in ("held", "broken", "not-measured"):
        names = [c.name for c in verdict.certificates if c.state == state]
        lines += [f"{state}: {', '.join(names)}"] if names else []
    following = closing.next_command(verdict, folder)
    lines += [f"next: {following}"] if following else []
    return "\n".join(lines) + "\n"


def _found(f: Finding, verdict: Verdict, run: Run | None) -> list[str]:
    lines = [f"verdict: {f.symptom} because of {f.cause} ({tell.confidence(f)})"]
    if f.place is not None and f.place.file:
        marked = [s.text.strip() for s in tell.excerpt(tell.source(run, f.place.file), f.place.line) if s.marked]
        code = f"  {words.elide(marked[0], 90)}" if marked else ""
        lines.append(f"at: {tell.site(f.place.file, f.place.line, full=True)}{code}")
    lines.append(f"why: {_cut(words.one_line(f.summary), SENTENCE)}")
    facts, _ = closing.deciding(f, NUMBERS)
    if facts:
        told = [
            f"{x.name} {words.elide(x.value, 40)}" + (f" (threshold {x.threshold})" if x.threshold else "")
            for x in facts
        ]
        lines.append(f"numbers: {'; '.join(told)}")
    remedy = closing.best_remedy(verdict)
    lines += [f"remedy: {_cut(remedy, REMEDY)}"] if remedy else []
    return lines


def _at(f: Finding) -> str:
    return f" at {tell.site(f.place.file, f.place.line)}" if f.place is not None and f.place.file else ""


def _cut(text: str, length: int) -> str:
    """Return a text without what is beyond so many characters, cut between two words."""
    return text if len(text) <= length else text[: length - 1].rsplit(" ", 1)[0] + "…"
