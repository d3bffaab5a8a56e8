"""Both rivers linked, for a network of the user's own: on a path of a drop, the gradient's way back through the layers there.

The path is the one that is kept of the drop, in all dimensions. Its points are put into the user's own module, and then what was
there is put back. The shares of the layers are asked for apart, for they take a gradient at each kept moment.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gradientflow import depth
from gradientflow.app.fields import Fields, module_of
from gradientflow.app.linked import shares_of
from gradientflow.app.paths import asker, nearest
from gradientflow.app.planes import LONGEST, Planes
from gradientflow.app.wire import frame
from gradientflow.app.work import Token
from gradientflow.errors import UsageError
from gradientflow.records import LayerShares, WayAsk, WaySeen
from gradientflow.report.view import way

if TYPE_CHECKING:
    from torch import Tensor

    from gradientflow.river import LossField, Path

LARGEST = 2_000_000  # parameters of a network that is looked at
ROWS = 4_000_000  # numbers of gradients that are worked out together
TOGETHER = 16  # and moments


def ways(fields: Fields, ask: WayAsk, token: Token) -> Iterator[bytes]:
    """Yield the way back at one moment of a drop's path.

    Raises:
        UsageError: the field is no network that can be looked at, or the place or the time is not what it must be.
    """
    field, known, turns = *_network(fields, ask), fields.turns(ask.target)
    wanted = asker(turns, token)
    with turns.mine(urgent=True):
        path = _path(known, ask, wanted)
        if not wanted() or path.theta is None:
            return
        k = nearest(path, ask.at)
        yield frame(_seen(field, path, k))


def layer_shares(fields: Fields, ask: WayAsk, token: Token) -> Iterator[bytes]:
    """Yield each layer's share of dθ/dt at every kept moment of a drop's path."""
    import torch

    field, known, turns = *_network(fields, ask), fields.turns(ask.target)
    wanted = asker(turns, token)
    rows = max(1, min(TOGETHER, ROWS // field.size))
    sizes = list(zip(field.space.names, field.space.sizes, strict=True))
    layers: list[str] = []
    found: list[Tensor] = []
    with turns.mine():
        path = _path(known, ask, wanted)
        if path.theta is None:
            return
        for part in torch.split(path.theta, rows):
            if not wanted():
                return
            layers, shares = shares_of(field.evaluate(part).rate, sizes)
            found.append(torch.tensor(shares, dtype=torch.float64))
    yield frame(LayerShares(path.times.tolist(), layers), [torch.cat(found, 1).numpy()])


def _network(fields: Fields, ask: WayAsk) -> tuple[LossField, Planes]:
    """Return a field of a module, and its paths."""
    from gradientflow import river

    field, known = fields.get(ask.target).field, fields.planes(ask.target)
    if not isinstance(field, river.LossField):
        raise UsageError(
            f"{field.name} has no layers: the gradient's way back is that of a network, a LossField of a module, a loss and data."
        )
    if module_of(field) is None:
        raise UsageError(
            f"the model of {field.name} is a function, and has no modules to name; make the LossField of an nn.Module to see "
            "the gradient's way back through its layers."
        )
    if known is None:
        raise UsageError(f"{field.name} has two parameters and is drawn whole; its paths are not kept here.")
    if field.size > LARGEST:
        raise UsageError(
            f"a look at {field.size:,} parameters takes too long here, {LARGEST:,} is the most: use gf.diagnose(model, loss, batch)."
        )
    if not math.isfinite(ask.at) or not 0 < ask.t <= LONGEST:
        raise UsageError(
            f"a moment of a path: expected a finite time of a flow time above 0, got {ask.at:g} of {ask.t:g}."
        )
    return field, known


def _path(known: Planes, ask: WayAsk, wanted: Any) -> Path:
    return known.ridden(ask.foot, ask.t, wanted)


def _seen(field: LossField, path: Path, k: int) -> WaySeen:
    module = module_of(field)
    assert module is not None and path.theta is not None
    x, y, _ = field.batches.first()
    inputs = tuple(x) if isinstance(x, list) else dict(x) if isinstance(x, Mapping) else x
    with put_in(field, path.theta[k]):
        found = depth.diagnose_alone(module, field.objective, (inputs, y))
    moment = depth.moment(found.run, found.verdict)
    probe = next((n for n, p in enumerate(found.run.probes) if p.root is not None), None)
    back = None if probe is None else way(moment, probe)
    if back is None or not back.budget.by_op:
        raise UsageError(
            f"the gradient's way back from {field.objective.name} could not be followed: no operation between it and the network's "
            "layers was seen, as where torch.func.vmap hides them."
        )
    told = (
        ""
        if field.batches.number == 1
        else f"Measured on the first of {field.batches.number} batches; the shares are over all of them."
    )
    return WaySeen(float(path.times[k]), len(path.times), back, told)


@contextmanager
def put_in(field: LossField, theta: Tensor) -> Iterator[None]:
    """Have a point of the field's space in the user's own module for the length of a block; then what was there."""
    import torch

    own = field.model.present()
    before = {name: p.detach().clone() for name, p in own.items()}
    try:
        with torch.no_grad():
            for name, values in field.space.unflatten(theta).items():
                own[name].copy_(values)
        yield
    finally:
        with torch.no_grad():
            for name, values in before.items():
                own[name].copy_(values)
