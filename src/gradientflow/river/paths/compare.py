"""A flow and descents beside it: how far apart at equal flow time, what theory predicts, and when and why they part."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from gradientflow.errors import UsageError
from gradientflow.limits import Limit
from gradientflow.river.fields.leading import LeadingError
from gradientflow.river.paths.alike import unlike
from gradientflow.river.paths.descent import again
from gradientflow.river.paths.edges import Interval, adaptive_edge, bracket, narrowed, stability_edge
from gradientflow.river.paths.keep import Keep
from gradientflow.river.paths.loop import Callback, Moment
from gradientflow.river.paths.path import Cost, Path
from gradientflow.river.paths.solve import flow
from gradientflow.river.paths.still import of_paths

ROOM = 1 << 28  # bytes of points that a comparison may hold
FINER = 3e-5  # rtol of the flow that descents are measured against: its own error should not pass for theirs
APART = Limit("distance_over_way", 0.1, "chosen: a descent that is further away, and stays so, has left the flow")
BACK = Limit("distance_over_apart", 0.5, "chosen: a descent that comes nearer again than this share of a tenth is back")
SOON = Limit(
    "crossed_over_left", 1.5, "chosen: an edge crossed by then explains why a descent leaves; later it does not"
)


@dataclass(frozen=True)
class Beside:
    """One descent beside the flow, at the flow times of its own steps.

    Attributes:
        label: the descent's.
        times: flow times compared at, shape (n,).
        distance: ‖θ_k − θ(t_k)‖, shape (n,).
        relative: that over the flow's whole way here, max ‖θ(t) − θ(0)‖, shape (n,).
        output: ‖f(θ_k) − f(θ(t_k))‖/‖f(θ(t_k))‖ of the network's outputs, shape (n,), or None without a network.
        loss: L(θ_k) − L(θ(t_k)), shape (n,), or None.
        predicted: ‖η e(t_k)‖, the leading error of gradient descent, shape (n,); None for other optimizers.
        explained: 1 − ‖θ_k − θ(t_k) − η e‖/‖θ_k − θ(t_k)‖: the share of the gap that the prediction explains, shape (n,).
        edge: the sharpness above which this optimizer leaves the flow; None where no number is known (Adam and RMSProp
            have one for their preconditioned sharpness, told in `why`).
        crossed: two flow times at which the flow's sharpness was measured, the last below `edge` and the first above it; twice
            0 where it is above from the start; None where no measured value is. For Adam and RMSProp that of their own
            preconditioned sharpness and its edge.
        left: flow time from which on the descent is beside the flow by more than a tenth of the flow's whole way: the first
            such time after which it never comes back to within half of that; None where it stays, or comes back.
        why: a sentence.
    """

    label: str
    times: Tensor
    distance: Tensor
    relative: Tensor
    output: Tensor | None
    loss: Tensor | None
    predicted: Tensor | None
    explained: Tensor | None
    edge: float | None
    crossed: Interval | None
    left: float | None
    why: str


@dataclass(frozen=True)
class Comparison:
    """A flow and the descents beside it; `cost` is what comparing took (what was not kept is solved again)."""

    path: Path
    descents: tuple[Path, ...]
    beside: tuple[Beside, ...]
    cost: Cost = field(default_factory=Cost)

    def __str__(self) -> str:
        lines = [f"flow by {self.path.method}, t = {float(self.path.times[-1]):g}"]
        for b in self.beside:
            far = f"{float(b.relative[-1]):.2g} of the whole way beside the flow at t = {float(b.times[-1]):g}"
            guess = (
                ""
                if b.predicted is None
                else f"; predicted {float(b.predicted[-1]):.2g}, measured {float(b.distance[-1]):.2g}"
            )
            lines.append(f"{b.label}: {far}{guess}. {b.why}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return of_paths([self.path, *self.descents], "; ".join(str(self).splitlines()))


def compare(
    path: Path, *descents: Path, points: int = 64, predict: bool = True, progress: Callback | None = None
) -> Comparison:
    """Set descents beside a flow on one clock.

    What the paths did not keep is solved again, with the same arguments: the flow's points at the times of each descent's
    steps, the descent's points there, and for plain gradient descent the leading error η e(t), ė = −He − ½H∇L.

    Args:
        path: a flow on a field with a loss, from `flow`.
        descents: paths from `descend` on the same field, from the same start.
        points: moments to compare at, at most; fewer where their points would take more than 256 MB.
        predict: solve for the leading error too (one Hessian-vector product per evaluation).
        progress: called with a `Moment` after every step; its t is how far all of the comparison is, on the flow's clock.

    Returns:
        a `Comparison`.

    Raises:
        UsageError: a path has no field (it was read from a file), or the starts differ, or the fields do (which is asked
            of them at the start and at both ends).

    Source:
        stability edges: Cohen et al. 2021 (2/η; Polyak (2+2β)/η; Nesterov (2+2β)/(η(1+2β))), Cohen et al. 2022 (Adam).

    Example:
        >>> import torch
        >>> from gradientflow.river import descend
        >>> bowl = lambda w: 0.5 * (torch.tensor([1.0, 3.0]) * w**2).sum()
        >>> path = flow(bowl, t=1.0, start=[1.0, 1.0], rtol=1e-8)
        >>> beside = compare(path, descend(bowl, torch.optim.SGD, t=1.0, lr=0.01, start=[1.0, 1.0])).beside[0]
        >>> round(float(beside.distance[-1] / beside.predicted[-1]), 2)
        1.0
    """
    if not descents:
        raise UsageError("compare(path, *descents) wants at least one descent, from gf.descend.")
    total = Cost()
    found = []
    tell = _Progress(progress, len(descents), float(path.times[-1]))
    for other in descents:
        if path.kind != "flow" or other.kind != "descent":
            raise UsageError(
                "compare(path, *descents): the first is a path from gf.flow, the others are from gf.descend."
            )
        if path.field is None or other.field is None:
            raise UsageError(
                "compare needs the field; a path read from a file does not carry one. Solve it again with gf.flow."
            )
        if path.start.shape != other.start.shape or not torch.equal(path.start, other.start.to(path.start)):
            raise UsageError(f"{other.label} starts elsewhere than the flow; give both the same start=.")
        differ, asked = unlike(path.field, other.field, [path.start, path.final, other.final])
        if differ is not None:
            raise UsageError(
                f"{other.label} ran on another field than the flow ({other.field.name}, {path.field.name}): {differ}. Beside a flow "
                "belongs a descent on the same loss: gf.descend(path.field, …)."
            )
        total = total + asked
        beside, cost = _beside(path, other, points, predict, tell)
        found.append(beside)
        total = total + cost
    return Comparison(path, descents, tuple(found), total)


class _Progress:
    """How far a comparison is: each descent takes three runs, of which some may be left out."""

    def __init__(self, tell: Callback | None, descents: int, end: float) -> None:
        self._tell, self._parts, self._end = tell, 3 * descents, end
        self._part = -1

    def part(self) -> Callback | None:
        """Begin the next run; return what it reports to."""
        self._part += 1
        return None if self._tell is None else self._told

    def _told(self, moment: Moment) -> None:
        assert self._tell is not None  # asked for
        share = min((self._part + moment.t / moment.t_end) / self._parts, 1.0)
        self._tell(replace(moment, t=share * self._end, t_end=self._end, remaining=math.nan))


def _beside(path: Path, other: Path, points: int, predict: bool, tell: _Progress) -> tuple[Beside, Cost]:
    base = path.field
    assert base is not None  # checked by the caller
    size = path.start.numel() * path.start.element_size()
    most = max(4, min(points, ROOM // max(4 * size, 1)))
    end = float(path.times[-1])
    theta, times, inner = _points_of_descent(other, end, most, tell.part())
    again = flow(
        base, max(float(times[-1]), 1e-300), start=path.start, method=str(path.settings["method"]), rtol=min(float(path.settings["rtol"]), FINER),
        atol=min(float(path.settings["atol"]), 1e-3 * FINER), step=path.settings["step"], seed=path.settings["seed"], certify=False,
        keep=Keep(at=times, theta=True, exact=True), progress=tell.part(),
    )  # fmt: skip
    cost = again.cost
    solved = again.theta
    assert solved is not None  # asked for
    n = min(len(solved), len(theta))
    times, theta, solved = times[:n], theta[:n], solved[:n]
    gap = theta - solved
    distance = gap.norm(dim=1).double().cpu()
    way = (solved - path.start).norm(dim=1).double().cpu().max().clamp_min(1e-300)
    relative = torch.where(distance > 0, distance / way, torch.zeros_like(distance))
    loss = None
    if again.loss is not None:
        values = torch.stack([v[0] for w in theta if (v := base.value(w[None])) is not None]).double().cpu()
        loss = values - again.loss[:n]
        cost = cost + Cost(losses=n)
    predicted, explained = None, None
    rate, report = other.settings.get("lr"), tell.part()
    if predict and _plain(other) and rate is not None and base.potential:
        error, more = _leading(path, times, float(rate), report)
        cost = cost + more
        predicted = error.norm(dim=1).double().cpu()
        left_over = (gap[: len(error)] - error).norm(dim=1).double().cpu()
        explained = torch.where(distance > 0, 1 - left_over / distance.clamp_min(1e-300), torch.zeros_like(distance))
    edge = stability_edge(other)
    crossed = inner
    if edge is not None:
        crossed, asked = narrowed(base, bracket(edge, path, again), edge, times, solved)
        cost = cost + asked
    left = leaving(times, relative)
    why = _why(other, edge if edge is not None else adaptive_edge(other), crossed, left, times, relative)
    output = _outputs(base, theta, solved)
    return Beside(
        other.label, times, distance, relative, output, loss, predicted, explained, edge, crossed, left, why
    ), cost


def _points_of_descent(
    other: Path, end: float, most: int, progress: Callback | None
) -> tuple[Tensor, Tensor, Interval | None]:
    """Return points and times of at most so many steps of a descent up to the flow's end, and when its own edge is crossed.

    What decides over Adam and RMSProp is the sharpness as their own scaling sees it, and only the descent knows that.
    """
    limit = end * (1 + 1e-12)
    inside = int((other.times <= limit).sum())
    edge = adaptive_edge(other)
    if other.theta is None or (edge is not None and "preconditioned_sharpness" not in other.kept):
        every = max(1, math.ceil(inside / most))
        other = again(
            other, Keep(every=every, theta=True), sharpness_every=every if edge is not None else 0, progress=progress
        )
    assert other.theta is not None  # asked for
    crossed = None
    if edge is not None:
        crossed = bracket(edge, (other.times, other.kept["preconditioned_sharpness"]))
    rows = (other.times <= limit).nonzero()[:, 0]
    rows = torch.unique(torch.cat([rows[:: max(1, len(rows) // most)], rows[-1:]]))
    return other.theta[rows], other.times[rows], crossed


def _leading(path: Path, times: Tensor, rate: float, progress: Callback | None) -> tuple[Tensor, Cost]:
    """Return η e at the times, (n, P), and what it cost."""
    assert path.field is not None
    pair = LeadingError(path.field)
    start = pair.lift(path.start[None])[0]
    p = path.start.numel()
    run = flow(
        pair, float(times[-1]), start=start, method="rkc2" if path.method.startswith("rk") else "dp54",
        rtol=min(1e-2, max(10 * float(path.settings["rtol"]), 1e-6)), certify=False,
        keep=Keep(at=times, theta=False, exact=True, functions={"e": lambda state: state[p:]}), progress=progress,
    )  # fmt: skip
    return rate * run.kept["e"], run.cost


def _plain(descent: Path) -> bool:
    s = descent.settings
    return bool(s["optimizer"] == "SGD" and not s.get("scheduled") and float(s.get("momentum", "0") or 0) == 0)


def _first(times: Tensor, when: Tensor) -> float | None:
    rows = when.nonzero()[:, 0]
    return float(times[rows[0]]) if len(rows) else None


def leaving(times: Tensor, relative: Tensor) -> float | None:
    """Return when a descent leaves the flow for good: see `Beside.left`.

    Args:
        times: flow times, shape (n,).
        relative: distance over the flow's whole way, shape (n,).

    Example:
        >>> t = torch.arange(6.0)
        >>> leaving(t, torch.tensor([0.0, 0.3, 0.02, 0.08, 0.2, 0.12])), leaving(t, torch.tensor([0.0, 0.3, 0.2, 0.1, 0.04, 0.0]))
        (4.0, None)
    """
    relative = relative.nan_to_num(math.inf)
    back = (relative <= BACK * APART).nonzero()[:, 0]
    after = int(back[-1]) + 1 if len(back) else 0
    return _first(times[after:], relative[after:] > APART)


def _why(
    other: Path, edge: float | None, crossed: Interval | None, left: float | None, times: Tensor, relative: Tensor
) -> str:
    s = other.settings
    beta = float(s.get("momentum", "0") or 0)
    rule = "2/η" if beta == 0 else "(2+2β)/(η(1+2β))" if s.get("nesterov") == "True" else "(2+2β)/η"
    if other.status.reason == "diverged":
        cause = f": the sharpness {_passes(rule, edge, crossed)}" if edge is not None and crossed is not None else ""
        return f"It diverged{cause}."
    if left is None:
        most = int(relative.argmax())
        if float(relative[most]) > APART and most < len(times) - 1:
            return (
                f"It strays and comes back: at t = {float(times[most]):.4g} it is {float(relative[most]):.2g} of the flow's whole "
                f"way beside it, and {float(relative[-1]):.2g} at the end."
            )
        return f"It stays with the flow: at most {float(relative[most]):.2g} of the flow's whole way beside it."
    own = f"{s['optimizer']} scales the gradient by its own history and follows another flow"
    if edge is None:
        return f"It leaves the flow at t = {left:.4g}: {own}."
    if s["optimizer"] in ("Adam", "AdamW", "RMSprop"):
        rule = "2/η" if s["optimizer"] == "RMSprop" else "(2+2β₁)/((1−β₁)η)"
        there = (
            f"{_passes(rule, edge, crossed)}, and it oscillates"
            if crossed is not None
            else f"stays below {rule} = {edge:.4g}"
        )
        return f"It leaves the flow at t = {left:.4g}: {own}. Its preconditioned sharpness {there}."
    if crossed is not None and crossed[1] <= left * SOON + 1e-12:
        return f"It leaves the flow at t = {left:.4g}: the flow's sharpness {_passes(rule, edge, crossed)}."
    if beta:
        return (
            f"It leaves the flow at t = {left:.4g} though the sharpness is below {rule} = {edge:.4g}: with momentum β it runs "
            f"about 1/(1−β) = {1 / (1 - beta):.3g} times ahead of the clock."
        )
    return f"It leaves the flow at t = {left:.4g}, below {rule} = {edge:.4g}: the step is too long for the path's bends, not unstable."


def _passes(rule: str, edge: float, crossed: Interval) -> str:
    """When an edge is crossed, between two measurements."""
    if crossed[1] == 0:
        return f"is above {rule} = {edge:.4g} from the start"
    return f"crosses {rule} = {edge:.4g} between t = {crossed[0]:.4g} and {crossed[1]:.4g}"


def _outputs(base: object, theta: Tensor, solved: Tensor) -> Tensor | None:
    """Return the relative distance of the network's outputs, where the field has a network."""
    outputs: Callable[[Tensor], Tensor] | None = getattr(base, "outputs", None)
    if outputs is None:
        return None
    found = []
    for w, v in zip(theta, solved, strict=True):
        a, b = outputs(w), outputs(v)
        found.append(float((a - b).norm() / b.norm().clamp_min(1e-300)))
    return torch.tensor(found, dtype=torch.float64)
