"""What a network's gradient flow keeps constant, as far as its architecture says so with certainty.

Where a layer is followed by another with nothing that is not linear between, the flow keeps D = BBᵀ − AAᵀ, with A the
first layer's weights and bias, one row per neuron, and B the second layer's weights, one row per neuron it reads. Where
ReLU, leaky ReLU or max pooling stands between, it keeps the diagonal: ‖w_in‖² + b² − ‖w_out‖² of every neuron.
Convolutions obey the same laws, channel by channel.

Sources: Du, Hu & Lee (2018), "Algorithmic regularization in learning deep homogeneous models", Theorems 2.1 and 2.2;
Marcotte, Gribonval & Peyré (2023), "Abide by the law and follow the flow".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradientflow.river.fields.network import NetworkField
from gradientflow.torch_internals import children_of, forward_hooks_of, hooks_of, is_dropout, parameters_of

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
LINEAR_BETWEEN = (  # they commute with every mixing of neurons or channels
    nn.Identity, nn.Flatten, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
)  # fmt: skip
SCALING_BETWEEN = (  # they commute with a positive factor on each
    nn.ReLU, nn.LeakyReLU, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d,
    nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
)  # fmt: skip
WIDEST = 256  # neurons up to which the whole matrix is kept; beyond it, its diagonal
SLACK = 1e4  # in units of round-off: what a law that holds may drift at once


@dataclass(frozen=True, slots=True)
class Law:
    """A balance between a layer and the next.

    Attributes:
        name: "balance 0–2" for the layers named 0 and 2.
        first, second: names of the two weights.
        bias: name of the first layer's bias, or None.
        neurons: of the first layer; for convolutions its channels.
        whole: the matrix BBᵀ − AAᵀ is kept; else only its diagonal, with the sign turned round.
    """

    name: str
    first: str
    second: str
    bias: str | None
    neurons: int
    whole: bool

    def sides(self, named: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return A and B, one row per neuron, in float64."""
        first, second = named[self.first], named[self.second]
        a = first.reshape(self.neurons, -1).double()
        if self.bias is not None:
            a = torch.cat([a, named[self.bias].reshape(-1, 1).double()], dim=1)
        b = second.reshape(second.shape[0], self.neurons, -1).transpose(0, 1).reshape(self.neurons, -1).double()
        return a, b

    def of(self, named: dict[str, Tensor]) -> Tensor:
        """Return what is kept constant, at named parameters; float64."""
        a, b = self.sides(named)
        return b @ b.T - a @ a.T if self.whole else a.square().sum(1) - b.square().sum(1)

    def drift(self, named: dict[str, Tensor], rate: dict[str, Tensor]) -> tuple[float, float]:
        """Return how fast it changes when the parameters move at a rate, and how fast its two sides do."""
        (a, b), (da, db) = self.sides(named), self.sides(rate)
        turn_a, turn_b = (a @ da.T, b @ db.T) if self.whole else ((a * da).sum(1), (b * db).sum(1))
        if self.whole:
            turn_a, turn_b = turn_a + turn_a.T, turn_b + turn_b.T
        return float((turn_b - turn_a).norm()), float(a.norm() * da.norm() + b.norm() * db.norm())


def laws_of(field: NetworkField) -> list[Law]:
    """Return the laws that a field keeps: read off the architecture, and seen to hold at two points.

    Only layers in a row of one plain ``nn.Sequential`` are looked at, whose parameters move and are not shared. Then
    d(law)/dt along −∇L must vanish to round-off at the start and at a point away from it; what does not is left out.

    Args:
        field: without weight decay, which breaks these laws.

    Returns:
        The laws; an empty list where nothing is certain.
    """
    candidates = list(_candidates(field.model.modules(), set(field.space.names)))
    if not candidates:
        return []
    start = field.start()
    maker = torch.Generator().manual_seed(0)
    noise = torch.randn(start.numel(), generator=maker, dtype=torch.float64).to(start)
    away = start + 0.5 * noise * start.square().mean().sqrt()
    slack = SLACK * torch.finfo(field.dtype).eps
    kept = candidates
    for point in (start, away):
        named = field.space.unflatten(point)
        rate = field.space.unflatten(field.evaluate(point[None]).rate[0])
        kept = [law for law in kept if _holds(*law.drift(named, rate), slack)]
    return kept


def _holds(drift: float, turn: float, slack: float) -> bool:
    return turn > 0 and drift <= slack * turn


def _candidates(modules: dict[str, nn.Module], names: set[str]) -> Iterator[Law]:
    """Yield the laws that the architecture suggests."""
    uses: dict[int, int] = {}
    for module in modules.values():
        for p in parameters_of(module).values():
            uses[id(p)] = uses.get(id(p), 0) + 1
    inner = {
        id(child) for m in modules.values() if type(m) is nn.Sequential for child in m if type(child) is nn.Sequential
    }
    for name, module in modules.items():
        if type(module) is not nn.Sequential or id(module) in inner:
            continue
        before: tuple[str, nn.Module] | None = None
        whole, flat = True, False
        for at, layer in _chain(module, f"{name}." if name else ""):
            if _hooked(layer):
                before = None
            elif type(layer) is nn.Linear or (type(layer) in CONVOLUTIONS and layer.groups == 1):
                if before is not None and (law := _law(before, (at, layer), whole, flat)) is not None:
                    used = [law.first, law.second, *([law.bias] if law.bias else [])]
                    if names.issuperset(used) and all(uses[id(_parameter(modules, n))] == 1 for n in used):
                        yield law
                before, whole, flat = (at, layer), True, False
            elif type(layer) in SCALING_BETWEEN:
                whole = False
            elif is_dropout(layer) and (layer.p == 0 or not layer.training):
                pass
            elif type(layer) in LINEAR_BETWEEN:
                flat |= isinstance(layer, nn.Flatten)
            else:
                before = None


def _law(one: tuple[str, nn.Module], two: tuple[str, nn.Module], whole: bool, flat: bool) -> Law | None:
    (name, first), (after, second) = one, two
    neurons, inputs = _weight(first).shape[0], _weight(second).shape[1]
    fits = inputs % neurons == 0 if flat and type(first) is not nn.Linear else inputs == neurons
    if not fits:
        return None
    bias = f"{name}.bias" if first.bias is not None else None
    return Law(
        f"balance {name}–{after}", f"{name}.weight", f"{after}.weight", bias, neurons, whole and neurons <= WIDEST
    )


def _weight(module: nn.Module) -> Tensor:
    weight = parameters_of(module)["weight"]
    assert weight is not None
    return weight


def _chain(module: nn.Sequential, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers of a Sequential in their order, those of inner ones included."""
    for key, layer in children_of(module).items():
        if type(layer) is nn.Sequential and not _hooked(layer):
            yield from _chain(layer, f"{prefix}{key}.")
        elif layer is not None:
            yield f"{prefix}{key}", layer


def _hooked(module: nn.Module) -> bool:
    return bool(forward_hooks_of(module) or hooks_of(module))


def _parameter(modules: dict[str, nn.Module], name: str) -> nn.Parameter | None:
    owner, _, key = name.rpartition(".")
    return parameters_of(modules[owner])[key]
