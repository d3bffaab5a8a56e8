"""Runs a script's text twice in this process, unwatched and watched, and compares what it leaves behind, bit for bit.

The plain run is the reference: `exec` in a fresh `__main__`, as `python script.py` does it. The watched run goes through
`run_script`, the door that the command line uses.
"""

from __future__ import annotations

import contextlib
import gc
import io
import random
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.datasets
import sklearn.model_selection
import sklearn.preprocessing  # noqa: F401
import torch
import torch._dynamo  # (imported here, because some imports draw random numbers, and only the first run would see that)
from torch import nn

from gradientflow.depth.watch.monitor import Monitor
from gradientflow.depth.watch.session import Outcome, run_script

PROBING = {"default": None, "every step": 1, "first only": 10**9}
_MODES = torch._C._len_torch_function_stack


@dataclass
class Left:
    """What a script leaves: every number it can get at, by name."""

    bits: dict[str, Any] = field(default_factory=dict)
    output: str = ""
    scope: dict[str, Any] = field(default_factory=dict)
    outcome: Outcome | None = None


@contextlib.contextmanager
def sandbox() -> Iterator[None]:
    """Give the interpreter back as it was: `__main__`, arguments, path, random numbers, defaults of torch."""
    main, argv, path = sys.modules["__main__"], list(sys.argv), list(sys.path)
    kept = torch.get_rng_state(), np.random.get_state(), random.getstate()
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    modes, hook = _MODES(), sys.excepthook
    try:
        yield
    finally:
        sys.modules["__main__"], sys.excepthook = main, hook
        sys.argv[:], sys.path[:] = argv, path
        torch.set_rng_state(kept[0])
        np.random.set_state(kept[1])
        random.setstate(kept[2])
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)
        torch.set_grad_enabled(True)
        while _MODES() > modes:  # a fault would otherwise spill into every test that follows
            torch.overrides._pop_mode()


def write(folder: Path, text: str, name: str = "script.py") -> Path:
    """Write a script with its indentation taken off and return its path."""
    file = folder / name
    file.write_text(textwrap.dedent(text), encoding="utf-8")
    return file


def plain(file: Path, *args: str) -> Left:
    """Run a script without any watcher."""
    with sandbox():
        _start()
        main = types.ModuleType("__main__")
        main.__file__ = str(file)
        sys.modules["__main__"] = main
        sys.argv[:] = [str(file), *args]
        sys.path[0] = str(file.parent)
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(file.read_text(encoding="utf-8"), str(file), "exec", dont_inherit=True), main.__dict__)
        return Left(_bits(main.__dict__), output.getvalue(), main.__dict__)


def watched(
    file: Path,
    *args: str,
    probe_every: int | None = None,
    prepare: Callable[[Monitor], None] | None = None,
    **options: Any,
) -> Left:
    """Run a script as `gradientflow run` does. `prepare` gets the monitor before the script starts."""
    folder = file.parent / f"run-{sum(1 for _ in file.parent.glob('run-*'))}"
    with sandbox():
        output = io.StringIO()
        with contextlib.redirect_stdout(output):

            def ready(monitor: Monitor) -> None:
                _start()  # as late as possible: nothing of ours before the script may use random numbers afterwards
                if prepare is not None:
                    prepare(monitor)

            outcome = run_script([str(file), *args], out=folder, probe_every=probe_every, prepare=ready, **options)
        scope = vars(sys.modules["__main__"])
        return Left(_bits(scope), output.getvalue(), scope, outcome)


def _start() -> None:
    gc.collect()
    torch.manual_seed(20_26)
    np.random.seed(20_26)
    random.seed(20_26)


def _bits(scope: dict[str, Any]) -> dict[str, Any]:
    """Everything that a script's globals hold in numbers, and the state of the three generators."""
    found: dict[str, Any] = {
        "rng torch": torch.get_rng_state().numpy().tobytes(),
        "rng numpy": repr(np.random.get_state()),
        "rng python": repr(random.getstate()),
    }
    for name, value in scope.items():
        if not name.startswith("__"):
            found.update(_of(name, value))
    return found


def _of(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, torch.Tensor):
        return {name: _tensor(value), **({f"{name}.grad": _tensor(value.grad)} if _grad(value) is not None else {})}
    if isinstance(value, nn.Module):
        parts = {f"{name}.{k}": _tensor(v) for k, v in value.state_dict().items() if isinstance(v, torch.Tensor)}
        grads = {f"{name}.{k}.grad": _tensor(p.grad) for k, p in value.named_parameters() if p.grad is not None}
        return parts | grads
    if isinstance(value, torch.optim.Optimizer):
        return _of(f"{name}.state", list(value.state.values()))
    if isinstance(value, (list, tuple)):
        return {key: bits for i, entry in enumerate(value) for key, bits in _of(f"{name}[{i}]", entry).items()}
    if isinstance(value, dict):
        return {key: bits for k, entry in value.items() for key, bits in _of(f"{name}[{k!r}]", entry).items()}
    if isinstance(value, (int, float, str, bytes, bool)) or value is None:
        return {name: repr(value)}
    return {}


def _grad(t: torch.Tensor) -> torch.Tensor | None:
    return t.grad if t.is_leaf or t.retains_grad else None


def _tensor(t: torch.Tensor | None) -> Any:
    if t is None:
        return None
    with torch._C.DisableTorchFunction():
        t = t.detach()
        if t.is_sparse:
            return "sparse", _tensor(t._indices()), _tensor(t._values()), t.is_coalesced()
        shape = str(t.dtype), tuple(t.shape), tuple(t.stride())
        return (*shape, t.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if t.numel() else b"")


def differences(one: Left, other: Left) -> list[str]:
    """Name everything that is not the same to the bit."""
    wrong = [k for k in sorted(one.bits.keys() | other.bits.keys()) if one.bits.get(k, "—") != other.bits.get(k, "—")]
    return [*wrong, *(["stdout"] if one.output != other.output else [])]
