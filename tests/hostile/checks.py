"""What must hold of a watched run beyond looking like the plain one: of its verdict, and of numbers that it prints."""

from __future__ import annotations

import re

from tests.hostile.case import Check, Seen


def every(*checks: Check) -> Check:
    """All of several checks."""

    def check(plain: Seen, watched: Seen) -> str | None:
        return "; ".join(told for c in checks if (told := c(plain, watched))) or None

    return check


def says(text: str) -> Check:
    """The script itself prints a text, in both runs."""

    def check(plain: Seen, watched: Seen) -> str | None:
        silent = [name for name, seen in (("plain", plain), ("watched", watched)) if text not in seen.stdout]
        return f"{' and '.join(silent)} did not say {text!r}" if silent else None

    return check


def judged(*symptoms: str, steps: int | None = None) -> Check:
    """There is a verdict, of so many steps, without an error of ours; with one of the symptoms, where some are named."""

    def check(_: Seen, watched: Seen) -> str | None:
        verdict = watched.verdict
        if verdict is None:
            return "no verdict that can be read"
        if errors := verdict["watch"]["errors"]:
            return f"an error in the watcher: {errors[0]}"
        if steps is not None and verdict["steps"] != steps:
            return f"{verdict['steps']} steps in the verdict, the script took {steps}: {verdict['summary']}"
        if symptoms and verdict["symptom"] not in symptoms:
            return f"{verdict['symptom']}, expected {' or '.join(symptoms)}: {verdict['summary']}"
        return None

    return check


def not_claimed(*claims: str) -> Check:
    """The verdict, if there is one, claims none of these."""

    def check(_: Seen, watched: Seen) -> str | None:
        summary = str((watched.verdict or {}).get("summary", ""))
        false = [claim for claim in claims if claim in summary]
        return f"the verdict claims {', '.join(false)}: {summary}" if false else None

    return check


def recorded(least: int) -> Check:
    """The record knows of at least so many steps."""

    def check(_: Seen, watched: Seen) -> str | None:
        steps = (watched.verdict or {}).get("steps", 0)
        return f"{steps} steps recorded, expected {least} or more" if steps < least else None

    return check


def overhead_below(most: float) -> Check:
    """Watching took less than so much of the script's own time."""

    def check(_: Seen, watched: Seen) -> str | None:
        took = (watched.verdict or {}).get("watch", {}).get("overhead")
        return f"overhead {took}, expected below {most}" if took is None or took >= most else None

    return check


def _number(seen: Seen, stream: str, pattern: str) -> float | None:
    found = re.search(pattern, getattr(seen, stream))
    return float(found.group(1)) if found else None


def less_than(stream: str, pattern: str, *, times: float = 1.0, plus: float = 0.0) -> Check:
    """A number that the script prints is at most that of the plain run, times a factor, plus a bit."""

    def check(plain: Seen, watched: Seen) -> str | None:
        one, other = _number(plain, stream, pattern), _number(watched, stream, pattern)
        if one is None or other is None:
            return f"{pattern} is not printed"
        if other > times * one + plus:
            return f"{pattern} gives {other:g}, plain {one:g}; at most {times * one + plus:g} expected"
        return None

    return check


def at_least(stream: str, pattern: str, *, times: float) -> Check:
    """A number that the script prints is at least that of the plain run, times a factor."""

    def check(plain: Seen, watched: Seen) -> str | None:
        one, other = _number(plain, stream, pattern), _number(watched, stream, pattern)
        if one is None or other is None:
            return f"{pattern} is not printed"
        return (
            f"{pattern} gives {other:g}, plain {one:g}; at least {times * one:g} expected"
            if other < times * one
            else None
        )

    return check
