"""What the causes are, in words that stand alone: for rules of other tools (SARIF), which want a text for each."""

from __future__ import annotations

SHORT: dict[str, str] = {
    "saturating-activation": "Activations whose slope is far below 1 where they work",
    "init-too-small": "Weights that start so small that every layer shrinks the gradient",
    "init-too-large": "Weights that start so large that every layer grows the gradient",
    "symmetric-init": "Units that start equal, get equal gradients and stay equal",
    "depth-without-skip": "Many layers that each take a little, and no way past them",
    "batchnorm-depth": "Batch normalisation in a plain deep stack: the gradient grows at every layer",
    "dead-units": "Units that are off for all data",
    "singular-op": "An operation at a point where its slope is infinite or undefined",
    "overflow": "A value too large for its number format",
    "recurrence": "The same weights applied at every time step: their factor is raised to the number of steps",
    "step-too-large": "A learning rate too large for the curvature of the loss",
    "step-too-small": "A learning rate too small to get anywhere",
    "unscaled-input": "Inputs whose scale is far from what the initialisation expects",
    "unscaled-target": "Targets whose scale is far from what the initialisation expects",
    "output-activation": "An activation before the loss that does not fit it",
    "missing-zero-grad": "Gradients of earlier steps that are never cleared and add up",
    "disconnected-parameters": "Parameters that the loss does not reach, or that no optimizer holds",
    "wrong-sign": "An objective that falls without bound; its negative was meant",
    "over-regularised": "A penalty that pulls harder than the data",
    "small-batch-noise": "Too few samples per step for the signal in them",
    "bad-batch": "Single samples with missing or absurd values",
    "gradient-altered": "A gradient that is changed between backward and the step",
    "weights-rewritten": "Weights that are rewritten outside the optimizer, so that training is taken back",
    "steps-missing": "Backward passes whose gradient no step uses: it comes too early, or too late",
    "optimizer-remade": "An optimizer that is made anew, or forgets, at each step",
    "step-altered": "Weights that something beside the optimizer moves within its step",
    "rounding": "Updates smaller than half a unit in the last place of the weights",
    "schedule-ended": "A learning rate that a schedule has taken to nothing long before the end",
    "unexplained": "No rule says why",
    "mixed-samples": "Samples that are paired with others' targets, or whose outputs depend on each other",
    "zero-derivative": "A derivative that is zero everywhere, so that what is asked of it cannot be learnt",
    "wrong-backward": "A custom function whose backward leaves out the gradient it is given",
    "collapse": "Answers that have become one and the same for every sample",
    "attention-saturation": "Attention scores so large that the softmax passes on nearly no gradient",
}


def short(cause: str) -> str:
    """Return what a cause means in one line; the word itself, made readable, where it is not known here."""
    return SHORT.get(cause) or cause.replace("-", " ").capitalize()
