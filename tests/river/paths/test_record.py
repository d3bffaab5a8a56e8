"""A path on disk and on one line: what is written is read back, and what is no path is refused."""

from __future__ import annotations

from pathlib import Path as File

import numpy as np
import pytest
import torch

from gradientflow.errors import OutputError, RecordError, UsageError
from gradientflow.river import Keep, Path, Potential, VectorField, flow
from tests.river.paths.test_resume import COLUMNS

QUARTIC = Potential(lambda w: (w**4).sum() / 4 + 0.5 * (w[0] - 2 * w[1]) ** 2, start=[2.0, -1.5], name="quartic")


@pytest.fixture(scope="module")
def path() -> Path:
    return flow(QUARTIC, 1.0, keep=Keep(functions={"norm": torch.linalg.vector_norm}))


@pytest.mark.parametrize("kind", ["whole", "no loss", "no points", "single precision", "out of budget"])
def test_round_trip(kind: str, path: Path, tmp_path: File):
    if kind == "no loss":
        path = flow(VectorField(lambda z: -z, start=[1.0, 2.0]), 1.0)
    elif kind == "no points":
        path = flow(QUARTIC, 1.0, keep=Keep(theta=False))
    elif kind == "single precision":
        path = flow(QUARTIC, 1.0, start=torch.tensor([2.0, -1.5], dtype=torch.float32).double())
    elif kind == "out of budget":
        path = flow(QUARTIC, 1.0, max_gradients=30)
    path.save(tmp_path / "p.npz")
    again = Path.load(tmp_path / "p.npz")
    for name in COLUMNS:
        a, b = getattr(path, name), getattr(again, name)
        assert (a is None) == (b is None)
        if a is not None:
            assert a.dtype == b.dtype and torch.equal(a.nan_to_num(-7.0), b.nan_to_num(-7.0))
    assert path.kept.keys() == again.kept.keys()
    assert all(torch.equal(v, again.kept[n]) for n, v in path.kept.items())
    for name in ("label", "kind", "method", "cost", "status", "notes", "settings"):
        assert getattr(path, name) == getattr(again, name)
    assert repr(again.certificates) == repr(path.certificates) and again.certificates.ok == path.certificates.ok
    assert repr(again) == repr(path)
    assert [f.name for f in tmp_path.iterdir()] == ["p.npz"]
    assert again.field is None
    with pytest.raises(UsageError, match="read from a file"):
        again.parameters()
    assert path.parameters()["theta"] is not None


def test_saving_where_there_is_no_folder(path: Path, tmp_path: File):
    with pytest.raises(OutputError, match=r"(?s)missing.*No such file"):
        path.save(tmp_path / "missing" / "p.npz")
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError, match="could not be written"):
        path.save(tmp_path / "taken")


def wrong_files(folder: File, path: Path) -> dict[str, File]:
    path.save(folder / "whole.npz")
    whole = (folder / "whole.npz").read_bytes()
    contents = {"empty": b"", "text": b"hello", "zip": b"PK\x03\x04" + whole[40:140], "torn": whole[: len(whole) // 2],
                "pickle": b"\x80\x04\x95\x00\x00\x00"}  # fmt: skip
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    np.save(folder / "one.npy", np.zeros(3))
    np.savez(folder / "other.npz", a=np.zeros(3))
    np.savez(folder / "half.npz", meta=np.array('{"format": "gradientflow.path/1"}'))
    np.savez(folder / "list.npz", meta=np.array("[1]"))
    np.savez(folder / "bare.npz", meta=np.array("not json"))
    np.savez(folder / "foreign.npz", meta=np.array('{"format": "somebody.else/3"}'))
    names = [*contents, "one.npy", "other.npz", "half.npz", "list.npz", "bare.npz", "foreign.npz", "", "nowhere.npz"]
    return {name or "a folder": folder / name for name in names}


WRONG = ["empty", "text", "zip", "torn", "pickle", "one.npy", "other.npz", "half.npz", "list.npz", "bare.npz", "foreign.npz",
         "a folder", "nowhere.npz"]  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_path_is_refused(name: str, path: Path, tmp_path: File):
    file = wrong_files(tmp_path, path)[name]
    with pytest.raises(RecordError) as told:
        Path.load(file)
    assert str(file) in str(told.value)
    assert "unsafely" not in str(told.value)  # no advice to open a stranger's pickle
    assert Path.load(tmp_path / "whole.npz").status == path.status  # negative control


def test_one_line(path: Path):
    assert repr(path) == (
        f"<flow 'flow' by {path.method}: t = 1, loss {float(path.loss[-1]):.6g}, reached, "  # type: ignore[index]
        f"{path.cost.equivalents:.0f} gradient equivalents, certificates hold>"
    )
    broken = flow(QUARTIC, 1.0, method="euler", step=0.3)
    assert "CERTIFICATE BROKEN: " in repr(broken) and "energy" in repr(broken)
    assert "certificates" not in repr(flow(QUARTIC, 1.0, certify=False))
    assert "loss" not in repr(flow(VectorField(lambda z: -z, start=[1.0]), 1.0))
    many = flow(QUARTIC, 1.0, starts=torch.ones(3, 2, dtype=torch.float64))
    assert repr(many).startswith("<ensemble of 3 drops by ") and "reached" in repr(many) and len(many) == 3
    with pytest.raises(UsageError, match="not a list of paths"):
        list(many)
