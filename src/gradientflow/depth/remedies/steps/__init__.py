"""The step: its size, the gradient that it gets, the batch behind it, what regularises it."""

from __future__ import annotations

from gradientflow.depth.remedies.row import Never, Row
from gradientflow.depth.remedies.steps import edit_loop, edit_noise, edit_rates, plan

_FORMAT = Never("the number format of a model is chosen where it is built, with all that feeds it")
_ONE_NUMBER = Never("it is one number of the optimizer's own, or the format of the weights: told in words")
_BY_HAND = "no optimizer stepped: the updates are written by hand"

ROWS = (
    Row("lower-step", plan.lower_step, "steps.ScaleStep", edit_rates.step_size, _BY_HAND),
    Row("raise-step", plan.raise_step, "steps.ScaleStep", edit_rates.step_size, _BY_HAND),
    Row("warmup", plan.warmup, "steps.Warmup", edit_rates.warmup, _BY_HAND),
    Row("clip-gradient", plan.clip, "steps.ClipGradient", edit_loop.clip, _BY_HAND),
    Row("larger-eps", _ONE_NUMBER, _ONE_NUMBER, _ONE_NUMBER),
    Row("zero-grad", plan.zero_grad, "steps.ZeroGrad", edit_loop.zero_grad),
    Row("larger-batch", plan.larger_batch, "steps.LargerBatch", edit_noise.batch, _BY_HAND),
    Row("lower-regularisation", plan.lower_regularisation, "steps.LowerRegularisation", edit_noise.regularisation),
    Row("wide-weights", _FORMAT, _FORMAT, _FORMAT),
)
