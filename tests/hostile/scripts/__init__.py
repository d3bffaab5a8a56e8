"""All hostile scripts, by name. One module per kind."""

from __future__ import annotations

from importlib import import_module

from tests.hostile.case import Case

KINDS = (
    "smallest", "numbers", "hooks", "interpreter", "modes", "processes", "signals", "endings", "surroundings", "streams",
    "compilers", "training", "models",
)  # fmt: skip


def _gathered() -> dict[str, Case]:
    found: dict[str, Case] = {}
    for kind in KINDS:
        cases = import_module(f"{__name__}.{kind}").case.cases
        if twice := found.keys() & cases.keys():
            raise ValueError(f"two scripts are called {', '.join(twice)}")
        found |= cases
    return found


CASES = _gathered()
