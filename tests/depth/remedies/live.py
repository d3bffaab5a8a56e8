"""Runs a few lines of training under interventions, in this process; lines are named by marks in the text: `# mark: name`."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from gradientflow.depth.remedies.acting.protocol import Intervention
from gradientflow.depth.remedies.install import install
from gradientflow.records import Change, Place
from tests.depth.scripts import Left, watched, write

FILE = "net.py"


def lines_of(text: str) -> dict[str, int]:
    """Return the line of each mark in a text."""
    lines = textwrap.dedent(text).splitlines()
    return {line.split("# mark: ")[1].strip(): n for n, line in enumerate(lines, 1) if "# mark: " in line}


def change(kind: str, *at: tuple[int, str], file: str = FILE, **settings: Any) -> Change:
    """A change of a kind at (line, operation) pairs."""
    return Change(kind, kind, [Place(file, line, None, op) for line, op in at], settings)


def live(text: str, changes: Sequence[Change], seed: int = 0) -> tuple[dict[str, Any], list[Intervention]]:
    """Run a text under changes and return what it leaves, and the interventions."""
    scope: dict[str, Any] = {"torch": torch, "nn": nn, "F": F}
    torch.manual_seed(seed)
    with install(changes) as interventions:
        exec(compile(textwrap.dedent(text), FILE, "exec", dont_inherit=True), scope)
    return scope, interventions


def run_watched(folder: Path, text: str, changes: Sequence[Change], **options: Any) -> tuple[Left, list[Intervention]]:
    """Run a text as a script under watch and under changes; their places are in the file `net.py`."""
    file = write(folder, text)
    for one in changes:
        one.places = [Place(str(file), p.line, p.module, p.op) for p in one.places]
    with install(changes) as interventions:
        left = watched(file, **options)
    return left, interventions
