"""Four fixed stories, all on the smallest deep net, L = ½(w₁w₂ − 1)²: what a first visitor sees of a gradient flow."""

from __future__ import annotations

from gradientflow.records import Rival, Tale

TALES: tuple[Tale, ...] = (
    Tale(
        "answers", "Three answers from one start", "w1w2", (1.9, -1.2), 20.0,
        [Rival("gd", 0.45), Rival("adam", 0.15)],
        "One start, and the loss goes to zero three times, in three places. The flow keeps w₁² − w₂² and ends far to the right. "
        "Gradient descent with η = 0.45 jumps across the river and ends on the other side of the valley. Adam bends its own way.",
    ),
    Tale(
        "valley", "A valley, and what is conserved", "w1w2", (1.9, -1.2), 20.0, [Rival("gd", 0.05)],
        "Every point of the bright curve has loss 0: a valley, not a point. Where the flow lands is decided at the start, for it "
        "keeps w₁² − w₂² = 2.17. Descent with η = 0.05 keeps nearly as much: drag the drop, and watch both.",
    ),
    Tale(
        "saddle", "A saddle: slow, then not", "w1w2", (1.35, -1.34), 20.0, [Rival("gd", 0.1), Rival("momentum", 0.1)],
        "The drop runs straight at the saddle ◇, and the gradient fades: the loss stands still though nothing is learnt. A "
        "training run that looks finished may be here. A hair beside the dotted line decides to which side it leaves.",
    ),
    Tale(
        "edge", "The edge of stability", "w1w2", (2.3, 0.2), 30.0, [Rival("gd", 0.42)],
        "Descent is stable where the sharpness λ is below 2/η. The flow comes to rest where λ is above that line. Descent "
        "cannot: it bounces across the valley and slides along it, to where λ < 2/η.",
    ),
)  # fmt: skip
