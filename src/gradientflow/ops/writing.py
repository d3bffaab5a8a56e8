"""Which calls write to their first argument, told by their names."""

from __future__ import annotations

_OPERATORS = frozenset(
    f"__i{name}__"
    for name in [
        "add",
        "sub",
        "mul",
        "matmul",
        "truediv",
        "floordiv",
        "mod",
        "pow",
        "and",
        "or",
        "xor",
        "lshift",
        "rshift",
        "div",
    ]
)


def writes(name: str) -> bool:
    """Whether a call writes to what it is called on.

    Args:
        name: plain name of the function or method.

    Example:
        >>> [writes(name) for name in ("add_", "__setitem__", "__imul__", "add", "__init__", "__invert__")]
        [True, True, True, False, False, False]
    """
    return name == "__setitem__" or name in _OPERATORS or (name.endswith("_") and not name.endswith("__"))
