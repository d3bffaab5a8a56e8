"""What `gradientflow flow TARGET` names: a field of the zoo, or what a factory in a file or a module returns."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from gradientflow.errors import GradientflowError, UsageError
from gradientflow.files import here

if TYPE_CHECKING:
    from gradientflow.river import Field

FORMS = "a Field, a loss function of one tensor, or (model, loss, data)"


@dataclass(frozen=True, slots=True)
class Target:
    """A field to be flowed on, and what is known of it.

    Attributes:
        field: the field.
        about: one line on it.
        time: flow time by which what it shows has happened; None: not known.
    """

    field: Field
    about: str = ""
    time: float | None = None


def load(text: str, start: Sequence[float] | None) -> Target:
    """Return what a target names.

    Args:
        text: ``name`` of the zoo, ``file.py:factory``, or ``package.module:factory``.
        start: the starting point from the command line; a plain loss function needs one, to know its size.

    Raises:
        UsageError: there is no such thing, it cannot be loaded, or it is not a field; the message names the mend.
    """
    from gradientflow import river

    where, colon, name = text.rpartition(":")
    if not colon or (sys.platform == "win32" and len(where) == 1):
        return _of_the_zoo(text)
    if not where or not name:
        raise UsageError(f"{text!r} names no {'function' if where else 'file'}: expected file.py:factory.")
    module = _module(where)
    made = getattr(module, name, None)
    if made is None:
        raise UsageError(f"{where} has no {name!r}{_near(name, _functions(module), 'It has these functions')}")
    called = f"{where}:{name}"
    takes = _required(made)
    if not isinstance(made, (river.Field, river.zoo.ZooField)):
        if not callable(made):
            raise UsageError(f"{called} is {_kind(made)}; expected a function that returns {FORMS}.")
        if len(takes) > 1:
            raise UsageError(
                f"{called} wants {len(takes)} arguments ({', '.join(takes)}); a factory is called with none."
            )
        if not takes:
            made = _call(made, called)
    return _target(made, name, called, start, takes)


def _of_the_zoo(text: str) -> Target:
    from gradientflow import river

    names = river.zoo.NAMES
    if text.lower().replace("_", "-") in names:
        member = river.zoo.named(text)
        return Target(member.field, member.text, member.time)
    if text.endswith(".py") or _there(text):
        if not _there(text):
            raise UsageError(_no_file(text))
        found = _functions_in(Path(text))
        raise UsageError(
            f"{text}: which function? Write {text}:{found[0] if found else 'factory'}, where the function returns {FORMS}."
            + (f" It has: {', '.join(found)}." if found else "")
        )
    raise UsageError(
        f"no field is called {text!r}{_near(text.lower(), names, 'Known are')} `gradientflow flow --list` tells of each. "
        "For a field of your own: gradientflow flow file.py:factory --time T."
    )


def _target(made: Any, name: str, called: str, start: Sequence[float] | None, takes: Sequence[str]) -> Target:
    import torch

    from gradientflow import river

    try:
        if isinstance(made, river.zoo.ZooField):
            return Target(made.field, made.text, made.time)
        if isinstance(made, river.Field):
            return Target(made)
        if isinstance(made, (tuple, list)) and len(made) == 3:
            return Target(river.LossField(*made))
        if isinstance(made, torch.nn.Module):
            raise UsageError(
                f"{called} returned a model alone; return (model, loss, data), as gf.LossField takes them."
            )
        if callable(made):
            if start is None and takes:
                raise UsageError(
                    f"{called} wants an argument ({takes[0]}). A factory is called with none: give {takes[0]} a default. If it is a "
                    "loss function of one tensor, say where it begins and so how many parameters it has: --start 1.9,-1.2."
                )
            if start is None:
                raise UsageError(
                    f"{called} is a plain loss function and does not say how many parameters it has: add --start, as in "
                    "--start 1.9,-1.2, or return gf.Potential(loss, start=[…])."
                )
            return Target(river.Potential(made, start=list(start), name=name))
    except (UsageError, GradientflowError):
        raise
    except Exception as problem:  # a model, a loss or data that LossField cannot take
        raise UsageError(f"{called} returned what is not a field: {type(problem).__name__}: {problem}") from problem
    raise UsageError(f"{called} returned {_kind(made)}; expected {FORMS}.")


# ── the user's own code ──────────────────────────────────────────────────────────────────────────────────────────────


def _module(where: str) -> ModuleType:
    """Import a file or a module as `python where` would find it."""
    if where.endswith(".py") or "/" in where:
        path = Path(where)
        if not _there(where):
            raise UsageError(_no_file(where))
        folder = str(path.resolve().parent)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise UsageError(f"{where} is not a Python file; expected file.py:factory.")
        module = importlib.util.module_from_spec(spec)
        if folder not in sys.path:
            sys.path.insert(0, folder)
        sys.modules[path.stem] = module  # so that dataclasses and pickles of it find their home
        try:
            spec.loader.exec_module(module)
        except SystemExit as ended:
            raise UsageError(_left(where, "loaded")) from ended
        except Exception as problem:
            raise UsageError(f"{where} cannot be loaded:\n{own_lines(problem)}") from problem
        return module
    if str(here()) not in sys.path:
        sys.path.insert(0, str(here()))
    try:
        return importlib.import_module(where)
    except ModuleNotFoundError as problem:
        if problem.name is None or not where.startswith(problem.name):
            raise UsageError(f"{where} cannot be loaded:\n{own_lines(problem)}") from problem
        maybe = f" Did you mean {where}.py:…?" if _there(where + ".py") else ""
        raise UsageError(
            f"no module {problem.name!r} is found from {here()}.{maybe} A file is named with its ending: file.py:factory."
        ) from None
    except SystemExit as ended:
        raise UsageError(_left(where, "loaded")) from ended
    except Exception as problem:
        raise UsageError(f"{where} cannot be loaded:\n{own_lines(problem)}") from problem


def _call(factory: Any, called: str) -> Any:
    try:
        return factory()
    except GradientflowError:
        raise
    except SystemExit as ended:
        raise UsageError(_left(called, "called")) from ended
    except Exception as problem:
        raise UsageError(f"{called} failed:\n{own_lines(problem)}") from problem


def own_lines(problem: BaseException) -> str:
    """The end of a traceback as the user should see it: the lines of the user's own code, where there are any."""
    if isinstance(problem, SyntaxError):
        return "".join(traceback.format_exception_only(problem)).rstrip()
    frames = list(traceback.extract_tb(problem.__traceback__))
    mine = [f for f in frames if users(f.filename)]
    told = "".join(traceback.format_list(mine[-6:])) + "".join(traceback.format_exception_only(problem))
    return told.rstrip()


def users(file: str) -> bool:
    """Whether a file is the user's: not ours, not of an installed package, not of Python itself."""
    if file.startswith("<"):
        return False
    roots = [Path(__file__).resolve().parents[1], Path(sys.base_prefix), Path(sys.prefix)]
    path = Path(file).resolve()
    return not any(path.is_relative_to(root) for root in roots) and "site-packages" not in path.parts


def _required(made: Any) -> list[str]:
    """Names of the arguments that a function cannot do without."""
    try:
        known = inspect.signature(made).parameters.values()
    except (TypeError, ValueError):
        return []
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in known if p.default is p.empty and p.kind in plain]


def _functions(module: ModuleType) -> list[str]:
    """Functions that a module defines itself, in its order."""
    return [
        n for n, v in vars(module).items()
        if inspect.isfunction(v) and v.__module__ == module.__name__ and not n.startswith("_")
    ]  # fmt: skip


def _functions_in(file: Path) -> list[str]:
    """Functions that a file defines, without running it."""
    import ast

    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return []
    return [n.name for n in tree.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]


# ── words ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _left(what: str, when: str) -> str:
    return (
        f"{what} ended the process (sys.exit) while it was {when}. Expected a file that can be imported: put what is to run as "
        'a script under if __name__ == "__main__".'
    )


def _there(text: str) -> bool:
    """Whether there is such a file; no name is too long to ask."""
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def _no_file(text: str) -> str:
    folder = Path(text).parent
    try:
        missing = not folder.is_dir()
    except OSError as problem:
        return f"no such file: {text} ({problem.strerror})."
    if missing:
        return f"no such file: {text} (the folder {folder} does not exist)."
    here = sorted(f.name for f in folder.glob("*.py"))
    return f"no such file: {text}{_near(Path(text).name, here, 'Python files there')}"


def _near(word: str, known: Sequence[str], what: str) -> str:
    """The end of a sentence that a name is not known: the close ones, else all."""
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.6)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f". {what}: {', '.join(known[:24])}{', …' if len(known) > 24 else ''}." if known else "."


def _kind(made: Any) -> str:
    if made is None:
        return "None (is a `return` missing?)"
    if isinstance(made, (tuple, list)):
        return f"a {type(made).__name__} of {len(made)}: ({', '.join(type(x).__name__ for x in made)})"
    return f"{type(made).__name__}"
