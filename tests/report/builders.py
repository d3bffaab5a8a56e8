"""Parts of runs and verdicts, built by hand: chains of ops, budgets, histories of norms."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from gradientflow.records import (
    Budget,
    GradStat,
    Meta,
    Op,
    Operand,
    Optimizer,
    Param,
    ParamNorms,
    Run,
    Share,
    Step,
    ValueStat,
    Verdict,
)

VANISHING = """\
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.ls = nn.ModuleList(nn.Linear(64, 64) for _ in range(12))
        self.out = nn.Linear(64, 10)

    def forward(self, x):
        for i, layer in enumerate(self.ls):
            h = layer(x)
            x = torch.sigmoid(h) if i in (3, 4, 5) else torch.relu_(h)
        return self.out(x)

net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(200):
    x, y = batch(step)
    loss = nn.functional.cross_entropy(net(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
"""

RNN = """\
import torch

def forward(xs, W, U, h):
    for x in xs:
        h = torch.tanh(x @ U + h @ W)
    return h

loss = (forward(xs, W, U, h0) - y).pow(2).mean()
loss.backward()
"""

SQRT = """\
import torch

def distance(a, b):
    d2 = ((a - b) ** 2).sum(-1)
    return torch.sqrt(d2)

loss = distance(net(x), net(y)).mean()
"""


class Case(NamedTuple):
    """A verdict and the run it is about."""

    verdict: Verdict
    run: Run


class Link(NamedTuple):
    """One op of a hand-made chain, the loss first."""

    name: str
    kind: str
    line: int
    module: str | None
    gain: float | None
    mark: str | None = None
    share: float | None = None
    saturated: float | None = None
    dead: float | None = None
    nan: int = 0


def value(**kw: object) -> ValueStat:
    base = ValueStat([32, 64], "float32", mean=0.02, std=0.61, min=-2.1, max=2.4, zeros=0.0, nan=0, inf=0)
    return msgspec.structs.replace(base, **kw)


def chain(file: str, links: list[Link], loss_side: int = 1) -> tuple[list[Share], list[Op]]:
    """Budget rows and probe ops of a chain; `left` counts from the network's output, after `loss_side` ops."""
    n = len(links)
    side = sum(math.log10(x.gain) for x in links[:loss_side] if x.gain)
    left: float | None = -side
    shares, ops = [], []
    for k, x in enumerate(links):
        decades = math.log10(x.gain) if x.gain and math.isfinite(x.gain) else None
        before = left
        left = left + decades if left is not None and decades is not None else None
        shares.append(
            Share(
                name=x.name,
                kind=x.kind,
                decades=decades,
                gain=x.gain,
                left=left,
                norm=None if left is None else 0.2 * 10**left,
                file=file,
                line=x.line,
                module=x.module,
                op=n - 1 - k,
                share=x.share,
                mark=x.mark,
                body=k >= loss_side,
            )
        )
        norm = 0.2 * 10 ** (before if before is not None else -9)
        ops.append(
            Op(
                index=n - 1 - k,
                name=x.name,
                kind=x.kind,
                file=file,
                line=x.line,
                function="forward",
                module=x.module,
                module_class="Net",
                operands=[Operand(op=n - 2 - k if k < n - 1 else None)],
                value=value(saturated=x.saturated, dead=x.dead, nan=x.nan, zeros=0.49 if x.name == "relu" else 0.0),
                grad=GradStat(norm=norm, rms=norm / 45, max=norm / 9, zeros=0.0, nan=x.nan, inf=0),
            )
        )
    return shares, ops[::-1]


def summed(shares: list[Share], key: Callable[[Share], str]) -> list[Share]:
    out: dict[str, Share] = {}
    for s in shares:
        name = key(s)
        if name not in out:
            out[name] = Share(name=name, kind=s.kind, decades=0.0, gain=1.0, count=0)
        row = out[name]
        row.count += 1
        row.decades = None if row.decades is None or s.decades is None else row.decades + s.decades
        row.gain = None if row.decades is None else 10**row.decades
    return list(out.values())


def budget(shares: list[Share], **kw: object) -> Budget:
    parts = [s.decades for s in shares]
    total = sum(p for p in parts if p is not None) if None not in parts else None
    body = sum(s.decades for s in shares if s.body and s.decades is not None)
    return Budget(
        total_decades=total,
        by_op=shares,
        by_module=summed(shares, lambda s: s.module or "(root)"),
        by_kind=summed(shares, lambda s: s.kind),
        residual=None if total is None else 0.003,
        body_decades=body,
        **{"step": 0, **kw},  # type: ignore[arg-type]
    )


def params(layers: int, prefix: str = "ls") -> list[Param]:
    out = []
    for k in range(layers):
        for part, shape in (("weight", [64, 64]), ("bias", [64])):
            out.append(
                Param(
                    index=len(out),
                    name=f"{prefix}.{k}.{part}",
                    shape=shape,
                    dtype="float32",
                    requires_grad=True,
                    is_parameter=True,
                    optimizer=0,
                    file="/home/ada/nets/train.py",
                    line=6,
                    init="kaiming_uniform_",
                    module_class="Linear",
                    graded=200,
                    in_graph=True,
                )
            )
    return out


def history(
    n: int, layers: int, loss: Callable[[int], float | None], fall: float, bad: Callable[[int], bool] = lambda i: False
) -> tuple[list[Step], list[ParamNorms]]:
    """Steps and per-parameter norms; `fall` decades per layer towards the input."""
    rng = random.Random(n)
    steps, norms = [], []
    every = max(1, n // 1500)
    for i in range(n):
        wrong = bad(i)
        steps.append(
            Step(
                step=i,
                at=i * 0.011,
                optimizer=0,
                lr=0.1,
                loss=loss(i),
                grad=0.3 * (0.7 + 0.6 * rng.random()),
                weight=21.0,
                update=0.03,
                nonfinite=2 * layers if wrong else 0,
            )
        )
        if i % every:
            continue
        grads = []
        for p in range(2 * layers):
            depth = layers - 1 - p // 2
            g = 10 ** (fall * depth - 0.35 * (p % 2) - 1.2 * i / n + 0.25 * rng.random())
            grads.append(math.inf if wrong else g)
        ids = list(range(2 * layers))
        norms.append(ParamNorms(i, 0, ids, grads, [3.1] * len(ids), [1e-3] * len(ids)))
    return steps, norms


def meta(script: str, source: str, layers: int, **kw: object) -> Meta:
    base = Meta(
        script=script,
        argv=[script, "--width", "64", "--seed", "0"],
        cwd="/home/ada/nets",
        started="2026-03-14T15:09:26",
        python="3.11.9",
        torch="2.13.0",
        params=params(layers),
        optimizers=[Optimizer(0, "SGD", {"lr": 0.1, "momentum": 0.0}, list(range(2 * layers)), steps=200)],
        sources={f"/home/ada/nets/{script}": source},
        elapsed=12.4,
        overhead=0.4,
        steps=200,
        backwards=200,
        ended="finished",
        exit_code=0,
    )
    return msgspec.structs.replace(base, **kw)
