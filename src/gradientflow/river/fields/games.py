"""Games: two players on one loss, one going down and one going up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gradientflow.errors import FieldError
from gradientflow.river.fields.base import Field
from gradientflow.river.fields.wrapped import Wrapped


class MinMaxFlow(Wrapped):
    """Simultaneous descent and ascent on L(x, y): ẋ = −∇ₓL, ẏ = +∇_yL.

    Its Jacobian is not symmetric, its loss not monotone, and it may turn around an equilibrium for ever.

    Args:
        base: the field whose rate is −∇L, or a loss function.
        ascend: the coordinates of the player who goes up: a slice, a list of positions, or a mask of P booleans.
        conserved: what the exact flow keeps constant: name → function of a batch, (B, P) → (B, k).

    Raises:
        FieldError: nobody goes up, or everybody, where the number of coordinates is known.

    Source: Mescheder, Geiger & Nowozin (2018), "Which training methods for GANs do actually converge?".

    Example:
        >>> MinMaxFlow(lambda z: z[0] * z[1], ascend=[1]).evaluate(torch.tensor([[1.0, 2.0]])).rate
        tensor([[-2.,  1.]])
    """

    def __init__(
        self,
        base: Field | Callable[[Tensor], Tensor],
        ascend: slice | Sequence[int] | Tensor,
        *,
        conserved: dict[str, Callable[[Tensor], Tensor]] | None = None,
    ) -> None:
        super().__init__(base, "min–max flow")
        self._ascend = ascend if isinstance(ascend, slice | Tensor) else torch.as_tensor(ascend, dtype=torch.long)
        self._laws = conserved or {}
        if self.base.size:
            self._signs(torch.empty(self.base.size))

    def _signs(self, like: Tensor) -> Tensor:
        """Return +1 where the rate of the base is kept and −1 where it is turned round."""
        signs = torch.ones(like.shape[-1], dtype=like.dtype, device=like.device)
        up = self._ascend if isinstance(self._ascend, slice) else self._ascend.to(like.device)
        try:
            signs[up] = -1.0
        except IndexError as problem:
            raise FieldError(
                f"ascend={self._ascend} does not fit a point of {like.shape[-1]} numbers: {problem}."
            ) from None
        if not 0 < int((signs < 0).sum()) < like.shape[-1]:
            raise FieldError(
                f"a game needs one coordinate at least that goes down and one that goes up; ascend={self._ascend} turns "
                f"{int((signs < 0).sum())} of {like.shape[-1]}. For plain descent use the base field itself."
            )
        return signs

    def combine(self, state: Tensor, rate: Tensor) -> Tensor:
        return rate * self._signs(rate)

    def conserved(self, theta: Tensor) -> dict[str, Tensor]:
        return {name: law(theta) for name, law in self._laws.items()}
