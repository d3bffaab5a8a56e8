"""Is it a field at all? Two evaluations at one θ must agree, else there is no flow; and if not, why not.

The two evaluations run with different states of every global random generator, so that a fixed seed cannot hide the
randomness. Agreement means the same bits. Where sums run in no fixed order two results may differ by round-off; that
much is let through, and noted, unless it is seen that it is no matter of order: noise may be as small.
"""

from __future__ import annotations

import functools
from typing import Any

from torch import Tensor

from gradientflow.errors import FieldError, RandomFieldError
from gradientflow.river.fields.base import Evaluation, Field
from gradientflow.river.fields.batches import Batches
from gradientflow.river.fields.culprit import batch_norms, cause, drawn, gap, quoted, repeats, same, twice
from gradientflow.river.fields.network import NetworkField


def check_deterministic(field: Field, theta: Tensor | None = None) -> list[str]:
    """See that two evaluations of a field at one point agree, and refuse if they do not.

    r₁ = r₂ and L₁ = L₂, bit for bit, under different random states; for a field with a loader also that two passes give
    the same batches in the same order.

    Args:
        field: any field.
        theta: a point, (P,), or rows of which the first is taken; None for the field's own start.

    Returns:
        Notes: agreement to round-off only; batch norm in train mode, which uses the statistics of the batch.

    Raises:
        RandomFieldError: they differ; the message names the cause that was found and the call that mends it.
        FieldError: there is no point to look at, loss or rate are not finite there, or an evaluation changes θ.

    Example:
        >>> import torch
        >>> from gradientflow.river.fields.base import Potential
        >>> check_deterministic(Potential(lambda w: (w**2).sum()), torch.ones(2))
        []
        >>> check_deterministic(Potential(lambda w: (w**2).sum() + torch.rand(())), torch.ones(2))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        gradientflow.errors.RandomFieldError: two evaluations of L(θ) at one θ differ: loss 2...
    """
    theta = field.start() if theta is None else theta
    if theta is None:
        raise FieldError(f"{field.name} has no start of its own: name the point, check_deterministic(field, theta).")
    row = theta.detach().reshape(-1, theta.shape[-1])[:1]
    batches = getattr(field, "batches", None)
    if isinstance(batches, Batches) and batches.stream:
        _same_passes(field, batches)
    before = row.clone()
    one, two = twice(lambda: field.evaluate(row))
    if not same(before, row):
        raise FieldError(
            f"{field.name} changes the point it is evaluated at. Take in-place operations on parameters out."
        )
    _finite(field, one)
    norms = batch_norms(field)
    notes = [f"batch norm in train mode ({quoted(norms)}) uses the statistics of the batch."] if norms else []
    if same(one.rate, two.rate) and same(one.value, two.value):
        return notes
    if repeats(one, two) and not drawn(lambda: field.evaluate(row), row.device):
        return [
            *notes,
            f"two evaluations agree to {gap(one, two):.0e}, not bit for bit: sums on {row.device.type} run in no fixed "
            "order. torch.use_deterministic_algorithms(True) gives them one.",
        ]
    raise RandomFieldError(f"{_told(field, one, two)} {cause(field, row, one, two)}")


def _finite(field: Field, at: Evaluation) -> None:
    bad = (~at.rate[0].isfinite()).nonzero().reshape(-1)
    if at.value is not None and not bool(at.value.isfinite().all()):
        raise FieldError(
            f"the loss of {field.name} at this point is {float(at.value[0])}. Expected a finite number: begin elsewhere, or "
            "mend the data or the loss."
        )
    if len(bad):
        space = getattr(field, "space", None)
        place = f"number {int(bad[0])}" if space is None else space.place(int(bad[0]))
        raise FieldError(
            f"the rate of {field.name} at this point is not finite in {len(bad)} of {at.rate.shape[1]} numbers, first in "
            f"{place} ({float(at.rate[0, bad[0]])}). Expected finite numbers: begin elsewhere, or mend the backward pass (a "
            "root or a norm at zero?)."
        )


def depends_on_cut(field: NetworkField) -> list[str]:
    """Return a note where the loss depends on how the data are cut into batches: batch norm in train mode.

    Raises:
        FieldError: they are cut by ``microbatch``, which must not change the loss.
    """
    norms = batch_norms(field)
    if not norms or field.batches.number == 1:
        return []
    text = (
        f"batch norm in train mode ({quoted(norms)}): its statistics are those of each batch, so the loss depends on how "
        "the data are cut into batches."
    )
    if field.batches.microbatch is not None:
        raise FieldError(
            f"microbatch={field.batches.microbatch} with {text} Expected the same loss as at full batch. Call model.eval() "
            "before making the field, or leave microbatch out and give all data as one batch."
        )
    return [f"{text} That loss is what flows here; model.eval() would use the running statistics instead."]


def _same_passes(field: Field, batches: Batches) -> None:
    """See that two passes over a loader give the same batches; if not, say what changes."""
    one, two = twice(batches.marks)
    if one == two:
        return
    loader: Any = batches.source
    first = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
    head = f"two passes over the data of {field.name} differ from batch {first} on, so there is no flow. Cause: "
    norms = batch_norms(field)
    worse = (
        f" Batch norm in train mode ({quoted(norms)}) makes it worse: every cut has its own statistics."
        if norms
        else ""
    )
    singles = twice(functools.partial(batches.marks, singly=True))
    if sorted(singles[0]) == sorted(singles[1]):
        sampler = getattr(getattr(loader, "batch_sampler", None), "sampler", getattr(loader, "sampler", None))
        who = f" ({type(sampler).__name__})" if sampler is not None else ""
        raise RandomFieldError(
            f"{head}the loader shuffles{who}: the same examples come in another order at each pass. "
            f"Use DataLoader(..., shuffle=False).{worse}"
        )
    if getattr(loader, "drop_last", False) and set(singles[0]) & set(singles[1]):
        raise RandomFieldError(
            f"{head}the loader leaves out other examples at each pass: it shuffles with drop_last=True. "
            f"Use DataLoader(..., shuffle=False, drop_last=False).{worse}"
        )
    changes = [any(a[k] != b[k] for a, b in zip(*singles, strict=False)) for k in (0, 1)]
    what = " and ".join(name for name, changed in zip(("inputs", "targets"), changes, strict=True) if changed)
    dataset = getattr(loader, "dataset", loader)
    raise RandomFieldError(
        f"{head}the {what or 'number of examples'} change from pass to pass: random augmentation in "
        f"{type(dataset).__name__}. Take the random transform out, or keep one pass: data=list(loader).{worse}"
    )


def _told(field: Field, one: Evaluation, two: Evaluation) -> str:
    losses = ""
    if one.value is not None and two.value is not None:
        losses = f"loss {float(one.value[0]):.6g} and {float(two.value[0]):.6g}, "
    return (
        f"two evaluations of {field.name} at one θ differ: {losses}{gap(one, two):.1e} relative, so there is no flow. "
        "Expected the same bits."
    )
