"""Is the claimed error of a path the true one? Claims beside truths on problems of which half have kinks.

    python benchmarks/claims.py [--only 'relu*,logistic*'] [--rtol 1e-3,1e-4] [--cache DIR] [--json FILE]

The problems are in benchmarks/claim_problems.py. The claim is the certificate `error` of our path. The truth is the distance
of its end from that of a reference that shares nothing with ours: DOP853 at rtol 1e-9 where the loss is smooth; with kinks
two-step Adams–Bashforth with fixed steps, twice as many of them until the end moves by less than `SETTLED` of the way gone
(no step control that could be blind to a kink, and where a path slides the steps go back and forth across it). Both are
told relative to the way gone. A claim is good within a factor of two, both ways. "off by" is claim over truth; "±" is how
far the reference itself moved in its last doubling, and a truth below twice that is no truth: its claim is not judged.

Exit code 1 where a claim that can be judged is off by more than two, or none was made. References are kept in --cache.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that it also runs as a plain script

import gradientflow as gf
from benchmarks.claim_problems import KINKED, SMOOTH
from benchmarks.flow_rivals import Gradient, scipy
from benchmarks.problems import Problem
from benchmarks.reference import distance, fingerprint

FACTOR = 2.0
SETTLED = 3e-4
FEWEST, MOST = 2_000, 64_000


@dataclass(frozen=True)
class Truth:
    """Where a flow ends, and how sure that is, relative to the way gone."""

    end: Tensor
    doubt: float


@dataclass(frozen=True)
class Claim:
    """One claim beside its truth.

    Attributes:
        problem, kinked, rtol: what was solved.
        claimed: by the path; None where no claim was made, and `note` says why.
        true, doubt: of the end, and of the reference.
        own, checking: gradient equivalents of the path, and of its checks.
        broken: checks that were.
    """

    problem: str
    kinked: bool
    rtol: float
    claimed: float | None
    true: float
    doubt: float
    own: float
    checking: float
    broken: tuple[str, ...] = ()
    note: str = ""

    @property
    def judged(self) -> bool:
        """Whether the truth is known well enough to judge a claim by."""
        return self.true > 2 * self.doubt

    @property
    def off(self) -> float:
        """Claim over truth; 0 where no claim was made."""
        return 0.0 if self.claimed is None else self.claimed / self.true if self.true else math.inf

    @property
    def good(self) -> bool:
        """Whether the claim is right within `FACTOR`, as far as the reference tells."""
        if not self.judged or self.claimed is None:
            return not self.judged
        low, high = max(self.true - self.doubt, 0.0) / FACTOR, (self.true + self.doubt) * FACTOR
        return low <= self.claimed <= high


def steps_of(gradient: Callable[[Tensor], Tensor], start: Tensor, t: float, count: int) -> Tensor:
    """Return where the flow is at t by so many steps of two-step Adams–Bashforth, the first of them Heun's."""
    h, theta = t / count, start.clone()
    before = gradient(theta)
    theta = theta - 0.5 * h * (before + gradient(theta - h * before))
    for _ in range(count - 1):
        now = gradient(theta)
        theta = theta - h * (1.5 * now - 0.5 * before)
        before = now
    return theta


def truth(problem: Problem, *, kinked: bool) -> Truth:
    """Solve one problem by what shares nothing with ours."""
    gradient, t = Gradient(problem), problem[3]
    start = gradient.start
    if not kinked:
        end, rough = (scipy("DOP853", rtol, rtol / 1000)(gradient, start, t) for rtol in (1e-9, 1e-7))
        return Truth(end, distance(rough, end, start))
    count = FEWEST
    rough = steps_of(gradient, start, t, count)
    while True:
        count *= 2
        end = steps_of(gradient, start, t, count)
        doubt = distance(rough, end, start)
        if doubt < SETTLED or count >= MOST:
            return Truth(end, doubt)
        rough = end


def known(name: str, problem: Problem, cache: Path, *, kinked: bool) -> Truth:
    """Return a truth from the cache, or compute it and keep it there."""
    file = cache / f"{name.replace(' ', '-')}-{problem[3]:g}-{fingerprint(problem)}.pt"
    if file.exists():
        return Truth(**torch.load(file, weights_only=True))
    found = truth(problem, kinked=kinked)
    cache.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    torch.save({"end": found.end, "doubt": found.doubt}, part)
    part.replace(file)
    return found


def claim(name: str, problem: Problem, at: Truth, rtol: float, *, kinked: bool) -> Claim:
    """Solve one problem with gf.flow and hold its claim against the truth."""
    model, loss, data, t = problem
    path = gf.flow(gf.LossField(model, loss, data), t, rtol=rtol)
    told = path.certificates.named("error")
    made = math.isfinite(told.value)
    note = "" if path.status.ok and made else f"{path.status}; {told.text}"
    return Claim(
        name, kinked, rtol, told.value if made else None, distance(path.final, at.end, path.start), at.doubt,
        path.cost.equivalents - path.cost.checking, path.cost.checking, tuple(c.name for c in path.certificates.broken), note,
    )  # fmt: skip


def row(one: Claim) -> str:
    """Return a claim as a line of the table."""
    claimed = "—" if one.claimed is None else f"{one.claimed:.1e}"
    verdict = ("good" if one.good else "WRONG") if one.judged else "below the reference"
    broken = f"; broken: {', '.join(one.broken)}" if one.broken else ""
    return (
        f"{one.problem:<20}{'kinks' if one.kinked else '':<7}{one.rtol:<8.0e}{claimed:>9}{one.true:>10.1e} ± {one.doubt:<8.0e}"
        f"{one.off:>7.2f}{one.own:>8.0f}{one.checking:>8.0f}  {verdict}{broken}{'; ' if one.note else ''}{one.note}"
    )


def summary(claims: Sequence[Claim]) -> str:
    """Return how many claims were good, with kinks and without, and what the checks cost."""
    lines = []
    for kinked, said in ((False, "smooth"), (True, "with kinks")):
        these = [c for c in claims if c.kinked == kinked]
        if judged := [c for c in these if c.judged]:
            low, high = min(c.off for c in judged), max(c.off for c in judged)
            cost = sum(c.checking for c in these) / sum(c.own for c in these)
            lines.append(
                f"{said}: {sum(c.good for c in judged)} of {len(judged)} claims within a factor {FACTOR:g} "
                f"({low:.2f} to {high:.2f}); checks cost {cost:.2f} of the paths"
            )
    return "\n".join(lines)


def wanted(patterns: str | None) -> list[str]:
    """Return the problems that are asked for.

    Raises:
        SystemExit: a pattern fits none of them.
    """
    names = [*SMOOTH, *KINKED]
    if not patterns:
        return names
    chosen = [n for n in names if any(fnmatch.fnmatchcase(n, p.strip()) for p in patterns.split(","))]
    if not chosen:
        raise SystemExit(f"error: no problem is called {patterns!r}; there are {', '.join(names)}")
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", help="names or shell patterns, separated by commas")
    parser.add_argument("--rtol", default="1e-3", help="tolerances, separated by commas")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "gradientflow-claims")
    parser.add_argument("--json", type=Path, help="write the table here too")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    claims = []
    print(f"{'problem':<27}{'rtol':<8}{'claimed':>9}{'true':>10}   {'':<8}{'off by':>7}{'path':>8}{'checks':>8}")
    for name in wanted(options.only):
        kinked = name in KINKED
        make = (KINKED if kinked else SMOOTH)[name]
        at = known(name, make(), options.cache, kinked=kinked)
        for rtol in map(float, options.rtol.split(",")):
            claims.append(claim(name, make(), at, rtol, kinked=kinked))
            print(row(claims[-1]), flush=True)
    print(summary(claims))
    if options.json:
        options.json.write_text(json.dumps([asdict(c) for c in claims], indent=1))
    return 0 if all(c.good for c in claims) else 1


if __name__ == "__main__":
    raise SystemExit(main())
