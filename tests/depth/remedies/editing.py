"""Records made by hand around a source text, and what every edit is held to."""

from __future__ import annotations

import ast
import re
from typing import Any

from gradientflow.depth.remedies.write import Edit, edit
from gradientflow.depth.remedies.writing.source import NoEditError
from gradientflow.records import (
    Change,
    Finding,
    GradStat,
    Meta,
    Op,
    Operand,
    Optimizer,
    Param,
    Place,
    Probe,
    Run,
    Step,
    ValueStat,
)

FILE = "train.py"


def line_of(source: str, fragment: str) -> int:
    """The line of the only place where a fragment stands."""
    assert source.count(fragment) == 1, (fragment, source.count(fragment))
    return source[: source.index(fragment)].count("\n") + 1


def at(source: str, fragment: str, op: str | None = None, module: str | None = None) -> Place:
    return Place(FILE, line_of(source, fragment), module, op)


def optimizer(
    source: str, made: str | None, step: str | None, name: str = "SGD", index: int = 0, **options: Any
) -> Optimizer:
    made_line = line_of(source, made) if made else None
    return Optimizer(
        index, name, {"lr": 0.1} | options, [],
        FILE if step else None, line_of(source, step) if step else None,
        FILE if made else None, made_line, steps=20 - index,
    )  # fmt: skip


def value(shape: list[int], mean: float = 0.0, std: float = 1.0) -> ValueStat:
    return ValueStat(shape, "float32", mean, std, mean - 3 * std, mean + 3 * std, 0.0, 0, 0)


def op(
    index: int, name: str, kind: str, line: int, shape: list[int], operands: list[Operand] | None = None, **more: Any
) -> Op:
    grad = GradStat(1.0, 0.1, 1.0, 0.0, 0, 0)
    return Op(
        index, name, kind, FILE, line, "forward", more.pop("module", None), more.pop("module_class", None),
        operands or [], value(shape), more.pop("grad", grad), **more,
    )  # fmt: skip


def run(
    source: str,
    optimizers: list[Optimizer] | None = None,
    params: list[Param] | None = None,
    ops: list[Op] | None = None,
    steps: list[Step] | None = None,
    batch: int | None = None,
    argv: list[str] | None = None,
    others: dict[str, str] | None = None,
) -> Run:
    meta = Meta(FILE, argv or [], "/", "", "", "", params=params or [], optimizers=optimizers or [])
    meta.sources = {FILE: source} | (others or {})
    probes = [Probe(1, 0.0, "first", 1.0, None, ops or [], [], batch=batch)]
    return Run(meta, steps or [], [], probes)


def finding(place: Place | None = None, cause: str = "some-cause") -> Finding:
    return Finding("some-symptom", cause, 0.9, place, "", {}, [])


def edited(change: Change, seen: Run, place: Place | None = None) -> Edit | None:
    """Make an edit, and hold it to what every edit must be: it parses, its diff applies, it is deterministic."""
    found = finding(place or (change.places[0] if change.places else None))
    try:
        made = edit(change, found, seen)
    except NoEditError:
        return None
    assert edit(change, found, seen) == made
    assert made.before == seen.meta.sources[made.file]
    assert made.after != made.before
    ast.parse(made.after)
    assert applied(made.before, made.diff) == made.after
    assert made.diff.startswith(f"--- a/{made.file}\n+++ b/{made.file}\n@@ -")
    return made


def replaced(source: str, *pairs: tuple[str, str]) -> str:
    """The source with some fragments replaced, each of which stands in it once."""
    for old, new in pairs:
        assert source.count(old) == 1, (old, source.count(old))
        source = source.replace(old, new)
    return source


HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n\n"


def after(source: str, change: Change, **seen: Any) -> str | None:
    """The text that an edit gives; None where there is none."""
    found = edited(change, run(source, **seen))
    return found.after if found is not None else None


def weight(
    index: int, name: str, source: str, made: str, drawn: str | None = None, init: str = "normal_", **more: Any
) -> Param:
    """A parameter of a layer that is made at one fragment of the source and initialised at another."""
    return Param(
        index, name, more.pop("shape", [8, 8]), "float32", True, True, 0, FILE, line_of(source, made),
        init if drawn else None, FILE if drawn else None, line_of(source, drawn) if drawn else None,
        more.pop("module_class", "Linear"),
    )  # fmt: skip


class DiffError(Exception):
    """The diff does not fit the text."""


def applied(text: str, diff: str) -> str:
    """Apply a unified diff as `patch` does without fuzz: every line of context and every removed line must be there."""
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    out: list[str] = []
    at_line = 0
    body = re.findall(r"[^\n]*\n|[^\n]+", diff)[2:]
    i = 0
    while i < len(body):
        head = re.fullmatch(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@\n", body[i])
        if head is None:
            raise DiffError(f"not a head of a hunk: {body[i]!r}")
        first, count = int(head[1]), int(head[2] or 1)
        start = first - 1 if count else first
        out += lines[at_line:start]
        at_line = start
        if int(head[3]) != len(out) + (1 if int(head[4] or 1) else 0):
            raise DiffError("the hunk says another place in the new text")
        i += 1
        while i < len(body) and not body[i].startswith("@@"):
            sign, rest = body[i][0], body[i][1:]
            if i + 1 < len(body) and body[i + 1].startswith("\\"):
                rest = rest.removesuffix("\n")
                i += 1
            if sign in " -":
                if at_line >= len(lines) or lines[at_line] != rest:
                    raise DiffError(f"line {at_line + 1} is not {rest!r}")
                at_line += 1
            if sign in " +":
                out.append(rest)
            i += 1
    return "".join(out + lines[at_line:])
