"""Terms: every addend of the loss and every summand of the gradient is alive."""

from __future__ import annotations

from collections.abc import Sequence

from gradientflow.depth.causes import terms as rules
from gradientflow.depth.causes.addends import leaves, reaches_training
from gradientflow.depth.causes.case import Case, counted
from gradientflow.depth.causes.certificates import broken
from gradientflow.records import Certificate, Finding

NAME = "terms"
CAUSES = ("zero-derivative", "wrong-backward")


def terms(case: Case, findings: Sequence[Finding]) -> Certificate:
    """Return whether what the loss adds up passes a gradient, and the script's own functions the one they are given.

    Args:
        case: the run.
        findings: what the rules found.
    """
    told = [f for f in findings if f.cause in CAUSES]
    found = [*told, *rules.severed_term(case), *rules.one_element(case)]  # (whose causes have other rules, too)
    if found:
        top = max(found, key=lambda f: f.confidence)
        return broken.told(NAME, top, {"terms": len(found), "cause": top.cause, "step": top.evidence.get("step")})
    loose = [p for p in case.run.probes if p.root is None and p.ops]
    if loose and not case.graphs:
        return Certificate(
            NAME, "broken", "backward was called on a loss that no operation leads to", {"probes": len(loose)}
        )
    graphs = case.finite
    if not graphs:
        return Certificate(NAME, "not-measured", "no backward pass was traced whose numbers are finite")
    if not any(map(reaches_training, graphs)):
        return Certificate(NAME, "broken", "no loss depends on a weight that is trained", {"probes": len(graphs)})
    addends = leaves(graphs[-1])
    derivatives = [op for g in graphs for op in rules.derivatives(g)]
    own = {op.name: op.custom for g in graphs for i in g.reached if (op := g.probe.ops[i]).custom is not None}
    unasked = {name: c.why for name, c in own.items() if c is not None and c.error is None}
    dead = [op for op in addends if op.grad is None or not op.grad.norm]
    numbers = {
        "probes": len(graphs), "addends": len(addends), "addends_without_gradient": len(dead), "derivatives": len({(o.file, o.line) for o in derivatives}),
        "functions": len(own), "functions_not_asked": len(unasked),
    }  # fmt: skip
    if dead:
        at = f"{dead[0].name} at {dead[0].file}:{dead[0].line}"
        return Certificate(
            NAME, "not-measured", f"an addend of the loss ({at}) got no gradient on the last probed step", numbers
        )
    if unasked:
        name, why = next(iter(unasked.items()))
        return Certificate(
            NAME, "not-measured", f"whether the backward of {name} heeds its gradient was not asked: {why}", numbers
        )
    parts = ["the loss" if len(addends) == 1 else f"each of the {len(addends)} addends of the loss"]
    parts += [counted(len({(o.file, o.line) for o in derivatives}), "derivative") + " within it"] if derivatives else []
    parts += [counted(len(own), "function") + " of the script's own"] if own else []
    verb = "passes" if len(parts) == 1 else "pass"
    why = f"{' and '.join(parts)} {verb} a gradient, on {counted(len(graphs), 'probed step')}"
    return Certificate(NAME, "held", why, numbers)
