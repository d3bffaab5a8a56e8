"""What moved weights within an optimizer's step beside its rule: how much of it, which of them, and whether it is a constraint.

A constraint (a clamp, a mask, a norm that is held) works on what the step left, and would change nothing if it came again. It is
told by what it leaves: entries at a bound, at zero or where they were, rows of one norm. Noise that is added to the weights
(Langevin dynamics) is told by its distribution: that of a normal, and of nothing that the weights or the update are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from gradientflow.depth.watch.vectors import norm
from gradientflow.limits import Limit
from gradientflow.records import Foreign

DECAYED = Limit("weights_left", 0.9, "chosen: a tenth of the weights at each step is more than any decay that is meant")
LIKE = Limit(
    "apart", 1e-3, "chosen: of what is compared, two norms or a scaled tensor and its original; rounding leaves less"
)
ROUNDED = Limit("rounding_of_a_tensor", 1e-6, "rounding of single precision, and a decade to spare")
CHANGED = Limit("change_of_a_norm", 1e-7, "rounding of single precision")
CHANCE = Limit("standard_errors", 4.0, "chosen: of mean, correlation and fourth moment of normal numbers")
SAMPLE = Limit("entries_of_noise", 200, "chosen: of fewer it cannot be told how they are distributed")
HELD = Limit("norm_over_the_one_before", 1e-5, "chosen: a decay takes more, rounding less")
_BOUNDED = 3  # entries of a tensor whose least and largest are bounds of something
_FEW = 4  # parameters that are named


@dataclass(frozen=True, slots=True)
class Moved:
    """One parameter's part that was looked at, in wide precision: ahead of the step, what was asked, what was done."""

    param: int
    before: Tensor
    wanted: Tensor  # w_before − w_after that the rule demands
    moved: Tensor  # w_before − w_after
    beyond: Tensor  # how far they are apart, without what rounding can do

    @property
    def ruled(self) -> Tensor:
        """The weights as the rule would have left them."""
        return self.before - self.wanted

    @property
    def after(self) -> Tensor:
        return self.before - self.moved


def foreign(parts: Sequence[Moved], size: float, shared: bool) -> Foreign:
    """Return what was done beside the rule.

    Args:
        parts: all of a group.
        size: the norm that the share is of.
        shared: other processes may write to the weights.
    """
    touched = sorted(
        (p for p in parts if bool((p.beyond != 0).any())), key=lambda p: float(p.beyond.norm()), reverse=True
    )
    shapes = {"shared"} if shared else {"noised"} if _noise(parts) else {_shape(p) for p in touched}
    if shapes == {"kept"} and len(touched) == len(parts) and all(bool((p.moved == 0).all()) for p in parts):
        shapes = {""}  # nothing moves at all
    shape = shapes.pop() if len(shapes) == 1 else ("" if "" in shapes else "constrained")
    return Foreign(norm(p.beyond for p in parts) / size, [p.param for p in touched[:_FEW]], shape)


def _noise(parts: Sequence[Moved]) -> bool:
    """Whether what was done beside the rule is normal noise, in every parameter: its mean, its fourth moment and its correlations
    with the weights and with what the rule demands are those of chance.
    """
    if max((p.moved.numel() for p in parts), default=0) < SAMPLE:
        return False
    return all(_normal(p.moved - p.wanted, p.before, p.wanted) for p in parts)


def _normal(d: Tensor, *others: Tensor) -> bool:
    n, size = d.numel(), float(d.norm())
    if not size > 0:
        return False
    error = CHANCE / n**0.5
    means = [float(d.mean()) * n**0.5 / size]
    along = [float((d * o).sum()) / (size * float(o.norm())) for o in others if bool(o.any())]
    excess = (
        float((d / size).pow(4).sum()) * n - 3.0
    ) / 24.0**0.5  # of the fourth moment; of variance 1/n for a normal d
    return all(abs(x) <= error for x in (*means, *along, excess))


def _shape(p: Moved) -> str:
    """Return the constraint that explains what became of one parameter; nothing where none does."""
    touched = p.beyond != 0
    after, ruled = p.after, p.ruled
    if bool((after[touched] == 0).all()):
        return "zeroed"
    low, high = after.min(), after.max()
    outside = ((after == high) & (ruled >= high)) | ((after == low) & (ruled <= low))
    if after.numel() >= _BOUNDED and bool(outside[touched].all()):
        return "clamped"
    if bool((p.moved[touched] == 0).all()):
        return "kept"
    return _scaled(after, ruled, p.before)


def _scaled(after: Tensor, ruled: Tensor, before: Tensor) -> str:
    """Return whether rows, columns or all of a tensor were scaled: to one norm, or down a little."""
    for axis in (None, *range(after.dim() if after.dim() > 1 else 0)):
        a, r, b = (t.reshape(1, -1) if axis is None else t.movedim(axis, 0).flatten(1) for t in (after, ruled, before))
        lengths, left, was = a.norm(dim=1), r.norm(dim=1), b.norm(dim=1)
        factors = (a * r).sum(1) / left.square().clamp_min(1e-300)
        if not bool(((a - factors[:, None] * r).norm(dim=1) <= LIKE * (lengths - left).abs() + ROUNDED * left).all()):
            continue
        changed = (lengths - left).abs() > CHANGED * left
        held = lengths[changed]
        one = held.numel() > 1 and bool((held - held.mean()).abs().max() <= LIKE * held.mean())
        still = bool(((lengths - was).abs() <= HELD * was)[changed].all())
        if held.numel() and float(held.mean()) > 0 and (one or still):
            return "rescaled"
        if bool(((factors >= DECAYED) & (factors <= 1))[changed].all()):
            return "decayed"
    return ""


def in_shared_memory(t: Tensor) -> bool:
    """Whether other processes may write to a tensor of the script's."""
    return t.device.type == "cpu" and bool(t.untyped_storage().is_shared())
