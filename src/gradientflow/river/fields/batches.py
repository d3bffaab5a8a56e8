"""The data of a loss field: (x, y) batches in a fixed order, cut to size, counted, and seen to be the same at every pass."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from gradientflow.errors import FieldError
from gradientflow.river.fields import chance

Batch = tuple[Any, Any, int]
"""Input, target, number of examples."""

MEND = (
    "Pass data=(x, y) with two tensors, or something that can be gone through again and again and gives (x, y) "
    "batches: a list, or a DataLoader with shuffle=False."
)


class Batches:
    """Batches of (input, target), the same ones in the same order at every pass.

    Args:
        data: a tuple (x, y), or any re-iterable of such pairs. x and y may be tensors, or tuples or dicts of them.
        device: where the batches go.
        microbatch: cut every batch into pieces of at most so many examples; None leaves them as they come. Whatever has
            as many rows as the batch is cut, everything else goes along whole.

    Raises:
        FieldError: it is not that, can be gone through only once, or is empty.

    Attributes:
        number: of batches in one pass, after cutting.
        examples: in one pass.
        stream: the batches are made anew at each pass, by code that is not ours.

    Example:
        >>> cut = Batches((torch.zeros(5, 2), torch.zeros(5)), torch.device("cpu"), microbatch=2)
        >>> [n for _, _, n in cut], cut.number, cut.examples
        ([2, 2, 1], 3, 5)
    """

    def __init__(self, data: Any, device: torch.device, microbatch: int | None = None) -> None:
        if microbatch is not None and (not isinstance(microbatch, int) or microbatch < 1):
            raise FieldError(f"microbatch must be a whole number of examples, 1 or more, got {microbatch!r}.")
        self.device, self.microbatch = device, microbatch
        self.source: Iterable[Any] = self._source(data)
        self.stream = not isinstance(self.source, list | tuple) or not all(_plain(item) for item in self.source)
        self._fixed: list[Batch] | None = None
        if isinstance(data, tuple):
            self._fixed = list(self._cut())
        self.number = 0
        counts = [n for _, _, n in self]
        if not counts:
            raise FieldError(f"data is empty: one pass over {type(data).__name__} gave no batch. {MEND}")
        self.number, self.examples = len(counts), sum(counts)

    def _source(self, data: Any) -> Iterable[Any]:
        if data is None:
            raise FieldError(f"there is no data. {MEND}")
        if isinstance(data, tuple):
            if len(data) != 2:
                raise FieldError(f"data is a tuple of {len(data)}; expected two, (x, y). {MEND}")
            if all(isinstance(part, tuple) and len(part) == 2 and _pair_like(part) for part in data):
                raise FieldError(
                    "data is a tuple of two pairs: it could be two batches, or one batch of two inputs and two targets. "
                    "Write a list: data=[(x1, y1), (x2, y2)] for the one, data=[((x1, x2), (y1, y2))] for the other."
                )
            return [data]
        if isinstance(data, Tensor | Mapping | str):
            raise FieldError(f"data is {_told(data)}; expected inputs and targets. {MEND}")
        if isinstance(data, torch.utils.data.Dataset) and not isinstance(data, torch.utils.data.IterableDataset):
            raise FieldError(
                f"data is the dataset {type(data).__name__}, which gives single examples; expected batches. Pass "
                "data=torch.utils.data.DataLoader(dataset, batch_size=1000, shuffle=False)."
            )
        if not isinstance(data, Iterable):
            raise FieldError(f"data is {type(data).__name__}, which cannot be gone through. {MEND}")
        if isinstance(data, Iterator):
            raise FieldError(
                f"data is a {type(data).__name__}, which can be gone through only once; a flow goes through it thousands "
                "of times. Pass data=list(data) if it fits into memory, or the loader itself instead of iter(loader)."
            )
        if isinstance(data, list) and len(data) == 2 and all(isinstance(part, Tensor) for part in data):
            raise FieldError(
                "data is a list of two tensors: expected a tuple, data=(x, y), or a list of (x, y) batches."
            )
        return data

    def __iter__(self) -> Iterator[Batch]:
        if self._fixed is not None:
            yield from self._fixed
        elif self.stream:
            with chance.kept():  # a DataLoader draws from the global generator whenever it begins
                yield from self._whole()
        else:
            yield from self._whole()

    def first(self) -> Batch:
        """Return the first batch."""
        return next(iter(self)) if self._fixed is None else self._fixed[0]

    def _whole(self) -> Iterator[Batch]:
        """Go through the data once, and see that no batch is missing or new."""
        seen = 0
        for batch in self._cut():
            yield batch
            seen += 1
        if self.number and seen != self.number:
            raise FieldError(
                f"data gave {self.number} batches at the first pass and {seen} at a later one; expected the same at every "
                "pass. Pass data=list(data) if it fits into memory, or a loader that begins anew."
            )

    def _cut(self) -> Iterator[Batch]:
        for number, item in enumerate(self.source):
            x, y = self._pair(number, item)
            x, y = moved(x, self.device), moved(y, self.device)
            count = _count(number, x, y, cut=self.microbatch is not None)
            step = self.microbatch or count
            if step >= count:
                yield x, y, count
                continue
            for begin in range(0, count, step):
                end = min(begin + step, count)
                cut = _slicer(count, begin, end)
                yield changed(x, cut), changed(y, cut), end - begin

    def _pair(self, number: int, item: Any) -> tuple[Any, Any]:
        if isinstance(item, list | tuple) and len(item) == 2:
            item = [_of_numpy(number, part) for part in item]
            if tensors(item[0]) or tensors(item[1]):
                return item[0], item[1]
            raise FieldError(f"batch {number} of data holds no tensor: {_told(item[0])} and {_told(item[1])}. {MEND}")
        raise FieldError(
            f"batch {number} of data is {_told(item)}; expected a pair (x, y): what the model takes, and what the loss "
            "compares its output with. "
            + (
                "Give the dict as x and the target as y: [({...}, y) for ...]."
                if isinstance(item, Mapping)
                else "A model without a target can take y=x and a loss that ignores it."
            )
        )

    # ── are two passes the same? ─────────────────────────────────────────────────────────────────────────────────────

    def marks(self, *, singly: bool = False) -> list[tuple[str, str]]:
        """Return a hash of input and target of every batch of one pass, or of every example."""
        out: list[tuple[str, str]] = []
        for x, y, n in self:
            if not singly:
                out.append((digest(x), digest(y)))
                continue
            for i in range(n):
                cut = _slicer(n, i, i + 1)
                out.append((digest(changed(x, cut)), digest(changed(y, cut))))
        return out


def tensors(tree: Any) -> list[Tensor]:
    """Return the tensors in a tensor, or in nested tuples, lists and dicts of them, in order."""
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, Mapping):
        return [t for part in tree.values() for t in tensors(part)]
    if isinstance(tree, list | tuple):
        return [t for part in tree for t in tensors(part)]
    return []


def changed(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return the same structure with every tensor changed."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, Mapping):
        return {key: changed(part, change) for key, part in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(changed(part, change) for part in tree))
    if isinstance(tree, list | tuple):
        return type(tree)(changed(part, change) for part in tree)
    return tree


def _of_numpy(number: int, tree: Any) -> Any:
    """Return the same structure with every array of NumPy's as a tensor of its own dtype."""
    if isinstance(tree, Mapping):
        return {key: _of_numpy(number, part) for key, part in tree.items()}
    if type(tree) in (list, tuple):
        return type(tree)(_of_numpy(number, part) for part in tree)
    if type(tree).__module__.split(".")[0] != "numpy" or not hasattr(tree, "dtype"):
        return tree
    try:
        return torch.tensor(tree)
    except (TypeError, ValueError) as problem:
        raise FieldError(
            f"batch {number} of data holds a NumPy array of {tree.dtype}, which is no tensor: {problem} Expected numbers."
        ) from None


def moved(tree: Any, device: torch.device) -> Any:
    """Return the same structure with every tensor on the device; the very same tensors where they are there already."""
    return changed(tree, lambda t: t.to(device))


def digest(tree: Any) -> str:
    """Return a hash of every bit of the tensors in a structure."""
    made = hashlib.blake2b(digest_size=16)
    for t in tensors(tree):
        made.update(f"{tuple(t.shape)} {t.dtype};".encode())
        made.update(t.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return made.hexdigest()


def _slicer(count: int, begin: int, end: int) -> Callable[[Tensor], Tensor]:
    return lambda t: t[begin:end] if t.dim() and t.shape[0] == count else t


def _count(number: int, x: Any, y: Any, *, cut: bool) -> int:
    """Return the number of examples: the rows of the target, or of the input where the target holds no tensor."""
    inputs, targets = tensors(x), tensors(y)
    lead = (targets or inputs)[0]
    count = lead.shape[0] if lead.dim() else 1
    if count == 0:
        raise FieldError(f"batch {number} of data has no example: a tensor of shape {tuple(lead.shape)}. Leave it out.")
    if cut and inputs and targets and (not inputs[0].dim() or inputs[0].shape[0] != count):
        raise FieldError(
            f"batch {number} of data has an input of shape {tuple(inputs[0].shape)} and a target of {tuple(lead.shape)}: "
            "microbatch cuts both along their first dimension, which must be the same. Cut the data yourself and pass a "
            "list of batches."
        )
    return count


def _plain(item: Any) -> bool:
    return isinstance(item, list | tuple) and all(isinstance(part, Tensor | tuple | list | dict) for part in item)


def _pair_like(part: Any) -> bool:
    return all(isinstance(t, Tensor) and t.dim() for t in part)


def _told(thing: Any) -> str:
    """Return what something is, in a few words."""
    if isinstance(thing, Tensor):
        return f"a tensor of shape {tuple(thing.shape)}"
    if isinstance(thing, Mapping):
        return f"a dict with {', '.join(repr(k) for k in list(thing)[:4])}"
    if isinstance(thing, list | tuple):
        return f"a {type(thing).__name__} of {len(thing)}"
    return f"{type(thing).__name__}"
