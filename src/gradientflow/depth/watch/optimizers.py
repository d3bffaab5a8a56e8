"""The optimizers under watch, each known from its first step on."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

from torch import Tensor
from torch.optim import Optimizer as TorchOptimizer

from gradientflow.depth.probe.births import Births
from gradientflow.depth.probe.frames import locate
from gradientflow.depth.probe.registry import Registry
from gradientflow.depth.probe.shards import is_shared_out
from gradientflow.depth.watch.cheap import CheapTier
from gradientflow.depth.watch.continuity import Continuity
from gradientflow.records import Group, Optimizer
from gradientflow.torch_internals import readable


class Watched:
    """One optimizer under watch."""

    def __init__(self, optimizer: TorchOptimizer, record: Optimizer, params: list[Tensor], registry: Registry) -> None:
        self._registry = registry
        self.ref = weakref.ref(optimizer, self._gone)
        self.record = record
        self.params = params
        self.cheap = CheapTier(params)
        self.continuity = Continuity(params)
        self.main_group = main_group(optimizer)
        self.hooked = False
        self.thread = 0  # that steps it
        self.carried: float | None = None

    def _gone(self, ref: Any) -> None:
        """The script dropped the optimizer: hold its model alive no longer."""
        try:
            self._registry.let_go(self.record.params, self.params)
            self.params, self.cheap, self.continuity = [], CheapTier([]), Continuity([])
        except (AttributeError, TypeError):  # Python ends, and has taken our modules apart
            return


class Optimizers:
    """All that have stepped, in the order of their first steps.

    Args:
        registry: who is who among the parameters.
        births: where the optimizers were made.
    """

    def __init__(self, registry: Registry, births: Births) -> None:
        self._registry = registry
        self._births = births
        self._all: list[Watched] = []
        self._by_id: dict[int, Watched] = {}
        self.shared_out = False  # parameters of one of them are, among processes

    def __iter__(self) -> Iterator[Watched]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    @property
    def several(self) -> bool:
        """Whether the script holds more than one."""
        held = {
            id(o)
            for ref in (*(w.ref for w in self._all), *(r for r, *_ in self._births.optimizers.values()))
            if (o := ref()) is not None
        }
        return len(held) > 1

    @property
    def at_once(self) -> int:
        """How many there are at most: one that took the place of one that is gone, in a script that makes many, counts once."""
        return len(self._by_id)

    def known(self, optimizer: TorchOptimizer) -> Watched | None:
        """Return what is known of an optimizer; None where it has not stepped yet."""
        found = self._by_id.get(id(optimizer))
        return found if found is not None and found.ref() is optimizer else None

    def watch(self, optimizer: TorchOptimizer) -> Watched:
        """Return what is known of an optimizer, getting to know it at its first step."""
        params = [p for group in optimizer.param_groups for p in group["params"]]
        found = self.known(optimizer)
        if found is None:
            return self._meet(optimizer, params)
        if list(map(id, found.params)) != list(map(id, params)):  # a parameter group was added, a layer replaced
            found.params, found.cheap, found.continuity = params, CheapTier(params), Continuity(params)
            found.main_group = main_group(optimizer)
            found.record.params = self._registry.stepped_by(optimizer)
        return found

    def _meet(self, optimizer: TorchOptimizer, params: list[Tensor]) -> Watched:
        where = locate(4, modules=False, limit=1)
        made = self._births.made(optimizer)
        record = Optimizer(
            index=len(self._all), name=type(optimizer).__name__,
            options=options_of(optimizer.defaults) | options_of(optimizer.param_groups[main_group(optimizer)])
            | {"weight_decay": max(_decays(optimizer))},
            params=self._registry.stepped_by(optimizer),
            file=where.file, line=where.line, made_file=made[0], made_line=made[1],
        )  # fmt: skip
        taken = iter(record.params)
        record.groups = [Group(options_of(g), [next(taken) for _ in g["params"]]) for g in optimizer.param_groups]
        for index in record.params:
            if self._registry.params[index].optimizer is None:
                self._registry.params[index].optimizer = record.index
        self.shared_out |= any(map(is_shared_out, params))
        watched = self._by_id[id(optimizer)] = Watched(optimizer, record, params, self._registry)
        self._all.append(watched)
        return watched


def main_group(optimizer: TorchOptimizer) -> int:
    """Return the number of the group that holds most weights: its options are told as the optimizer's."""
    sizes = [sum(p.numel() for p in group["params"] if readable(p)) for group in optimizer.param_groups]
    return sizes.index(max(sizes)) if sizes else 0


def options_of(group: dict[str, Any]) -> dict[str, Any]:
    """Return a group's options that a record can hold, as Python's own kinds of value."""
    found = {key: _plain(value) for key, value in group.items() if key != "params"}
    return {key: value for key, value in found.items() if value is not None}


def _plain(value: Any) -> Any:
    """Return what a record can hold of a value (numpy's numbers are not among it), or None."""
    if isinstance(value, (tuple, list)):
        numbers = [_plain(v) for v in value]
        return numbers if all(isinstance(v, (int, float)) for v in numbers) else None
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    return int(value) if isinstance(value, Integral) else number_of(value)


def number_of(value: Any) -> float | None:
    """Return the number that a value is: one of Python's, numpy's or a tensor's; else None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, Tensor):
        return float(value) if value.numel() == 1 and readable(value) and not value.is_complex() else None
    return float(value) if isinstance(value, Real) else None


def _decays(optimizer: TorchOptimizer) -> list[float]:
    """Return the weight decay of each group (a group may differ from what the optimizer was made with); 0 where there is none."""
    given = [group.get("weight_decay", 0.0) for group in optimizer.param_groups]
    return [d for one in given if (d := number_of(one)) is not None] or [0.0]
