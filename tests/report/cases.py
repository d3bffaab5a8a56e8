"""Runs and verdicts built by hand, as the pipeline would give them; no torch, no clock, no chance."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from gradientflow.records import (
    NO_WIN,
    NOT_TRIED,
    WIN,
    WORSE,
    Budget,
    Certificate,
    Change,
    Factor,
    Finding,
    Loss,
    Note,
    Optimizer,
    Outlook,
    Place,
    Probe,
    Remedy,
    Replay,
    Run,
    StepBudget,
    Trained,
    Trial,
    Verdict,
    Watch,
)
from tests.report.builders import RNN, SQRT, VANISHING, Case, Link, budget, chain, history, meta


def vanishing_links() -> list[Link]:
    gains = [0.59, 0.57, 0.56, 0.56, 0.58, 0.59, 0.66, 0.54, 0.60, 0.58, 0.57, 0.55]
    relus = [0.70, 0.66, 0.72, 0.78, 0.72, 0.74, None, None, None, 0.74, 0.75, 0.71]
    links = [Link("cross_entropy", "loss", 20, None, 0.17), Link("linear", "linear", 14, "out", 0.56)]
    for k, (g, r) in enumerate(zip(gains, relus, strict=True)):
        i = 11 - k
        if r is None:
            links.append(Link("sigmoid", "activation", 13, None, 0.25, "vanishing", saturated=0.31))
        else:
            links.append(Link("relu_", "activation", 13, None, r, dead=0.02))
        links.append(Link("linear", "linear", 12, f"ls.{i}", g))
    return links


def make_vanishing() -> Case:
    file = "/home/ada/nets/train.py"
    shares, ops = chain(file, vanishing_links())
    steps, norms = history(200, 12, lambda i: 2.31 - 0.0003 * i + 0.02 * math.sin(i * 1.7), -0.45)
    run = Run(
        meta("train.py", VANISHING, 12),
        steps,
        norms,
        [
            Probe(s, s * 0.011, "first" if s == 0 else "schedule", 2.3, 25, ops, [], cost=0.03)
            for s in (0, 1, 2, 5, 10, 20, 50, 100)
        ],
    )
    findings = [
        Finding(
            "vanishing",
            "saturating-activation",
            0.93,
            Place(file, 13, "ls.4", "sigmoid"),
            "Three sigmoids in a row pass a quarter of the gradient each, and never can pass more: their slope is at "
            "most ¼. Together they take 1.8 of the 6.9 decades.",
            {
                "gain": 0.25,
                "gain_threshold": 0.5,
                "decades of the three": -1.806,
                "rows": 3,
                "ceiling": 0.25,
                "body decades": {"value": -5.94, "threshold": -2.0},
                "saturated": 0.312,
                "spread": [-6.79, -6.75, -6.73],
            },
            [
                Remedy(
                    "swap-activation",
                    "Replace sigmoid by tanh or GELU in train.py:13: at zero tanh passes all of the gradient.",
                    {"outcome": "win", "tried": "tanh instead of sigmoid at train.py:13", "loss_after": 1.71},
                ),
                Remedy("add-norm", "Or put a LayerNorm before each sigmoid."),
            ],
        ),
        Finding(
            "vanishing",
            "init-too-small",
            0.88,
            Place(file, 7, "ls.*", "linear"),
            "PyTorch's default initialisation of Linear keeps 1/√3 of the norm per layer; over 12 layers that is 3.1 "
            "decades, the largest part of the loss.",
            {"gain per layer": 0.577, "theory": 0.5774, "decades": -3.13},
            [Remedy("rescale-init", "Call nn.init.kaiming_normal_(layer.weight) on every ls.*.")],
        ),
        Finding(
            "crawling",
            "step-too-small",
            0.41,
            None,
            "The update moves the weights of ls.0 by 2e−9 of their size.",
            {"update to weight": 2.1e-9, "update to weight_threshold": 1e-5},
            [],
        ),
    ]
    verdict = Verdict(
        "train.py",
        200,
        Loss(2.31, 2.25),
        "vanishing",
        findings,
        budget(shares),
        Watch(8, 0.031),
        "The gradient loses 6.9 decades between the loss and ls.0; three sigmoids and the initialisation take 4.9.",
    )
    return Case(verdict, run)


def make_exploding() -> Case:
    file = "/home/ada/nets/rnn.py"
    links = [
        Link("mean", "reduce", 8, None, 0.125),
        Link("pow", "elementwise", 8, None, 1.9),
        Link("sub", "elementwise", 8, None, 1.0),
    ]
    rng = random.Random(1)
    for t in range(60):
        links += [
            Link("tanh", "activation", 5, None, 0.91 + 0.05 * rng.random(), saturated=0.04),
            Link("add", "elementwise", 5, None, 1.0),
            Link("matmul", "linear", 5, None, 1.42 + 0.05 * rng.random(), "exploding" if t == 0 else None),
        ]
    shares, ops = chain(file, links, 3)
    losses = [0.9 * 1.16**i if i < 38 else (math.inf if i == 38 else math.nan) for i in range(60)]
    steps, norms = history(60, 2, lambda i: losses[i], 0.1, lambda i: i >= 38)
    run = Run(
        meta(
            "rnn.py",
            RNN,
            2,
            ended="exception",
            exit_code=1,
            steps=60,
            elapsed=75.2,
            error="Traceback (most recent call last):\n  …\nValueError: loss is not finite",
        ),
        steps,
        norms,
        [Probe(0, 0.0, "first", 0.9, len(ops) - 1, ops, []), Probe(38, 1.0, "trouble: inf", None, None, [], [])],
        [Note("advice", "The loss became infinite at step 38.")],
    )
    finding = Finding(
        "exploding",
        "recurrence",
        0.97,
        Place(file, 5, None, "matmul"),
        "The recurrent matrix W is applied 60 times and multiplies the gradient by 1.44 each time.",
        {"gain_per_step": 1.44, "gain_per_step_threshold": 1.05, "time steps": 60, "spectral_radius": 1.51},
        [
            Remedy("orthogonal-recurrence", "Initialise W with nn.init.orthogonal_."),
            Remedy("clip-gradient", "Clip with torch.nn.utils.clip_grad_norm_(params, 1.0) before opt.step()."),
        ],
    )
    verdict = Verdict(
        "rnn.py",
        60,
        Loss(0.9, math.nan),
        "exploding",
        [finding],
        budget(shares),
        Watch(2, 0.12),
        "The gradient grows by 7.2 decades over 60 time steps; the loss is infinite at step 38.",
    )
    return Case(verdict, run)


DIFF = """--- a/train.py
+++ b/train.py
@@ -12,2 +12,2 @@
         x = layer(x)
-        x = torch.sigmoid(x) if k in (4, 5, 6) else torch.relu_(x)
+        x = torch.tanh(x) if k in (4, 5, 6) else torch.relu_(x)
"""


def make_replayed() -> Case:
    """The vanishing one, with every outcome a trial can have."""
    verdict, run = make_vanishing()
    at = [Place("train.py", 13, None, "sigmoid")]
    tanh = Change("swap-activation", "tanh instead of sigmoid at train.py:13", at, {"to": "tanh"})
    he = Change("rescale-init", "weights rescaled to standard deviation 1.41/√inputs at train.py:12")
    norm = Change("add-norm", "a normalisation before each sigmoid at train.py:13", at)
    cell = Change("gated-cell", "gated-cell")
    verdict.replay = Replay(
        Outlook(200, 2.31, 2.25, -5.94, "vanishing", "saturating-activation"),
        [
            Trial([tanh], 0, WIN, "loss 2.25 → 1.71; vanishing is still seen", 3,
                  Outlook(200, 2.31, 1.71, -4.1, "vanishing", "init-too-small"), -0.136, -0.15, -0.12),
            Trial([norm], 0, NO_WIN, "no clear difference in the loss: loss 2.25 → 2.24", 1,
                  Outlook(200, 2.31, 2.24, -5.7, "vanishing", "saturating-activation"), -0.002, -0.01, 0.006),
            Trial([he], 1, WORSE, "it ends in values that are not finite; without it they are finite", 1,
                  Outlook(200, 2.31, None, -1.4, "not-finite", "overflow", finite=False)),
            Trial([cell], 0, NOT_TRIED, "that is an edit of the model"),
            Trial([tanh, he], 0, WIN, "loss 2.25 → 0.31; vanishing is gone", 1,
                  Outlook(200, 2.31, 0.31, -0.9, "healthy"), -0.758, -0.8, -0.7, True, diff=DIFF, diff_tried=True),
        ],
        best=4, steps=200, seeds=3, seconds=41.5, budget=300, reproducible=True,
        notes=["trials were stopped after 200 of 5000 steps, to stay within 300 s"],
    )  # fmt: skip
    return Case(verdict, run)


def make_not_finite() -> Case:
    file = "/home/ada/nets/siamese_contrastive_pretraining.py"
    links = [
        Link("mean", "reduce", 7, None, 0.18),
        Link("sqrt", "singular", 5, None, math.inf, "not-finite", nan=3),
        Link("sum", "reduce", 4, None, None),
        Link("pow", "elementwise", 4, None, None),
        Link("linear", "linear", 11, "net.projection_head.final_layer.linear", None),
    ]
    shares, ops = chain(file, links, 1)
    steps, norms = history(12, 3, lambda i: 0.7 if i < 4 else math.nan, -0.1, lambda i: i >= 3)
    run = Run(
        meta("siamese_contrastive_pretraining.py", SQRT, 3, steps=12),
        steps,
        norms,
        [Probe(3, 0.1, "trouble: gradient not finite", 0.7, 4, ops, [])],
    )
    finding = Finding(
        "not-finite",
        "singular-op",
        0.99,
        Place(file, 5, "net", "sqrt"),
        "sqrt has an infinite slope at 0, and 3 of 32 distances are exactly 0: the gradient is infinite here, and NaN "
        "one operation further back.",
        {"zeros at its input": 3, "smallest input": 0.0, "born": "backward"},
        [
            Remedy(
                "clamp-op",
                "Write torch.sqrt(d2.clamp_min(1e-12)), or use torch.linalg.vector_norm, whose gradient at 0 is 0.",
            )
        ],
    )
    verdict = Verdict(
        "siamese_contrastive_pretraining.py",
        12,
        Loss(0.7, math.nan),
        "not-finite",
        [finding],
        budget(shares, step=3),
        Watch(1, 0.044),
        "The gradient is not finite from step 3 on; it is born in sqrt.",
    )
    return Case(verdict, run)


def make_healthy() -> Case:
    file = "/home/ada/nets/digits.py"
    links = [Link("cross_entropy", "loss", 9, None, 0.11)]
    for k, g in enumerate([1.04, 0.93, 1.01, 0.97]):
        links += [Link("gelu", "activation", 6, None, 0.86 + 0.03 * k), Link("linear", "linear", 5, f"body.{3 - k}", g)]
    shares, ops = chain(file, links)
    steps, norms = history(300, 4, lambda i: 2.3 * math.exp(-i / 60) + 0.04, -0.03)
    run = Run(
        meta("digits.py", "\n".join(f"line_{k} = {k}" for k in range(1, 12)), 4, steps=300),
        steps,
        norms,
        [Probe(0, 0, "first", 2.3, len(ops) - 1, ops, []), Probe(100, 1, "schedule", 0.5, len(ops) - 1, ops, [])],
    )
    verdict = Verdict(
        "digits.py",
        300,
        Loss(2.34, 0.0553),
        "healthy",
        [],
        budget(shares),
        Watch(2, 0.018),
        "Healthy: the gradient arrives at body.0 with 0.5 decades less than at the output, every one of 8 parameters "
        "is trained, and the loss fell from 2.34 to 0.0553.",
    )
    return Case(verdict, run)


def make_several() -> Case:
    """Two optimizers of one class, made at one line: the second's way leads through what the first trains."""
    file = "/home/ada/nets/gan.py"
    critic = [
        Link("add", "elementwise", 12, None, 1.0),
        Link("binary_cross_entropy_with_logits", "loss", 12, "bce", 0.04),
        Link("linear", "linear", 6, "D.2", 0.62),
        Link("relu", "activation", 6, "D.1", 0.73),
        Link("linear", "linear", 6, "D.0", None),
    ]
    maker = [
        Link("binary_cross_entropy_with_logits", "loss", 14, "bce", 0.06),
        *critic[2:4],
        Link("linear", "linear", 6, "D.0", 0.84),
        Link("linear", "linear", 5, "G.2", 0.64),
        Link("relu", "activation", 5, "G.1", 0.03, "vanishing"),
        Link("linear", "linear", 5, "G.0", None),
    ]
    rows, ops = chain(file, critic, 2)
    others, more = chain(file, maker)
    steps, norms = history(60, 4, lambda i: 1.2 - 0.002 * i, -0.1)
    for k, step in enumerate(steps):
        step.optimizer = k % 2
        step.loss = 1.2 - 0.002 * k if k % 2 == 0 else 0.64 + 0.001 * k
    run = Run(
        meta("gan.py", "\n".join(f"line {k}" for k in range(1, 20)), 4, steps=60,
             optimizers=[Optimizer(k, "Adam", {"lr": 0.001}, [], steps=30) for k in (0, 1)]),
        steps, norms,
        [Probe(0, 0, "first", 1.2, len(ops) - 1, ops, [], optimizer=0),
         Probe(1, 0.1, "schedule", 0.64, len(more) - 1, more, [], optimizer=1)],
    )  # fmt: skip
    each = [
        Trained("Adam", 30, Loss(1.2, 1.084), file, 7, -0.34, 0, "D", budget(rows, step=0)),
        Trained("Adam", 30, Loss(0.641, 0.699), file, 7, -2.1, 1, "G", budget(others, step=1)),
    ]
    summary = "The gradient of G loses 2.1 decades on its way through D and G."
    finding = Finding(
        "vanishing", "saturating-activation", 0.8, Place(file, 5, "G.1", "relu"), summary, {"gain": 0.03}, []
    )
    verdict = Verdict(
        "gan.py", 60, Loss(1.2, 1.084), "vanishing", [finding], each[1].budget, Watch(2, 0.02), summary, optimizers=each,
        step_budgets=[
            StepBudget("Adam", 0, k, 2.0, 2e-3 * (k + 1), [Factor("learning rate", 1e-3 * (k + 1), math.log10(1e-3 * (k + 1)))], index=k)
            for k in (0, 1)
        ],
    )  # fmt: skip
    return Case(verdict, run)


def make_branched() -> Case:
    file = "/home/ada/nets/resnet.py"
    links = [Link("cross_entropy", "loss", 30, None, 0.21), Link("linear", "linear", 28, "head", 0.9)]
    for k in range(4):
        i = 3 - k
        links += [
            Link("add", "elementwise", 17, f"blocks.{i}", 1.0),
            Link("conv2d", "conv", 16, f"blocks.{i}.conv2", 0.81),
            Link("relu", "activation", 15, f"blocks.{i}", 0.7),
            Link("conv2d", "conv", 14, f"blocks.{i}.conv1", 0.83),
            Link("merge", "branch", 17, f"blocks.{i}", 2.31, share=0.43),
        ]
    shares, ops = chain(file, links)
    steps, norms = history(120, 5, lambda i: 2.3 / (1 + 0.05 * i), 0.02)
    run = Run(
        meta("resnet.py", "\n".join(f"x = layer_{k}(x)" for k in range(1, 32)), 5, steps=120),
        steps,
        norms,
        [Probe(0, 0, "first", 2.3, len(ops) - 1, ops, [])],
    )
    verdict = Verdict(
        "resnet.py",
        120,
        Loss(2.3, 0.33),
        "healthy",
        [],
        budget(
            shares,
            branched=True,
            note="The net has routes that join again, so gains along one route do not "
            "multiply to the whole: each ⊕ row says how much the other routes add.",
        ),
        Watch(1, 0.02),
        "Healthy: with its four skip connections the gradient grows by 0.1 decades towards the input.",
    )
    return Case(verdict, run)


def make_not_measured() -> Case:
    run = Run(
        meta("infer.py", "print('hello')\n", 0, params=[], optimizers=[], steps=0, sources={}),
        notes=[Note("advice", "The script never called backward.")],
    )
    verdict = Verdict(
        "infer.py",
        0,
        Loss(),
        "not-measured",
        [],
        Budget(),
        Watch(),
        "Nothing was measured: the script ran, but no gradient ever passed.",
    )
    return Case(verdict, run)


def make_proven() -> Case:
    """A run that does not learn, with its certificates and the way from the gradient to the step of two groups."""
    verdict, run = make_healthy()
    verdict.symptom = "stalled"
    verdict.summary = "The loss does not fall, and no fault of the gradient was found."
    verdict.findings = [
        Finding(
            "stalled", "unexplained", 0.6, Place("digits.py", 9, None, None), verdict.summary, {"progress": 0.004}, []
        )
    ]
    verdict.certificates = [
        Certificate("finite", "held", "every loss, gradient, weight and update of 300 steps is finite"),
        Certificate("transmission", "held", "on 5 probed steps the gradient arrived, changed only by clip_grad_norm_ (digits.py:12) ×0.25"),
        Certificate("descent", "broken", "the loss does not fall: 2.3 to 2.3"),
        Certificate("isolation", "not-measured", "no probed step was looked at"),
    ]  # fmt: skip
    verdict.step_budgets = [
        StepBudget(
            "AdamW", group, step, 2.0, 2.0 * 0.25 * 40.0 * 1e-3 * 0.5,
            [Factor("between", 0.25, math.log10(0.25)), Factor("preconditioner", 40.0, math.log10(40.0)),
             Factor("learning rate", 1e-3, -3.0), Factor("rounding", 0.5, math.log10(0.5))],
            math.log10(0.25 * 40.0 * 1e-3 * 0.5), 0.4 if group else None, 0.3, group == 1,
        )
        for step in (1, 2, 5, 10, 20, 50, 100, 200, 300) for group in (0, 1)
    ]  # fmt: skip
    return Case(verdict, run)


def make_long() -> Case:
    """100 000 steps, 200 parameters, 1200 ops."""
    file = "/home/ada/nets/train.py"
    links = [Link("cross_entropy", "loss", 20, None, 0.17)]
    for k in range(600):
        links += [Link("relu", "activation", 13, None, 0.99), Link("linear", "linear", 12, f"ls.{599 - k}", 1.0)]
    shares, ops = chain(file, links)
    steps, norms = history(100_000, 100, lambda i: 2.3 * math.exp(-i / 30_000), -0.01)
    run = Run(
        meta("train.py", VANISHING, 100, steps=100_000),
        steps,
        norms,
        [Probe(0, 0, "first", 2.3, len(ops) - 1, ops, [])],
    )
    verdict = Verdict("train.py", 100_000, Loss(2.3, 0.08), "healthy", [], budget(shares), Watch(1, 0.01), "Healthy.")
    return Case(verdict, run)


HOSTILE = "</script><img src=x onerror=alert(1)>\"'&\x1b[31m\u202e"


def make_hostile() -> Case:
    """Every string of the records tries to break out."""
    case = make_vanishing()
    v, run = case
    file = f"/home/{HOSTILE}/t.py"
    v.script = run.meta.script = HOSTILE
    v.summary = HOSTILE
    v.findings[0].place = Place(file, 2, HOSTILE, HOSTILE)
    v.findings[0].evidence = {HOSTILE: HOSTILE, "n": math.nan, "i": math.inf}
    v.findings[0].remedies[0] = Remedy(HOSTILE, HOSTILE, {HOSTILE: [HOSTILE]})
    v.findings[0].summary = v.findings[0].cause = v.findings[0].symptom = HOSTILE
    v.watch.errors = [HOSTILE]
    change = Change(HOSTILE, HOSTILE, [Place(file, 2)], {HOSTILE: HOSTILE})
    seen = Outlook(1, 1.0, 0.5, -1.0, HOSTILE, HOSTILE, HOSTILE)
    trial = Trial([change], 0, WIN, HOSTILE, 1, seen, -0.5, -1.0, 1.0, remains=HOSTILE, diff=f"+{HOSTILE}\n-{HOSTILE}")
    v.replay = Replay(seen, [trial], 0, notes=[HOSTILE])
    for row in [*v.budget.by_op, *v.budget.by_kind, *v.budget.by_module]:
        row.name = row.module = row.kind = HOSTILE
        row.file, row.line = file, 2
    run.meta.sources = {file: f"a\n{HOSTILE}\nb"}
    run.meta.argv = [HOSTILE, "\udcff"]
    run.meta.error = HOSTILE
    for p in run.meta.params:
        p.name = HOSTILE
    for op in run.probes[0].ops:
        op.name = op.value.dtype = HOSTILE
    run.probes[0].notes = [HOSTILE]
    run.steps[3].loss = math.nan
    run.norms[3].grad[0] = math.inf
    return case


CASES: dict[str, Callable[[], Case]] = {
    "vanishing": make_vanishing,
    "replayed": make_replayed,
    "exploding": make_exploding,
    "proven": make_proven,
    "not-finite": make_not_finite,
    "healthy": make_healthy,
    "branched": make_branched,
    "several": make_several,
    "not-measured": make_not_measured,
}
