"""Names and texts of the files that a run names, where they are cells of a notebook or lines typed at a prompt."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from gradientflow.depth.look.sources import cell, text_of
from gradientflow.records import Run

_FILES = ("file", "made_file", "init_file")


def name_sources(run: Run) -> None:
    """Name cells as the notebook does (`In[3]`), and keep the text of every file that a run names.

    Args:
        run: changed in place.
    """
    names: dict[str, str] = {}

    def name(file: str) -> str:
        if file not in names:
            whole = file if file.startswith("<") else os.path.join(run.meta.cwd, file)
            names[file] = cell(whole) or file
            text = run.meta.sources.pop(file, "") or text_of(whole)
            if text:
                run.meta.sources[names[file]] = text
        return names[file]

    for record in _placed(run):
        for field in _FILES:
            file = getattr(record, field, None)
            if file is not None:
                setattr(record, field, name(file))
        if getattr(record, "stack", None):
            record.stack = [(name(file), line) for file, line in record.stack]


def _placed(run: Run) -> Iterator[Any]:
    yield from run.meta.params
    yield from run.meta.optimizers
    for probe in run.probes:
        for op in probe.ops:
            yield op
            yield from op.operands
