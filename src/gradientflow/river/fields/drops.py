"""Starting points, many at once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from gradientflow.errors import FieldError
from gradientflow.generators import HELD
from gradientflow.river.fields import chance
from gradientflow.river.fields.base import Field
from gradientflow.river.fields.loss import LossField
from gradientflow.river.fields.memory import refuse_beyond
from gradientflow.river.fields.model import ModuleModel
from gradientflow.river.fields.wrapped import Wrapped
from gradientflow.torch_internals import children_of, parameters_of

STEP = 8  # vectors of each drop that are held at least while a step is made


def drops(
    field: Field,
    n: int,
    *,
    seed: int = 0,
    spread: float | None = None,
    box: Sequence[tuple[float, float]] | None = None,
) -> Tensor:
    """Return n starting points for a field.

    - With `box`, or for a field that has one (those of the zoo): uniform in it.
    - With `spread` σ: Gaussian around the field's start, σ in every coordinate.
    - For a network, without either: fresh initialisations. Drop i is what ``reset_parameters`` of its modules gives after
      ``torch.manual_seed(seed + i)``, which for plain layers is the network built anew with that seed. Where a parameter
      belongs to a module that has no ``reset_parameters``: Gaussian around the present parameters, each tensor with the
      root mean square of its own numbers as σ.
    - For any other field: Gaussian around its start with σ = 1.

    A flow that carries more than θ (momentum, adaptive optimisers) gets states: θ as above, the rest as it begins.

    Args:
        field: any field.
        n: how many.
        seed: of the draws; the global random state is left as it is.
        spread: σ, in units of θ.
        box: (low, high) of each coordinate; a single pair holds for all.

    Returns:
        (n, P), of the field's dtype and on its device.

    Raises:
        FieldError: n or σ is not positive, the box does not fit, or the field has no start to scatter around.
        UsageError: there is no memory for so many.

    Example:
        >>> from gradientflow.river.fields import zoo
        >>> drops(zoo.named("himmelblau").field, 3, box=[(-1, 1), (4, 5)], seed=1).shape
        torch.Size([3, 2])
        >>> net = nn.Linear(3, 1)
        >>> field = LossField(net, nn.functional.mse_loss, (torch.eye(3), torch.ones(3, 1)))
        >>> first = torch.random.manual_seed(5), nn.Linear(3, 1)
        >>> bool((drops(field, 1, seed=5)[0, :3] == first[1].weight).all())
        True
    """
    if not isinstance(n, int) or n < 1:
        raise FieldError(f"drops are counted: expected a whole number n, 1 or more, got {n!r}.")
    if spread is not None and not spread > 0:
        raise FieldError(f"spread must be positive, got {spread!r}.")
    if spread is not None and box is not None:
        raise FieldError("drops are scattered in a box or around the start: pass box or spread, not both.")
    if isinstance(field, Wrapped):  # the drop is θ; the rest of the state begins as the flow says
        own = getattr(field, "box", None) if box is None and spread is None else box
        return field.lift(drops(field.base, n, seed=seed, spread=spread, box=own))
    _fits(field, n)
    maker = torch.Generator().manual_seed(seed)
    box = getattr(field, "box", None) if box is None and spread is None else box
    if box is not None:
        low, high = _box(box, field)
        points = low + (high - low) * torch.rand(n, len(low), generator=maker, dtype=torch.float64)
        return points.to(dtype=field.dtype, device=field.device)
    if spread is None and isinstance(field, LossField):
        fresh = _fresh(field, n, seed)
        if fresh is not None:
            return fresh
    start = field.start()
    if start is None:
        raise FieldError(
            f"{field.name} has neither a start nor a box. Pass box=[(low, high), ...], or give the field a start."
        )
    noise = torch.randn(n, start.numel(), generator=maker, dtype=torch.float64).to(start)
    if spread is None and isinstance(field, LossField):
        sigmas = {name: t.square().mean().sqrt().expand(t.shape) for name, t in field.parameters(start).items()}
        return start + noise * field.space.flatten(sigmas)
    return start + (1.0 if spread is None else spread) * noise


def _fits(field: Field, n: int) -> None:
    """Refuse more drops than there is memory for, with the vectors that a step of theirs holds."""
    start = field.start() if not field.size else None
    size = field.size or (1 if start is None else start.numel())
    each = STEP * size * torch.finfo(field.dtype).bits / 8
    refuse_beyond(n, each, f"{n:,} drops of {size:,} parameters", "Ask for fewer of them: {fit} at most.")


def _box(box: Sequence[Any], field: Field) -> tuple[Tensor, Tensor]:
    try:
        numbers = torch.as_tensor(box, dtype=torch.float64)
    except (TypeError, ValueError) as problem:
        raise FieldError(f"box must be [(low, high), ...], got {box!r}: {problem}.") from None
    start = field.start()
    size = field.size or (0 if start is None else start.numel())
    if numbers.shape == (2,) and size:
        numbers = numbers.expand(size, 2)
    if numbers.dim() != 2 or numbers.shape[1] != 2 or (size and len(numbers) != size):
        raise FieldError(
            f"box has shape {tuple(numbers.shape)}; expected one (low, high) for each of {size or 'P'} coordinates."
        )
    if not bool((numbers[:, 0] <= numbers[:, 1]).all()):
        raise FieldError(f"box must be [(low, high), ...] with low ≤ high, got {box!r}.")
    return numbers[:, 0], numbers[:, 1]


def _fresh(field: LossField, n: int, seed: int) -> Tensor | None:
    """Return n fresh initialisations, (n, P); None where a module cannot initialise its parameters."""
    if not isinstance(field.model, ModuleModel):
        return None
    moving = {id(p) for p in field.model.present().values()}
    inits: list[tuple[str, str]] = []
    for name, module in _inner_first(field.model.module):
        own = [p for p in parameters_of(module).values() if p is not None]
        init = next(
            (key for key in ("reset_parameters", "_reset_parameters") if callable(getattr(module, key, None))), None
        )
        if init is not None:
            inits.append((name, init))
        elif any(id(p) in moving for p in own):
            return None
    try:
        twin = copy.deepcopy(field.model.module)
    except Exception:  # a module may hold what cannot be copied
        return None
    rows = []
    with HELD, chance.kept(), torch.no_grad():
        for i in range(n):
            chance.seed_all(seed + i)
            for name, init in inits:
                cast(Callable[[], None], getattr(twin.get_submodule(name), init))()
            rows.append(field.space.flatten(dict(twin.named_parameters(remove_duplicate=False))))
    return torch.stack(rows)


def _inner_first(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the modules by name, children before their parents: a parent may initialise its children anew."""
    out: list[tuple[str, nn.Module]] = []

    def walk(name: str, at: nn.Module, seen: set[int]) -> None:
        if id(at) in seen:
            return
        seen.add(id(at))
        for key, child in children_of(at).items():
            if child is not None:
                walk(f"{name}.{key}" if name else key, child, seen)
        out.append((name, at))

    walk("", module, set())
    return out
