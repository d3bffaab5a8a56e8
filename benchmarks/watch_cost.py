"""What does watching cost? The time of a training loop watched, over the time of the same loop unwatched.

    python benchmarks/watch_cost.py [--repeats 7] [--seconds 8] [--json FILE]

Three nets, chosen because their steps differ in what a watcher costs them: 20 layers of 256 (the arithmetic counts),
20 layers of 32 (Python counts), and a transformer of 4 layers. Each is trained by a small script that times its own
loop, so that neither the start of Python nor the writing of the report is in the figure. One thread, on the CPU.
Watched and unwatched runs take turns, and which goes first takes turns too, so that a machine that slows down or
speeds up slows both; the ratio is taken pair by pair, and the median of the pairs is reported with their range.

The figure belongs to a length of loop: the first steps are all probed, so a short run pays a larger share than a long
one. `--seconds` sets the length.

The first row of each net compares two unwatched runs: it shows how much of a ratio is noise.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MLP = """
model = nn.Sequential(
    nn.Linear(64, {width}), nn.ReLU(),
    *[layer for _ in range({depth} - 2) for layer in (nn.Linear({width}, {width}), nn.ReLU())],
    nn.Linear({width}, 10),
)
x, y = torch.randn(64, 64), torch.randint(10, (64,))
"""

TRANSFORMER = """
class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(64, 4, 256, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        return self.head(self.encoder(x).mean(dim=1))


model = Classifier()
x, y = torch.randn(16, 32, 64), torch.randint(10, (16,))
"""

SCRIPT = """
import sys, time
import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(0)
{net}
optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
loss_fn = nn.CrossEntropyLoss()


def step():
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    optimizer.step()


warm_up, steps, file = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
for _ in range(warm_up):
    step()
began = time.perf_counter()
for _ in range(steps):
    step()
open(file, "w").write(repr(time.perf_counter() - began))
"""

NETS = {
    "20×256 MLP": MLP.format(width=256, depth=20),
    "20×32 MLP": MLP.format(width=32, depth=20),
    "4-layer transformer": TRANSFORMER,
}
PLAIN = (sys.executable,)
WATCHED = (sys.executable, "-m", "gradientflow", "run", "--quiet")
WARM_UP = 20  # steps before the clock starts


def loop_seconds(prefix: Sequence[str], script: Path, steps: int, options: Sequence[str] = ()) -> float:
    """Run a script once, in a folder of its own, and read the seconds its loop took."""
    with tempfile.TemporaryDirectory(prefix="watch-cost-") as folder:
        file = Path(folder) / "seconds"
        command = [*prefix, *options, str(script), str(WARM_UP), str(steps), str(file)]
        done = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        if not file.exists():
            raise SystemExit(f"error: exit code {done.returncode} from {' '.join(command)}\n{done.stdout}")
        return float(file.read_text())


def compare(one: Sequence[str], other: Sequence[str], script: Path, steps: int, repeats: int) -> list[float]:
    """Ratios one/other of the loop's time, pair by pair, taking turns."""
    ratios = []
    for repeat in range(repeats):
        if repeat % 2:
            below = loop_seconds(other, script, steps)
            above = loop_seconds(one, script, steps)
        else:
            above = loop_seconds(one, script, steps)
            below = loop_seconds(other, script, steps)
        ratios.append(above / below)
    return ratios


def measure(name: str, net: str, seconds: float, repeats: int, options: Sequence[str]) -> dict[str, Any]:
    """All that is measured of one net."""
    with tempfile.TemporaryDirectory(prefix="watch-cost-net-") as folder:
        script = Path(folder) / "train.py"
        script.write_text(SCRIPT.format(net=net), encoding="utf-8")
        trial = 60
        step = loop_seconds(PLAIN, script, trial) / trial
        steps = max(trial, round(seconds / step))
        noise = compare(PLAIN, PLAIN, script, steps, repeats)
        watched = compare([*WATCHED, *options], PLAIN, script, steps, repeats)
    return {"net": name, "ms_per_step": 1000 * step, "steps": steps, "noise": noise, "watched": watched}


def spread(ratios: Sequence[float]) -> str:
    """Median and range as text."""
    return f"{statistics.median(ratios):.3f}  ({min(ratios):.3f} to {max(ratios):.3f})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description="What does watching cost? Ratio of watched to unwatched loop time.")
    parser.add_argument("--repeats", type=int, default=7, help="pairs of runs (default 7)")
    parser.add_argument("--seconds", type=float, default=8, help="length of an unwatched loop, about (default 8)")
    parser.add_argument("--only", metavar="WORD", default="", help="only nets whose name contains this")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every ratio here")
    parser.add_argument("options", nargs="*", help="after --: options for gradientflow run, e.g. -- --probe-every 10")
    given = parser.parse_args(arguments)

    chosen = {name: net for name, net in NETS.items() if given.only in name}
    results = []
    for number, (name, net) in enumerate(chosen.items(), 1):
        print(f"[{number}/{len(chosen)}] {name}: {given.repeats} × 4 runs …", file=sys.stderr, flush=True)
        results.append(measure(name, net, given.seconds, given.repeats, given.options))

    print(f"{'net':<20} {'ms/step':>8} {'steps':>6}  {'':<19} median ratio (range)")
    for result in results:
        print(
            f"{result['net']:<20} {result['ms_per_step']:>8.2f} {result['steps']:>6}  "
            f"{'unwatched/unwatched':<19} {spread(result['noise'])}"
        )
        print(f"{'':<20} {'':>8} {'':>6}  {'watched/unwatched':<19} {spread(result['watched'])}")
    if given.json:
        content = {"options": given.options, "results": results}
        given.json.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
