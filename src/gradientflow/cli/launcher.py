"""`gradientflow run -m torch.distributed.run …`: what is to be watched are the processes that a launcher starts, not the launcher."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

_MODULES = ("torch.distributed.run", "torch.distributed.launch")
_SCRIPT = "torchrun"


def started(target: Sequence[str], module: bool, ours: Mapping[str, Any]) -> None:
    """Start a launcher with each of its processes under watch, and end with its exit code; return where there is no launcher.

    Args:
        target: the script (or module), then its own arguments.
        module: it is a module.
        ours: options of `gradientflow run` by name, as they were given.
    """
    command = watched(target, module, ours)
    if command is None:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    if sys.platform == "win32":
        raise SystemExit(subprocess.call(command))
    os.execv(command[0], command)  # it is the launcher from now on, for whoever sends signals to it or waits for it


def watched(target: Sequence[str], module: bool, ours: Mapping[str, Any]) -> list[str] | None:
    """Return the command of a launcher in which `gradientflow run` stands in front of the script; None where there is no launcher, or
    what it starts is no Python script.

    Args:
        target: the script (or module), then its own arguments.
        module: it is a module.
        ours: options of `gradientflow run` by name, as they were given.
    """
    launcher = _launcher(target[0], module)
    if launcher is None:
        return None
    given = list(target[1:])
    asked = import_module(launcher).parse_args(given)
    script = len(given) - len(asked.training_script_args) - 1
    if asked.no_python or asked.run_path or script < 0 or given[script] != asked.training_script:
        return None
    inner = ["gradientflow", "run", *_written(ours), *(["-m"] if asked.module else []), *given[script:]]
    return [sys.executable, "-m", launcher, *given[:script], *([] if asked.module else ["-m"]), *inner]


def _launcher(name: str, module: bool) -> str | None:
    """The module of the launcher that a target is, by whatever name it goes."""
    if module:
        return name if name in _MODULES else None
    there = Path(name).is_file()
    if Path(name).name == _SCRIPT and (there or (name == _SCRIPT and shutil.which(name) is not None)):
        return _MODULES[0]
    if there and Path(name).suffix == ".py" and Path(name).name in ("run.py", "launch.py"):
        parts = Path(name).resolve().with_suffix("").parts[-3:]
        return ".".join(parts) if ".".join(parts) in _MODULES else None
    return None


def _written(ours: Mapping[str, Any]) -> list[str]:
    """Options as they are written on a command line; what is not set, or as it is anyway, is left out."""
    words: list[str] = []
    for name, value in ours.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif value is not None and value is not False:
            words.append(
                f"{option}={os.path.abspath(value) if isinstance(value, Path) and str(value) != '-' else value}"
            )
    return words
