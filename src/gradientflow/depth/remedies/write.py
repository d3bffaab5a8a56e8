"""A proven remedy as an edit of the source: the lines a user should change, and nothing else.

Dry: source texts and records are read, nothing is run. Positions of the syntax tree say where to cut, so that comments,
blank lines, indentation and line ends stay as they are. An edit that cannot be made safely is not made.

Settings of a `Change` that are read, by kind (each has a usual value):

    swap-activation, fix-output      to; from
    rescale-init, break-symmetry     gain, bias; scheme; or factor alone
    orthogonal-recurrence            gain
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

from collections.abc import Callable
from dataclasses import dataclass

from gradientflow.depth.remedies.activations import edit as activations
from gradientflow.depth.remedies.data import edit as data
from gradientflow.depth.remedies.operands import edit as operands
from gradientflow.depth.remedies.steps import edit_loop as loop
from gradientflow.depth.remedies.steps import edit_rates as rates
from gradientflow.depth.remedies.structure import edit as layers
from gradientflow.depth.remedies.structure import edit_skips as skips
from gradientflow.depth.remedies.weights import edit as weights
from gradientflow.depth.remedies.weights import edit_recurrent as recurrent
from gradientflow.depth.remedies.wiring import edit as wires
from gradientflow.depth.remedies.writing.job import Job
from gradientflow.depth.remedies.writing.patch import unified
from gradientflow.depth.remedies.writing.source import NoEditError
from gradientflow.records import Change, Finding, Run

__all__ = ["Edit", "edit"]

_MAKERS: dict[str, Callable[[Job], None]] = {
    "swap-activation": activations.swap,
    "fix-output": activations.remove,
    "rescale-init": weights.rescale,
    "break-symmetry": weights.break_symmetry,
    "orthogonal-recurrence": recurrent.orthogonal,
    "gated-cell": recurrent.gated,
    "add-norm": layers.add_norm,
    "add-skip": skips.add_skip,
    "remove-norm": layers.remove_norm,
    "clamp-op": operands.clamp,
    "clip-gradient": loop.clip,
    "zero-grad": loop.zero_grad,
    "flip-sign": loop.flip_sign,
    "drop-bad-batch": loop.drop_batch,
    "lower-step": rates.step_size,
    "raise-step": rates.step_size,
    "warmup": rates.warmup,
    "lower-regularisation": rates.regularisation,
    "larger-batch": rates.batch,
    "scale-input": data.scale_input,
    "scale-target": data.scale_target,
    "reconnect": wires.reconnect,
}


@dataclass(frozen=True)
class Edit:
    """One file before and after a change, and the difference as a unified diff."""

    file: str
    before: str
    after: str
    diff: str
    note: str = ""  # a caveat in words


def edit(change: Change, finding: Finding, run: Run) -> Edit | None:
    """Return a change as an edit of the source, or None where no safe edit can be made.

    Args:
        change: the remedy, with the lines it acts on; without lines, the finding's place counts.
        finding: what it is for.
        run: what was seen of the run, with the texts of its files.

    Returns:
        The file before and after, and the diff; None for an idiom that is not known, or where several could be meant.

    Example:
        >>> from gradientflow.records import Meta, Place
        >>> meta = Meta("net.py", [], "", "", "", "", sources={"net.py": "import torch\\n\\nh = torch.sigmoid(x)\\n"})
        >>> at = Place("net.py", 3, None, "sigmoid")
        >>> finding = Finding("vanishing", "saturating-activation", 0.9, at, "", {}, [])
        >>> made = edit(Change("swap-activation", "", [at], {"to": "relu"}), finding, Run(meta))
        >>> made.after.splitlines()[-1]
        'h = torch.relu(x)'
    """
    make = _MAKERS.get(change.kind)
    if make is None:
        return None
    try:
        job = Job(change, finding, run)
        make(job)
        after = job.patch.result()
    except NoEditError:
        return None
    before = job.source.text
    return Edit(job.file, before, after, unified(job.file, before, after), "; ".join(dict.fromkeys(job.patch.notes)))
