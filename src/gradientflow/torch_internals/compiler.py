"""The compiler, which is never loaded by us: when it begins, and how it is switched off for a replay."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

from gradientflow.torch_internals.wall import lean_on

_callbacks = lean_on(
    "torch._dynamo.callback.callback_handler", "tells when PyTorch begins to compile",
    "what is compiled may be traced together with the watcher: run it with TORCH_COMPILE_DISABLE=1", lazy=True,
)  # fmt: skip
_compiler_settings = lean_on(
    "torch._dynamo.config", "switches compilation off for a replay", "compiled parts are not reached by a remedy", lazy=True,
)  # fmt: skip

_strategy = lean_on(
    "torch._C._dynamo.eval_frame.set_code_exec_strategy", "keeps functions of ours from being compiled",
    "PyTorch may compile functions of ours where it leaves the script's as they are",
)  # fmt: skip
_frame_action = lean_on(
    "torch._C._dynamo.eval_frame._FrameAction", "names what the compiler does with a function",
    "PyTorch may compile functions of ours where it leaves the script's as they are",
)  # fmt: skip
_frame_strategy = lean_on(
    "torch._C._dynamo.eval_frame._FrameExecStrategy", "what the compiler does with a function and what that calls",
    "PyTorch may compile functions of ours where it leaves the script's as they are",
)  # fmt: skip


def never_compile(*functions: Callable[..., Any]) -> None:
    """Have the compiler leave functions of ours alone, and whatever they call, where they run inside what it compiles."""
    skip = getattr(_frame_action.value, "SKIP", None)
    if skip is not None and _frame_strategy.value is not None:
        for function in functions:
            _strategy.ask(None, function.__code__, _frame_strategy.ask(None, skip, skip))


def when_compiling(begins: Callable[[Any], None], known: Any) -> Any:
    """Have a function called at the beginning of each compilation, once the compiler is loaded.

    Args:
        begins: takes what PyTorch says of the compilation.
        known: what this function returned last.

    Returns:
        What it is registered with; None where the compiler is not loaded. (`torch._dynamo.reset()` forgets it: call again.)
    """
    handler = _callbacks.value if compiler_is_loaded() else None  # (asked at every torch call: the short way first)
    if handler is None:
        return None
    try:
        if handler is not known or begins not in handler.start_callbacks:
            handler.register_start_callback(begins)
    except Exception as problem:
        _callbacks.broken = f"failed ({type(problem).__name__}: {problem})"
        return None
    return handler


def no_more_compiling(begins: Callable[[Any], None], known: Any) -> None:
    """Undo `when_compiling`."""
    with contextlib.suppress(Exception):
        if known is not None and begins in known.start_callbacks:
            known.remove_start_callback(begins)


def is_compiler_module(module: Any) -> bool:
    """Whether a module is one that `torch.compile` or a strict `torch.export` wraps around another, about to be traced."""
    return type(module).__module__.startswith("torch._dynamo")


def compiler_disabled(disabled: bool | None = None) -> bool:
    """Return whether compilation is switched off; switch it, where told to. False where the compiler is not loaded."""
    settings = _compiler_settings.value
    if settings is None:
        return False
    before = bool(getattr(settings, "disable", False))
    if disabled is not None:
        settings.disable = disabled
    return before


def compiler_is_loaded() -> bool:
    """Whether anything in this process can have been compiled."""
    return "torch._dynamo" in sys.modules
