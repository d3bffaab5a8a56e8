"""A proven remedy as an edit of the source: the lines a user should change, and nothing else.

Dry: source texts and records are read, nothing is run. Positions of the syntax tree say where to cut, so that comments,
blank lines, indentation and line ends stay as they are. An edit that cannot be made safely is not made.

Settings of a `Change` that are read, by kind (each has a usual value):

    swap-activation, fix-output      to; from
    rescale-init, break-symmetry     gain, bias; scheme; or factor alone
    orthogonal-recurrence            gain
    open-gates                       bias
    add-norm                         length (of queries and keys)
    add-skip                         scale
    clamp-op                         eps; max; shift and dim (an exponent, as in softmax)
    clip-gradient                    max_norm
    lower-step, raise-step           factor, or lr, or least (no schedule lowers it); optimizer
    warmup                           steps; start; optimizer
    lower-regularisation             factor
    larger-batch                     batches or factor, or size
    scale-input, scale-target        mean and std, or factor
    drop-bad-batch                   times (the usual gradient), or limit (of the loss)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from gradientflow.depth.remedies.row import Never
from gradientflow.depth.remedies.table import TABLE
from gradientflow.depth.remedies.writing.job import Job
from gradientflow.depth.remedies.writing.patch import unified
from gradientflow.depth.remedies.writing.source import NoEditError
from gradientflow.records import Change, Finding, Run


@dataclass(frozen=True)
class Edit:
    """One file before and after a change, and the difference as a unified diff."""

    file: str
    before: str
    after: str
    diff: str
    note: str = ""  # a caveat in words


def edit(change: Change, finding: Finding, run: Run) -> Edit:
    """Return a change as an edit of the source.

    Args:
        change: the remedy, with the lines it acts on; without lines, the finding's place counts.
        finding: what it is for.
        run: what was seen of the run, with the texts of its files.

    Returns:
        The file before and after, and the diff.

    Raises:
        NoEditError: an idiom that is not known, or several lines could be meant; the text says which.

    Example:
        >>> from gradientflow.records import Meta, Place
        >>> meta = Meta("net.py", [], "", "", "", "", sources={"net.py": "import torch\\n\\nh = torch.sigmoid(x)\\n"})
        >>> at = Place("net.py", 3, None, "sigmoid")
        >>> finding = Finding("vanishing", "saturating-activation", 0.9, at, "", {}, [])
        >>> made = edit(Change("swap-activation", "", [at], {"to": "relu"}), finding, Run(meta))
        >>> made.after.splitlines()[-1]
        'h = torch.relu(x)'
    """
    row = TABLE.get(change.kind)
    if row is None:
        raise NoEditError(f"{change.kind} is no remedy that is known")
    if isinstance(row.edit, Never):
        raise NoEditError(row.edit.why)
    job = Job(change, finding, run)
    row.edit(job)
    before, after = job.source.text, job.patch.result()
    return Edit(job.file, before, after, unified(job.file, before, after), "; ".join(dict.fromkeys(job.patch.notes)))


@dataclass
class Edits:
    """Several changes together: the texts of the files after them, the diff, and what to mind, in words."""

    texts: dict[str, str] = field(default_factory=dict)
    diff: str = ""
    notes: list[str] = field(default_factory=list)


def edits(changes: Sequence[tuple[Change, Finding]], run: Run) -> Edits:
    """Return changes as edits of the source.

    Args:
        changes: what is to be changed, each with what it is for; those further down are written first, so that no line moves
            under another.
        run: the watched run, with its sources.

    Raises:
        NoEditError: one of them cannot be written safely; the text says which and why.
    """
    made, before = Edits(), run.meta.sources
    for change, finding in sorted(changes, key=lambda pair: _lowest(pair[0]), reverse=True):
        try:
            one = edit(change, finding, run)
        except NoEditError as problem:
            raise NoEditError(f"{change.kind}: {problem}") from problem
        made.texts[one.file] = one.after
        made.notes += [one.note] if one.note else []
        sources = run.meta.sources | {one.file: one.after}
        run = msgspec.structs.replace(run, meta=msgspec.structs.replace(run.meta, sources=sources))
    made.diff = "".join(unified(file, before[file], after) for file, after in sorted(made.texts.items()))
    return made


def _lowest(change: Change) -> int:
    return max((p.line or 0 for p in change.places), default=0)
