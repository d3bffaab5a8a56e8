"""Transformer layers that `gc.freeze` hides from the garbage collector still take PyTorch's fused path where they would unwatched."""

from __future__ import annotations

from pathlib import Path

from tests.hostile.running import Errand, Warm

SCRIPT = """
import contextlib, gc, hashlib, sys
import torch
from torch import nn
import gradientflow
torch.manual_seed(0)
torch.set_num_threads(1)
encoder, head = nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 128, batch_first=True), 2), nn.Linear(64, 2)
optimizer = torch.optim.SGD([*encoder.parameters(), *head.parameters()], lr=0.1)
x, y = torch.randn(8, 12, 64), torch.randint(2, (8,))
gc.freeze()
if "blind" in sys.argv:
    gc.get_freeze_count = lambda: 0
with gradientflow.watch(probe_every=1) if len(sys.argv) > 1 else contextlib.nullcontext():
    for _ in range(4):
        encoder.train()
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(encoder(x).mean(1)), y).backward()
        optimizer.step()
        encoder.eval()
        with torch.no_grad():
            print(hashlib.sha256(encoder(x).numpy().tobytes()).hexdigest())
"""


def said(warm: Warm, folder: Path, *args: str) -> str:
    folder.mkdir()
    (folder / "train.py").write_text(SCRIPT)
    (folder / "stdin").touch()
    errand = Errand((str(folder / "train.py"), *args), False, str(folder), str(folder), {"OMP_NUM_THREADS": "1"}, 120.0)
    assert warm.run(errand) == 0, (folder / "stderr").read_text()
    return (folder / "stdout").read_text()


def test_a_frozen_layer_computes_what_it_computes_unwatched(warm: Warm, tmp_path: Path) -> None:
    plain = said(warm, tmp_path / "plain")
    assert plain.count("\n") == 4
    assert said(warm, tmp_path / "watched", "watched") == plain
    assert said(warm, tmp_path / "blind", "watched", "blind") != plain  # negative control
