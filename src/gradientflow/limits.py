"""What a threshold is: a number that decides, under a name, with the reason why it is that number.

A rule compares with the limit and tells it in its evidence, so that what was used and what is said cannot differ:

    >>> DEEP = Limit("layers", 15, "chosen: products of 15 random factors are spread over a decade")
    >>> 17 > DEEP
    True
    >>> told(DEEP)
    {'threshold_layers': 15.0}
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

GATES = "gates"


class Limit(float):
    """A number with a name and a source; it compares and computes as the number does.

    Args:
        name: what is compared, as the evidence calls it, in words joined by underscores.
        value: in the unit of what is compared.
        source: author, year and equation; or "chosen:" and why.

    Raises:
        ValueError: the name is no identifier, or there is no source.
    """

    name: str
    source: str

    def __new__(cls, name: str, value: float, source: str) -> Limit:
        if not name.isidentifier() or not source.strip():
            raise ValueError(
                f"a limit needs a name in words joined by underscores and a source; got name {name!r} and source {source!r}"
            )
        made = super().__new__(cls, value)
        made.name, made.source = name, source
        return made

    def __getnewargs__(self) -> tuple[str, float, str]:  # type: ignore[override]
        return self.name, float(self), self.source


# What two rooms hold to that do not know each other stands here.
APART = Limit(
    "share_outside_the_sample", 1e-10, "chosen: of the gradient's square; rounding leaves nothing at all there"
)
REACH = Limit("share_within_reach", 0.01, "chosen: two decades below the gradient at the newest state")


def told(*limits: Limit, gates: Iterable[Limit] = ()) -> dict[str, Any]:
    """Return limits as entries of an evidence.

    Args:
        limits: held against a number of the evidence that bears the same name: `threshold_` and the name, with the plain
            number, so that a report puts the two beside each other.
        gates: passed on the way to the finding, each held against a number that is not told: together under `GATES`,
            which a report tells in one line.
    """
    entries: dict[str, Any] = {f"threshold_{limit.name}": float(limit) for limit in limits}
    passed = {gate.name: float(gate) for gate in gates}
    return entries | {GATES: passed} if passed else entries
