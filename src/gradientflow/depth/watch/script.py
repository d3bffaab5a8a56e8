"""Runs a user's script the way `python script.py ...` or `python -m module ...` would, in this process."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import struct
import sys
import traceback
import types
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from types import CodeType

from gradientflow.depth.watch.tracebacks import clean, hidden
from gradientflow.errors import ScriptError
from gradientflow.files import here
from gradientflow.packages import distribution

_BEFORE_ANY_SCRIPT = (
    "abc",
    "codecs",
    "encodings",
    "genericpath",
    "io",
    "ntpath",
    "os",
    "posixpath",
    "site",
    "stat",
    "zipimport",
)


_LONG = 1 << (8 * struct.calcsize("l") - 1)


class StopRun(BaseException):
    """Raised inside the script, at a step, when --max-steps or --max-time is reached. `reason` is a word of Meta.ended."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Program:
    """A compiled script or module, ready to run as `__main__`."""

    name: str  # as the user gave it
    file: str
    code: CodeType
    argv: list[str]
    first_path: str
    spec: object | None = None
    package: str | None = None


@dataclass
class Ending:
    """How a script ended: a word of Meta.ended, the exit code python would have given, and the error's text."""

    how: str
    code: int
    error: str | None = None
    advice: str | None = None


def load(target: Sequence[str], *, module: bool = False) -> Program:
    """Find and compile what is to be run.

    Args:
        target: the script (or module name), then its own arguments.
        module: run as `python -m`.

    Raises:
        ScriptError: it is not there, not readable, or does not compile.
    """
    name, args = target[0], list(target[1:])
    return _load_module(name, args) if module else _load_file(name, args)


def _load_file(name: str, args: list[str]) -> Program:
    path = name
    if os.path.isdir(path):
        path = os.path.join(path, "__main__.py")
    if not os.path.exists(path):
        near = list(_scripts_near(name))
        raise ScriptError(
            f"no such script: {name} (looked in {here()!s}). "
            + (f"Scripts here: {', '.join(near)}. " if near else "")
            + "Call: gradientflow run [options] script.py [its own arguments]"
        )
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as problem:
        raise ScriptError(
            f"cannot read {name}: {problem.strerror}. Expected a Python script that you may read."
        ) from problem
    absolute = os.path.join(str(here()), path)  # and otherwise as it was given: so does Python
    code = _compile(source, absolute, name)
    folder = os.path.abspath(name) if os.path.isdir(name) else os.path.dirname(os.path.realpath(path))
    return Program(name, absolute, code, [name, *args], folder)


def _load_module(name: str, args: list[str]) -> Program:
    sys.path[0] = str(here())
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            name = f"{name}.__main__"
            spec = importlib.util.find_spec(name)
    except Exception as problem:  # the packages around a module run their own code when it is looked for
        raise ScriptError(
            f"cannot find module {name}: {type(problem).__name__}: {problem}. Expected a module that can be imported from "
            f"{here()!s}; `python -m {name}` says more."
        ) from problem
    if spec is None or spec.loader is None or spec.origin is None:
        raise ScriptError(
            f"no module named {name} that can be run. Expected a module or a package with a __main__.py, importable "
            f"from {here()!s}; call: gradientflow run -m package.module [its own arguments]"
        )
    try:
        with open(spec.origin, "rb") as file:
            code = _compile(file.read(), spec.origin, name)
    except OSError as problem:
        raise ScriptError(f"cannot read module {name}: {problem}") from problem
    return Program(name, spec.origin, code, [spec.origin, *args], sys.path[0], spec, spec.parent)


def _compile(source: bytes, file: str, name: str) -> CodeType:
    try:
        return compile(source, file, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as problem:
        text = "".join(traceback.format_exception_only(problem)).rstrip()
        raise ScriptError(
            f"{name} does not compile, so nothing was run:\n{text}\nMend that line; `python {name}` says the same."
        ) from problem


def _scripts_near(name: str) -> list[str]:
    try:
        return sorted(f for f in os.listdir(os.path.dirname(name) or ".") if f.endswith(".py"))[:8]
    except OSError:
        return []


def execute(program: Program) -> Ending:
    """Run a program as `__main__` and tell how it ended. The program's output, arguments and paths are its own.

    An exception is printed as Python prints it (through `sys.excepthook`, without frames of ours) and becomes the
    exit code it would have been.
    """
    main = types.ModuleType("__main__")
    main.__file__ = program.file
    main.__builtins__ = sys.modules["builtins"]  # type: ignore[attr-defined]
    main.__spec__ = program.spec  # type: ignore[assignment]
    main.__package__ = program.package
    main.__loader__ = getattr(program.spec, "loader", None) or SourceFileLoader("__main__", program.file)
    if "__annotations__" in vars(sys.modules["__main__"]):  # this Python gives a script one from the start
        main.__annotations__ = {}
    main.__dict__["__cached__"] = None
    sys.modules["__main__"] = main
    sys.argv[:] = program.argv
    sys.path[0] = program.first_path
    ours = _make_room(program.first_path)
    try:
        with hidden(execute.__code__):
            exec(program.code, main.__dict__)
    except StopRun as stop:
        return Ending(stop.reason, 0)
    except SystemExit as stop:
        return Ending("exit", _exit_code(stop))
    except KeyboardInterrupt:
        return Ending("interrupted", 130)
    except BaseException as problem:
        return _failed(problem)
    finally:
        _flush()
        sys.modules.update(ours)
    return Ending("finished", 0)


def _make_room(folder: str) -> dict[str, types.ModuleType]:
    """Forget modules that we have loaded, and that Python would find in the script's own folder; return them.

    A script beside a `statistics.py` or a `queue.py` of its own means that one. (What Python itself loads before any
    script cannot be shadowed there either.)
    """
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return {}
    files = {e.name[:-3] for e in entries if e.name.endswith(".py")}
    files |= {e.name for e in entries if e.is_dir() and os.path.exists(os.path.join(e.path, "__init__.py"))}
    files -= {"gradientflow", "torch", "numpy", "__main__", *_BEFORE_ANY_SCRIPT, *sys.builtin_module_names}
    inside = os.path.join(folder, "")
    foreign = {n for n in files if not (getattr(sys.modules.get(n), "__file__", None) or inside).startswith(inside)}
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in foreign}


def _failed(problem: BaseException) -> Ending:
    """Print an exception as Python would at the end of a script, and return the ending that it is."""
    clean(problem)
    text = "".join(traceback.format_exception_only(problem)).strip()
    _flush()
    try:
        sys.excepthook(type(problem), problem, problem.__traceback__)
    except SystemExit as stop:
        return Ending("exception", _exit_code(stop), text, _advice(problem))
    except BaseException:  # the script's own hook failed, or its standard error is gone
        with contextlib.suppress(Exception):
            sys.__excepthook__(type(problem), problem, problem.__traceback__)
    return Ending("exception", 1, text, _advice(problem))


def _flush() -> None:
    """Flush what the script printed; a stream that is closed or broken by now is not our matter."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def _exit_code(stop: SystemExit) -> int:
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        return (stop.code if -_LONG <= stop.code < _LONG else -1) & 0xFF  # Python takes -1 for what is no C long
    print(stop.code, file=sys.stderr)  # as Python does with a message
    return 1


def _advice(problem: BaseException) -> str | None:
    if isinstance(problem, ModuleNotFoundError) and problem.name:
        return (
            f"the script needs the package {problem.name!r}, which is not installed where gradientflow runs "
            f"({sys.executable}). Install it there: {sys.executable} -m pip install {distribution(problem.name)} "
            f"— or install gradientflow into the environment the script usually runs in."
        )
    return None
