"""gradientflow: the gradient flow of a neural network, solved and seen.

gradientflow run train.py      watches an unmodified training script and says where its gradient goes wrong
gradientflow flow rosenbrock   solves the flow of a model, or of a plain function, beside the optimizers

From Python: ``import gradientflow as gf``, then `gf.flow`, `gf.descend`, `gf.compare`, `gf.LossField`, `gf.zoo`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from gradientflow.river import *  # noqa: F403


def __getattr__(name: str) -> Any:  # torch is imported only when something of the river is used
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    river = import_module("gradientflow.river")
    if name not in river.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(river, name)


def __dir__() -> list[str]:
    return ["__version__", *import_module("gradientflow.river").__all__]
