"""Names and texts of the files that a run names, where they are cells of a notebook or lines typed at a prompt."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from gradientflow.depth.look.sources import text_of
from gradientflow.records import Run

_FILES = ("file", "made_file", "init_file")


def name_sources(run: Run) -> None:
    """Name cells as the notebook does (`In[3]`), and keep the text of every file that a run names.

    Args:
        run: changed in place.
    """
    names: dict[str, str] = {}
    for record in _placed(run):
        for field in _FILES:
            file = getattr(record, field, None)
            if file is not None:
                names.setdefault(file, _cell(file))
                setattr(record, field, names[file])
        stack = getattr(record, "stack", None)
        if stack:
            record.stack = [(names.setdefault(file, _cell(file)), line) for file, line in stack]
    texts = {name: text for file, name in names.items() if (text := run.meta.sources.pop(file, "") or text_of(file))}
    run.meta.sources.update(texts)


def _placed(run: Run) -> Iterator[Any]:
    yield from run.meta.params
    yield from run.meta.optimizers
    for probe in run.probes:
        for op in probe.ops:
            yield op
            yield from op.operands


def _cell(file: str) -> str:
    """Return what IPython calls a cell; any other file keeps its name."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    told = getattr(getattr(shell, "compile", None), "format_code_name", None)
    found = told(file) if told is not None else None
    return str(found[1]) if found else file
