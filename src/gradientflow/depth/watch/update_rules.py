"""What the optimizers of `torch.optim` make of a gradient, stage by stage, read off the state that a step leaves behind.

Each rule is a function of (g, w, state, group): the gradient as the optimizer found it, the weights ahead of the step, and the
state behind it, all in wide precision. It returns the vectors behind its stages in order, the last being the update
w_before − w_after that the rule demands; `None` where the state does not tell. Rules as PyTorch documents them: Robbins and Monro
(1951) and Sutskever et al. (2013) for SGD, Kingma and Ba (2015, algorithms 1 and 2) for Adam and Adamax, Loshchilov and Hutter
(2019) for AdamW, Dozat (2016) for NAdam, Liu et al. (2020) for RAdam, Duchi et al. (2011) for Adagrad, Hinton (2012) for RMSprop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from gradientflow.records import DECAY, MOMENTUM, PRECONDITIONER, RATE

_SAME = 1e-6  # how near two vectors are that differ by rounding only
State = Mapping[str, Any]
Stages = list[tuple[str, Tensor]]
_TRACTABLE = (
    5.0  # length of RAdam's moving average beyond which the variance of v is known (Liu et al. 2020, section 4.2)
)


@dataclass
class Explained:
    """The stages of one tensor's update, and how many of its entries have √v below eps."""

    stages: Stages = field(default_factory=list)
    eps_rules: float | None = None  # share of entries


Rule = Callable[[Tensor, Tensor, State, State], Explained | None]


def _number(value: Any) -> float:
    return float(value)


def _decayed(g: Tensor, w: Tensor, group: State, stages: Stages) -> Tensor:
    """Turn the gradient where it is climbed, and add L2 decay."""
    if group.get("maximize"):
        g = -g
    decay = _number(group.get("weight_decay") or 0.0)
    if decay:
        g = g + decay * w
        stages.append((DECAY, g))
    return g


def sgd(g: Tensor, w: Tensor, state: State, group: State) -> Explained | None:
    """v ← μv + (1−τ)g, Δw = ηv; with Nesterov η(g + μv)."""
    found = Explained()
    d = _decayed(g, w, group, found.stages)
    if momentum := _number(group.get("momentum") or 0.0):
        buffer = state.get("momentum_buffer")
        if buffer is None:
            return None
        d = d + momentum * buffer if group.get("nesterov") else buffer
        found.stages.append((MOMENTUM, d))
    found.stages.append((RATE, _number(group["lr"]) * d))
    return found


def adam(g: Tensor, w: Tensor, state: State, group: State) -> Explained | None:
    """Δw = η m̂ / (√v̂ + ε), with ηλw besides where decay is decoupled."""
    if "exp_avg" not in state or "exp_avg_sq" not in state:
        return None
    found, decoupled = Explained(), bool(group.get("decoupled_weight_decay"))
    lr, t = _number(group["lr"]), _number(state["step"])
    b1, b2 = (_number(b) for b in group["betas"])
    _decayed(g, w, {**group, "weight_decay": 0.0} if decoupled else group, found.stages)
    mean = state["exp_avg"] / (1 - b1**t)
    found.stages.append((MOMENTUM, mean))
    square = state.get("max_exp_avg_sq") if group.get("amsgrad") else state["exp_avg_sq"]
    if square is None:
        return None
    found.eps_rules = _scaled(found.stages, mean, (square / (1 - b2**t)).sqrt(), _number(group["eps"]))
    _stepped(found.stages, w, lr, _number(group.get("weight_decay") or 0.0) if decoupled else 0.0)
    return found


def nadam(g: Tensor, w: Tensor, state: State, group: State) -> Explained | None:
    """Δw = η (m̄ / (√v̂ + ε)), m̄ the Nesterov mean of gradient and momentum."""
    if "exp_avg" not in state or "mu_product" not in state:
        return None
    found, decoupled = Explained(), bool(group.get("decoupled_weight_decay"))
    t = _number(state["step"])
    b1, b2 = (_number(b) for b in group["betas"])
    g = _decayed(g, w, {**group, "weight_decay": 0.0} if decoupled else group, found.stages)
    mu, after = (b1 * (1 - 0.5 * 0.96 ** (n * _number(group["momentum_decay"]))) for n in (t, t + 1))
    product = _number(state["mu_product"])
    mean = g * (1 - mu) / (1 - product) + state["exp_avg"] * after / (1 - product * after)
    found.stages.append((MOMENTUM, mean))
    found.eps_rules = _scaled(found.stages, mean, (state["exp_avg_sq"] / (1 - b2**t)).sqrt(), _number(group["eps"]))
    _stepped(found.stages, w, _number(group["lr"]), _number(group.get("weight_decay") or 0.0) if decoupled else 0.0)
    return found


def radam(g: Tensor, w: Tensor, state: State, group: State) -> Explained | None:
    """Δw = η m̂ r / (√v/√(1−β₂ᵗ) with ε inside), and η m̂ while the variance of v is not known."""
    if "exp_avg" not in state:
        return None
    found, decoupled = Explained(), bool(group.get("decoupled_weight_decay"))
    t = _number(state["step"])
    b1, b2 = (_number(b) for b in group["betas"])
    _decayed(g, w, {**group, "weight_decay": 0.0} if decoupled else group, found.stages)
    mean = state["exp_avg"] / (1 - b1**t)
    found.stages.append((MOMENTUM, mean))
    most = 2 / (1 - b2) - 1
    rho = most - 2 * t * b2**t / (1 - b2**t)
    if rho <= _TRACTABLE:  # the variance of v is not known yet: tensors of one group may stand on either side of this
        found.stages.append((PRECONDITIONER, mean))
    else:
        rectified = math.sqrt((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho))
        eps = _number(group["eps"])
        root = state["exp_avg_sq"].sqrt()
        found.stages.append((PRECONDITIONER, mean * rectified * math.sqrt(1 - b2**t) / (root + eps)))
        found.eps_rules = float((root < eps).double().mean())
    _stepped(found.stages, w, _number(group["lr"]), _number(group.get("weight_decay") or 0.0) if decoupled else 0.0)
    return found


def adamax(g: Tensor, w: Tensor, state: State, group: State) -> Explained | None:
    """Δw = η/(1−β₁ᵗ) · m/u."""
    if "exp_avg" not in state or "exp_inf" not in state:
        return None
    found = Explained()
    _decayed(g, w, group, found.stages)
    mean = state["exp_avg"] / (1 - _number(group["betas"][0]) ** _number(state["step"]))
    found.stages += [(MOMENTUM, mean), (PRECONDITIONER, mean / state["exp_inf"])]
    found.eps_rules = float((state["exp_inf"] <= 2 * _number(group["eps"])).double().mean())
    _stepped(found.stages, w, _number(group["lr"]), 0.0)
    return found


def adagrad(g: Tensor, w: Tensor, state: State, group: State) -> Explained | None:
    """Δw = η_t g / (√Σg² + ε)."""
    if "sum" not in state:
        return None
    found = Explained()
    g = _decayed(g, w, group, found.stages)
    found.eps_rules = _scaled(found.stages, g, state["sum"].sqrt(), _number(group["eps"]))
    slower = 1 + (_number(state["step"]) - 1) * _number(group["lr_decay"])
    _stepped(found.stages, w, _number(group["lr"]) / slower, 0.0)
    return found


def rmsprop(g: Tensor, w: Tensor, state: State, group: State) -> Explained | None:
    """Δw = η g / (√v + ε), through a momentum where there is one."""
    if "square_avg" not in state:
        return None
    found = Explained()
    g = _decayed(g, w, group, found.stages)
    square = state["square_avg"]
    if group.get("centered"):
        square = (square - state["grad_avg"] ** 2).clamp(min=0)
    found.eps_rules = _scaled(found.stages, g, square.sqrt(), _number(group["eps"]))
    if group.get("momentum"):
        found.stages.append((MOMENTUM, state["momentum_buffer"]))
    _stepped(found.stages, w, _number(group["lr"]), 0.0)
    return found


def fresh(g: Tensor, w: Tensor, state: State, group: State) -> bool:
    """Whether what an optimizer remembers behind a step is what it remembers behind its first."""
    if "step" in state:
        return _number(state["step"]) == 1
    buffer = state.get("momentum_buffer")
    if buffer is None or not group.get("momentum"):
        return False
    first = _decayed(g, w, group, [])
    return float((buffer - first).norm()) <= _SAME * float(first.norm()) > 0


def _scaled(stages: Stages, d: Tensor, root: Tensor, eps: float) -> float:
    """Add d / (root + ε); return the share of entries where ε is the larger part."""
    stages.append((PRECONDITIONER, d / (root + eps)))
    return float((root < eps).double().mean())


def _stepped(stages: Stages, w: Tensor, lr: float, decay: float) -> None:
    """Add the learning rate, and decay that is decoupled from the gradient."""
    stages.append((RATE, lr * stages[-1][1]))
    if decay:
        stages.append((DECAY, stages[-1][1] + lr * decay * w))


RULES: dict[str, Rule] = {
    "SGD": sgd, "Adam": adam, "AdamW": adam, "NAdam": nadam, "RAdam": radam, "Adamax": adamax, "Adagrad": adagrad, "RMSprop": rmsprop,
}  # fmt: skip
"""By class name, of classes that are PyTorch's own; every other optimizer is one box."""
