"""The name of an operation, read off the function of PyTorch that is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gradientflow.ops import plain_name


def op_name(func: Callable[..., Any]) -> str:
    """Return the plain name of a torch function as the user knows it: ``Tensor.__rsub__`` → ``sub``, ``relu_`` → ``relu``."""
    name = getattr(func, "__name__", "") or str(func)
    if name == "__get__":  # a property such as .T
        name = getattr(getattr(func, "__self__", None), "__name__", "get")
    return plain_name(name)


def called(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Return the name of an operation as it is called: `nn.ReLU6` calls `hardtanh` from 0 to 6."""
    name = op_name(func)
    return "relu6" if name == "hardtanh" and is_relu6(args, kwargs) else name


def is_relu6(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call of `hardtanh` starts from 0: a ReLU with a ceiling, not a sigmoid made of lines."""
    low = args[1] if len(args) > 1 else kwargs.get("min_val", -1.0)
    return isinstance(low, (int, float)) and low == 0
