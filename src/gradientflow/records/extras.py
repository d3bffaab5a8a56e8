"""What is measured on some probed steps only: sharpness, noise, Jacobians, the gradient over time."""

from __future__ import annotations

import msgspec


class Sharpness(msgspec.Struct):
    """Largest eigenvalue of the Hessian of the batch loss, by Lanczos on Hessian-vector products.

    `along_gradient` is gᵀHg/gᵀg.
    """

    value: float
    along_gradient: float
    residual: float  # relative Ritz residual: an upper bound of the error of `value`, relative
    hvps: int


class Noise(msgspec.Struct):
    """Gradient noise over successive steps: ‖G‖² and tr Σ, and the batch size tr Σ / ‖G‖² at which they are alike."""

    signal: float  # ‖G‖², unbiased: negative where it is lost in the noise
    spread: float  # tr Σ, of one sample's gradient
    scale: float  # samples; infinite where no signal is left
    batch: float  # samples in one step's batch
    steps: int  # gradients that went in


class Stretch(msgspec.Struct):
    """Singular values σ of the Jacobian J of one stretch of the network: ∂(output of one op)/∂(output of an earlier one).

    Of one sample each and averaged over `samples` of them, where samples do not mix; of the whole batch as one operator
    where they do (`samples` 0). A mean over singular values is over the min(inputs, outputs) of them that can differ
    from zero. `spectrum` holds quantiles of σ² from the lowest to the highest, evenly spaced, and only where all of J was
    taken; everything else is then exact up to rounding, and `error` is the standard error between samples.
    """

    source: int  # index of the op it starts behind
    target: int  # index of the op it ends behind
    inputs: int  # entries
    outputs: int
    mean: float  # of σ²: ‖J‖_F² / min(inputs, outputs)
    error: float  # standard error of `mean`: between samples, or between random probes
    variance: float | None = None  # of σ² over the singular values
    top: float | None = None  # largest σ²
    bound: float = 0.0  # relative error bound of `top`
    bottom: float | None = None  # smallest σ²; only where all of J was taken
    spectrum: list[float] = []
    samples: int = 0
    probes: int = 0  # random vectors sent through; 0: all of J was taken


class Isometry(msgspec.Struct):
    """How far the network is from keeping every direction: Jacobians from layer to layer, and end to end."""

    stretches: list[Stretch]
    whole: Stretch | None = None  # from the first layer's output to the last layer's
    cost: float = 0.0  # seconds


class Descent(msgspec.Struct):
    """What one step did to the loss of its own batch. Along the step L falls by `predicted` to first order, and the second order gives
    `curvature` of that back: measured fall = predicted − curvature − what is left.

    The loss is the one that backward was called on (scaled, where a scaler scales it).
    """

    loss: float  # of the batch, ahead of the step
    after: float  # behind it
    predicted: float  # ⟨∇L, w_before − w_after⟩
    curvature: float  # ½ ΔwᵀHΔw, by the loss half way along the step
    error: float = (
        0.0  # of the losses: how far the first, worked out again, is from the script's own, but no less than rounding
    )
    cost: float = 0.0  # seconds

    @property
    def fall(self) -> float:
        """What was measured."""
        return self.loss - self.after


class Recurrence(msgspec.Struct):
    """The gradient over time in one layer and direction of a recurrence, at a probed step.

    Time t runs from 1 to `steps`. *Newest* is the state that the recurrence computes last: t = T, or t = 1 in a layer that
    reads backwards. Norms are over `rows` rows of the batch, each exact by itself.
    """

    ops: list[int]  # operations: the one that hides the recurrence, or each call of a loop, in order
    cell: str  # rnn_tanh, rnn_relu, gru, lstm; for a loop the name of the operation that is repeated
    steps: int
    norms: list[float]  # ‖∂L/∂h_t‖ by t, over every route from h_t to the loss; NaN or Inf where it was not finite
    layer: int = 0
    backwards: bool = False  # the layer reads the sequence from its end
    memory: list[float] = []  # ‖∂L/∂c_t‖ by t, for the cell state of an LSTM
    aligned: list[float] = []  # of the memory, else of h: by steps back from each row's own newest state; [] in a loop
    carried: list[
        float
    ] = []  # likewise, only of what came to the newest state: what the recurrence itself carries back
    reach: int | None = None  # steps back until less than 1 % of that is left; None: not measured
    radius: float | None = None  # spectral radius of the recurrent weight, where it is square
    sigma: float | None = None  # its largest singular value
    step_radius: float | None = (
        None  # spectral radius of ∂(state at t+1)/∂(state at t), geometric mean of a few t of one row
    )
    lyapunov: list[float] = []  # leading Lyapunov exponents per time step (natural log), largest first
    lengths: list[int] = []  # of the rows measured, where they differ
    rows: int = 0  # rows of the batch that were measured
    batch: int = 0
    weight: int | None = None  # the recurrent weight: index into Meta.params
    skipped: int = 0  # earlier time steps that were left out: t runs from skipped + 1 to skipped + steps
    error: float | None = None  # how far the re-run's outputs are from the script's, relative to the largest

    @property
    def way(self) -> list[float]:
        """Norms of the state that remembers, from the newest back to the oldest: the order in which the gradient travels."""
        if self.aligned:
            return self.aligned
        kept = self.memory or self.norms
        return kept if self.backwards else kept[::-1]


class Buffers(msgspec.Struct):
    """The buffers of the modules that ran (running statistics and their like): how many, and which hold Inf or NaN."""

    count: int
    not_finite: list[str] = []
