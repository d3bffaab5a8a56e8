"""One look at a small network: the script is run as far as its loss, and probed and judged as `diagnose` does it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gradientflow.depth.look.alone import ALONE, diagnose_alone
from gradientflow.depth.small import law
from gradientflow.depth.small.knobs import checked, steps
from gradientflow.depth.small.mends import mended
from gradientflow.depth.small.script import FILE, block, loaded
from gradientflow.generators import HELD
from gradientflow.records import Knobs, Law, Probe, Run, Turn, Verdict


@dataclass(frozen=True)
class Looked:
    """What a look showed."""

    run: Run
    verdict: Verdict
    law: Law
    mend: Turn | None
    script: str


def small_look(knobs: Knobs, at: Tensor | None = None) -> Looked:
    """Build a small network and look at it.

    Args:
        knobs: of the network.
        at: its parameters as one vector; None: as they start.

    Raises:
        UsageError: a knob is turned too far.
    """
    checked(knobs)
    text, made = loaded(knobs)
    with ALONE, HELD, torch.random.fork_rng(devices=[]):
        found = diagnose_alone(lambda: _moved(made["build"](), at), made["loss"], made["data"]())
    found.run.meta.sources, found.run.meta.cwd = {FILE: text}, ""  # (it lies in no file)
    seen = _law(knobs, found.run, text)
    return Looked(found.run, found.verdict, seen, mended(knobs, found.verdict), text)


def small_field(knobs: Knobs) -> tuple[nn.Module, Callable[[Any, Any], Tensor], Any]:
    """Return a small network, its loss of (output, target), and its batch (x, target): what a flow is made of.

    Raises:
        UsageError: a knob is turned too far.
    """
    _, made = loaded(checked(knobs))
    with ALONE, HELD, torch.random.fork_rng(devices=[]):
        net, batch = made["build"](), made["data"]()
    return net, lambda output, target: made["loss"](lambda _: output, (None, target)), batch


def _moved(net: nn.Module, at: Tensor | None) -> nn.Module:
    if at is not None:
        start = 0
        with torch.no_grad():
            for p in net.parameters():
                p.copy_(at[start : start + p.numel()].view_as(p))
                start += p.numel()
    return net


def small_training(knobs: Knobs, count: int, wanted: Callable[[], bool] = lambda: True) -> Iterator[float]:
    """Yield the loss at each step of the script's own training; a loss that is not finite is the last one.

    Args:
        knobs: of the network.
        count: steps.
        wanted: whether somebody still waits.

    Raises:
        UsageError: a knob is turned too far, or there are too many steps.
    """
    checked(knobs)
    steps(count)
    _, made = loaded(knobs)
    with ALONE, HELD, torch.random.fork_rng(devices=[]):
        net, batch = made["build"](), made["data"]()
    optimizer = torch.optim.SGD(net.parameters(), lr=knobs.lr)
    for _ in range(count):
        if not wanted():
            return
        with ALONE:
            optimizer.zero_grad()
            value = made["loss"](net, batch)
            value.backward()
            optimizer.step()
        seen = float(value.detach())
        yield seen
        if not math.isfinite(seen):
            return


def _law(knobs: Knobs, run: Run, text: str) -> Law:
    theory = law.decades(knobs)
    probe = next((p for p in run.probes if p.root is not None), None)
    measured: list[float | None] = [None] * len(theory)
    if probe is not None:
        measured = _measured(knobs, probe, text)
    unit: Literal["layer", "time step"] = "time step" if knobs.time else "layer"
    gaps = len(theory) - 1
    whole = measured[-1]
    each = 10 ** (whole / gaps) if whole is not None and gaps else None
    each_theory = 10 ** (theory[-1] / gaps) if gaps else 1.0
    critical = law.critical(knobs)
    told = f"theory ×{each_theory:.3g} for each {unit}, {_said(theory[-1])} decades in all"
    told += (
        f"; measured ×{each:.3g}, {_said(whole)}" if each is not None and whole is not None else "; measured: no factor"
    )
    return Law(unit, measured, theory, each, each_theory, critical, told)


def _measured(knobs: Knobs, probe: Probe, text: str) -> list[float | None]:
    """The gradient at the output of each run of the script's one line, last first, in decades against the last."""
    count = knobs.time or knobs.depth
    line = text.split("\n").index(block(knobs)) + 1
    ops = [op for op in probe.ops if op.line == line and op.file == FILE]
    each = len(ops) // count
    if not each:
        return [None] * count
    norms = [op.grad.norm if op.grad is not None else None for op in ops[each - 1 :: each]][:count][::-1]
    last = norms[0]
    if not last or not math.isfinite(last):
        return [None] * count
    return [math.log10(n / last) if n and math.isfinite(n) else None for n in norms]


def _said(decades: float) -> str:
    return "0" if abs(decades) < 0.05 else f"{decades:+.1f}".replace("-", "−")
