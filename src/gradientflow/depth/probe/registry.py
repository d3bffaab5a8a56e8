"""Who is who among the parameters: one index per parameter for the whole run, its name, where it was made and initialised."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Iterator
from itertools import islice
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from gradientflow.depth.probe.frames import Where, variables_of
from gradientflow.depth.probe.shards import is_shared_out, takes_turns
from gradientflow.depth.probe.tracebacks import let_through
from gradientflow.records import Param
from gradientflow.torch_internals import modules_within, parameters_of, parameters_within

_SEARCHED = 1000  # entries of a variable of the script's, for a parameter that has no other name


class _Ref:
    """Leads to a parameter without holding it alive.

    Through the modules it is registered in and the optimizers that step it, where they are known: PyTorch refuses to convert
    a parameter in place (`torch.utils.swap_tensors`) while somebody refers to it weakly. By such a reference otherwise.
    """

    __slots__ = ("_id", "_in_turn", "_owners", "_steps", "_weak")

    def __init__(self, t: Tensor) -> None:
        self._id = id(t)
        self._weak: weakref.ref[Tensor] | None = weakref.ref(t)
        self._owners: list[tuple[weakref.ref[torch.nn.Module], str]] = []
        self._steps: list[tuple[weakref.ref[Optimizer], int, int]] = []
        self._in_turn: weakref.ref[Tensor] | None = None  # what stands in its place for the time of a pass

    def owned(self, module: torch.nn.Module, name: str) -> None:
        self._owners.append((weakref.ref(module), name))
        self._weak = None

    def stepped(self, optimizer: Optimizer, group: int, place: int) -> None:
        self._steps = [step for step in self._steps if step[0]() not in (None, optimizer)]
        self._steps.append((weakref.ref(optimizer), group, place))
        self._weak = None

    def held(self) -> Iterator[Tensor]:
        """Yield what lies in the places where it was registered, whether that is itself or another."""
        for ref, name in self._owners:
            module = ref()
            found = parameters_of(module).get(name) if module is not None else None
            if found is not None:
                yield found

    def exchanged(self, t: Tensor) -> None:
        """Another tensor lies in its place: its shard for good, or all of it for the time of a pass."""
        if is_shared_out(t):
            self._id = id(t)
        else:
            self._in_turn = weakref.ref(t)

    def is_(self, t: Tensor) -> bool:
        """Whether a tensor is this parameter, or stands for it."""
        return self() is t or (self._in_turn is not None and self._in_turn() is t)

    def let_go(self, t: Tensor) -> None:
        """An optimizer that led here is gone: where it was the last that did, the parameter is referred to weakly again."""
        if self() is None:
            self._weak = weakref.ref(t)

    def __call__(self) -> Tensor | None:
        if self._weak is not None:
            return self._weak()
        for ref, name in self._owners:
            module = ref()
            found = parameters_of(module).get(name) if module is not None else None
            if found is not None and (id(found) == self._id or is_shared_out(found)):
                return found
        for by, group, place in self._steps:
            optimizer = by()
            groups = optimizer.param_groups if optimizer is not None else []
            params = groups[group]["params"] if group < len(groups) else []
            if place < len(params) and id(params[place]) == self._id:
                return params[place]  # type: ignore[no-any-return]
        return None


def _format(t: Tensor) -> str:
    return str(t.dtype).removeprefix("torch.")


class Registry:
    """Parameters seen in the run, by identity. Holds no parameter alive."""

    def __init__(self) -> None:
        self.params: list[Param] = []
        self._index: dict[int, int] = {}
        self._refs: list[_Ref] = []
        self._roots: dict[int, tuple[weakref.ref[torch.nn.Module], str]] = {}
        self._paths: dict[int, dict[int, str]] = {}
        self._storage: dict[int, int] = {}
        self._lock = threading.RLock()  # models are built in several threads at once

    def __len__(self) -> int:
        return len(self.params)

    def find(self, t: Tensor) -> int | None:
        """Return the index of a parameter that is known, else None."""
        found = self._index.get(id(t))
        return found if found is not None and self._refs[found].is_(t) else None

    def index_of(self, t: Tensor, being_made: bool = False) -> int:
        """Return the index of a parameter, making it known first where it is new.

        Args:
            t: the parameter.
            being_made: it takes nobody's place that could be looked up.
        """
        found = self.find(t)
        if found is not None:
            return found
        with self._lock:
            found = self._exchanged(t) if not being_made and takes_turns() else None
            return found if found is not None else self._add(t)

    def _exchanged(self, t: Tensor) -> int | None:
        """Return the index of a parameter in whose place this tensor lies by now; all that were exchanged are known afterwards."""
        for index, ref in enumerate(self._refs):
            for other in ref.held():
                known = self.find(other)
                if known is None or (
                    known != index and is_shared_out(other)
                ):  # (one that the script put there is its own)
                    ref.exchanged(other)
                    self._index[id(other)] = index
        return self.find(t)

    def _add(self, t: Tensor) -> int:
        index = len(self.params)
        self.params.append(
            Param(
                index=index,
                name=f"parameter {index}",
                shape=[] if torch.nn.parameter.is_lazy(t) else list(t.shape),
                dtype=_format(t),
                requires_grad=bool(t.requires_grad),
                is_parameter=isinstance(t, torch.nn.Parameter),
            )
        )
        self._refs.append(_Ref(t))
        self._index[id(t)] = index
        return index

    def tensor(self, index: int) -> Tensor | None:
        """Return the live tensor of an index, None when it is gone."""
        return self._refs[index]()

    def live(self) -> Iterator[tuple[int, Tensor]]:
        """Yield every parameter that still exists."""
        for index, ref in enumerate(self._refs):
            t = ref()
            if t is not None:
                yield index, t

    def stepped_by(self, optimizer: Optimizer) -> list[int]:
        """Return the indices of an optimizer's parameters, in its order; it leads to them from now on."""
        indices: list[int] = []
        for i, group in enumerate(optimizer.param_groups):
            for k, p in enumerate(group["params"]):
                indices.append(self.index_of(p))
                self.params[indices[-1]].dtype = _format(p)  # (the model may have been converted since it was made)
                self._refs[indices[-1]].stepped(optimizer, i, k)
        return indices

    def let_go(self, indices: list[int], params: list[Tensor]) -> None:
        """The optimizer of these parameters is gone."""
        for index, t in zip(indices, params, strict=False):  # (nothing may be raised while something is collected)
            self._refs[index].let_go(t)

    # ── where it was made, where it was initialised ──────────────────────────────────────────────────────────────

    def made(self, t: Tensor, where: Where, owner: tuple[torch.nn.Module, str] | None = None) -> None:
        """Remember the user's line that made a parameter (the first one counts), and the module it was made for."""
        param = self.params[self.index_of(t, being_made=True)]
        module_class = type(owner[0]).__name__ if owner is not None else None
        if owner is not None:
            self._refs[param.index].owned(*owner)
        if param.file is None:
            param.file, param.line = where.file, where.line
        if module_class and param.module_class is None:
            param.module_class = module_class
        pointer = _pointer(t)
        if pointer:
            self._storage[pointer] = param.index

    def initialised(self, t: Tensor, call: str, where: Where) -> None:
        """Remember the user's line that last wrote a parameter's values before training began."""
        index = self.find(t)
        if index is None:
            index = self._storage.get(_pointer(t))
            if index is not None:
                owner = self.tensor(index)
                if owner is None or owner.shape != t.shape or _pointer(owner) != _pointer(t):
                    index = None
        if index is None:
            return
        param = self.params[index]
        param.init, param.init_file, param.init_line = call, where.file, where.line

    # ── names ────────────────────────────────────────────────────────────────────────────────────────────────────

    def path_of(self, module: torch.nn.Module, root: torch.nn.Module) -> str:
        """Return a module's path from the outermost module on the stack, with the root's variable name if it has one."""
        paths = self._paths.get(id(root))
        if paths is None or id(module) not in paths:
            paths = {id(m): name for name, m in modules_within(root)}
            self._paths[id(root)] = paths
        return paths.get(id(module), type(module).__name__)

    def forget_paths(self) -> None:
        """Drop the cache of module paths; modules may be changed between probes."""
        self._paths.clear()

    def name_modules(self, roots: Iterable[tuple[torch.nn.Module, Where]]) -> None:
        """Name the parameters of every root module that was called: path from the root, with the root's own name
        in front where several roots were seen.
        """
        for root, where in roots:
            if id(root) not in self._roots and next(parameters_within(root), None) is not None:  # (a loss is no model)
                label = _spelt(_variable_names(where).get(id(root))) or type(root).__name__
                self._roots[id(root)] = (weakref.ref(root), label)
        alive = [(m, label) for ref, label in self._roots.values() if (m := ref()) is not None]
        inner = {id(child) for m, _ in alive for _, child in modules_within(m) if child is not m}
        alive = [(m, label) for m, label in alive if id(m) not in inner]
        for module, label in alive:
            for name, p in parameters_within(module):
                self.params[self.index_of(p)].name = f"{label}.{name}" if len(alive) > 1 else name

    def root_label(self, root: torch.nn.Module) -> str | None:
        """Return the name to put in front of a root's modules, None where there is one root only."""
        found = self._roots.get(id(root))
        return found[1] if found is not None and len(self._roots) > 1 else None

    def name_leaves(self, indices: Iterable[int], where: Where | None) -> None:
        """Name plain tensors after the variable that holds them in the user's frame."""
        unnamed = [i for i in indices if self.params[i].name.startswith("parameter ")]
        names = _variable_names(where) if unnamed and where is not None else {}
        for index in unnamed:
            t = self.tensor(index)
            name = _spelt(names.get(id(t))) if t is not None else None
            if name is not None:
                self.params[index].name = name


def _pointer(t: Tensor) -> int:
    try:
        return t.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError) as problem:  # meta, fake, sparse: no storage to tell apart
        let_through(problem)
        return 0


def _variable_names(where: Where) -> dict[int, tuple[Any, ...]]:
    """Return how the user's code calls objects, by identity: a global, a local, an entry of a list or dict of those, which is the
    variable's name with the key, or an attribute of one (`agent.actor`).
    """
    frame = where.frame
    if frame is None:
        return {}
    scopes = [frame.f_globals]
    if frame.f_code.co_name != "<module>":
        scopes.append(variables_of(frame))
    held = [(name, value) for scope in scopes for name, value in list(scope.items()) if not name.startswith("_")]
    found: dict[int, tuple[Any, ...]] = {}
    for name, value in held:
        found.setdefault(id(value), (name,))
    for name, value in held:
        if isinstance(value, dict) and len(value) < _SEARCHED:
            for key, entry in list(value.items()):
                found.setdefault(id(entry), (name, key))
        elif isinstance(value, (list, tuple)) and len(value) < _SEARCHED:
            for i, entry in enumerate(value):
                found.setdefault(id(entry), (name, i))
    for name, value in held:
        for key, entry in _attributes_of(value):
            found.setdefault(id(entry), (f"{name}.{key}",))
    return found


def _attributes_of(value: Any) -> list[tuple[str, Any]]:
    """Return what an object of the script's holds by name, past any method of its own: a module the modules within it."""
    if isinstance(value, torch.nn.Module):
        return [(path, m) for path, m in islice(modules_within(value), _SEARCHED) if path]
    if isinstance(value, (type, ModuleType, FunctionType, Tensor)):
        return []
    try:
        own = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return []
    if not isinstance(own, dict) or dict.__len__(own) >= _SEARCHED:
        return []
    return [(key, entry) for key, entry in list(dict.items(own)) if isinstance(key, str)]


def _spelt(parts: tuple[Any, ...] | None) -> str | None:
    """Return a name as it is written; keys are the script's own, and asked for theirs only where one is needed."""
    if parts is None:
        return None
    return parts[0] if len(parts) == 1 else f"{parts[0]}[{parts[1]!r}]"
