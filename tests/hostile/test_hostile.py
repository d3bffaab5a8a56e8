"""Never hurt the patient, the fast share: scripts of every kind, watched, leave what they leave plain.

`make hostile` runs all of them, each in an interpreter of its own.
"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from tests.hostile.running import compared
from tests.hostile.scripts import CASES, KINDS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork; `make hostile` does not")

# A few of each kind. What is known to differ today is in the whole list, not here.
FAST = (
    "huge64",
    "dropout", "own_rng", "sparse_sgd",
    "tensor_hooks_in_graph", "optim_cls_patch", "hook_counts_on_params",
    "settrace", "weakref",
    "user_dispatch_mode", "subclass_param", "device_ctx_spanning_steps", "evil_loss_tensor",
    "os_fork", "step_in_thread",
    "sigterm_handler", "sigint_caught",
    "atexit", "sysexit7", "sysexit_huge", "exception_chain", "backward_twice_error", "exception_group", "traceback_format_inside", "os_exit",
    "slots_module", "named_modules_side", "optimizer_swap", "user_hooks",
    "stdin", "argparse", "dunder", "self_delete",
    "binary_stdout", "rlimit_nofile",
    "vmap", "jit_trace",
    "checkpoint", "double_backward", "version_counters",
    "strange_names", "pickle_main", "param_data_swap",
)  # fmt: skip


@pytest.mark.parametrize("name", FAST)
def test_watched_it_leaves_what_it_leaves_plain(name, warm, tmp_path):
    assert warm.fits(CASES[name])
    assert compared(CASES[name], tmp_path, warm) == []


def test_the_fast_share_spans_the_kinds():
    assert {CASES[name].kind for name in FAST} == set(KINDS)


# ── the same comparison, with watchers that do harm ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("harm", "name", "told"),
    [
        ("draws_a_number", "dropout", ["stdout:\n    -DIGEST"]),
        ("draws_from_random", "own_rng", ["stdout:\n    -DIGEST"]),
        ("nudges_a_weight", "double_backward", ["stdout:\n    -DIGEST"]),
        ("leaves_a_file", "dropout", ["files: trace.log (new)"]),
        ("prints", "atexit", ["stdout:\n    +step"]),
        ("warns", "dropout", ["stderr:\n    +step"]),
        ("swallows", "exception_chain", ["exit code 0, plain 1", "stderr:\n    -Traceback"]),
        ("changes_the_code", "sysexit7", ["exit code 0, plain 7"]),
        ("shortens_a_traceback", "exception_chain", ["stderr:\n    -Traceback"]),
    ],
)
def test_a_watcher_that_does_harm_is_caught(harm, name, told, warm, tmp_path, monkeypatch):
    monkeypatch.setattr(warm, "door", f"tests.hostile.harm:{harm}")
    found = compared(CASES[name], tmp_path, warm)
    assert [line[: len(start)] for line, start in zip(found, told, strict=True)] == told


def test_a_watcher_that_does_not_end_is_ended_and_told(warm, tmp_path, monkeypatch):
    monkeypatch.setattr(warm, "door", "tests.hostile.harm:hangs")
    found = compared(replace(CASES["no_torch"], timeout=3.0), tmp_path, warm)
    assert found[0].startswith("not finished after 3 s")
