"""Fields with known answers, by name: ``zoo.named("himmelblau")``, ``zoo.NAMES``.

Each is small, exact and fast for many drops at once; what is known of it (closed-form solution, minima, what the flow
conserves) comes along, so that a solver, a portrait or an optimiser can be held against the truth.

line    logistic-one, exp-one, sqrt, abs-sqrt, blow-up
plane   quadratic, saddle, w1w2, rosenbrock, himmelblau, beale, styblinski-tang, double-well
turns   bilinear-game, dirac-gan, van-der-pol
nets    linear-net, diagonal-net
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any

from gradientflow.errors import UsageError
from gradientflow.river.fields.zoo import line, nets, plane, turns
from gradientflow.river.fields.zoo.kinds import ZooField

_MAKERS: dict[str, Callable[..., ZooField]] = {
    maker.__name__.replace("_", "-"): maker
    for maker in (
        line.logistic_one, line.exp_one, line.sqrt, line.abs_sqrt, line.blow_up,
        plane.quadratic, plane.saddle, plane.w1w2, plane.rosenbrock, plane.himmelblau, plane.beale, plane.styblinski_tang,
        plane.double_well, turns.bilinear_game, turns.dirac_gan, turns.van_der_pol, nets.linear_net, nets.diagonal_net,
    )
}  # fmt: skip

NAMES: tuple[str, ...] = tuple(sorted(_MAKERS))
"""The names that `named` knows, sorted."""


def named(name: str, **parameters: Any) -> ZooField:
    """Return a member of the zoo, made with its parameters.

    Args:
        name: one of ``zoo.NAMES``; underscores and capitals are forgiven.
        parameters: what the member takes; ``zoo.parameters(name)`` lists it.

    Raises:
        UsageError: there is no such member, or it has no such parameter.

    Example:
        >>> named("double-well").minima
        tensor([[-1.,  0.],
                [ 1.,  0.]], dtype=torch.float64)
        >>> named("quadratic", size=3).field.size
        3
    """
    maker = _MAKERS.get(name.lower().replace("_", "-"))
    if maker is None:
        near = difflib.get_close_matches(name.lower(), NAMES, n=3, cutoff=0.5)
        raise UsageError(
            f"the zoo has no field named {name!r}"
            + (f"; did you mean {' or '.join(near)}?" if near else ".")
            + f" It has: {', '.join(NAMES)}."
        )
    known = inspect.signature(maker).parameters
    for given in parameters:
        if given not in known:
            near = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
            raise UsageError(
                f"{name} has no parameter {given!r}"
                + (f"; did you mean {near[0]}?" if near else ".")
                + (f" It takes: {', '.join(known)}." if known else " It takes none.")
            )
    return maker(**parameters)


def parameters(name: str) -> dict[str, Any]:
    """Return the parameters of a member with their defaults.

    Example:
        >>> parameters("w1w2")
        {'target': 1.0}
    """
    if name not in _MAKERS:
        named(name)  # says what is wrong
    return {p.name: p.default for p in inspect.signature(_MAKERS[name]).parameters.values()}


def about(name: str) -> str:
    """Return what is known of a member: its formula, its parameters, its facts.

    Example:
        >>> about("double-well")[:40]
        'L = ¼(x² − 1)² + ½y²: minima (±1, 0), He'
    """
    if name not in _MAKERS:
        named(name)
    return inspect.getdoc(_MAKERS[name]) or ""


__all__ = ["NAMES", "ZooField", "about", "named", "parameters"]
