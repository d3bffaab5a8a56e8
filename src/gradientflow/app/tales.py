"""Four fixed stories, all on the smallest deep net, L = ½(w₁w₂ − 1)²: what a first visitor sees of a gradient flow."""

from __future__ import annotations

from gradientflow.records import Rival, Tale

TALES: tuple[Tale, ...] = (
    Tale(
        "answers", "Three answers from one start", "w1w2", (1.9, -1.2), 20.0,
        [Rival("gd", 0.45), Rival("adam", 0.15)],
        "One start, three answers, each of loss 0: the flow keeps w₁² − w₂², gradient descent with η = 0.45 jumps across the "
        "river, and Adam bends its own way.",
    ),
    Tale(
        "valley", "A valley, and what is conserved", "w1w2", (1.9, -1.2), 20.0, [Rival("gd", 0.05)],
        "Every point of the bright curve has loss 0. Where the flow lands on it is decided at the start, for it keeps w₁² − w₂²; "
        "small steps nearly do. Drag the drop, and watch both.",
    ),
    Tale(
        "saddle", "A saddle: slow, then not", "w1w2", (1.35, -1.34), 20.0, [Rival("gd", 0.1), Rival("momentum", 0.1)],
        "The drop runs straight at the saddle ◇ and the gradient fades: a run that looks finished may be here. A hair beside the "
        "dotted line decides to which side it leaves.",
    ),
    Tale(
        "edge", "The edge of stability", "w1w2", (1.2, 0.3), 40.0, [Rival("gd", 0.9)],
        "On its way the sharpness λ grows past 2/η. The flow comes to rest up there; descent cannot: it bounces across the valley "
        "and slides along it, to where λ is below the line.",
    ),
)  # fmt: skip
