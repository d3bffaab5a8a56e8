"""What `--compare` names: optimizers of torch.optim with their settings, as in sgd:lr=0.1:momentum=0.9,adam:lr=1e-3."""

from __future__ import annotations

import ast
import difflib
import inspect
import math
from typing import TYPE_CHECKING, Any

from gradientflow import river
from gradientflow.errors import UsageError

if TYPE_CHECKING:
    import torch

FORM = "expected optimizer:lr=NUMBER[:setting=value…], several divided by commas, as in sgd:lr=0.1:momentum=0.9,adam:lr=1e-3"


def read(text: str) -> list[river.Rival]:
    """Return the optimizers that a text names.

    Raises:
        UsageError: an optimizer or a setting is unknown, or a value is none; the message names what is known.
    """
    chosen = [_one(part.strip()) for part in text.split(",") if part.strip()]
    if not chosen:
        raise UsageError(f"--compare {text!r} names no optimizer; {FORM}.")
    return chosen


def _one(part: str) -> river.Rival:
    name, *given = (piece.strip() for piece in part.split(":"))
    maker = _maker(name)
    known = [p for p in inspect.signature(maker).parameters if p not in ("self", "params")]
    settings: dict[str, Any] = {}
    for piece in given:
        key, equals, value = (x.strip() for x in piece.partition("="))
        if not equals:
            raise UsageError(f"--compare {part}: {piece!r} is no setting; {FORM}.")
        if key not in known:
            close = difflib.get_close_matches(key, known, n=2, cutoff=0.5)
            raise UsageError(
                f"--compare {part}: {maker.__name__} has no setting {key!r}"
                + (f"; did you mean {' or '.join(close)}?" if close else ".")
                + f" It has: {', '.join(known)}."
            )
        settings[key] = _value(part, key, value)
    if "lr" not in settings:
        raise UsageError(f"--compare {part}: its learning rate is its clock, so it must be said: {name}:lr=0.1")
    lr = settings.pop("lr")
    if isinstance(lr, bool) or not isinstance(lr, (int, float)) or not (lr > 0 and math.isfinite(lr)):
        raise UsageError(f"--compare {part}: lr must be a number above 0, got {lr!r}.")
    return river.Rival(maker, float(lr), settings)


def _maker(name: str) -> type[torch.optim.Optimizer]:
    import torch

    makers = {
        n.lower(): m for n, m in vars(torch.optim).items()
        if inspect.isclass(m) and issubclass(m, torch.optim.Optimizer) and m is not torch.optim.Optimizer
    }  # fmt: skip
    found = makers.get(name.lower())
    if found is None:
        close = difflib.get_close_matches(name.lower(), makers, n=3, cutoff=0.5)
        every = ", ".join(sorted(m.__name__ for m in makers.values()))
        raise UsageError(
            f"--compare: torch.optim has no {name!r}"
            + (f"; did you mean {' or '.join(makers[c].__name__ for c in close)}?" if close else ".")
            + f" It has: {every}."
        )
    return found


def _value(part: str, key: str, text: str) -> Any:
    """A number, True, False, None, or numbers divided by slashes: betas=0.9/0.99."""
    try:
        if "/" in text:
            return tuple(float(x) for x in text.split("/"))
        return ast.literal_eval(text.capitalize() if text.lower() in ("true", "false", "none") else text)
    except (ValueError, SyntaxError):
        raise UsageError(
            f"--compare {part}: {key}={text!r} is no value; expected a number, true, false, or numbers divided by slashes "
            "(betas=0.9/0.99)."
        ) from None
