"""The backward half of a probe: the gradient at every operation's output, and the share each operation sends to each operand.

Prehooks on autograd nodes read the gradient that arrives; hooks after a node read what it passes on, and are set only
where a tensor is consumed by more than one operation (elsewhere the share is the whole). All hooks are removed when
the backward call returns; none of them changes what passes.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from torch import Tensor
from torch.autograd.graph import Node

from gradientflow.depth.probe.hooked import Hooked
from gradientflow.depth.probe.leaves import MANY, grad_stats, is_small, value_stats
from gradientflow.depth.probe.registry import Registry
from gradientflow.depth.probe.shards import freed
from gradientflow.depth.probe.stats import combine, grad_stat, units_alike, value_stat
from gradientflow.depth.probe.traced import Edge, Trace
from gradientflow.records import GradStat, Operand, ParamState
from gradientflow.torch_internals import accumulation_hooks, readable

_UNSEEN = 64  # nodes between a root and what was traced, at most


class BackwardMeasure:
    """Measures one backward pass over a trace.

    Args:
        trace: the forward half.
        registry: who is who among the parameters.
        shield: runs a function of ours so that no exception of it reaches the script.
    """

    def __init__(self, trace: Trace, registry: Registry, shield: Callable[..., Any]) -> None:
        self.trace = trace
        self.registry = registry
        self.shield = shield
        self.order: list[int] = []  # parameters in the order their gradients arrived
        self._handles: list[Any] = []
        self._outputs: dict[tuple[int, int], tuple[GradStat, int]] = {}  # (op, output) -> gradient there, entries
        self._shares: dict[int, list[tuple[Operand, GradStat]]] = defaultdict(list)
        self._params: dict[int, GradStat] = {}
        self._sole: list[tuple[int, Operand, Node, int]] = []
        self._at_node: dict[tuple[Node, int], GradStat] = {}
        self._left: dict[Node, int] = {}  # leaves whose gradient is read where it is left, in `.grad`
        self.reached: set[int] = set()
        self.hooked = Hooked(shield)

    # ── before ───────────────────────────────────────────────────────────────────────────────────────────────────

    def survey(self, roots: Iterable[Tensor]) -> int | None:
        """Find what of the graph behind `roots` was traced; return the index of the root's operation, None if nothing was."""
        trace = self.trace
        stack = self._starts([r.grad_fn for r in roots if r.grad_fn is not None])
        root = max(stack) if stack else None
        while stack:
            op = stack.pop()
            if op in self.reached:
                continue
            self.reached.add(op)
            stack.extend(o.op for o in trace.ops[op].operands if o.op is not None)
        return root

    def _starts(self, todo: list[Node]) -> list[int]:
        """Return the traced operations nearest to the roots: some calls (`as_subclass`) pass by no mode."""
        found, left = [], _UNSEEN
        while todo and left:
            node, left = todo.pop(), left - 1
            if node in self.trace.owner:
                found.append(self.trace.owner[node])
            else:
                todo.extend(target for target, _ in node.next_functions if target is not None)
        return found

    def attach(self, leaves_them: bool = False) -> None:
        """Set the hooks. Only now: any other pass over the graph before would be measured too.

        Args:
            leaves_them: the gradients will be left in `.grad`, so that those of very many leaves can be read there, at once.
        """
        trace = self.trace
        first: dict[tuple[Node, int], int] = {}
        several: set[tuple[Node, int]] = set()  # that more than one operation consumes
        for op in self.reached:
            for edge in trace.traced[op].edges:
                if first.setdefault((edge.target, edge.nr), op) != op:
                    several.add((edge.target, edge.nr))
        watched: dict[Node, list[tuple[int, int, int, int]]] = defaultdict(list)
        for op in self.reached:
            for position, (node, nr, numel) in enumerate(trace.traced[op].outputs):
                watched[node].append((op, position, nr, numel))
        leaves: dict[Node, int] = {}
        shared: dict[Node, list[Edge]] = defaultdict(list)
        inner: set[tuple[Node, int]] = set()
        for op in self.reached:
            operands = trace.ops[op].operands
            for edge in trace.traced[op].edges:
                operand = operands[edge.operand]
                if operand.param is not None:
                    leaves[edge.target] = operand.param
                if (edge.target, edge.nr) in several:
                    shared[edge.node].append(edge)
                else:
                    self._sole.append((op, operand, edge.target, edge.nr))
                    if edge.target not in watched and edge.target not in leaves:
                        inner.add((edge.target, edge.nr))
        if leaves_them and len(leaves) > MANY:
            self._left = {node: i for node, i in leaves.items() if self._is_left_alone(i)}
        for node in {*watched, *leaves, *(n for n, _ in inner)} - self._left.keys():
            self._handles.append(node.register_prehook(self._arrives(node, watched.get(node, []), leaves.get(node))))
        for node, edges in shared.items():
            self._handles.append(node.register_hook(self._leaves(edges)))
        live = ((i, self.registry.tensor(i)) for i in sorted(set(leaves.values())))
        self.hooked.attach((i, t) for i, t in live if t is not None)
        self.hooked.attach_within(trace.inner_hooks)

    def _is_left_alone(self, param: int) -> bool:
        """Whether what will lie in a parameter's `.grad` is what arrives: nothing lies there yet, and nobody changes it."""
        t = self.registry.tensor(param)
        return t is not None and is_small(t) and t.is_leaf and t.grad is None and not accumulation_hooks(t)

    def _arrives(self, node: Node, outputs: list[tuple[int, int, int, int]], param: int | None) -> Callable[..., None]:
        def measure(grads: tuple[Tensor | None, ...]) -> None:
            for nr, g in enumerate(grads):
                if g is None or not readable(g):
                    continue
                stat = grad_stat(g)
                self._at_node[node, nr] = stat
                for op, position, output, numel in outputs:
                    if output == nr:
                        self._outputs[op, position] = (stat, numel)
                        if op in self.trace.calls:
                            self.trace.calls[op].arrives(position, g)
                if param is not None:
                    self._params[param] = stat
                    self.order.append(param)

        return partial(self.shield, measure)

    def _leaves(self, edges: list[Edge]) -> Callable[..., None]:
        def measure(passed: tuple[Tensor | None, ...], arrived: Any) -> None:
            for edge in edges:
                g = passed[edge.slot] if edge.slot < len(passed) else None
                if g is not None and readable(g):
                    op = self.trace.owner[edge.node]
                    self._shares[op].append((self.trace.ops[op].operands[edge.operand], grad_stat(g)))

        return partial(self.shield, measure)

    # ── after ────────────────────────────────────────────────────────────────────────────────────────────────────

    def detach(self) -> None:
        """Remove every hook."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.hooked.detach()

    def finish(self) -> None:
        """Write what was measured into the trace's operations."""
        self._read_left()
        found: dict[int, list[tuple[GradStat, int]]] = defaultdict(list)
        for (op, _), (stat, numel) in self._outputs.items():
            found[op].append((stat, numel))
        for op, parts in found.items():
            stats, sizes = [p[0] for p in parts], [p[1] for p in parts]
            self.trace.ops[op].grad = stats[0] if len(stats) == 1 else combine(stats, sizes)
        gathered: dict[int, tuple[Operand, list[GradStat]]] = {}  # of those that are sent it along several edges
        sole = ((operand, self._at_node.get((target, nr))) for _, operand, target, nr in self._sole)
        for operand, sent in itertools.chain(sole, *self._shares.values()):
            if operand.grad is None:
                operand.grad = sent
            elif sent is not None:
                gathered.setdefault(id(operand), (operand, [operand.grad]))[1].append(sent)
        for operand, stats in gathered.values():
            operand.grad = combine(stats, [1] * len(stats))

    def _read_left(self) -> None:
        """Read the gradients that lie in `.grad` by now; the last operation's came first."""
        there: dict[int, Tensor] = {}
        for param in self._left.values():
            t = self.registry.tensor(param)
            g = t.grad if t is not None else None
            if g is not None and readable(g):
                there[param] = g
        self._params |= zip(there, grad_stats(list(there.values())), strict=True)
        for node, param in self._left.items():
            if param in there:
                self._at_node[node, 0] = self._params[param]
        last_first = (o.param for op in sorted(self.reached, reverse=True) for o in self.trace.ops[op].operands)
        self.order += dict.fromkeys(p for p in last_first if p is not None and p in there)

    def at_output(self, op: int, position: int) -> GradStat | None:
        """Return the gradient at one of an operation's outputs, where it has several."""
        found = self._outputs.get((op, position))
        return found[0] if found is not None else None

    def batch(self) -> int | None:
        """Return the number of samples: the first dimension of the data that enters the graph first."""
        for index in sorted(self.reached):
            for operand in self.trace.ops[index].operands:
                data = operand.op is None and operand.param is None and operand.value is not None
                if data and operand.value is not None and len(operand.value.shape) >= 2:
                    return int(operand.value.shape[0])
        return None

    def param_states(self) -> list[ParamState]:
        """Return the state of every parameter the backward reached or an operation consumed, in order of use."""
        used: dict[int, None] = {}
        for op in sorted(self.reached):
            for operand in self.trace.ops[op].operands:
                if operand.param is not None:
                    used.setdefault(operand.param)
        live = {i: t for i in used if (t := self.registry.tensor(i)) is not None and not freed(t)}
        values = value_stats(list(live.values())) if len(live) > MANY else [value_stat(t) for t in live.values()]
        states: list[ParamState] = []
        for (index, t), value in zip(live.items(), values, strict=True):
            states.append(
                ParamState(
                    param=index,
                    norm=value.rms * value.numel**0.5,
                    mean=value.mean,
                    std=value.std,
                    absmax=value.absmax,
                    alike=units_alike(t),
                    nonfinite=value.nonfinite,
                    grad=self._params.get(index),
                )
            )
            if self._params.get(index) is not None:
                self.registry.params[index].in_graph = True
        return states
