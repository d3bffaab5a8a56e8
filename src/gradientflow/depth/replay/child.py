"""One trial in a process of its own: the script, the watcher, and the changes in between.

The parent writes an `Errand` as JSON; the child runs it, leaves a run on disk like any watched run, and a `Told`
beside it. Everything the script prints goes where the parent sends it.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import msgspec

from gradientflow.records import Change

TOLD = "told.json"


class Errand(msgspec.Struct):
    """What a child is to do. `sources` are the texts of files to run in place of what is on disk (absolute paths)."""

    target: list[str]
    module: bool
    out: str
    shift: int = 0
    changes: list[Change] = []
    sources: dict[str, str] = {}
    max_steps: int | None = None
    max_time: float | None = None
    look_at: list[int] = []  # steps that are probed whatever it costs


class Acted(msgspec.Struct):
    """What one intervention did: how often it acted, what went wrong, and in which unit the losses are."""

    acted: int
    problem: str | None = None
    loss_factor: float = 1.0


class Told(msgspec.Struct):
    """What a child tells besides its run: how the script ended, and what the interventions did."""

    ended: str
    error: str | None = None
    acted: list[Acted] = []


def perform(errand: Errand) -> Told:
    """Run the script as the errand says, in this process."""
    from gradientflow.depth.remedies.install import install
    from gradientflow.depth.replay.seeds import shifted
    from gradientflow.depth.watch.script import load
    from gradientflow.depth.watch.session import run_script

    program = load(errand.target, module=errand.module)
    text = errand.sources.get(os.path.realpath(program.file))
    if text is not None:
        program = replace(program, code=compile(text, program.file, "exec", dont_inherit=True))
    finder = _Rewritten(errand.sources)
    sys.meta_path.insert(0, finder)
    try:
        with shifted(errand.shift), install(errand.changes) as interventions:
            outcome = run_script(
                errand.target, module=errand.module, out=Path(errand.out), max_steps=errand.max_steps, max_time=errand.max_time,
                program=program, prepare=lambda monitor: monitor.schedule.look_at(errand.look_at),
            )  # fmt: skip
    finally:
        sys.meta_path.remove(finder)
    acted = [Acted(i.acted, i.problem, i.loss_factor) for i in interventions]
    return Told(outcome.ending.how, outcome.ending.error, acted)


class _Rewritten(importlib.abc.MetaPathFinder):
    """Finds the modules whose source is given, and gives that instead of what is on disk."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self.sources = sources

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not self.sources:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.origin is None or os.path.realpath(spec.origin) not in self.sources:
            return None
        spec.loader = _Text(name, spec.origin, self.sources[os.path.realpath(spec.origin)])
        return spec


class _Text(importlib.machinery.SourceFileLoader):
    """Loads a module from a text, without a look at the file or its cache."""

    def __init__(self, name: str, path: str, text: str) -> None:
        super().__init__(name, path)
        self._text = text

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._text, self.path, "exec", dont_inherit=True)

    def get_data(self, path: Any) -> bytes:
        return self._text.encode()


def main(file: str) -> None:
    """Do the errand written in a file, and write beside its run what came of it."""
    errand = msgspec.json.decode(Path(file).read_bytes(), type=Errand)
    told = perform(errand)
    (Path(errand.out) / TOLD).write_bytes(msgspec.json.encode(told))
