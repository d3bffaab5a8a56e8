"""gradientflow: the gradient flow of a neural network, solved and seen.

gradientflow run train.py      watches an unmodified training script and says where its gradient goes wrong
gradientflow flow rosenbrock   solves the flow of a model, or of a plain function, beside the optimizers

From Python: ``import gradientflow as gf``, then `gf.diagnose`, `gf.assert_flows` and `gf.watch` for the gradient's way
through the layers, and `gf.flow`, `gf.descend`, `gf.compare`, `gf.LossField`, `gf.zoo` for that of the parameters through
time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from gradientflow.depth import Diagnosis as Diagnosis
    from gradientflow.depth import GradientFault as GradientFault
    from gradientflow.depth import assert_flows as assert_flows
    from gradientflow.depth import diagnose as diagnose
    from gradientflow.depth import watching as watch  # noqa: F401
    from gradientflow.river import *  # noqa: F403

_DEPTH = {
    "Diagnosis": "Diagnosis",
    "GradientFault": "GradientFault",
    "assert_flows": "assert_flows",
    "diagnose": "diagnose",
    "watch": "watching",
}


def __getattr__(name: str) -> Any:  # torch is imported only when something of a wing is used
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _DEPTH:
        return getattr(import_module("gradientflow.depth"), _DEPTH[name])
    river = import_module("gradientflow.river")
    if name not in river.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(river, name)


def __dir__() -> list[str]:
    return sorted(["__version__", *_DEPTH, *import_module("gradientflow.river").__all__])
