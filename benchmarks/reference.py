"""The reference solutions of benchmarks/flow.py: two methods that share nothing, and a cache.

The cache knows a solution by the numbers of its problem and by its tolerance, not by the code that made it: give another
folder to have our own run made anew.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gradientflow as gf
from benchmarks.flow_rivals import Gradient, scipy
from benchmarks.problems import PROBLEMS, Problem

TIGHT = {"A": (1e-7, 1e-8), "B": (1e-10, 1e-8), "C": (1e-10, 1e-9), "D": (1e-7, 1e-7)}  # rtol of DOP853, of ours


def distance(theta: Tensor, reference: Tensor, start: Tensor) -> float:
    """Return ‖θ − θ_ref‖ / ‖θ_ref − θ₀‖, in float64."""
    reference, start = reference.double(), start.double()
    return float((theta.double() - reference).norm() / (reference - start).norm())


def build(name: str, t: float | None) -> Problem:
    """Return a problem, to its own end time or another."""
    return PROBLEMS[name]() if t is None else PROBLEMS[name](t)


def in_double(problem: Problem) -> Problem:
    """Return the same problem in float64."""
    model, loss, (x, y), t = problem
    return model.double(), loss, (x.double(), y), t


class Lines:
    """A line on stderr every ten seconds that says how far a flow has come."""

    def __init__(self, label: str) -> None:
        self.label, self.said = label, time.monotonic()

    def __call__(self, moment: gf.Moment) -> None:
        if time.monotonic() - self.said > 10:
            self.said = time.monotonic()
            print(f"    {self.label}: t = {moment.t:.4g} of {moment.t_end:g}", file=sys.stderr, flush=True)


def solve_reference(job: tuple[str, float, str]) -> dict[str, Any]:
    """Solve one problem tightly by one of the two methods; runs in a process of its own."""
    name, t, by = job
    torch.set_num_threads(1)
    problem = in_double(build(name, t))
    gradient = Gradient(problem, label=f"reference of {name}({t:g}) by {by}")
    rtol = TIGHT[name][by == "ours"]
    began = time.process_time()
    if by == "ours":
        field = gf.LossField(problem[0], problem[1], problem[2])
        path = gf.flow(field, t, rtol=rtol, certify=False, progress=Lines(f"reference of {name}({t:g}) by ours"))
        if not path.status.ok:
            raise SystemExit(f"error: our reference run on {name} ended early: {path.status}")
        final, count = path.final, path.cost.equivalents
    else:
        final = scipy("DOP853", rtol, rtol / 100)(gradient, gradient.start, t)
        count = gradient.equivalents
    outside = 1 - gradient.inside / (time.process_time() - began)
    return {"theta": final, "rtol": rtol, "count": count, "seconds": time.process_time() - began, "outside": outside}


def fingerprint(problem: Problem) -> str:
    """Name a problem by its numbers, so that a changed problem never meets an old reference."""
    model, loss, (x, y), _ = problem
    digest = hashlib.sha256(getattr(loss, "__name__", type(loss).__name__).encode())
    for tensor in (*model.parameters(), x, y):
        digest.update(tensor.detach().numpy().tobytes())
    return digest.hexdigest()[:12]


def references(
    problems: Sequence[tuple[str, float]], cache: Path, jobs: int
) -> dict[tuple[str, float, str], dict[str, Any]]:
    """Read the references from the cache; compute those that are not there, longest first, and keep them."""
    found, missing = {}, []
    for name, t in sorted(problems, key=lambda one: ("ADBC".index(one[0]), -one[1])):
        for by in ("DOP853", "ours"):
            rtol = TIGHT[name][by == "ours"]
            file = cache / f"{name}-{t:g}-{by}-{rtol:.0e}-{fingerprint(build(name, t))}.pt"
            if file.exists():
                found[name, t, by] = torch.load(file, weights_only=True)
            else:
                missing.append(((name, t, by), file))
    if missing:
        print(f"{len(missing)} references to compute, kept in {cache}", file=sys.stderr, flush=True)
        cache.mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            waiting = {pool.submit(solve_reference, job): (job, file) for job, file in missing}
            for task in as_completed(waiting):
                job, file = waiting[task]
                found[job] = task.result()
                part = file.with_suffix(".part")
                torch.save(found[job], part)
                part.replace(file)
                said = f"  {job[0]}({job[1]:g}) by {job[2]}: {found[job]['count']:.0f} gradients"
                print(said, file=sys.stderr, flush=True)
    return found
