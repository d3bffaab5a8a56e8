"""Functions of PyTorch's own that are recognised by their name on the stack while they run."""

from __future__ import annotations

import os
import sys
import threading
from types import CodeType, FrameType
from typing import Any

import torch

from gradientflow.garbage import uncollected

_TORCH = os.path.dirname(torch.__file__) + os.sep
_MODULE_FILE = os.path.join(_TORCH, "nn", "modules", "module.py")
_CHECKPOINT_FILE = os.path.join(_TORCH, "utils", "checkpoint.py")
_OVERRIDES_FILE = os.path.join(_TORCH, "overrides.py")
_INIT_FILE = os.path.join("nn", "init.py")
_OPTIMIZER_FILE = os.path.join("optim", "optimizer.py")


def calls_module(code: CodeType) -> bool:
    """Whether this is the function that runs a module's forward: its frame's `self` is the module."""
    return code.co_name == "_call_impl" and code.co_filename == _MODULE_FILE


def dispatches(code: CodeType) -> bool:
    """Whether this is the function by which those of PyTorch's that are written in Python ask who listens."""
    return code.co_name == "handle_torch_function" and code.co_filename == _OVERRIDES_FILE


def runs_checkpoint(code: CodeType) -> bool:
    """Whether this is part of activation checkpointing."""
    return code.co_filename == _CHECKPOINT_FILE


def initialises(code: CodeType) -> bool:
    """Whether this is a function of `torch.nn.init`."""
    return code.co_filename.endswith(_INIT_FILE)


def optimizer_being_made() -> Any:
    """Return the optimizer whose constructor looks at its parameters at this moment; None where there is none."""
    frame = running_frame("__init__", _OPTIMIZER_FILE, 2)
    return frame.f_locals.get("self") if frame is not None else None


def layer_being_reset() -> FrameType | None:
    """Return the frame of a layer's own default initialisation that is running."""
    return running_frame("reset_parameters", ".py", 2) or running_frame("_reset_parameters", ".py", 2)


def running_frame(name: str, filename_end: str, depth: int = 1) -> FrameType | None:
    """Return the innermost frame on this thread's stack that runs function `name` of a file ending in `filename_end`."""
    return _up_from(sys._getframe(depth), name, filename_end)


def _up_from(frame: FrameType | None, name: str, filename_end: str) -> FrameType | None:
    while frame is not None and not (frame.f_code.co_name == name and frame.f_code.co_filename.endswith(filename_end)):
        frame = frame.f_back
    return frame


_looking = threading.Lock()


def frames_of_threads() -> dict[int, FrameType]:
    """Return the innermost frame of each thread.

    No garbage is collected meanwhile: CPython holds a lock of its own while it makes the dict, and a finaliser that ran then
    could let another thread go on to wait for that lock for ever.
    """
    with _looking, uncollected():
        return sys._current_frames()


def frame_of_any_thread(name: str, filename_end: str) -> FrameType | None:
    """Like `running_frame`, but over all threads: a GPU's backward runs its hooks on a thread of its own."""
    frame = running_frame(name, filename_end, 2)
    if frame is not None:
        return frame
    tops = {ident: top for ident, top in frames_of_threads().items() if ident != threading.get_ident()}
    # (Never from our own frame: it would hold itself alive, and with it the script's variables.)
    found = (_up_from(top, name, filename_end) for top in tops.values())
    return next((frame for frame in found if frame is not None), None)
