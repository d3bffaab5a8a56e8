"""Runs a user's script the way `python script.py ...` or `python -m module ...` would, in this process."""

from __future__ import annotations

import importlib.util
import os
import sys
import traceback
import types
from collections.abc import Sequence
from dataclasses import dataclass
from types import CodeType, TracebackType

from gradientflow.depth.probe.frames import OURS, classify
from gradientflow.errors import ScriptError


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
            f"no such script: {name} (looked in {os.getcwd()}). "
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
    code = _compile(source, os.path.abspath(path), name)
    folder = os.path.abspath(name) if os.path.isdir(name) else os.path.dirname(os.path.abspath(path))
    return Program(name, os.path.abspath(path), code, [name, *args], os.path.realpath(folder))


def _load_module(name: str, args: list[str]) -> Program:
    sys.path.insert(0, os.getcwd())
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            name = f"{name}.__main__"
            spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError) as problem:
        raise ScriptError(f"no module named {name}: {problem}") from problem
    finally:
        sys.path.pop(0)
    if spec is None or spec.loader is None or spec.origin is None:
        raise ScriptError(
            f"no module named {name} that can be run. Expected a module or a package with a __main__.py, importable "
            f"from {os.getcwd()}; call: gradientflow run -m package.module [its own arguments]"
        )
    try:
        with open(spec.origin, "rb") as file:
            code = _compile(file.read(), spec.origin, name)
    except OSError as problem:
        raise ScriptError(f"cannot read module {name}: {problem}") from problem
    return Program(name, spec.origin, code, [spec.origin, *args], os.getcwd(), spec, spec.parent)


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
    main.__loader__ = getattr(program.spec, "loader", None)
    main.__dict__["__cached__"] = None
    sys.modules["__main__"] = main
    sys.argv[:] = program.argv
    sys.path[0] = program.first_path
    try:
        exec(program.code, main.__dict__)
    except StopRun as stop:
        return Ending(stop.reason, 0)
    except SystemExit as stop:
        return Ending("exit", _exit_code(stop))
    except KeyboardInterrupt:
        return Ending("interrupted", 130)
    except BaseException as problem:
        problem.__traceback__ = _without_ours(problem.__traceback__)
        text = "".join(traceback.format_exception_only(problem)).strip()
        sys.stdout.flush()
        sys.excepthook(type(problem), problem, problem.__traceback__)
        return Ending("exception", 1, text, _advice(problem))
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    return Ending("finished", 0)


def _exit_code(stop: SystemExit) -> int:
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        return stop.code & 0xFF
    print(stop.code, file=sys.stderr)  # as Python does with a message
    return 1


def _without_ours(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback without frames of gradientflow, which the script knows nothing of."""
    kept: list[TracebackType] = []
    while trace is not None:
        if classify(trace.tb_frame.f_code) != OURS:
            kept.append(trace)
        trace = trace.tb_next
    following: TracebackType | None = None
    for entry in reversed(kept):
        following = TracebackType(following, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return following


def _advice(problem: BaseException) -> str | None:
    if isinstance(problem, ModuleNotFoundError) and problem.name:
        return (
            f"the script needs the package {problem.name!r}, which is not installed where gradientflow runs "
            f"({sys.executable}). Install it there: {sys.executable} -m pip install {problem.name.split('.')[0]} "
            f"— or install gradientflow into the environment the script usually runs in."
        )
    return None
