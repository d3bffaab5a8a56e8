"""Which remedies to try, where, and with which settings: from the record of a run and its verdict. Reads records only.

The top finding's first remedies come first, then those of the findings after it. A remedy becomes a `Change` where the
record says enough to act on: which lines, which numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from statistics import median

from gradientflow.depth.causes import places
from gradientflow.depth.causes.case import Case, rounded
from gradientflow.depth.causes.graph import Graph
from gradientflow.records import Change, Finding, Op, Optimizer, Place, Run, Verdict

_RELU_LIKE = frozenset(
    {"relu", "relu6", "leaky_relu", "elu", "gelu", "silu", "mish", "prelu", "softplus", "hardswish", "threshold"}
)
_SATURATING = frozenset({"sigmoid", "tanh", "softsign", "hardsigmoid", "hardtanh", "logsigmoid"})
_GAINS = {"tanh": 5.0 / 3.0, "sigmoid": 1.0, "softsign": 1.0, "hardsigmoid": 1.0, "hardtanh": 1.0}
_FROM_FIRST = 3  # remedies of the top finding that are tried before any of the others
_IMPOSSIBLE = {
    "gated-cell": "a cell with gates has other parameters: that is an edit of the model, not something to switch on while it runs",
}


class Planner:
    """Turns remedies into changes for one run.

    Args:
        run: everything seen.
        verdict: what was found.
    """

    def __init__(self, run: Run, verdict: Verdict) -> None:
        self.case = Case(run)
        self.meta = run.meta
        self.verdict = verdict

    def changes(self, finding: Finding, kind: str) -> list[Change]:
        """Return the changes that a remedy can mean here, the best-supported first; none where the record says too little."""
        make = _MAKERS.get(kind)
        return make(self, finding) if make is not None else []

    def graph(self, finding: Finding) -> Graph | None:
        """Return the probe that a finding looked at: the one of its step, else the first that is whole."""
        graphs = self.case.finite or self.case.graphs
        step = finding.evidence.get("step")
        found = next((g for g in self.case.graphs if g.probe.step == step and g.path), None)
        return found or next((g for g in graphs if g.path), graphs[0] if graphs else None)

    def place(self, op: Op) -> Place:
        """Return an operation's place, without its module: a line acts for every module that runs it."""
        at = places.of_op(op, self.meta)
        return Place(at.file, at.line, None, op.name)

    def optimizer(self, finding: Finding) -> Optimizer | None:
        """Return the optimizer a finding is about; the one that steps most, where it names none."""
        at = finding.place
        named = next(
            (o for o in self.meta.optimizers if at is not None and o.made_line == at.line and o.made_file == at.file),
            None,
        )
        return named or self.case.main.optimizer


def candidates(run: Run, verdict: Verdict, *, most: int = 4) -> list[tuple[int, Change]]:
    """Return what to try: (index of the finding, change), the best-supported first.

    Args:
        run: everything seen.
        verdict: its verdict.
        most: how many changes at most.
    """
    planner = Planner(run, verdict)
    found: list[tuple[int, Change]] = []
    seen: set[str] = set()
    for index, change in _in_order(planner, verdict):
        key = f"{change.kind} {change.places} {sorted(change.settings.items(), key=str)}"
        if key not in seen and len(found) < most:
            seen.add(key)
            found.append((index, change))
    return found


def _in_order(planner: Planner, verdict: Verdict) -> Iterator[tuple[int, Change]]:
    """Yield the first change of each of the top finding's first remedies, then of the others' first, then what is left."""
    per = [[planner.changes(f, r.kind) for r in f.remedies] for f in verdict.findings[:4]]
    waves: list[list[tuple[int, Change]]] = [[], [], []]
    for index, lists in enumerate(per):
        usable = [changes for changes in lists if changes]
        for rank, changes in enumerate(usable):
            first = index == 0 and rank < _FROM_FIRST
            waves[0 if first else (1 if rank == 0 else 2)].append((index, changes[0]))
            waves[1 if index == 0 and rank == 0 else 2].extend((index, c) for c in changes[1:])
    for wave in waves:
        yield from wave


def untried(run: Run, verdict: Verdict) -> list[tuple[int, str, str]]:
    """Return the remedies that cannot be tried: (index of the finding, kind, why)."""
    planner = Planner(run, verdict)
    found = []
    for index, finding in enumerate(verdict.findings[:4]):
        for remedy in finding.remedies:
            if remedy.kind in _IMPOSSIBLE:
                found.append((index, remedy.kind, _IMPOSSIBLE[remedy.kind]))
            elif not planner.changes(finding, remedy.kind):
                found.append((index, remedy.kind, "the record does not show a line or a number for it to act on"))
    return found


# ── the step ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _lower_step(plan: Planner, finding: Finding) -> list[Change]:
    lr, stable = finding.evidence.get("learning_rate"), finding.evidence.get("stable_below")
    optimizer = plan.optimizer(finding)
    if optimizer is None:
        return []
    if not lr:
        lr = next((s.lr for s in plan.case.main.steps if s.lr), None)
    factors = [0.1, 0.01]
    if isinstance(stable, (int, float)) and isinstance(lr, (int, float)) and lr > 0 and 0 < 0.5 * stable < lr:
        factors = [0.5 * stable / lr, 0.1 if 0.5 * stable / lr < 0.03 else 0.1 * 0.5 * stable / lr]
    return [_scaled("lower-step", f, lr, optimizer) for f in factors]


def _raise_step(plan: Planner, finding: Finding) -> list[Change]:
    optimizer = plan.optimizer(finding)
    if optimizer is None:
        return []
    lrs = [s.lr for s in plan.case.main.steps if s.lr]
    return [_scaled("raise-step", f, lrs[0] if lrs else None, optimizer) for f in (10.0, 100.0)]


def _scaled(kind: str, factor: float, lr: float | None, optimizer: Optimizer) -> Change:
    factor = rounded(factor, 3) or factor
    to = f"{lr * factor:.2g} instead of {lr:.2g}" if lr else f"{factor:g} times"
    line = f" at {optimizer.made_file}:{optimizer.made_line}" if optimizer.made_file else ""
    settings: dict[str, float] = {"factor": factor}
    return Change(kind, f"learning rate {to}{line}", _optimizer_places(optimizer), {**settings})


def _optimizer_places(optimizer: Optimizer) -> list[Place]:
    return [Place(optimizer.made_file, optimizer.made_line, None, optimizer.name)] if optimizer.made_file else []


def _warmup(plan: Planner, finding: Finding) -> list[Change]:
    if plan.optimizer(finding) is None:
        return []
    steps = max(10, min(200, len(plan.case.main.steps) // 4))
    return [Change("warmup", f"the learning rate rises linearly over the first {steps} steps", [], {"steps": steps})]


def _clip(plan: Planner, finding: Finding) -> list[Change]:
    if plan.optimizer(finding) is None:
        return []
    grads = [s.grad for s in plan.case.main.steps[:200] if s.grad is not None and math.isfinite(s.grad) and s.grad > 0]
    usual = median(grads) if grads else 1.0
    limit = 1.0 if not grads or usual > 1.0 or finding.cause != "bad-batch" else rounded(usual, 2) or 1.0
    return [Change("clip-gradient", f"gradients clipped to norm {limit:g} before each step", [], {"max_norm": limit})]


def _zero_grad(plan: Planner, finding: Finding) -> list[Change]:
    return [Change("zero-grad", "gradients cleared after each step", [], {})]


# ── layers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _unique(found: list[Place]) -> list[Place]:
    return list(dict.fromkeys(p for p in found if p.file is not None))


def _body(graph: Graph) -> list[Op]:
    return [graph.probe.ops[i] for i in graph.body] or [graph.probe.ops[i] for i in graph.reached]


def _named(found: list[Place]) -> str:
    lines = [f"{p.file}:{p.line}" for p in found]
    return ", ".join(lines[:2]) + (f" and {len(lines) - 2} more lines" if len(lines) > 2 else "")


def _swap(plan: Planner, finding: Finding) -> list[Change]:
    graph = plan.graph(finding)
    if graph is None:
        return []
    ops = _body(graph)
    kinds = _SATURATING if finding.symptom != "dead" or finding.cause == "saturating-activation" else _RELU_LIKE
    at = _unique([plan.place(op) for op in ops if op.name in kinds])
    own = finding.place
    if own is not None and own.op in _SATURATING | _RELU_LIKE:
        at = _unique([Place(own.file, own.line, None, own.op), *at]) if not at or finding.symptom == "dead" else at
    if not at:
        return []
    ops_named = "/".join(sorted({p.op or "" for p in at}))
    options = (
        ("leaky_relu", "gelu")
        if ops_named in _RELU_LIKE
        else ("relu", "tanh")
        if "sigmoid" in ops_named
        else ("relu", "gelu")
    )
    return [Change("swap-activation", f"{to} instead of {ops_named} at {_named(at)}", at, {"to": to}) for to in options]


def _layer_places(plan: Planner, graph: Graph) -> list[Place]:
    ops = graph.probe.ops
    hidden = [i for i in graph.layers if i != graph.last_layer] or graph.layers
    return _unique([plan.place(ops[i]) for i in hidden])


def _gain(graph: Graph) -> float:
    names = [op.name for op in _body(graph)]
    saturating = [n for n in names if n in _SATURATING]
    halving = sum(n in _RELU_LIKE for n in names)
    if halving > len(saturating):
        return math.sqrt(2.0)
    return _GAINS.get(saturating[0], 1.0) if saturating else 1.0


def _rescale(plan: Planner, finding: Finding) -> list[Change]:
    graph = plan.graph(finding)
    if graph is None or not graph.layers:
        return []
    gain = rounded(_gain(graph)) or 1.0
    at = _layer_places(plan, graph)
    settings: dict[str, float] = {"gain": gain}
    text = f"weights rescaled to standard deviation {gain:.3g}/√inputs at {_named(at)}"
    if finding.symptom == "dead":
        settings["bias"] = 0.0
        norms = [plan.place(op) for op in _body(graph) if op.kind == "norm"]
        at = _unique([*at, *norms])
        text += ", biases to 0"
    return [Change("rescale-init", text, at, {**settings})]


def _clamp(plan: Planner, finding: Finding) -> list[Change]:
    at = finding.place
    if at is None or at.op is None or at.file is None:
        return []
    place = Place(at.file, at.line, None, at.op)
    return [
        Change(
            "clamp-op",
            f"the operand of {at.op} at {at.file}:{at.line} kept 1e-06 from its singular point",
            [place],
            {"eps": 1e-6},
        )
    ]


def _scale_input(plan: Planner, finding: Finding) -> list[Change]:
    graph = plan.graph(finding)
    if graph is None:
        return []
    entering = plan.case.inputs(graph)
    at = _unique([plan.place(op) for op, _, _ in entering])
    if not at:
        return []
    return [Change("scale-input", f"inputs standardised column by column before {_named(at)}", at, {})]


_MAKERS: dict[str, Callable[[Planner, Finding], list[Change]]] = {
    "lower-step": _lower_step,
    "raise-step": _raise_step,
    "warmup": _warmup,
    "clip-gradient": _clip,
    "zero-grad": _zero_grad,
    "swap-activation": _swap,
    "rescale-init": _rescale,
    "clamp-op": _clamp,
    "scale-input": _scale_input,
}
