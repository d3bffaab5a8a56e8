"""What PyTorch traces, exports, transforms or fakes is stepped aside from: no torch call of ours, no guard, no symbol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.depth.scripts import differences, plain, sandbox, watched, write
from tests.depth.watch.tracing import TRACING


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    with sandbox():
        torch.set_num_threads(1)
        yield
        torch._dynamo.reset()


@pytest.mark.parametrize("ahead", [0, 3])
@pytest.mark.parametrize("name", list(TRACING))
def test_a_script_that_traces_is_not_disturbed(name: str, ahead: int, tmp_path: Path) -> None:
    file = write(tmp_path, TRACING[name].replace("AHEAD", str(ahead)))
    alone = plain(file)
    torch._dynamo.reset()
    left = watched(file, probe_every=1)
    assert left.outcome is not None
    assert left.outcome.ending.how == "finished", left.outcome.ending
    assert differences(alone, left) == []
    assert left.outcome.verdict.watch.errors == []
