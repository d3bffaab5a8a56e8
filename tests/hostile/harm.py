"""Watchers that hurt their patient, one way each: what the comparison must catch."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from gradientflow.cli import main
from gradientflow.depth.watch import script


def _at_each_step(harm: Callable[[Any], object]) -> Callable[[list[str]], None]:
    """The watcher of ours, and a harm after every optimizer step."""

    def door(argv: list[str]) -> None:
        register_optimizer_step_post_hook(lambda opt, args, kwargs: bool(harm(opt)) or None)
        main(argv)

    return door


def _nudge(opt: torch.optim.Optimizer) -> None:
    with torch.no_grad():
        weight = opt.param_groups[0]["params"][0].view(-1)
        weight[0] = torch.nextafter(weight[0], torch.tensor(torch.inf))


draws_a_number = _at_each_step(lambda opt: torch.rand(1))
draws_from_random = _at_each_step(lambda opt: random.random())
nudges_a_weight = _at_each_step(_nudge)  # by the last bit
leaves_a_file = _at_each_step(lambda opt: Path(sys.argv[0]).with_name("trace.log").touch())
prints = _at_each_step(lambda opt: print("step"))
warns = _at_each_step(lambda opt: print("step", file=sys.stderr))


def swallows(argv: list[str]) -> None:
    """The watcher of ours, which makes nothing of an exception at the end of the script."""
    script._failed = lambda problem: script.Ending("finished", 0)
    main(argv)


def changes_the_code(argv: list[str]) -> None:
    """The watcher of ours, whose exit code is another."""
    script._exit_code = lambda stop: 0
    main(argv)


def shortens_a_traceback(argv: list[str]) -> None:
    """The watcher of ours, which takes too much out of a traceback."""
    whole = script.clean

    def shorter(problem: BaseException) -> None:
        whole(problem)
        if problem.__traceback__ is not None:
            problem.__traceback__ = problem.__traceback__.tb_next

    script.clean = shorter
    main(argv)


def hangs(argv: list[str]) -> None:
    """A watcher that does not come to an end."""
    time.sleep(60)
