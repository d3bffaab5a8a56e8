"""What the words of the screens mean, a sentence each: the one place that page, app and notebook take them from."""

from __future__ import annotations

MEANINGS: dict[str, str] = {
    "gain": "‖gradient at an operation's input‖ / ‖gradient at its output‖, on the way back: below 1 it takes, above 1 it adds.",
    "decade": "A factor of ten: log10 of a gain. Along a chain gains multiply, so decades add up exactly.",
    "way back": "The route of the gradient from the loss to the first layer, always along the consumer that sends most of it.",
    "budget": "Where the decades between the loss and the first layer went; the parts sum to the total.",
    "residual": "Sum of the parts minus the total of the budget: how exactly it adds up.",
    "probed step": "A step in which every operation was measured, forward and backward. Between them only norms are kept.",
    "confidence": "How sure a rule is of its finding, from the numbers it rests on: 0 to 100 %. A replay can lower it.",
    "sharpness": "λ, the largest eigenvalue of the Hessian of the batch loss: how steep the steepest valley wall is.",
    "2/η": "Gradient descent with learning rate η is stable along a direction while its curvature is below 2/η.",
    "learning rate": "η, the factor from the gradient (or what the optimizer makes of it) to the step.",
    "update/weight": "‖Δw‖ / ‖w‖ of one step. Around 1e−3 is usual; near 1 forgets, near 1e−6 stands still.",
    "certificate": "A link between gradient flow and training, checked by a fact that must hold: held, broken, or not measured.",
    "step budget": "The second budget: the way from the gradient to the weights' step. Its factors multiply to ‖Δw‖ / ‖∇L‖.",
    "heat map": "Norm of every parameter's gradient over the steps, relative to the largest of its step.",
    "share": "At a branch: the part of the gradient that came this way. Shares of different routes do not add in decades.",
    "cosine": "Of the angle between two routes' gradients: near 1 they help each other, near −1 they take each other away.",
    "carried": "Decades from the newest state of a recurrence to its oldest, by the recurrence alone.",
    "reach": "Steps back in time until less than 1 % of the gradient is left.",
    "σ": "The largest singular value of the recurrent weight: the most that one step can stretch.",
    "replayed": "Tried on the same script with the same seeds and batches, beside a baseline, and measured.",
    "advice": "A remedy that follows from the cause, and was not tried on this script yet.",
    "ρ": "Spectral radius of a recurrent weight: above 1 its powers grow, below 1 they fade.",
    "λ": "In a recurrence the leading Lyapunov exponent: the mean log growth of a small change per time step.",
    "▼ vanishing": "The gradient shrinks on its way back, so that early layers hardly learn.",
    "▲ exploding": "The gradient grows on its way back, so that a step goes far too far.",
    "✕ not finite": "NaN or infinity: nothing behind it can be computed.",
    "○ dead": "Exactly zero: nothing gets through.",
}
