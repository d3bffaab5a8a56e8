"""What a traced window holds: the operations in their order, and the autograd graph that lies behind them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import torch
from torch.autograd.graph import Node

from gradientflow.depth.probe.frames import Where
from gradientflow.depth.probe.opaque import Call
from gradientflow.depth.probe.severed import Severed
from gradientflow.records import Cut, Op
from gradientflow.torch_internals import backward_hooks

_MOST_LEFT = 5000  # operations of a window that the next may go on with
_RECENT = 100  # operations that are never taken for dropped: their results may be on the way to the next


@dataclass(slots=True)
class Edge:
    """One edge of the autograd graph that leaves an operation: from input `slot` of `node` to output `nr` of `target`."""

    node: Node
    slot: int
    target: Node
    nr: int
    operand: int


@dataclass(slots=True)
class Traced:
    """The graph side of an `Op`: its output nodes, and the edges that leave it. Dropped once the backward is measured."""

    outputs: list[tuple[Node, int, int]]  # node, output number, entries
    edges: list[Edge]
    channel: int
    results: list[Any] = field(default_factory=list)  # weak references to the output tensors


@dataclass
class Trace:
    """What one window saw, in the order of execution."""

    ops: list[Op] = field(default_factory=list)
    traced: list[Traced] = field(default_factory=list)
    owner: dict[Node, int] = field(default_factory=dict)
    roots: dict[int, tuple[torch.nn.Module, Where]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    hooked: bool = False  # the user has hooks in this graph: no second backward over it
    inner_hooks: list[dict[Any, Any]] = field(default_factory=list)  # those on tensors within it, as PyTorch holds them
    hooks: list[Cut] = field(default_factory=list)  # of the user's on results of operations, with their lines
    checkpointed: bool = False
    full: bool = False
    without_grad: set[int] = field(default_factory=set)  # parameters used with gradients switched off
    last_where: Where | None = None
    calls: dict[int, Call] = field(default_factory=dict)  # of opaque recurrences, by operation
    cuts: list[Cut] = field(default_factory=list)
    severed: Severed = field(default_factory=Severed)
    earlier: int = 0  # operations at its head that are of the window before

    def release(self) -> None:
        """Let go of the script's things: its graph, its modules and, with its frames, its local variables."""
        self.traced, self.owner, self.roots, self.last_where, self.calls = [], {}, {}, None, {}
        self.severed = Severed()
        self.inner_hooks = []

    def hook(self, raw: str, t: Any) -> None:
        """The script sets a hook in the graph, or may."""
        self.hooked = True
        hooks = backward_hooks(t) if raw == "register_hook" and not t.is_leaf else None
        if hooks is not None and not any(known is hooks for known in self.inner_hooks):
            self.inner_hooks.append(hooks)

    def rest(self) -> Trace | None:
        """What the next window goes on with, whose loss may stand on what was computed in this one: the operations without their
        gradients, and the graph; none of the script's modules and frames. None where that is too much.
        """
        if self.full or len(self.ops) > _MOST_LEFT:
            return None
        bare = [
            msgspec.structs.replace(
                op, grad=None, operands=[msgspec.structs.replace(o, grad=None, cut=None) for o in op.operands]
            )
            for op in self.ops
        ]
        left = Trace(
            bare, self.traced, self.owner, hooked=self.hooked, checkpointed=self.checkpointed, earlier=len(bare)
        )
        left.sweep()
        return left

    def settle(self, reached: set[int]) -> bool:
        """Forget operations of the window before on which nothing stands: neither a backward call nor a later operation.

        Args:
            reached: operations that the backward call goes through.

        Returns:
            Whether the operations that are left have other numbers now.
        """
        before, self.earlier = self.earlier, 0
        kept = reached | set(range(before, len(self.ops))) | {c.op for c in self.cuts if c.op >= 0}
        todo = list(kept)
        while todo:
            needed = {o.op for o in self.ops[todo.pop()].operands if o.op is not None} - kept
            kept |= needed
            todo += needed
        if len(kept) == len(self.ops):
            return False
        number = {old: new for new, old in enumerate(sorted(kept))}
        self.ops = [self.ops[old] for old in number]
        self.traced = [self.traced[old] for old in number]
        self.owner = {node: number[old] for node, old in self.owner.items() if old in number}
        self.calls = {number[old]: call for old, call in self.calls.items()}
        for op in self.ops:
            op.index = number[op.index]
            for operand in op.operands:
                operand.op = number[operand.op] if operand.op is not None else None
        for cut in self.cuts:
            cut.op = number.get(cut.op, cut.op)
        return True

    def sweep(self) -> None:
        """Let go of graphs that the script has dropped without a backward call: it may run on without gradients for long.

        From the last operation to the first, as each node that goes lets go of the tensors it saved from those before it.
        """
        nodes: dict[int, list[Node]] = {}
        while self.owner:
            node, index = self.owner.popitem()
            nodes.setdefault(index, []).append(node)
            del node
        needed: set[int] = set()
        for index in reversed(range(len(self.traced))):
            traced = self.traced[index]
            recent = index >= len(self.traced) - _RECENT
            if recent or index in needed or any(not r.expired() for r in traced.results):
                needed.update(o.op for o in self.ops[index].operands if o.op is not None)
            else:
                nodes.pop(index, None)
                traced.outputs, traced.edges, traced.results = [], [], []
                self.calls.pop(index, None)
        self.owner.update((node, index) for index, own in nodes.items() for node in own)

    def note(self, text: str) -> None:
        """Remember, once, what could not be measured."""
        if text not in self.notes:
            self.notes.append(text)
