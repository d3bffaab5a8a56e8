"""Plans for remedies at the weights: their size, their symmetry, recurrences and gates."""

from __future__ import annotations

import math

from gradientflow.depth.causes.case import rounded
from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.causes.wiring import EQUAL_WEIGHTS
from gradientflow.depth.remedies.planner import Planner, body_of, named, unique
from gradientflow.limits import Limit
from gradientflow.ops import critical_gain
from gradientflow.records import Change, Finding, Op
from gradientflow.records.replay import Setting

TOO_SMALL = Limit("output_weights_over_their_scale", 0.1, "chosen: an output that is small at the start does no harm")
TOO_LARGE = Limit("output_weights_over_scale", 2.0, "chosen: a wrong answer that is sure of itself costs steps")
GAIN_MOST = Limit("recurrent_gain", 1.5, "chosen: more would drive the state to the ends of its range")
OPEN = 3.0  # what the biases of a gate that keeps the state are in sum: σ(3) = 0.95 (Gers et al. 2000; Jozefowicz et al. 2015)
_THROUGH = ("shape", "elementwise", "singular", "norm", "random")


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
            if off and not TOO_SMALL < off < TOO_LARGE:
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


def _smaller_scores(plan: Planner, graph: Graph, finding: Finding) -> list[Change]:
    found = plan.scores(graph, finding)
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
    return [Change("open-gates", f"gates that keep the state opened at {named(at)}", at, {"bias": OPEN})] if at else []


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
    return rounded(min(max(passed / measured, 1.0), GAIN_MOST), 3) or 1.0


def _own_calls(graph: Graph, found: list[Op]) -> list[int]:
    here = {op.index for op in found}
    return next((c for c in graph.recurrences() if here & set(c)), [])


def _own_shape(graph: Graph, found: list[Op]) -> dict[str, Setting]:
    """Return, as a setting, the shape of the weight that is used on its own output: other layers may stand at its line."""
    calls = _own_calls(graph, found)
    weights = graph.weights_of(graph.probe.ops[calls[0]]) if calls else []
    return {"shape": [float(n) for n in graph.params[weights[0]].shape]} if weights else {}
