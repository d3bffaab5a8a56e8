"""Optimizers of one kind for the same parameters, made one after the other for a step or two each, are taken for one."""

from __future__ import annotations

from collections import Counter, defaultdict
from statistics import median

import msgspec

from gradientflow.limits import Limit
from gradientflow.records import Optimizer, Run

MANY = Limit("optimizers_made", 5, "chosen: as many stages of a training are planned; more are made in a loop")
SHORT = Limit("steps_of_each", 2, "chosen: a stage takes more")


def joined(run: Run) -> tuple[Run, dict[int, int]]:
    """Return a run in which such optimizers are one, with how many went into each (by its index); the run itself where there are none.

    Args:
        run: everything seen.
    """
    alike: dict[tuple[str, tuple[int, ...]], list[Optimizer]] = defaultdict(list)
    for optimizer in run.meta.optimizers:
        alike[optimizer.name, tuple(sorted(optimizer.params))].append(optimizer)
    chains = [c for c in alike.values() if len(c) >= MANY and median(o.steps for o in c) <= SHORT]
    if not chains:
        return run, {}
    into = {o.index: chain[0].index for chain in chains for o in chain}
    made = {chain[0].index: _one(chain) for chain in chains}
    kept = [made.get(o.index, o) for o in run.meta.optimizers if into.get(o.index, o.index) == o.index]
    meta = msgspec.structs.replace(run.meta, optimizers=kept)
    replace = msgspec.structs.replace
    found = Run(
        meta,
        [replace(s, optimizer=into.get(s.optimizer, s.optimizer)) for s in run.steps],
        [replace(n, optimizer=into.get(n.optimizer, n.optimizer)) for n in run.norms],
        [
            replace(p, optimizer=into.get(p.optimizer, p.optimizer)) if p.optimizer is not None else p
            for p in run.probes
        ],
        run.notes,
        [replace(r, optimizer=into.get(r.optimizer, r.optimizer)) for r in run.rewrites],
    )
    return found, {chain[0].index: len(chain) for chain in chains}


def _one(chain: list[Optimizer]) -> Optimizer:
    """Return one optimizer for many, made where most of those behind the first were."""
    lines = Counter((o.made_file, o.made_line) for o in chain[1:] if o.made_file is not None)
    file, line = lines.most_common(1)[0][0] if lines else (None, None)
    last = chain[-1]
    return msgspec.structs.replace(
        chain[0], steps=sum(o.steps for o in chain), made_file=file, made_line=line, file=last.file, line=last.line
    )
