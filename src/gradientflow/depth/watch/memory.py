"""A run that is kept in memory: what a `Store` is on disk, for one look at a model, which leaves no folder behind."""

from __future__ import annotations

import msgspec

from gradientflow.records import Meta, Other, Run, Step


class Memory:
    """Takes the records of one run, with the methods of a `Store` that a `Recorder` calls."""

    def __init__(self) -> None:
        self.error: str | None = None
        self.lost: str | None = None
        self._run = Run(Meta("", [], "", "", "", ""))
        self._sources: dict[str, str] = {}

    def step(self, step: Step) -> None:
        """Add one optimizer step."""
        self._run.add(step)

    def add(self, record: Other) -> None:
        """Add one record of another kind."""
        self._run.add(record)

    def meta(self, meta: Meta) -> None:
        """The description is given once more at the end; nothing is to be kept before."""

    def flush(self) -> None:
        """Nothing is pending."""

    def close(self) -> None:
        """Nothing is open."""

    def source(self, file: str, text: str) -> None:
        """Keep the text of a source file."""
        self._sources[file] = text

    def run(self, meta: Meta, recent: Run | None = None) -> Run:
        """Return the whole run; all of it is here, whatever is held beside it."""
        meta = msgspec.structs.replace(meta, sources={**self._sources, **meta.sources})
        return msgspec.structs.replace(self._run, meta=meta)
