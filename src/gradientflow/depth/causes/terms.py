"""Terms that train nothing: an addend of the loss without a graph, a derivative that is zero everywhere, a normalisation over
one element, a function whose backward ignores the gradient it is given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from gradientflow.depth.causes import addends, dead, places
from gradientflow.depth.causes.addends import POINTS, SAME_LINE
from gradientflow.depth.causes.case import Case, rounded
from gradientflow.depth.causes.graph import Graph
from gradientflow.depth.causes.remedies import remedies
from gradientflow.depth.causes.trend import LEARNS_WELL
from gradientflow.limits import Limit, told
from gradientflow.ops import STRAIGHT
from gradientflow.records import Finding, Op, Place

ONE = Limit("entries_of_a_normalisation", 2, "chosen: of fewer entries than two nothing is left but a constant")
GROWS = Limit("gain_of_the_function", 10.0, "chosen: a decade; below it the wrong size does not show as a size")


def severed_term(case: Case) -> list[Finding]:
    """An addend of the loss that comes of trained weights and has no graph: it is counted, and trains nothing."""
    graphs = case.finite
    last_of = {g.probe.optimizer: k for k, g in enumerate(graphs)}  # (an addend may be let in after a while)
    still = {_site(s) for k in last_of.values() for s in addends.severed(graphs[k])}
    seen = [s for g in graphs for s in addends.severed(g) if _site(s) in still]
    seen += addends.numbers(graphs) or addends.from_outside(graphs)
    sites: dict[tuple[str | None, int | None, str], list[addends.Severed]] = {}
    for one in seen:
        sites.setdefault(_site(one), []).append(one)
    found = []
    for (file, line, name), group in sites.items():
        last = group[-1]
        place, added = Place(file, line, None, name), places.of_op(last.op, case.meta)
        meant = name in ("detach", "data")  # somebody wrote that down
        derived = name == "grad"
        outside = (
            name not in ("grad", "item", "float", "no_grad") and not meant
        )  # (by its name in the source, not by its numbers)
        how = "was taken without create_graph=True" if derived else "takes it out of the graph"
        found.append(
            Finding(
                "disconnected", "disconnected-parameters", 0.75 if meant or outside else 0.9, place,
                f"An addend of the loss trains nothing: what is added at {added.file}:{added.line} (last {last.value:.4g}) is computed "
                f"from the weights, but {'the derivative' if derived else name} at {file}:{line} {how}, so it is a constant to backward.",
                {"step": graphs[-1].probe.step, "addend": rounded(last.value), "loss": rounded(graphs[-1].probe.loss),
                 "probes_with_it": len(group), "cut": name, "term_without_graph": True}
                | told(gates=(SAME_LINE, POINTS)),
                remedies("keep-graph" if derived else "reconnect", at=place),
            )
        )  # fmt: skip
    return found


def _site(one: addends.Severed) -> tuple[str | None, int | None, str]:
    return one.cut.file, one.cut.line, one.cut.name


def zero_derivative(case: Case) -> list[Finding]:
    """A derivative within the loss (`torch.autograd.grad` with `create_graph`) that is exactly zero everywhere, in every probe."""
    graphs = case.finite
    sites: dict[tuple[tuple[tuple[str, int], ...], int], list[tuple[Graph, Op]]] = {}
    for graph in graphs:
        count: Counter[tuple[tuple[str, int], ...]] = Counter()
        for op in derivatives(graph):
            way = tuple((file, line) for file, line in op.stack)  # (one line may take derivatives of every order)
            sites.setdefault((way, count[way]), []).append((graph, op))
            count[way] += 1
    found: dict[tuple[str | None, int | None], Finding] = {}
    for seen in sites.values():
        if not all(op.value.zeros == 1.0 for _, op in seen):
            continue
        graph, op = seen[-1]
        file, line = op.stack[1] if len(op.stack) > 1 and op.stack[1][0] == op.file else (op.file, op.line)
        ops = (graph.probe.ops[i] for i in sorted(addends.behind(graph, op.index)))
        bend = next((o for o in ops if o.name in STRAIGHT), None)
        place = places.of_op(bend, case.meta) if bend is not None else places.of_op(op, case.meta)
        why = (
            f": it is taken through {bend.name} (at {place.file}:{place.line}), which is made of straight pieces, so its second "
            f"derivative is zero" if bend is not None else ""
        )  # fmt: skip
        found.setdefault(
            (place.file, place.line),
            Finding(
                "dead", "zero-derivative", 0.93 if bend is not None else 0.75, place,
                f"The derivative at {file}:{line} is exactly zero in all {op.value.numel} entries at each of {len(seen)} looks{why}. "
                f"What the loss asks of it no training can give.",
                {"step": graph.probe.step, "zero_entries": op.value.zeros, "looks": len(seen), "derivative_line": line,
                 "activation": bend.name if bend is not None else None, "threshold_zero_entries": 1.0},
                remedies("swap-activation", at=place),
            ),
        )  # fmt: skip
    return list(found.values())


def derivatives(graph: Graph) -> Iterator[Op]:
    """Yield derivatives that the loss depends on and that hang on weights."""
    for index in graph.reached:
        op = graph.probe.ops[index]
        if (
            op.kind == "derivative"
            and op.value.numel
            and any(o.op is not None or o.param in graph.weights for o in op.operands)
        ):
            yield op


def step_function(case: Case) -> list[Finding]:
    """The gradient ends, from the first probe on, at a function that has no slope, or whose own backward gives zero."""
    graphs = case.finite
    ends = [dead.end(g) for g in graphs]
    last = ends[-1] if ends else None
    if last is None or None in ends or not dead.flat(last[0]):
        return []
    op = last[0]
    place = places.of_op(op, case.meta)
    arrives = op.grad.norm if op.grad is not None else 0.0
    why = "its slope is zero wherever it has one" if op.custom is None else "its own backward gives zero"
    return [
        Finding(
            "dead", "zero-derivative", 0.93, place,
            f"The gradient ends at {op.name} at {place.file}:{place.line} from the first step: a gradient of norm {arrives:.3g} comes in and "
            f"exactly zero goes out, as {why}. Nothing before it can learn.",
            {"step": graphs[-1].probe.step, "operation": op.name, "arrives": rounded(arrives), "passes_on": 0.0, "looks": len(graphs)},
            remedies("straight-through" if op.custom is None else "use-gradient", at=place),
        )
    ]  # fmt: skip


def one_element(case: Case) -> list[Finding]:
    """A normalisation over one element, on every way from the loss to the first layer: its output is a constant."""
    graphs = case.finite
    if not graphs or not all(_singles(g) for g in graphs):
        return []
    graph = graphs[-1]
    op = _singles(graph)[0]
    place = places.of_op(op, case.meta)
    arrives = op.grad.norm if op.grad is not None else 0.0
    passed = max((o.grad.norm for o in op.operands if o.op is not None and o.grad is not None), default=0.0)
    head = op.index in graph.head or (graph.last_layer is not None and op.index > graph.last_layer)
    cause = "output-activation" if head else "dead-units"
    return [
        Finding(
            "dead", cause, 0.97, place,
            f"{op.name} at {place.file}:{place.line} normalises over a single element: whatever comes in, a constant comes out, and "
            f"of a gradient of norm {arrives:.3g} it passes {passed:.2g}. Nothing before it can learn.",
            {"step": graph.probe.step, "entries_of_a_normalisation": op.span or 1, "arrives": rounded(arrives), "passes_on": rounded(passed)}
            | told(ONE),
            remedies("fix-output", "remove-norm", at=place) if head else remedies("remove-norm", at=place),
        )
    ]  # fmt: skip


def _singles(graph: Graph) -> list[Op]:
    """Return the normalisations over one element that every way from the loss to the first layer passes."""
    if not graph.layers:
        return []
    first = graph.layers[0]
    ops = [graph.probe.ops[i] for i in graph.reached if i > first]
    single = [op for op in ops if (op.span is not None and op.span < ONE) or _by_hand(graph, op)]
    return [op for op in single if not _way_round(graph, first, op.index)]


def _by_hand(graph: Graph, op: Op) -> bool:
    """Whether an operation takes from a value its own mean, or divides it by its own sum, over one element."""
    if op.name not in ("sub", "div") or op.value.numel <= 1:
        return False
    ops = graph.probe.ops
    sources = {o.op for o in op.operands if o.op is not None}
    for source in sources:
        made = ops[source]
        whole = {"sub": ("mean",), "div": ("sum", "norm", "vector_norm", "amax")}[op.name]
        behind = {o.op for o in made.operands if o.op is not None}
        if (
            made.name in whole
            and behind & sources
            and all(ops[b].value.numel == made.value.numel for b in behind & sources)
        ):
            return True
    return False


def _way_round(graph: Graph, first: int, without: int) -> bool:
    """Whether the loss still depends on an operation's output where another one is left out."""
    todo, seen = [graph.probe.root], {without}
    while todo:
        index = todo.pop()
        if index is None or index in seen:
            continue
        if index == first:
            return True
        seen.add(index)
        todo += [o.op for o in graph.probe.ops[index].operands]
    return False


def deaf_function(case: Case) -> list[Finding]:
    """A custom function whose backward gives the same whatever gradient comes in, where that is not 1 everywhere."""
    for graph in reversed(case.finite):
        for index in graph.reached:
            op = graph.probe.ops[index]
            if op.custom is None or not op.custom.ignores or op.grad is None or _ones(op):
                continue
            sent = max((o.grad.norm for o in op.operands if o.grad is not None), default=0.0)
            gain = sent / op.grad.norm if op.grad.norm else float("inf")
            place = places.of_op(op, case.meta)
            return [
                Finding(
                    _deaf_symptom(case, gain), "wrong-backward", 0.7 if case.main.progress > LEARNS_WELL else 0.92, place,
                    f"The backward of {op.name} (at {place.file}:{place.line}) gives the same for a gradient g, for 2g and for −g: it "
                    f"leaves out what it is given. {op.grad.norm:.3g} came in and {sent:.3g} went out, whatever lies between it and the loss.",
                    {"step": graph.probe.step, "function": op.name, "error_for_2g": rounded(op.custom.error), "arrives": rounded(op.grad.norm),
                     "sends": rounded(sent), "gain_of_the_function": rounded(gain)} | told(GROWS, gates=(LEARNS_WELL,)),
                    remedies("use-gradient", at=place),
                )
            ]  # fmt: skip
    return []


def _ones(op: Op) -> bool:
    """Whether the gradient that came in was ±1 everywhere: to multiply by it changes no size."""
    return op.grad is not None and op.grad.max == 1.0 and op.grad.zeros == 0.0 and abs(op.grad.rms - 1.0) < SAME_LINE


def _deaf_symptom(case: Case, gain: float) -> str:
    if case.main.measured and case.main.progress < 0:
        return "diverging"
    return "exploding" if gain > GROWS else "vanishing" if gain < 1 / GROWS else "crawling"
