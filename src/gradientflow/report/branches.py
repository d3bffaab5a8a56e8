"""Where the gradient takes several routes: at each split of the forward pass what comes back by each, and how they lie to each other.

A tensor that several operations take gets the sum of what each of them sends back. Norms of a sum do not add, so beside the norm of
each stands the cosine between the two: near 1 they help each other, near −1 they take each other away.
"""

from __future__ import annotations

import math
from collections import defaultdict

from gradientflow.records import Branch, Op, Probe, Route
from gradientflow.report import tell, words

MOST = 300  # splits that are told


def branches(probe: Probe) -> list[Branch]:
    """Return the splits of a probed step, from the loss down."""
    ops = probe.ops
    sent: dict[int, list[tuple[Op, float]]] = defaultdict(list)
    for op in ops:
        for operand in op.operands:
            if operand.op is not None and operand.grad is not None and math.isfinite(operand.grad.norm):
                sent[operand.op].append((op, operand.grad.norm))
    found = [_branch(ops, ops[at], routes) for at, routes in sorted(sent.items(), reverse=True) if len(routes) > 1]
    return found[:MOST]


def _branch(ops: list[Op], split: Op, routes: list[tuple[Op, float]]) -> Branch:
    whole = split.grad.norm if split.grad is not None and not split.grad.nonfinite else None
    energy = math.fsum(norm * norm for _, norm in routes)
    trunk = (
        next((op for op, _ in routes if op.name == "add" and len(_made(op)) > 1), None) if len(routes) == 2 else None
    )
    told = [
        Route(
            name=_called(ops, split, op, trunk), norm=norm, share=norm * norm / energy if energy > 0 else None,
            gain=_gain(norm, op, trunk), trunk=op is trunk,
        )
        for op, norm in routes
    ]  # fmt: skip
    cosine = None
    if len(routes) == 2 and whole is not None:
        a, b = routes[0][1], routes[1][1]
        if a > 0 and b > 0:
            cosine = min(1.0, max(-1.0, (whole * whole - a * a - b * b) / (2 * a * b)))
    module = words.one_line(split.module or "") if split.module != split.module_class else ""
    return Branch(
        site=tell.site(split.file, split.line), name=words.one_line(split.name), module=module, norm=whole,
        routes=sorted(told, key=lambda r: not r.trunk), cosine=cosine, residual=trunk is not None,
    )  # fmt: skip


def _made(op: Op) -> list[int]:
    return [o.op for o in op.operands if o.op is not None]


def _gain(norm: float, first: Op, trunk: Op | None) -> float | None:
    """What a route makes of the gradient at its end, where the routes join again: only known of a residual block."""
    if trunk is None or trunk.grad is None or not trunk.grad.norm > 0 or trunk.grad.nonfinite:
        return None
    return norm / trunk.grad.norm


def _called(ops: list[Op], split: Op, first: Op, trunk: Op | None) -> str:
    """The name of a route: of a residual block its trunk, and what its branch is made of; else the operation it begins with."""
    if first is trunk:
        return "trunk"
    module = words.one_line(first.module or "") if first.module and first.module != first.module_class else ""
    begins = f"{words.one_line(first.name)} {module}".strip()
    if trunk is None:
        return begins
    kinds = {ops[i].kind for i in _between(ops, split.index, first.index, trunk.index)}
    made = next(
        (
            word
            for kind, word in (("attention", "attention"), ("conv", "convolution"), ("linear", "MLP"))
            if kind in kinds
        ),
        "",
    )
    if made == "MLP" and "softmax" in kinds:
        made = "attention"
    return f"branch: {made or 'operations'} ({begins})"


def _between(ops: list[Op], split: int, first: int, join: int) -> set[int]:
    """Operations of a branch: what its first leads to, ahead of where it joins."""
    reached = {first}
    for index in range(first + 1, join):
        if any(i in reached for i in _made(ops[index])):
            reached.add(index)
    return reached
