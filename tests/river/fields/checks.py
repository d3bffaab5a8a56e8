"""What every field is held to: rate against differences of the loss, J against differences of the rate, rows apart."""

from __future__ import annotations

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from gradientflow.river.fields.base import Field


def rate(field: Field, theta: Tensor) -> Tensor:
    return field.evaluate(theta).rate


def difference(f, theta: Tensor, v: Tensor, step: float = 1e-3) -> Tensor:
    """∂f/∂θ v by the fourth-order central difference: error about step⁴ + 1e-16/step."""
    near = f(theta + step * v) - f(theta - step * v)
    far = f(theta + 2 * step * v) - f(theta - 2 * step * v)
    return (8 * near - far) / (12 * step)


def slope_of_value(field: Field, theta: Tensor, step: float = 1e-3) -> Tensor:
    """∇(value) at θ, (B, P), coordinate by coordinate."""
    out = torch.empty_like(theta)
    for i in range(theta.shape[1]):
        unit = torch.zeros_like(theta)
        unit[:, i] = 1.0
        out[:, i] = difference(field.value, theta, unit, step)
    return out


def jacobian(field: Field, theta: Tensor) -> Tensor:
    """J as the field's own linearize gives it, (B, P, P)."""
    product = field.linearize(theta)
    columns = []
    for i in range(theta.shape[1]):
        unit = torch.zeros_like(theta)
        unit[:, i] = 1.0
        columns.append(product(unit))
    return torch.stack(columns, dim=-1)


def jacobian_gap(field: Field, theta: Tensor, *, step: float = 1e-3, seed: int = 0, wrong: float = 0.0) -> float:
    """Relative gap between J v and the difference of the rate, over random directions; `wrong` spoils J v, as a control."""
    made = torch.Generator().manual_seed(seed)
    v = torch.randn(theta.shape, generator=made, dtype=theta.dtype)
    want = difference(lambda at: rate(field, at), theta, v, step)
    got = field.linearize(theta)(v) + wrong * v
    return float((got - want).norm() / want.norm().clamp(min=1e-12))


def rows_gap(field: Field, theta: Tensor) -> float:
    """Largest difference between a batch and its rows one by one, in rate, value and J v."""
    v = torch.linspace(-1.0, 1.0, theta.numel(), dtype=theta.dtype).reshape(theta.shape)
    whole, push = field.evaluate(theta), field.linearize(theta)(v)
    worst = 0.0
    for i in range(len(theta)):
        alone = field.evaluate(theta[i : i + 1])
        worst = max(worst, float((alone.rate[0] - whole.rate[i]).abs().max()))
        worst = max(worst, float((field.linearize(theta[i : i + 1])(v[i : i + 1])[0] - push[i]).abs().max()))
        if whole.value is not None and alone.value is not None:
            worst = max(worst, float((alone.value[0] - whole.value[i]).abs()))
    return worst


def judge(
    field: Field, z0: Tensor, t: float, *, rtol: float = 1e-12, atol: float = 1e-13, start: float = 0.0
) -> Tensor:
    """The state at t from z0, (S,), by SciPy's DOP853: nothing of ours but the rate."""

    def f(_: float, z: np.ndarray) -> np.ndarray:
        return rate(field, torch.from_numpy(z.copy())[None])[0].numpy()

    out = solve_ivp(f, (start, t), z0.double().numpy(), method="DOP853", rtol=rtol, atol=atol)
    assert out.success, out.message
    return torch.from_numpy(out.y[:, -1].copy())


def slope(steps: list[float], gaps: list[float]) -> float:
    """Order of convergence: the slope of ln(gap) over ln(step)."""
    return float(np.polyfit(np.log(steps), np.log(gaps), 1)[0])
