"""What flows: the protocol every field keeps, and the two plain fields.

A field is θ ↦ dθ/dt. The rules, numbered so that errors and reviews can name them:

1. Points and directions are batches: tensors of shape (B, P), one row per drop, of `dtype` on `device`. P is `size`.
2. `evaluate(theta)` returns the rate dθ/dt, shape (B, P), and, where there is a loss, its value, shape (B,). It leaves
   `theta` as it is and returns tensors nobody else writes to. Rows do not mix: row i depends on row i of `theta` only.
3. `linearize(theta)` returns v ↦ Jv with J = ∂(rate)/∂θ at θ, (B, P) → (B, P). With `potential` set J = −H is symmetric.
4. `value(theta)` returns the loss alone, (B,), at less cost than `evaluate`; None where the field has none.
5. `potential` says rate = −∇(value). Only then is the loss monotone, the energy identity true and J symmetric.
6. `start()` returns the point to begin at when the caller names none, shape (P,), or None.
7. `conserved(theta)` returns what the exact flow keeps constant: name → (B, k). Empty where nothing is known.
8. Nothing is counted or timed here; who calls, counts. `price` says what one `evaluate` takes of a row: (gradients, HVPs).
"""

from __future__ import annotations

import functools
import inspect
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from gradientflow.errors import FieldError
from gradientflow.river.fields.still import of_field

Linear = Callable[[Tensor], Tensor]
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A field at B points: the rate dθ/dt, shape (B, P), and the loss, shape (B,), or None where there is none."""

    rate: Tensor
    value: Tensor | None


class Field(ABC):
    """θ ↦ dθ/dt over a batch of points; the module's rules say what each member must do."""

    name: str = "field"
    size: int
    dtype: torch.dtype = torch.float64
    device: torch.device = torch.device("cpu")
    potential: bool = False
    price: tuple[int, int] = (1, 0)

    @abstractmethod
    def evaluate(self, theta: Tensor) -> Evaluation:
        """Return rate and value at θ, shape (B, P)."""

    @abstractmethod
    def linearize(self, theta: Tensor) -> Linear:
        """Return v ↦ (∂rate/∂θ) v at θ, shape (B, P)."""

    def value(self, theta: Tensor) -> Tensor | None:
        """Return the loss at θ, shape (B,), or None."""
        return self.evaluate(theta).value

    def start(self) -> Tensor | None:
        """Return the point to begin at, shape (P,), or None."""
        return None

    def conserved(self, theta: Tensor) -> dict[str, Tensor]:
        """Return what the exact flow keeps constant, name → (B, k)."""
        return {}

    def parameters(self, theta: Tensor) -> dict[str, Tensor]:
        """Return one point, shape (P,), as named parameters."""
        return {"theta": theta}

    def position(self, theta: Tensor) -> Tensor:
        """Return the parameters within the state, (B, P) → (B, Q): a flow with momentum carries more than θ."""
        return theta

    def _repr_html_(self) -> str:
        return of_field(self)


class VectorField(Field):
    """Any dθ/dt = f(θ).

    Args:
        f: one point, shape (P,), to its rate, shape (P,); differentiable by PyTorch.
        start: where to begin when nobody says, P numbers.
        name: what to call it.
        batched: f takes (B, P) to (B, P) itself; otherwise it is vectorised with ``torch.func.vmap``.
        conserved: what the exact flow keeps constant: name → function of one point, (P,) → (k,) or scalar.

    Example:
        >>> turn = VectorField(lambda z: torch.stack([-z[1], z[0]]))
        >>> turn.evaluate(torch.tensor([[1.0, 0.0]])).rate
        tensor([[-0., 1.]])
    """

    def __init__(
        self,
        f: Callable[[Tensor], Tensor],
        *,
        start: Sequence[float] | Tensor | None = None,
        name: str = "f(θ)",
        batched: bool = False,
        conserved: dict[str, Callable[[Tensor], Tensor]] | None = None,
    ) -> None:
        self._f = of_one(f, "a rate", name)
        self._laws = conserved or {}
        self._batched = batched
        self._start = None if start is None else as_point(start)
        self.name = name
        self.size = 0 if self._start is None else self._start.numel()  # 0: learnt from the first point
        if self._start is not None:
            self.dtype, self.device = self._start.dtype, self._start.device

    def start(self) -> Tensor | None:
        return self._start

    def _rate(self, theta: Tensor) -> Tensor:
        if self._batched:
            rate = self._f(theta)
        elif theta.shape[0] == 1:
            rate = self._f(theta[0])
            rate = rate[None] if isinstance(rate, Tensor) else rate
        else:
            rate = torch.func.vmap(self._f)(theta)
        if not isinstance(rate, Tensor):
            raise FieldError(
                f"{self.name} returned {type(rate).__name__}, expected a tensor of shape {tuple(theta.shape[1:])} "
                "(dθ/dt at one point). Build it with torch.stack([...]) so that it can be differentiated."
            )
        if rate.shape != theta.shape:
            raise FieldError(
                f"{self.name} took a point of shape {tuple(theta.shape[1:])} and returned shape {tuple(rate.shape[1:])}; "
                "expected dθ/dt of the same shape. "
                + ("A scalar is a loss: pass the function itself, or gf.Potential(f)." if rate.dim() == 1 else "")
            )
        return rate

    def evaluate(self, theta: Tensor) -> Evaluation:
        with torch.no_grad():
            rate = self._rate(theta).detach().clone()  # f may hand out a tensor of its own
        return Evaluation(rate.to(theta.dtype), None)

    def linearize(self, theta: Tensor) -> Linear:
        def product(v: Tensor) -> Tensor:
            slope: Tensor = push(self._rate, (theta,), (v,))[1]
            return slope.detach()

        return product

    def conserved(self, theta: Tensor) -> dict[str, Tensor]:
        return _kept(self._laws, theta)


class Potential(Field):
    """The flow dθ/dt = −∇L(θ) of a plain function L.

    Args:
        loss: one point, shape (P,), to a scalar; differentiable by PyTorch.
        start: where to begin when nobody says, P numbers.
        name: what to call it.
        weight_decay: λ; adds ½λ‖θ‖² to L, in 1/flow time.
        conserved: what the exact flow keeps constant: name → function of one point, (P,) → (k,) or scalar.

    Example:
        >>> bowl = Potential(lambda w: 0.5 * (w**2).sum())
        >>> bowl.evaluate(torch.tensor([[3.0, 4.0]]))
        Evaluation(rate=tensor([[-3., -4.]]), value=tensor([12.5000]))
    """

    potential = True

    def __init__(
        self,
        loss: Callable[[Tensor], Tensor],
        *,
        start: Sequence[float] | Tensor | None = None,
        name: str = "L(θ)",
        weight_decay: float = 0.0,
        conserved: dict[str, Callable[[Tensor], Tensor]] | None = None,
    ) -> None:
        self._loss = of_one(loss, "a loss", name)
        self._start = None if start is None else as_point(start)
        self._decay = weight_decay
        self._laws = conserved or {}
        self.name = name
        self.size = 0 if self._start is None else self._start.numel()
        if self._start is not None:
            self.dtype, self.device = self._start.dtype, self._start.device

    def start(self) -> Tensor | None:
        return self._start

    def _one(self, w: Tensor) -> Tensor:
        out = self._loss(w)
        if not isinstance(out, Tensor) or out.numel() != 1:
            got = f"shape {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
            numpy = type(out).__module__.split(".")[0] == "numpy"
            raise FieldError(
                f"{self.name} returned {got} at one point, expected a scalar tensor (the loss). "
                + (
                    "PyTorch cannot differentiate through NumPy: write it with torch."
                    if numpy
                    else "A rate dθ/dt goes into gf.VectorField(f)."
                )
            )
        if out.is_complex():
            raise FieldError(f"{self.name} returned a complex number; a loss is real. Take .real or .abs() of it.")
        out = out.reshape(())
        return out + 0.5 * self._decay * (w * w).sum() if self._decay else out

    def _values(self, theta: Tensor) -> Tensor:
        if theta.shape[0] == 1:
            return self._one(theta[0])[None]
        return torch.func.vmap(self._one)(theta)

    def value(self, theta: Tensor) -> Tensor:
        with torch.no_grad():
            return self._values(theta).detach()

    def evaluate(self, theta: Tensor) -> Evaluation:
        with torch.enable_grad():
            point = theta.detach().clone().requires_grad_()
            values = self._values(point)
            slope = gradient(values.sum(), point)
        return Evaluation(slope.neg(), values.detach())

    def linearize(self, theta: Tensor) -> Linear:
        with torch.enable_grad():
            point = theta.detach().clone().requires_grad_()
            slope = gradient(self._values(point).sum(), point, create_graph=True)

        def product(v: Tensor) -> Tensor:
            if not slope.requires_grad:  # linear: no curvature
                return torch.zeros_like(v)
            return gradient(slope, point, v, retain_graph=True).neg()

        return product

    def conserved(self, theta: Tensor) -> dict[str, Tensor]:
        return _kept(self._laws, theta)


def of_one(function: F, what: str, name: str) -> F:
    """Return a function that can be called with a point alone.

    Raises:
        FieldError: it wants more; where it wants the time too, the message says how that is given.
    """
    try:
        known = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return function
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    wants = [p.name for p in known if p.default is p.empty and p.kind in plain]
    if len(wants) > 1:
        timed = wants[0] in ("t", "time") or wants[1] in ("t", "time")
        raise FieldError(
            f"{name} is {what} of {len(wants)} arguments ({', '.join(wants)}); expected one, the point. "
            + (
                "A flow here does not depend on time: make t a component of the point, with the rate 1."
                if timed
                else "Bind the others: functools.partial, or a lambda."
            )
        )
    return function


def _kept(laws: dict[str, Callable[[Tensor], Tensor]], theta: Tensor) -> dict[str, Tensor]:
    """Return what laws of one point say of each row, name → (B, k)."""
    return {name: torch.stack([torch.as_tensor(law(w)).reshape(-1) for w in theta]) for name, law in laws.items()}


def gradient(
    outputs: Tensor,
    point: Tensor,
    weights: Tensor | None = None,
    *,
    create_graph: bool = False,
    retain_graph: bool | None = None,
) -> Tensor:
    """Return ∂(weightsᵀ outputs)/∂point, zeros where the outputs do not depend on it."""
    if not outputs.requires_grad:
        return torch.zeros_like(point)
    slopes = torch.autograd.grad(
        outputs, [point], weights, create_graph=create_graph, retain_graph=retain_graph, allow_unused=True
    )
    slope = cast("Tensor | None", slopes[0])
    if slope is None:
        return torch.zeros_like(point)
    return slope if create_graph else slope.detach()


def as_field(field: Field | Callable[[Tensor], Tensor]) -> Field:
    """Return a field as it is, and a plain function as the potential L(θ).

    Raises:
        FieldError: it is neither.

    Example:
        >>> as_field(lambda w: (w**2).sum()).potential
        True
    """
    if isinstance(field, Field):
        return field
    if isinstance(field, torch.nn.Module):
        raise FieldError(
            "a model alone has no flow: give the loss and the data too, gf.LossField(model, loss, (x, y))."
        )
    if callable(field):
        return Potential(field, name=getattr(field, "__name__", "L(θ)").replace("<lambda>", "L(θ)"))
    raise FieldError(
        f"expected a field, or a function of θ that returns the loss; got {type(field).__name__}. "
        "Build one with gf.LossField(model, loss, data), gf.Potential(L), gf.VectorField(f), or gf.zoo.named(name).field."
    )


@functools.cache
def _load_forward_mode() -> None:
    """Let PyTorch load its forward mode, which warns of something it does itself (torch.jit.script), once."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", ".torch.jit.script. is deprecated"
        )  # of a category that depends on the release
        torch.func.jvp(torch.neg, (torch.zeros(()),), (torch.zeros(()),))


def push(f: Callable[..., Any], at: tuple[Any, ...], along: tuple[Any, ...]) -> tuple[Any, Any]:
    """Return f(at) and its derivative along a direction, by forward mode (``torch.func.jvp``)."""
    _load_forward_mode()
    value, slope = torch.func.jvp(f, at, along)  # type: ignore[misc]  # three only with has_aux
    return value, slope


COMPLEX = (
    "the starting point is complex; a flow moves real numbers. Give real and imaginary part as numbers of their own: "
    "torch.view_as_real(start).reshape(-1), and torch.view_as_complex in the loss."
)


def as_point(numbers: Sequence[float] | float | Tensor) -> Tensor:
    """Return numbers as one point, shape (P,): floating tensors keep their dtype, everything else becomes float64.

    Raises:
        FieldError: they are no numbers, complex, or laid out in rows.

    Example:
        >>> as_point(3.0), as_point(torch.ones(2))
        (tensor([3.], dtype=torch.float64), tensor([1., 1.]))
    """
    if isinstance(numbers, Tensor):
        point = numbers.detach()
        point = point.clone() if point.is_floating_point() or point.is_complex() else point.double()
    else:
        try:
            point = torch.as_tensor(numbers if hasattr(numbers, "__array__") else _listed(numbers))
        except (TypeError, ValueError) as problem:
            raise FieldError(
                f"a starting point must be a list of numbers or a tensor, got {numbers!r}: {problem}"
            ) from None
        point = point.clone() if point.is_complex() else point.to(torch.float64, copy=True)
    if point.is_complex():
        raise FieldError(COMPLEX)
    if point.dim() > 1:
        raise FieldError(
            f"a starting point has shape (P,), got {tuple(point.shape)}: it is one point, and the loss is given it as it is. "
            "Flatten it, start.reshape(-1), and reshape it in the loss; many points go into starts=."
        )
    return point.reshape(-1)


def _listed(numbers: Any) -> Any:
    """Return numbers as Python's own; a list keeps all their digits."""
    if isinstance(numbers, (int, float, complex)):
        return torch.tensor(numbers, dtype=torch.complex128 if isinstance(numbers, complex) else torch.float64)
    found = list(numbers)
    if any(isinstance(x, complex) for x in found):
        return torch.tensor(found, dtype=torch.complex128)
    return torch.tensor(found, dtype=torch.float64)
