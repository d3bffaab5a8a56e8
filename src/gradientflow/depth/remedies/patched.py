"""One or more changes together as an edit of the script's sources, told as one unified diff."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from gradientflow.depth.remedies.write import edit
from gradientflow.records import Change, Finding, Run


@dataclass
class Patch:
    """The texts of the files after the edit, by name as in the records; the diff; and what to mind, in words."""

    texts: dict[str, str] = field(default_factory=dict)
    diff: str = ""
    notes: list[str] = field(default_factory=list)


def patched(changes: Sequence[Change], finding: Finding, run: Run) -> Patch | None:
    """Return the changes as edits of the source; None where one of them cannot be written safely.

    Args:
        changes: what is to be changed; those further down are written first, so that no line moves under another.
        finding: what they are for.
        run: the watched run, with its sources.
    """
    patch = Patch()
    for change in sorted(changes, key=_lowest, reverse=True):
        made = edit(change, finding, run)
        if made is None:
            return None
        patch.texts[made.file] = made.after
        patch.notes += [made.note] if made.note else []
        sources = run.meta.sources | {made.file: made.after}
        run = msgspec.structs.replace(run, meta=msgspec.structs.replace(run.meta, sources=sources))
    return patch


def difference(before: dict[str, str], patch: Patch) -> str:
    """Return the unified diff of a patch against the texts there were."""
    return "".join(
        line if line.endswith("\n") else line + "\n\\ No newline at end of file\n"
        for file, after in sorted(patch.texts.items())
        for name in [file.lstrip("/")]
        for line in difflib.unified_diff(
            before[file].splitlines(keepends=True), after.splitlines(keepends=True), f"a/{name}", f"b/{name}"
        )
    )


def _lowest(change: Change) -> int:
    return max((p.line or 0 for p in change.places), default=0)
