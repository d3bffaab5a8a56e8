"""What one step does to the loss of its own batch, on probed steps: predicted by the gradient, and measured.

Along the step the loss is L(s) = L − ⟨∇L, Δw⟩ s + ½ ΔwᵀHΔw s² + …, with Δw = w_before − w_after. The first term is the gradient's
product with the step, the whole is measured by running the forward pass again behind it (see `probe.tape`), and a third run half
way there tells the second term from what is left. A run ahead of the step has to give the script's own loss: else nothing is said.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from gradientflow.depth.probe.tape import Tape
from gradientflow.depth.probe.tracebacks import let_through
from gradientflow.depth.watch.allowance import DESCENTS, SHARE_OF_EXTRAS, allowed
from gradientflow.depth.watch.shield import Effort
from gradientflow.depth.watch.vectors import dot, wide
from gradientflow.limits import Limit
from gradientflow.records import Descent

ENTRIES = Limit("parameters", 4_000_000, "chosen: as many are copied twice around the step: 32 MB of float32")
LOOKS = Limit("probes_with_a_second_forward", 12, "chosen: three forward passes each; more would tell no more")
SAME = Limit("loss_again", 1e-5, "chosen: of the loss; a sum in another order leaves less, another answer more")
_RUNS = 3  # of the forward pass


class Falling:
    """Measures what single steps do to the loss of their batch."""

    def __init__(self) -> None:
        self._looks = 0
        self.spent = 0.0  # seconds of work
        self.begin(None)

    def begin(self, tape: Tape | None) -> None:
        """A new window: its forward pass is kept on a tape, or not at all."""
        self._tape = tape
        self._loss, self._unit = 0.0, 0.0
        self._grads: dict[int, Tensor] = {}
        self._before: dict[int, Tensor] = {}
        self._left_over: set[int] = set()  # weights whose gradient was not cleared
        self._start: float | None = None

    def wanted(self, elapsed: float) -> bool:
        """Whether a forward pass is to be kept."""
        return self._looks < LOOKS and self.spent <= allowed(DESCENTS, SHARE_OF_EXTRAS, elapsed)

    def backward(self, root: Tensor, elapsed: float, refused: str | None) -> str | None:
        """Backward is about to be called. Return why nothing will be measured.

        Args:
            root: what it is called on.
            elapsed: seconds since the run began.
            refused: why a second run could change what the script computes.
        """
        tape = self._tape
        if tape is None:
            return None
        seconds = time.perf_counter() - tape.began if tape.began is not None else 0.0  # (watched, that is: at most)
        if refused is None and _RUNS * seconds > allowed(DESCENTS, SHARE_OF_EXTRAS, elapsed) - self.spent:
            refused = "it would cost more than watching may cost on this script"
        if refused is not None:
            tape.refuse(refused)
        tape.end_at(root)
        if not tape.why and sum(t.numel() for t in tape.leaves()) > ENTRIES:
            tape.refuse(f"it has more than {ENTRIES:,.0f} parameters")
        if tape.why:
            why, self._looks = tape.why, self._looks + 1
            self.begin(None)
            return why
        self._loss = float(Tensor.detach(root))
        self._unit = torch.finfo(root.dtype).eps
        self._left_over = {id(t) for t in tape.leaves() if t.grad is not None and bool(t.grad.any())}
        return None

    def delivered(self) -> str | None:
        """The first backward call has returned: keep the gradient of this loss. Return why that cannot be done."""
        if self._tape is None or self._grads:
            return None
        graded = [(id(t), t.grad) for t in self._tape.leaves() if t.grad is not None]
        if any(g.is_sparse for _, g in graded):
            return self._given_up("gradients are sparse")
        self._grads = {at: g.detach().clone() for at, g in graded}
        return None

    def before_step(self, params: Sequence[Tensor], hooked: bool) -> str | None:
        """The optimizer of these parameters is about to step: run the forward pass as it was. Return why that cannot be done.

        Args:
            params: what it steps.
            hooked: hooks of the script's changed gradients within backward: what they left is not the loss's gradient.
        """
        if self._tape is None or not self._grads:
            return None
        if hooked:
            return self._given_up("hooks of the script's own change the gradient within backward")
        if any(id(t) in self._left_over for t in params):
            return self._given_up("gradients of earlier steps were still in `.grad`")
        effort = Effort()
        self._before = {id(t): t.detach().clone() for t in params if id(t) in self._grads}
        try:
            self._start = self._tape.loss()
        except Exception as problem:
            let_through(problem)
            return self._given_up(str(problem))
        finally:
            self.spent += effort.seconds
        if not abs(self._start - self._loss) <= SAME * abs(self._loss):
            return self._given_up(
                f"run again ahead of the step it gave {self._start:.6g}, where the script had {self._loss:.6g}"
            )
        return None

    def after_step(self, params: Sequence[Tensor]) -> Descent | str | None:
        """It has stepped: return what the step did to the loss of its batch, or why that cannot be told."""
        tape, start = self._tape, self._start
        if tape is None or start is None:
            return None
        effort = Effort()
        self._looks, off = self._looks + 1, max(abs(start - self._loss), self._unit * abs(start))
        try:
            with torch.no_grad():
                moved = [t for t in params if id(t) in self._before]
                steps = [wide(self._before[id(t)]) - wide(t) for t in moved]
                slope = dot([self._grads[id(t)] for t in moved], steps) if moved else 0.0
                half = {id(t): (self._before[id(t)] + t.detach()) / 2 for t in moved}
                end, middle = tape.loss(), tape.loss(half)
        except Exception as problem:
            let_through(problem)
            return self._given_up(str(problem))
        finally:
            self.spent += effort.seconds
            self.begin(None)
        bent = 8 * (middle - start + slope / 2) - (end - start + slope)
        return Descent(start, end, slope, bent, off, effort.by_the_clock)

    def _given_up(self, why: str) -> str:
        self.begin(None)
        self._looks += 1
        return why.splitlines()[0][:160] if why else "the forward pass failed when it was run again"
