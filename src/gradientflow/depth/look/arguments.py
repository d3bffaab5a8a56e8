"""Arguments of the calls from Python, checked on entry: what, expected and got, and what to write instead."""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gradientflow.errors import UsageError
from gradientflow.records import SYMPTOMS
from gradientflow.report.causes import SHORT

SICK = tuple(s for s in SYMPTOMS if s != "healthy")


def whole(name: str, value: Any, instead: str) -> int:
    """Return a number of steps.

    Args:
        name: of the argument.
        value: what was given.
        instead: what to write where it is not to be given at all.

    Raises:
        UsageError: it is not a whole number of 1 or more.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__") or int(value) < 1:
        raise UsageError(f"{name}={value!r}; expected a whole number of steps, 1 or more, as {name}=10. {instead}")
    return int(value)


def folder(name: str, value: Any) -> Path | None:
    """Return a folder that was given by its path; None where none was.

    Raises:
        UsageError: it is no path, or an empty one.
    """
    if value is None:
        return None
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise UsageError(
            f"{name}={value!r}; expected the path of a folder, as {name}='runs/mine', or None for no files."
        )
    return Path(value)


def decades(value: Any) -> float | None:
    """Return the most decades that are allowed; None where nothing was said.

    Raises:
        UsageError: it is not a number above 0.
    """
    if value is None:
        return None
    if isinstance(value, (bool, str)) or not hasattr(value, "__float__") or not float(value) > 0:
        raise UsageError(f"max_decades={value!r}; expected a number above 0, as 2.0, or None to leave it to the rules.")
    return float(value)


def words(value: str | Collection[str]) -> set[str]:
    """Return the symptoms and causes that are accepted.

    Raises:
        UsageError: there is another word among them.
    """
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, Collection):
        raise UsageError(f"allow={value!r}; expected words of the verdict, as allow=('disconnected',).")
    unknown = [word for word in value if word not in SICK and word not in SHORT]
    if unknown:
        near = difflib.get_close_matches(str(unknown[0]), [*SICK, *SHORT], 1)
        raise UsageError(
            f"allow: {', '.join(map(str, unknown))} is neither a symptom nor a cause"
            + (f"; did you mean {near[0]}? " if near else ". ")
            + f"Expected symptoms ({', '.join(SICK)}) or causes ({', '.join(SHORT)})."
        )
    return set(value)


def check_model(model: Any) -> None:
    """Refuse what is no model, cannot be traced, has no weights yet, or weights that are broken already.

    Raises:
        UsageError: with the mend.
    """
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"the model is {_kind(model)}; expected a torch.nn.Module, or a function without arguments that builds one."
        )
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            where = f"its module {name}" if name else "the model"
            raise UsageError(
                f"{where} is a scripted or traced module ({module.original_name}): what it computes runs inside TorchScript, where no line of "
                f"yours can be seen. Expected the module that it was made from: diagnose(model, …), before torch.jit."
            )
    if any(torch.nn.parameter.is_lazy(t) for t in [*model.parameters(), *model.buffers()]):
        raise UsageError(
            "the model has lazy layers that have no weights yet. Call it once on a batch before: model(x)."
        )
    parameters = list(model.named_parameters())
    if not parameters:
        raise UsageError(
            f"{type(model).__name__} has no parameters, so no gradient can flow to any. Expected a model with layers in it, "
            f"as attributes or in an nn.ModuleList: a plain Python list of layers hides them."
        )
    away = [n for n, p in parameters if p.is_meta]
    if away:
        raise UsageError(
            f"the weights {', '.join(away[:3])} are on the meta device and have no values. Expected a model that can be "
            f"computed: model.to_empty(device='cpu'), then initialise or load it."
        )
    broken = [n for n, p in parameters if p.is_floating_point() and not bool(torch.isfinite(p).all())]
    if broken:
        raise UsageError(
            f"the weights {', '.join(broken[:3])} hold values that are not finite, before anything is computed. Look at the model "
            f"as it was before that training, or watch the training itself: with gf.watch() as watch: …"
        )


def check_builder(build: Callable[..., Any]) -> None:
    """Refuse a function that cannot be called without arguments.

    Raises:
        UsageError: with the mend.
    """
    if isinstance(build, torch.jit.ScriptFunction):
        raise UsageError(
            "the model is a function that was scripted or traced (torch.jit); expected a torch.nn.Module, or a function without "
            "arguments that builds one."
        )
    try:
        needed = [
            p.name
            for p in inspect.signature(build).parameters.values()
            if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
    except (TypeError, ValueError):
        return
    if needed:
        raise UsageError(
            f"the model is {_kind(build)}, and needs the arguments {', '.join(needed)}; expected a torch.nn.Module, or a function "
            f"without arguments that builds one, as lambda: {getattr(build, '__name__', 'make')}(…)."
        )


def _kind(thing: Any) -> str:
    """Name what was given in place of a model."""
    if isinstance(thing, type):
        return f"the class {thing.__name__}"
    name = getattr(thing, "__name__", None)
    return f"the function {name}" if callable(thing) and name else type(thing).__name__
