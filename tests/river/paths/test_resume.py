"""A path that was killed, interrupted or out of budget goes on as if nothing had been; another path does not."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import warnings
from pathlib import Path as File
from typing import Any

import pytest
import torch
from torch import Tensor

from gradientflow.errors import OutputError, RecordError, UsageError
from gradientflow.river import Ensemble, Keep, Path, Potential, flow
from tests.river.paths.killed import KINDS, ask, quartic

COLUMNS = ("times", "loss", "grad_norm", "sharpness", "lambda_min", "step", "stages", "theta", "start", "final")
MANY = ("times", "values", "rates", "ends", "loss", "grad_norm", "theta", "start", "final", "steps")


def differences(a: Path | Ensemble, b: Path | Ensemble) -> list[str]:
    """What of two paths is not the same, bit for bit."""
    found = []
    for name in MANY if isinstance(a, Ensemble) else COLUMNS:
        x, y = getattr(a, name), getattr(b, name)
        if (x is None) != (y is None) or (x is not None and not torch.equal(x.nan_to_num(-7.0), y.nan_to_num(-7.0))):
            found.append(name)
    if isinstance(a, Path) and isinstance(b, Path):
        found += ["kept"] * (
            a.kept.keys() != b.kept.keys() or any(not torch.equal(v, b.kept[n]) for n, v in a.kept.items())
        )
    plain = [n for n in ("certificates", "method", "notes", "status") if getattr(a, n) != getattr(b, n)]
    return found + plain + ["cost"] * (a.cost.gradients != b.cost.gradients)


def solved(**asked: Any) -> Path:
    return flow(Potential(quartic, name="quartic", start=[2.0, -1.5]), 6.0, **asked)


@pytest.mark.parametrize("kind", KINDS)
def test_killed_and_resumed_is_uninterrupted(kind: str, tmp_path: File):
    file = tmp_path / "path.ckpt"
    whole = ask(kind, None)
    middle = int(0.6 * (whole.cost.equivalents - whole.cost.checking) / (3 if kind == "ensemble" else 1))
    run = subprocess.run(
        [sys.executable, "-m", "tests.river.paths.killed", kind, str(file), str(middle)],
        capture_output=True, cwd=File(__file__).parents[3], timeout=120, check=False,
    )  # fmt: skip
    assert run.returncode == -signal.SIGKILL, run.stderr.decode()
    assert file.exists()
    seen: list[float] = []
    resumed = ask(kind, str(file), callback=lambda m: seen.append(m.t))
    assert seen[0] > 0.05  # it did not begin anew
    assert differences(whole, resumed) == []
    assert not file.exists() and list(tmp_path.iterdir()) == []  # the path has arrived: nothing is left lying about
    other = ask(kind, None, rtol=1.1e-3)
    assert differences(whole, other) != []  # negative control


@pytest.mark.parametrize("method", ["auto", "rkc2", "rkmc2", "tsrkc3"])
@pytest.mark.parametrize(
    "keep",
    [Keep(every=4), Keep(at=[0.1, 0.11, 1.0, 6.0], theta=True, functions={"norm": torch.linalg.vector_norm})],
    ids=["every fourth", "at times"],
)
def test_out_of_budget_twice_and_resumed_is_uninterrupted(method: str, keep: Keep, tmp_path: File):
    asked = {"method": method, "keep": keep, "rtol": 1e-2}
    whole = solved(**asked)
    cost = whole.cost.equivalents - whole.cost.checking
    for share in (0.3, 0.7):
        part = solved(checkpoint=tmp_path / "c", resume=True, max_gradients=share * cost, **asked)
        assert part.status.reason == "budget" and (tmp_path / "c").exists()
    assert differences(whole, solved(checkpoint=tmp_path / "c", resume=True, **asked)) == []
    assert "times" in differences(whole, part)  # negative control


def test_cancelled_by_a_callback_or_an_interrupt_and_resumed_is_uninterrupted(tmp_path: File):
    whole, calls = solved(keep=Keep(every=3)), [0]

    def stop(_: object) -> bool:
        calls[0] += 1
        if calls[0] == 14:
            raise KeyboardInterrupt
        return calls[0] in (5, 9)

    for _ in range(3):
        part = solved(keep=Keep(every=3), checkpoint=tmp_path / "c", resume=True, callback=stop)
        assert part.status.reason == "cancelled"
    assert differences(whole, solved(keep=Keep(every=3), checkpoint=tmp_path / "c", resume=True)) == []


def test_without_resume_a_path_begins_anew(tmp_path: File):
    solved(checkpoint=tmp_path / "c", max_gradients=50)
    seen: list[float] = []
    path = solved(checkpoint=tmp_path / "c", callback=lambda m: seen.append(m.t))
    assert seen[0] < 0.05 and differences(path, solved()) == []


OTHER: dict[str, dict[str, Any]] = {
    "rtol": {"rtol": 1e-4},
    "atol": {"atol": 1e-3},
    "method": {"method": "rkc2"},
    "start": {"start": [2.0, -1.4]},
    "dtype": {"start": torch.tensor([2.0, -1.5], dtype=torch.float32)},
    "seed": {"seed": 3},
    "step": {"step": 0.01},
    "times": {"keep": Keep(at=[1.0])},
    "every": {"keep": Keep(every=2)},
    "points": {"keep": Keep(theta=False)},
    "functions": {"keep": Keep(functions={"norm": torch.linalg.vector_norm})},
    "drops": {"starts": torch.tensor([[2.0, -1.5]], dtype=torch.float64)},
}


@pytest.mark.parametrize("asked", OTHER.values(), ids=OTHER)
def test_a_checkpoint_of_other_settings_is_refused(asked: dict[str, Any], tmp_path: File):
    def loose(**more: Any) -> Path:
        kind = {"start": [2.0, -1.5]} if "starts" not in more else {}
        return flow(quartic, 6.0, checkpoint=tmp_path / "c", resume=True, **(kind | more))

    loose(max_gradients=50)
    with pytest.raises(UsageError, match=r"(?s)belongs to a run with other settings.*remove the file"):
        loose(**asked)
    assert loose().status.reason == "reached"  # the same settings are taken


def test_a_checkpoint_of_another_time_or_another_field_is_refused(tmp_path: File):
    def start(loss: Any, t: float, **more: Any) -> Path:
        return flow(Potential(loss, start=[2.0, -1.5]), t, checkpoint=tmp_path / "c", resume=True, **more)

    start(quartic, 6.0, max_gradients=50)
    with pytest.raises(UsageError, match="other settings"):
        start(quartic, 7.0)
    with pytest.raises(UsageError, match="another field"):  # of the same name and size: told by what it returns
        start(lambda w: 3 * quartic(w), 6.0)


def garbage() -> dict[str, bytes]:
    noise = torch.randint(0, 256, (1000,), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return {
        "empty": b"",
        "text": b"hello\n" * 50,
        "noise": noise.numpy().tobytes(),
        "a torn zip": b"PK\x03\x04" + noise.numpy().tobytes()[:200],
        "a pickle": pickle.dumps({"a": 1}),
        "code": b"cos\nsystem\n(S'true'\ntR.",
    }


@pytest.mark.parametrize("content", garbage().values(), ids=garbage())
def test_a_file_that_is_no_checkpoint(content: bytes, tmp_path: File):
    (tmp_path / "c").write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RecordError, match=r"(?s)c is not a checkpoint of a path.*Remove it"):
            solved(checkpoint=tmp_path / "c", resume=True)


STORED = {
    "a tensor": torch.zeros(3),
    "a list": [1, 2],
    "another format": {"format": "x"},
    "half": {"format": "gradientflow.checkpoint/2"},
}


@pytest.mark.parametrize("stored", STORED.values(), ids=STORED)
def test_something_else_that_torch_saved(stored: Any, tmp_path: File):
    torch.save(stored, tmp_path / "c")
    with pytest.raises(RecordError, match="not a checkpoint of a path"):
        solved(checkpoint=tmp_path / "c", resume=True)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_torn_checkpoint(share: float, tmp_path: File):
    solved(checkpoint=tmp_path / "c", max_gradients=50)
    whole = (tmp_path / "c").read_bytes()
    (tmp_path / "c").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(RecordError, match="not a checkpoint of a path"):
        solved(checkpoint=tmp_path / "c", resume=True)
    (tmp_path / "c").write_bytes(whole)  # negative control: the whole one is taken
    assert solved(checkpoint=tmp_path / "c", resume=True).status.reason == "reached"


def test_a_checkpoint_that_cannot_be_written_is_told_before_anything_is_spent(tmp_path: File):
    calls = [0]

    def counted(w: Tensor) -> Tensor:
        calls[0] += 1
        return quartic(w)

    with pytest.raises(OutputError, match="missing"):
        flow(counted, 6.0, start=[2.0, -1.5], checkpoint=tmp_path / "missing" / "c", max_gradients=100)
    assert calls[0] <= 5


def test_resume_without_a_checkpoint_is_refused():
    with pytest.raises(UsageError, match="checkpoint"):
        solved(resume=True)
