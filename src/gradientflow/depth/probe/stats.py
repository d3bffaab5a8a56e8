"""Numbers of one tensor: what is kept of a value in the forward pass and of a gradient in the backward pass.

Every function reads its tensor without gradient and without changing it, uses no random numbers, and needs one device
synchronisation in the ordinary case (two where something is not finite or the norm under- or overflows).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gradientflow.depth.probe.shards import local
from gradientflow.limits import Limit
from gradientflow.ops import DYING, RANGES
from gradientflow.records import GradStat, ValueStat

ONE_HOT = Limit("largest_weight", 0.99, "chosen: the other entries together are a hundredth, and so is the slope")
AT_THE_END = Limit(
    "share_of_range", 0.025, "chosen: of the range, at each end; the slope of a sigmoid there is a tenth of its largest"
)
ROWS = Limit("rows", 8, "chosen: of fewer samples it is not said whether they are all answered alike")
TINY = Limit("norm", 1e-18, "the root of the smallest normal float32, 1.1e-19, and a decade to spare")


def _plain(t: Tensor) -> Tensor:
    """Return the entries of `t` as a dense real tensor of at least 32 bits, detached."""
    t = local(t.detach())
    if t.is_sparse:
        t = t.coalesce().values()
    if t.is_complex():
        t = torch.view_as_real(t)
    if t.is_quantized:
        t = t.dequantize()
    return t.float() if t.dtype in (torch.float16, torch.bfloat16) or not t.is_floating_point() else t


def value_stat(t: Tensor, op: str | None = None, channel: int = -1) -> ValueStat:
    """Return the forward statistics of a tensor.

    Args:
        t: any tensor.
        op: name of the operation that made it, which decides whether units can saturate or die.
        channel: the dimension that counts units.
    """
    shape = list(t.shape)
    dtype = str(t.dtype).removeprefix("torch.")
    with torch.no_grad():
        x = _plain(t)
        n = x.numel()
        if n == 0:
            return ValueStat(shape, dtype, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0)
        low, high = torch.aminmax(x)
        std, mean = torch.std_mean(x, correction=0)
        nonzero = torch.count_nonzero(x).to(x.dtype)
        parts = [mean, std, low, high, nonzero]
        span = RANGES.get(op or "")
        if op == "softmax":
            parts.append((x.amax(dim=channel) > ONE_HOT).to(x.dtype).mean())
        elif span is not None:
            margin = AT_THE_END * (span[1] - span[0])
            parts.append(((x < span[0] + margin) | (x > span[1] - margin)).to(x.dtype).mean())
        else:
            parts.append(torch.zeros_like(mean))
        if op in DYING and x.dim() >= 2:
            axis = channel % x.dim()
            others = [d for d in range(x.dim()) if d != axis]
            parts.append((x.abs().amax(dim=others) == 0).to(x.dtype).mean())
        else:
            parts.append(torch.zeros_like(mean))
        m, s, lo, hi, nz, sat, dead = torch.stack(parts).tolist()
        nan = inf = 0
        if not all(math.isfinite(v) for v in (m, s, lo, hi)):
            nan, inf = int(torch.isnan(x).sum()), int(torch.isinf(x).sum())
            finite = x[torch.isfinite(x)].double()
            if finite.numel():
                m, s = float(finite.mean()), float(finite.std(correction=0))
                lo, hi = float(finite.min()), float(finite.max())
            else:
                m = s = lo = hi = 0.0
    return ValueStat(
        shape, dtype, m, s, lo, hi, 1.0 - nz / n, nan, inf,
        saturated=sat if span is not None or op == "softmax" else None,
        dead=dead if op in DYING and len(shape) >= 2 else None,
    )  # fmt: skip


def rows_apart(t: Tensor) -> float | None:
    """Return by how much the rows of a matrix differ from their mean, as a root mean square; None of fewer than `ROWS`."""
    if t.dim() != 2 or t.shape[0] < ROWS or not t.numel():
        return None
    with torch.no_grad():
        x = _plain(t)
        found = float((x - x.mean(0)).square().mean().sqrt())
    return found if math.isfinite(found) else None


def grad_stat(g: Tensor) -> GradStat:
    """Return the backward statistics of a gradient; the norm is over its finite entries and neither under- nor overflows."""
    with torch.no_grad():
        x = _plain(g)
        n = x.numel()
        if n == 0:
            return GradStat(0.0, 0.0, 0.0, 1.0, 0, 0)
        parts = [torch.linalg.vector_norm(x), torch.linalg.vector_norm(x, ord=math.inf)]
        parts.append(torch.count_nonzero(x).to(x.dtype))
        norm, top, nonzero = torch.stack(parts).tolist()
        nan = inf = 0
        if not math.isfinite(top):
            nan, inf = int(torch.isnan(x).sum()), int(torch.isinf(x).sum())
            x = x[torch.isfinite(x)].double()
            top = float(x.abs().max()) if x.numel() else 0.0
            norm = float(torch.linalg.vector_norm(x))
        if top > 0 and (norm < TINY or not math.isfinite(norm)):  # squares under- or overflowed
            norm = top * float(torch.linalg.vector_norm(x.double() / top))
    return GradStat(norm, norm / math.sqrt(n), top, 1.0 - nonzero / n, nan, inf)


def combine(stats: list[GradStat], sizes: list[int]) -> GradStat:
    """Return the statistics of several gradients taken as one long vector."""
    n = max(sum(sizes), 1)
    norm = math.hypot(*(s.norm for s in stats))
    return GradStat(
        norm,
        norm / math.sqrt(n),
        max(s.max for s in stats),
        sum(s.zeros * k for s, k in zip(stats, sizes, strict=True)) / n,
        sum(s.nan for s in stats),
        sum(s.inf for s in stats),
    )


def units_alike(w: Tensor) -> float | None:
    """Return how alike the units of a weight are: 1 when all are one and the same vector, about 1/units when random.

    Units are rows (as in `nn.Linear`) or columns (as in `x @ W`); of the two the larger answer counts. It is the share of
    ‖W‖² that lies in the mean unit: units·‖mean unit‖² / ‖W‖².
    """
    if w.dim() < 2 or max(w.shape[0], w.shape[1]) < 2:
        return None
    with torch.no_grad():
        x = _plain(w)
        total = float((x * x).sum())
        if not math.isfinite(total) or total == 0.0:
            return None
        shares = [
            (x.mean(dim=d) ** 2).sum() * x.shape[d] / total
            for d in (0, 1)
            if x.shape[d] > 1 and (d == 0 or x.dim() == 2)
        ]
        return float(torch.stack(shares).max()) if shares else None
