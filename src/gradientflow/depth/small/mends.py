"""Which knobs mend what was found first: the remedies of a finding, as turns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from gradientflow.depth.small import law
from gradientflow.ops import HALVING
from gradientflow.records import Knobs, Turn, Verdict


def mended(knobs: Knobs, verdict: Verdict) -> Turn | None:
    """Return the turn that mends a verdict's first finding; None where no knob does."""
    first = verdict.findings[0] if verdict.findings else None
    turn = TURNS.get(first.cause) if first is not None else None
    if first is None or turn is None:
        return None
    turned = replace(knobs, **turn(knobs, first.symptom))
    changed = [
        _said(name, getattr(turned, name))
        for name in knobs.__struct_fields__
        if getattr(turned, name) != getattr(knobs, name)
    ]
    return Turn(", ".join(changed), turned) if changed else None


def _kept(knobs: Knobs, **turned: Any) -> dict[str, Any]:
    """Weights drawn so that theory keeps the gradient's size."""
    turned = {
        "init": "orthogonal"
        if knobs.time
        else "he"
        if turned.get("activation", knobs.activation) in HALVING
        else "xavier"
    } | turned
    gain = law.critical(replace(knobs, **turned))
    return turned | {"gain": gain if gain is not None else 1.0}


def _saturating(knobs: Knobs, symptom: str) -> dict[str, Any]:
    return _kept(knobs, activation="relu")


def _init(knobs: Knobs, symptom: str) -> dict[str, Any]:
    if knobs.skip:  # what is added to what it was added to grows, whatever the weights
        return {"norm": "layer"} if knobs.norm == "none" else _kept(knobs)
    return _kept(knobs, activation="tanh") if knobs.activation == "sigmoid" else _kept(knobs)


def _recurrence(knobs: Knobs, symptom: str) -> dict[str, Any]:
    return _kept(knobs, activation="tanh", skip=False, norm="none")


def _deep(knobs: Knobs, symptom: str) -> dict[str, Any]:
    return {"skip": True, "norm": "layer" if knobs.norm == "none" else knobs.norm}


def _singular(knobs: Knobs, symptom: str) -> dict[str, Any]:
    return {"loss": "safe distance"} if knobs.loss == "distance" else {}


TURNS: dict[str, Callable[[Knobs, str], dict[str, Any]]] = {
    "saturating-activation": _saturating, "init-too-small": _init, "init-too-large": _init, "recurrence": _recurrence,
    "depth-without-skip": _deep, "batchnorm-depth": _deep, "singular-op": _singular,
}  # fmt: skip


def _said(name: str, value: object) -> str:
    if name == "loss":
        return "an epsilon inside the square root"
    if name == "skip":
        return "a skip path" if value else "no skip path"
    if name == "norm":
        return "no normalisation" if value == "none" else f"{value} normalisation"
    return f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
