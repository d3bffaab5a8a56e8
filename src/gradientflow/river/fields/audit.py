"""Are the derivatives right? Gradient and Hessian product of a field against finite differences of what they derive.

A difference quotient is itself known only to some error: it is taken at several step lengths, and where it moves between
neighbouring lengths tells how far it can be trusted. A derivative is called wrong only where it is off by far more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gradientflow.errors import FieldError
from gradientflow.river.fields.base import Field
from gradientflow.river.fields.culprit import modules_of
from gradientflow.river.fields.kinks import crooked, kinks, nodes, third_error, third_warning

FAR = 10.0  # times the doubt about the difference quotient: then it is the derivative that is wrong
COARSE = 1e-3  # relative; what is closer is never called wrong


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing that an audit found.

    Attributes:
        warning: something is wrong, or will be for some uses; else a note.
        name: "gradient", "Hessian", "third derivatives", "kinks".
        error: measured relative error, NaN where nothing was measured.
        doubt: how well the finite differences know it, relative.
        text: a sentence with the numbers.
    """

    warning: bool
    name: str
    error: float
    doubt: float
    text: str

    def __str__(self) -> str:
        return f"{'warning: ' if self.warning else ''}{self.text}"


def audit(field: Field, theta: Tensor | None = None, seed: int = 0) -> list[Remark]:
    """Compare a field's derivatives with finite differences in random directions.

    ∇L·v with (L(θ + δv) − L(θ − δv))/2δ, and Jv with (r(θ + δv) − r(θ − δv))/2δ, ‖v‖ = 1. One direction leans on the
    gradient, with a random sign and weight for each tensor, so that a wrong factor in any one of them shows; one is
    plainly random. It costs about 12 gradients and a few products.

    Args:
        field: any field; without a loss only Jv is looked at.
        theta: a point, (P,), or rows of which the first is taken; None for the field's own start.
        seed: of the directions.

    Returns:
        Remarks: the measured errors; a warning for each that is off; a warning where third derivatives are wrong in this
        PyTorch or not to be had (layer norm, batch norm in train mode), with the modules; a note on kinks, which Hessians do not see.

    Raises:
        FieldError: there is no point to look at.

    Example:
        >>> from gradientflow.river.fields.base import Potential
        >>> point = torch.tensor([0.3, -0.7], dtype=torch.float64)
        >>> [(remark.name, remark.warning) for remark in audit(Potential(lambda w: (w**4).sum()), point)]
        [('gradient', False), ('Hessian', False)]
    """
    theta = field.start() if theta is None else theta
    if theta is None:
        raise FieldError(f"{field.name} has no start of its own: name the point, audit(field, theta).")
    row = theta.detach().reshape(-1, theta.shape[-1])[:1]
    graph = nodes(field, row)
    rough, found = kinks(graph), crooked(graph, modules_of(field))
    del graph
    rate = field.evaluate(row).rate
    lean, plain = _directions(field, row, rate, seed)
    out = []
    if field.potential and field.value(row) is not None:
        out.append(_gradient(field, row, rate, lean, plain, rough))
    v = plain
    if field.potential:
        v = _unit(lean.add_(plain))
    del rate, lean, plain
    out.append(_hessian(field, row, v, rough))
    if text := third_warning(found):
        text += (
            " Gradient flow needs none of them, and gradients and Hessian products are right; flows with a third-order term "
            "and gradients of the sharpness are not to be trusted on this model."
        )
        out.append(Remark(True, "third derivatives", max(map(third_error, found)), 1e-6, text))
    if rough:
        out.append(
            Remark(
                False, "kinks", math.nan, math.nan,
                f"{', '.join(rough)}: the gradient jumps across kinks, and Hessian products do not see the jumps. The flow is "
                "piecewise smooth; the sharpness is that of the present piece.",
            )
        )  # fmt: skip
    return out


def _directions(field: Field, row: Tensor, rate: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Return two directions of length 1, (1, P): along the rate with random weights by tensor, and a random one."""
    maker = torch.Generator().manual_seed(seed)
    sizes = [t.numel() for t in field.parameters(row[0]).values()]
    weights = (0.5 + torch.rand(len(sizes), generator=maker)) * (torch.rand(len(sizes), generator=maker) - 0.5).sign()
    lean = torch.cat(
        [w * part for w, part in zip(weights.tolist(), torch.split(rate, sizes, dim=1), strict=True)], dim=1
    )
    plain = _unit(torch.randn(row.shape[1], generator=maker, dtype=torch.float64).to(row)[None])
    return (_unit(lean) if bool(lean.any()) else plain), plain


def _unit(v: Tensor) -> Tensor:
    """Return the vector over its length, in place; the squares of its numbers need not be finite."""
    v /= v.abs().amax()
    return v.div_(v.norm())


def _size(v: Tensor) -> float:
    """Return ‖v‖, whatever the squares of its numbers are in its own dtype."""
    return float(torch.linalg.vector_norm(v, dtype=torch.float64))


def _quotient(
    of: Callable[[Tensor], Tensor], row: Tensor, v: Tensor, steps: list[float], *, rough: bool
) -> tuple[Tensor, float]:
    """Return the difference quotient where it is surest, and how far it may be off.

    It is surest where three step lengths in a row agree best; their spread is the doubt, and no less than what rounding
    does. With kinks two lengths agree by accident: there the shortest counts, and the spread of all of them.
    """
    best, last, least, move, worst, unsure = None, None, math.inf, math.inf, 0.0, 0.0
    for i, step in enumerate(steps):  # a vector that is not needed for what follows is not held
        there = torch.add(row, v, alpha=step)
        gap = torch.sub(row, v, alpha=step).sub_(there).mul_(v)
        length = -float(gap.sum())  # what is left of 2δ after rounding
        del gap
        up = of(there)
        down = of(torch.sub(row, v, alpha=step, out=there))
        del there
        rounding = 4 * torch.finfo(up.dtype).eps * (_size(up) + _size(down)) / length
        now = torch.sub(up, down).div_(length)
        del up, down
        if last is not None:
            before, move = move, _size(last - now)
            move = move if math.isfinite(move) else math.inf
            worst = max(worst, move)
            if i > 1 and (best is None or max(before, move) < least):
                best, least, unsure = now, max(before, move), max(before, move, rounding)
        last = now
    assert last is not None and best is not None  # three step lengths at least
    return (last, max(worst, rounding)) if rough else (best, unsure)


def _steps(row: Tensor, power: float, factors: tuple[float, ...]) -> list[float]:
    """Return step lengths u^power max(1, ‖θ‖) times the factors, u the unit round-off of the dtype."""
    base = float(torch.finfo(row.dtype).eps) ** power * max(1.0, float(row.norm()))
    return [base * factor for factor in factors]


def _gradient(field: Field, row: Tensor, rate: Tensor, lean: Tensor, plain: Tensor, rough: list[str]) -> Remark:
    worst, doubt = 0.0, 0.0
    size = _size(rate)
    for v, scale in ((lean, size), (plain, size / math.sqrt(row.shape[1]))):
        slope, move = _quotient(
            lambda at: _loss(field, at), row, v, _steps(row, 1 / 3, (16.0, 4.0, 1.0, 0.25)), rough=bool(rough)
        )
        claim = -float(torch.linalg.vecdot(rate, v))
        scale = max(scale, abs(float(slope)), 1e-300)
        error, unsure = abs(float(slope) - claim) / scale, move / scale
        if error - FAR * unsure > worst - FAR * doubt or v is lean:
            worst, doubt = error, unsure
    return _judged("gradient", "the gradient", "differences of the loss", worst, doubt, rough)


def _loss(field: Field, at: Tensor) -> Tensor:
    out = field.value(at)
    assert out is not None  # asked for only where there is one
    return out


def _hessian(field: Field, row: Tensor, v: Tensor, rough: list[str]) -> Remark:
    factors = (1.0, 0.1, 0.01) if row.dtype == torch.float64 else (1.0, 0.25, 0.0625)
    truth, move = _quotient(lambda at: field.evaluate(at).rate, row, v, _steps(row, 1 / 3, factors), rough=bool(rough))
    claim = field.linearize(row)(v)
    scale = max(_size(truth), _size(claim), 1e-300)
    error = _size(truth.sub_(claim)) / scale
    name = "Hessian" if field.potential else "Jacobian"
    return _judged(
        name,
        f"the {name} product",
        "differences of the gradient" if field.potential else "differences of the rate",
        error,
        move / scale,
        rough,
    )


def _judged(name: str, what: str, against: str, error: float, doubt: float, rough: list[str]) -> Remark:
    told = f"{what} and {against} differ by {error:.1e} relative (the differences are sure to {doubt:.0e})"
    if error > max(COARSE, FAR * doubt):
        mend = (
            "Look into torch.autograd.Function subclasses, .detach() and in-place operations in the model and the loss."
        )
        return Remark(True, name, error, doubt, f"{told}: {what} is wrong. {mend}")
    if doubt > 0.05:
        told += (
            f": kinks ({', '.join(rough)}) lie between the points compared"
            if rough
            else ": too rough to tell; try float64"
        )
    return Remark(False, name, error, doubt, f"{told}.")
