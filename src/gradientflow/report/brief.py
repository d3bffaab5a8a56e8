"""The verdict in a few stable lines, for logs and for coding assistants: `key: value`, each key at most once, in a fixed order.

Held to 300 tokens: where they do not suffice, sentences are cut and fewer numbers and further findings are told. What is never
cut is the command that comes next.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from gradientflow.records import Finding, Run, Verdict
from gradientflow.report import closing, tell, words
from gradientflow.report.ways import called

FORM = "gradientflow.brief/1"
MOST = 1000  # characters: 300 tokens of three and a third, which is what paths and numbers come to
NAME, PLACE, CODE, VALUE = 32, 72, 72, 24  # characters


class _Room(NamedTuple):
    """How much of what can be long is told."""

    sentence: int  # characters
    remedy: int
    numbers: int
    also: int  # further findings


ROOMS = (_Room(320, 220, 5, 3), _Room(240, 160, 5, 2), _Room(200, 120, 4, 1), _Room(120, 90, 2, 0))


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
    for room in ROOMS:
        text = "\n".join(_lines(verdict, run, folder, room)) + "\n"
        if len(text) <= MOST:
            break
    return text


def _lines(verdict: Verdict, run: Run | None, folder: str | None, room: _Room) -> Iterator[str]:
    yield f"form: {FORM}"
    first, last = verdict.loss.first, verdict.loss.last
    loss = f", loss {words.number(first)} -> {words.number(last)}" if first is not None else ""
    if verdict.optimizers:
        each = (f"{called(o)} {words.number(o.loss.first)} -> {words.number(o.loss.last)}" for o in verdict.optimizers)
        loss = f", losses {'; '.join(islice(each, room.also + 1))}"
    yield f"run: {words.elide(words.one_line(verdict.script), NAME)}, {words.count(verdict.steps, 'step')}{loss}"
    failed = tell.crash(run)
    if failed is not None:
        yield f"failed: {_cut(failed, room.remedy)}"
    if verdict.findings:
        yield from _found(verdict.findings[0], verdict, run, room)
    else:
        yield f"verdict: {words.one_line(verdict.symptom)}"
        yield f"why: {_cut(tell.headline(verdict), room.sentence)}"
    others = [f"{_named(f)}{_at(f)}" for f in verdict.findings[1 : 1 + room.also]]
    if others:
        yield f"also: {'; '.join(others)}"
    for state in ("held", "broken", "not-measured"):
        names = [c.name for c in verdict.certificates if c.state == state]
        if names:
            yield f"{state}: {', '.join(names)}"
    following = closing.next_command(verdict, folder, run)
    if following:
        yield f"next: {following}"


def _found(f: Finding, verdict: Verdict, run: Run | None, room: _Room) -> Iterator[str]:
    yield f"verdict: {_named(f)} ({tell.confidence(f)})"
    if f.place is not None and f.place.file:
        marked = [s.text.strip() for s in tell.excerpt(tell.source(run, f.place.file), f.place.line) if s.marked]
        code = f"  {words.elide(marked[0], CODE)}" if marked else ""
        yield f"at: {words.elide(tell.site(f.place.file, f.place.line, full=True), PLACE)}{code}"
    yield f"why: {_cut(words.one_line(f.summary), room.sentence)}"
    facts, _ = closing.deciding(f, room.numbers)
    if facts:
        yield f"numbers: {'; '.join(map(_number, facts))}"
    remedy = closing.best_remedy(verdict)
    if remedy:
        yield f"remedy: {_cut(remedy, room.remedy)}"


def _number(fact: tell.Fact) -> str:
    limit = f" (threshold {words.elide(fact.threshold, VALUE)})" if fact.threshold else ""
    return f"{words.elide(fact.name, NAME)} {words.elide(fact.value, VALUE)}{limit}"


def _named(f: Finding) -> str:
    return f"{words.elide(words.one_line(f.symptom), NAME)} because of {words.elide(words.one_line(f.cause), NAME)}"


def _at(f: Finding) -> str:
    return (
        f" at {words.elide(tell.site(f.place.file, f.place.line), NAME)}"
        if f.place is not None and f.place.file
        else ""
    )


def _cut(text: str, length: int) -> str:
    """Return a text without what is beyond so many characters, cut between two words."""
    return text if len(text) <= length else text[: length - 1].rsplit(" ", 1)[0] + "…"
