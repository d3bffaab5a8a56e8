"""Plans for remedies in the network: activations, weights, skips, norms, recurrences, singular operations."""

from __future__ import annotations

import math

from gradientflow.depth.causes.case import rounded
from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.causes.wiring import EQUAL_WEIGHTS
from gradientflow.depth.remedies.planner import Planner, body_of, named, unique
from gradientflow.ops import HALVING, IN_A_BLOCK, SATURATING, SWAPPABLE, critical_gain
from gradientflow.records import Change, Finding, Op, Place
from gradientflow.records.replay import Setting

_RECTIFYING = HALVING & SWAPPABLE
_THROUGH = ("shape", "elementwise", "singular", "norm", "random")


def swap_activation(plan: Planner, finding: Finding) -> list[Change]:
    """All activations of the body that are of the finding's kind."""
    graph = plan.graph(finding)
    if graph is None:
        return []
    dead = finding.symptom == "dead" and finding.cause != "saturating-activation"
    kinds = _RECTIFYING if dead else SATURATING
    at = unique(plan.place(op) for op in body_of(graph) if op.name in kinds)
    own = finding.place
    if own is not None and own.file is not None and own.op in SATURATING | _RECTIFYING:
        at = unique([*at, Place(own.file, own.line, None, own.op)])
    if not at:
        return []
    names = {p.op or "" for p in at}
    if names <= _RECTIFYING:
        options = ("leaky_relu", "gelu")
    else:
        options = ("relu", "tanh") if names != {"tanh"} else ("relu", "gelu")
    what = "/".join(sorted(names))
    return [Change("swap-activation", f"{to} instead of {what} at {named(at)}", at, {"to": to}) for to in options]


def gain_of(graph: Graph) -> float:
    """Return the gain that keeps the size of a gradient through the body's activations."""
    return critical_gain([op.name for op in body_of(graph)])


def rescale_init(plan: Planner, finding: Finding) -> list[Change]:
    """The hidden layers' weights at the gain of their activations; scores of attention and recurrences at their own."""
    graph = plan.graph(finding)
    if graph is None or not graph.layers:
        return []
    if finding.cause == "attention-saturation":
        return _smaller_scores(plan, graph, finding)
    if finding.cause == "recurrence":
        at = unique(plan.place(op) for op in plan.at(graph, finding.place))
        gain = _recurrent_gain(graph, finding, plan.at(graph, finding.place))
        text = f"recurrent weights rescaled to standard deviation {gain:g}/√inputs at {named(at)}"
        settings: dict[str, Setting] = {"gain": gain} | _own_shape(graph, plan.at(graph, finding.place))
        return [Change("rescale-init", text, at, settings)] if at else []
    gain = rounded(gain_of(graph)) or 1.0
    at = unique(plan.place(graph.probe.ops[i]) for i in _to_rescale(graph, gain))
    if finding.symptom == "dead":
        norms = unique(plan.place(op) for op in body_of(graph) if op.kind == "norm")
        text = f"weights rescaled to standard deviation {gain:.3g}/√inputs, biases and shifts to 0, at {named([*at, *norms])}"
        return [Change("rescale-init", text, unique([*at, *norms]), {"gain": gain, "bias": 0.0})]
    return [
        Change(
            "rescale-init",
            f"weights rescaled to standard deviation {gain:.3g}/√inputs at {named(at)}",
            at,
            {"gain": gain},
        )
    ]


def _to_rescale(graph: Graph, gain: float) -> list[int]:
    """Every layer but the last; that one too where its weights are far off."""
    chosen = [i for i in graph.layers if i != graph.last_layer]
    last = graph.last_layer
    if last is not None:
        for weight in graph.weights_of(graph.probe.ops[last])[:1]:
            state, shape = graph.states.get(weight), graph.params[weight].shape
            inputs = math.prod(shape[1:])
            off = state is not None and state.norm / math.sqrt(math.prod(shape)) * math.sqrt(inputs) / gain
            if off and not 0.1 < off < 2.0:
                chosen.append(last)
    return chosen or graph.layers


def break_symmetry(plan: Planner, finding: Finding) -> list[Change]:
    """Every layer whose units are alike, the output layer too where it is."""
    graph = next((g for g in plan.case.finite if g.layers), None)
    if graph is None:
        return []
    alike = [i for i in graph.layers if any(_alike(graph, w) for w in graph.weights_of(graph.probe.ops[i]))]
    at = unique(plan.place(graph.probe.ops[i]) for i in alike or graph.layers)
    gain = rounded(gain_of(graph)) or 1.0
    text = f"weights drawn at random with standard deviation {gain:.3g}/√inputs at {named(at)}"
    return [Change("break-symmetry", text, at, {"gain": gain})] if at else []


def _alike(graph: Graph, weight: int) -> bool:
    state = graph.states.get(weight)
    return state is not None and (state.norm == 0.0 or (state.alike is not None and state.alike > EQUAL_WEIGHTS))


def _scores(plan: Planner, graph: Graph, finding: Finding) -> tuple[Op, Op] | None:
    """Return (what enters the softmax, the product of queries and keys behind it)."""
    ops = graph.probe.ops
    for op in plan.at(graph, finding.place):
        entered = next((ops[o.op] for o in op.operands if o.op is not None), None)
        product = entered
        while product is not None and product.kind != "linear":
            product = next((ops[o.op] for o in product.operands if o.op is not None), None)
        if entered is not None and product is not None:
            return entered, product
    return None


def _smaller_scores(plan: Planner, graph: Graph, finding: Finding) -> list[Change]:
    found = _scores(plan, graph, finding)
    if found is None:
        return []
    entered, product = found
    layers = [i for o in product.operands if o.op is not None for i in _layers_behind(graph, o.op)]
    at = unique(plan.place(graph.probe.ops[i]) for i in layers)
    factor = rounded(max(entered.value.std, 1e-30) ** (-1 / max(len({*layers}), 1)))
    if not at or not factor:
        return []
    text = f"weights of queries and keys times {factor:.3g} at {named(at)}, so that scores have size 1"
    return [Change("rescale-init", text, at, {"factor": factor})]


def _layers_behind(graph: Graph, index: int) -> list[int]:
    """Return the nearest layers behind an operation, through shapes and arithmetic."""
    if index in graph.layers:
        return [index]
    op = graph.probe.ops[index]
    if op.kind not in _THROUGH:
        return []
    return [i for o in op.operands if o.op is not None for i in _layers_behind(graph, o.op)]


def add_norm(plan: Planner, finding: Finding) -> list[Change]:
    """In front of each hidden activation; behind each hidden layer where there are none; on queries and keys."""
    graph = plan.graph(finding)
    if graph is None:
        return []
    if finding.cause == "attention-saturation":
        found = _scores(plan, graph, finding)
        if found is None or not found[1].value.rms:
            return []
        entered, product = found
        width = next((graph.probe.ops[o.op].value.shape[-1] for o in product.operands if o.op is not None), 1)
        scale = entered.value.rms / product.value.rms
        length = rounded(math.sqrt(math.sqrt(width) / max(scale, 1e-30))) or 1.0
        at = [plan.place(product)]
        return [
            Change(
                "add-norm", f"queries and keys normalised to length {length:.3g} at {named(at)}", at, {"length": length}
            )
        ]
    at = _activations(plan, graph)
    if at:
        return [Change("add-norm", f"layer norm (without parameters) in front of the activations at {named(at)}", at)]
    hidden = unique(plan.place(graph.probe.ops[i]) for i in graph.layers if i != graph.last_layer)
    return (
        [Change("add-norm", f"layer norm (without parameters) behind the layers at {named(hidden)}", hidden)]
        if hidden
        else []
    )


def _activations(plan: Planner, graph: Graph) -> list[Place]:
    ops = [op for op in body_of(graph) if op.kind == "activation"] if graph.body else []
    return unique(plan.place(op) for op in ops)[::-1]


def add_skip(plan: Planner, finding: Finding) -> list[Change]:
    """Around each block of the body that ends as wide as it began, scaled so that the sum does not grow with depth."""
    graph = plan.graph(finding)
    if graph is None or not graph.body:
        return []
    ops = graph.probe.ops
    ends = [i for i in graph.body if ops[i].kind == "activation"] or [i for i in graph.layers if i != graph.last_layer]
    blocks = [i for i in ends if _as_wide(graph, i)]
    at = unique(plan.place(ops[i]) for i in blocks)[::-1]
    if not at:
        return []
    scale = rounded(1.0 / math.sqrt(len(blocks)), 3) or 1.0
    return [
        Change("add-skip", f"x + {scale:g}·block(x) around {len(blocks)} blocks, at {named(at)}", at, {"scale": scale})
    ]


def _as_wide(graph: Graph, end: int) -> bool:
    """Whether the block that ends here has one layer, and data of one shape going in and out."""
    ops = graph.probe.ops
    index: int | None = end
    while index is not None and index not in graph.layers:
        made_by = [o.op for o in ops[index].operands if o.op is not None]
        if ops[index].kind not in IN_A_BLOCK and not (ops[index].name == "add" and len(made_by) == 1):
            return False
        index = next(iter(made_by), None)
    if index is None:
        return False
    entering = [
        ops[o.op].value.shape for o in ops[index].operands if o.op is not None and o.op not in graph.weights_only
    ]
    return ops[end].value.shape in entering


def remove_norm(plan: Planner, finding: Finding) -> list[Change]:
    """Every batch normalisation of the body."""
    graph = plan.graph(finding)
    at = unique(plan.place(op) for op in body_of(graph) if op.kind == "norm") if graph is not None else []
    what = "/".join(sorted({p.op or "" for p in at}))
    return [Change("remove-norm", f"{what} left out at {named(at)}", at)] if at else []


def orthogonal(plan: Planner, finding: Finding) -> list[Change]:
    """The weight at the finding's place that is used on its own output; a little more than orthogonal where its activation
    passes less than everything.
    """
    graph = plan.graph(finding)
    found = plan.at(graph, finding.place) if graph is not None else []
    at = unique(plan.place(op) for op in found if op.kind in ("linear", "recurrent"))
    if not at or graph is None:
        return []
    changes = []
    for gain in dict.fromkeys((_recurrent_gain(graph, finding, found), 1.0)):
        text = f"recurrent weights made orthogonal{f' times {gain:g}' if gain != 1.0 else ''} at {named(at)}"
        settings: dict[str, Setting] = {"gain": gain} | _own_shape(graph, found)
        changes.append(Change("orthogonal-recurrence", text, at, settings))
    return changes


def open_gates(plan: Planner, finding: Finding) -> list[Change]:
    """The gated layer at the finding's place."""
    graph = plan.graph(finding)
    at = unique(plan.place(op) for op in plan.at(graph, finding.place) if op.kind == "recurrent") if graph else []
    return [Change("open-gates", f"gates that keep the state opened at {named(at)}", at, {"bias": 3.0})] if at else []


def _recurrent_gain(graph: Graph, finding: Finding, found: list[Op]) -> float:
    """Return the gain at which a step back in time keeps the gradient: 1 over what the activation passes.

    That is the measured gain per time step over ‖W‖_F/√n, what the weights pass by themselves. Between 1 and 1.5: more
    would drive the state to the ends of its range.
    """
    measured = finding.evidence.get("gain_per_time_step")
    calls = _own_calls(graph, found)
    weights = graph.weights_of(graph.probe.ops[calls[0]]) if calls else []
    if finding.symptom != "vanishing" or not weights or not isinstance(measured, (int, float)) or measured <= 0:
        return 1.0
    state, shape = graph.states.get(weights[0]), graph.params[weights[0]].shape
    passed = state.norm / math.sqrt(shape[0]) if state is not None else 0.0
    return rounded(min(max(passed / measured, 1.0), 1.5), 3) or 1.0


def _own_calls(graph: Graph, found: list[Op]) -> list[int]:
    here = {op.index for op in found}
    return next((c for c in graph.recurrences() if here & set(c)), [])


def _own_shape(graph: Graph, found: list[Op]) -> dict[str, Setting]:
    """Return, as a setting, the shape of the weight that is used on its own output: other layers may stand at its line."""
    calls = _own_calls(graph, found)
    weights = graph.weights_of(graph.probe.ops[calls[0]]) if calls else []
    return {"shape": [float(n) for n in graph.params[weights[0]].shape]} if weights else {}


def clamp_op(plan: Planner, finding: Finding) -> list[Change]:
    """The operand at the finding's line, a millionth of its usual size from the singular point."""
    at = finding.place
    if at is None or at.op is None or at.file is None or at.op == "data":
        return []
    size = finding.evidence.get("operand_max")
    size = min(max(abs(size), 1e-2), 1e2) if isinstance(size, (int, float)) and math.isfinite(size) else 1.0
    eps = rounded(1e-6 * size, 1) or 1e-6
    place = Place(at.file, at.line, None, at.op)
    settings: dict[str, Setting] = {"eps": eps}
    text = f"the operand of {at.op} at {at.file}:{at.line} kept {eps:g} from its singular point"
    if finding.cause == "overflow":
        text = f"what enters {at.op} at {at.file}:{at.line} kept below overflow"
    if at.op == "exp":
        text = f"the exponent at {at.file}:{at.line} kept below overflow"
        dim = _softmax_dim(plan, finding, place)
        if dim is not None:
            settings |= {"shift": True, "dim": dim}
            text = f"the largest exponent taken off first at {at.file}:{at.line}, as softmax does"
    return [Change("clamp-op", text, [place], settings)]


def _softmax_dim(plan: Planner, finding: Finding, place: Place) -> int | None:
    """Return the dimension over which one exp is summed and divided: a softmax by hand; None where it is not one."""
    graph = plan.graph(finding)
    found = plan.at(graph, place) if graph is not None else []
    if graph is None or len({tuple(op.value.shape) for op in found}) != 1:
        return None
    users = [graph.probe.ops[i] for i in graph.consumers[found[0].index]]
    sums = [op for op in users if op.name == "sum"]
    if not sums or not any(op.name == "div" for op in users) or not sums[0].scalars:
        return None
    return int(sums[0].scalars[0])
