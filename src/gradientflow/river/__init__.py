"""The wing of the river: θ through flow time.

`flow` solves dθ/dt = −∇L(θ) (or any dθ/dt = f(θ)), `descend` runs an optimizer on the same clock, `compare` sets them side
by side. A field says what flows: `LossField` (model, loss, data), `Potential`, `VectorField`, the zoo of known answers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradientflow.records import Status
    from gradientflow.river.fields import zoo
    from gradientflow.river.fields.adaptive import AdamFlow, NormalisedFlow, RMSPropFlow, SignFlow
    from gradientflow.river.fields.base import Field, Potential, VectorField
    from gradientflow.river.fields.drops import drops
    from gradientflow.river.fields.games import MinMaxFlow
    from gradientflow.river.fields.geometry import NaturalFlow, NewtonFlow
    from gradientflow.river.fields.loss import LossField
    from gradientflow.river.fields.mirror import MirrorFlow
    from gradientflow.river.fields.modified import ModifiedFlow, PrincipalFlow
    from gradientflow.river.fields.momentum import HeavyBall, Nesterov
    from gradientflow.river.paths.certify import certify
    from gradientflow.river.paths.compare import Beside, Comparison, compare
    from gradientflow.river.paths.descent import descend
    from gradientflow.river.paths.events import Event, LeavesBall, LossTarget, SteadyState, When
    from gradientflow.river.paths.keep import Keep
    from gradientflow.river.paths.loop import Moment
    from gradientflow.river.paths.path import Certificate, Certificates, Cost, Ensemble, Path
    from gradientflow.river.paths.sharpness import Sharpness, sharpness
    from gradientflow.river.paths.solve import flow
    from gradientflow.river.portraits.axes import plane
    from gradientflow.river.portraits.figure import draw
    from gradientflow.river.portraits.plane import Plane
    from gradientflow.river.portraits.portrait import portrait, sketches
    from gradientflow.river.portraits.ride import ride
    from gradientflow.river.portraits.shadow import shadow
    from gradientflow.river.portraits.view import view
    from gradientflow.river.session import Job, Rival, Solved, beside, solve
    from gradientflow.river.told import tell

_WHERE = {  # torch is imported only when something of this is used
    "fields.adaptive": ("AdamFlow", "NormalisedFlow", "RMSPropFlow", "SignFlow"),
    "fields.base": ("Field", "Potential", "VectorField"),
    "fields.drops": ("drops",),
    "fields.games": ("MinMaxFlow",),
    "fields.geometry": ("NaturalFlow", "NewtonFlow"),
    "fields.loss": ("LossField",),
    "fields.mirror": ("MirrorFlow",),
    "fields.modified": ("ModifiedFlow", "PrincipalFlow"),
    "fields.momentum": ("HeavyBall", "Nesterov"),
    "paths.certify": ("certify",),
    "paths.compare": ("Beside", "Comparison", "compare"),
    "paths.descent": ("descend",),
    "paths.events": ("Event", "LeavesBall", "LossTarget", "SteadyState", "When"),
    "paths.keep": ("Keep",),
    "paths.loop": ("Moment",),
    "paths.path": ("Certificate", "Certificates", "Cost", "Ensemble", "Path", "Status"),
    "paths.sharpness": ("Sharpness", "sharpness"),
    "paths.solve": ("flow",),
    "portraits.axes": ("plane",),
    "portraits.figure": ("draw",),
    "portraits.plane": ("Plane",),
    "portraits.portrait": ("portrait", "sketches"),
    "portraits.ride": ("ride",),
    "portraits.shadow": ("shadow",),
    "portraits.view": ("view",),
    "session": ("Job", "Rival", "Solved", "beside", "solve"),
    "told": ("tell",),
}
_ROOM = {name: room for room, names in _WHERE.items() for name in names}

__all__ = [
    "AdamFlow",
    "Beside",
    "Certificate",
    "Certificates",
    "Comparison",
    "Cost",
    "Ensemble",
    "Event",
    "Field",
    "HeavyBall",
    "Job",
    "Keep",
    "LeavesBall",
    "LossField",
    "LossTarget",
    "MinMaxFlow",
    "MirrorFlow",
    "ModifiedFlow",
    "Moment",
    "NaturalFlow",
    "Nesterov",
    "NewtonFlow",
    "NormalisedFlow",
    "Path",
    "Plane",
    "Potential",
    "PrincipalFlow",
    "RMSPropFlow",
    "Rival",
    "Sharpness",
    "SignFlow",
    "Solved",
    "Status",
    "SteadyState",
    "VectorField",
    "When",
    "beside",
    "certify",
    "compare",
    "descend",
    "draw",
    "drops",
    "flow",
    "plane",
    "portrait",
    "ride",
    "shadow",
    "sharpness",
    "sketches",
    "solve",
    "tell",
    "view",
    "zoo",
]


def __getattr__(name: str) -> Any:
    if name == "zoo":
        return import_module(f"{__name__}.fields.zoo")
    if name not in _ROOM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOM[name]}"), name)


def __dir__() -> list[str]:
    return __all__
