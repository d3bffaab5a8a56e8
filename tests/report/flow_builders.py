"""Flows built by hand for the reports: classical Runge–Kutta and plain optimizers on fields written out in Python."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from typing import NamedTuple

from gradientflow.records import (
    Apart,
    Check,
    Drops,
    FixedPoint,
    Flow,
    Portrait,
    Rest,
    Spent,
    Status,
    Story,
    Track,
)

Vector = tuple[float, float]
Plane = Callable[[float, float], Vector]


class Surface(NamedTuple):
    """A loss of two parameters and its gradient."""

    name: str
    loss: Callable[[float, float], float]
    slope: Plane
    box: tuple[float, float, float, float]


W1W2 = Surface(
    "w1w2",
    lambda x, y: 0.5 * (x * y - 1) ** 2,
    lambda x, y: ((x * y - 1) * y, (x * y - 1) * x),
    (-2.4, 2.4, -1.6, 1.6),
)
HIMMELBLAU = Surface(
    "himmelblau",
    lambda x, y: (x * x + y - 11) ** 2 + (x + y * y - 7) ** 2,
    lambda x, y: (
        4 * x * (x * x + y - 11) + 2 * (x + y * y - 7),
        2 * (x * x + y - 11) + 4 * y * (x + y * y - 7),
    ),
    (-6.0, 6.0, -6.0, 6.0),
)


def solved(surface: Surface, start: Vector, t: float, h: float = 0.01) -> Track:
    """The flow of one drop by classical Runge–Kutta."""
    at, points, times = start, [start], [0.0]

    def down(x: float, y: float) -> Vector:
        u, v = surface.slope(x, y)
        return -u, -v

    for k in range(round(t / h)):
        k1 = down(*at)
        k2 = down(at[0] + h / 2 * k1[0], at[1] + h / 2 * k1[1])
        k3 = down(at[0] + h / 2 * k2[0], at[1] + h / 2 * k2[1])
        k4 = down(at[0] + h * k3[0], at[1] + h * k3[1])
        at = (
            at[0] + h / 6 * (k1[0] + 2 * k2[0] + 2 * k3[0] + k4[0]),
            at[1] + h / 6 * (k1[1] + 2 * k2[1] + 2 * k3[1] + k4[1]),
        )
        points.append(at)
        times.append((k + 1) * h)
    loss = [surface.loss(*p) for p in points]
    grad = [math.hypot(*surface.slope(*p)) for p in points]
    n = len(points)
    return Track(
        "flow", "flow", "rkc2", times, list(loss), list(grad), [4.0] * n, [-1.0] * n, [0.0] + [h] * (n - 1), [4] * n,
        Status("reached", f"t = {t:g}"), Spent(150, 32, 0, 0.4, 0.3, 20.0, 214.0),
        [
            Check("monotone", True, 0.0, 1e-9, "the loss never rose"),
            Check("energy", True, 2e-4, 1e-2, "L(0) − L(t) = ∫‖∇L‖² dt to 2e-4, allowed 1e-2"),
        ],
        points, list(start), list(at), [], {"rtol": 1e-3, "atol": 1e-6}, moments=n,
    )  # fmt: skip


def descended(surface: Surface, start: Vector, t: float, lr: float, *, adam: bool = False) -> Track:
    """Gradient descent or Adam."""
    at, points, times = start, [start], [0.0]
    m, s = [0.0, 0.0], [0.0, 0.0]
    for k in range(1, round(t / lr) + 1):
        g = surface.slope(*at)
        if adam:
            m = [0.9 * a + 0.1 * b for a, b in zip(m, g, strict=True)]
            s = [0.999 * a + 0.001 * b * b for a, b in zip(s, g, strict=True)]
            step = [lr * (a / (1 - 0.9**k)) / (math.sqrt(b / (1 - 0.999**k)) + 1e-8) for a, b in zip(m, s, strict=True)]
        else:
            step = [lr * g[0], lr * g[1]]
        at = (at[0] - step[0], at[1] - step[1])
        points.append(at)
        times.append(k * lr)
    n = len(points)
    label = f"{'Adam' if adam else 'SGD'} lr={lr:g}"
    return Track(
        label, "descent", label.split()[0], times, [surface.loss(*p) for p in points],
        [math.hypot(*surface.slope(*p)) for p in points], [4.0] * n, [-1.0] * n, [0.0] + [lr] * (n - 1), [1] * n,
        Status("reached", f"t = {t:g}"), Spent(n - 1, 0, 0, 0.1, 0.1, 0.0, n - 1.0), [], points, list(start), list(at), [],
        {"lr": lr}, moments=n, threshold=None if adam else 2 / lr, threshold_name="" if adam else "2/η",
    )  # fmt: skip


def apart(flow: Track, other: Track) -> Apart:
    """Distance at equal times, by the nearest moment of the flow."""
    distance: list[float | None] = []
    for t, p in zip(other.times, other.points, strict=True):
        k = min(round(t / flow.step[1]), len(flow.points) - 1)
        distance.append(math.dist(p, flow.points[k]))
    return Apart(other.label, list(other.times), distance)


def story(surface: Surface, start: Vector, t: float, descents: list[tuple[float, bool]], drop: int = 1) -> Story:
    """A drop with its descents, (learning rate, is Adam) each."""
    flow = solved(surface, start, t)
    others = [descended(surface, start, t, lr, adam=adam) for lr, adam in descents]
    return Story(drop, flow, others, [apart(flow, o) for o in others])


def portrayed(surface: Surface, n: int = 96) -> Portrait:
    """The samples of a surface."""
    x0, x1, y0, y1 = surface.box
    u: list[float] = []
    v: list[float] = []
    loss: list[float | None] = []
    for i in range(n):
        for j in range(n):
            x, y = x0 + (x1 - x0) * j / (n - 1), y0 + (y1 - y0) * i / (n - 1)
            a, b = surface.slope(x, y)
            u.append(-a)
            v.append(-b)
            loss.append(surface.loss(x, y))
    drawn = Portrait(surface.name, surface.box, n, u, v, loss)
    if surface is W1W2:
        drawn.fixed = [FixedPoint((0.0, 0.0), "saddle", [(1.0, 0.0), (-1.0, 0.0)], 0.5)]
        curve = [(0.625 + k * 0.02, 1 / (0.625 + k * 0.02)) for k in range(90)]
        drawn.valleys = [curve, [(-x, -y) for x, y in curve]]
        drawn.separatrices = [[(0.0, 0.0), (1.6, -1.6)], [(0.0, 0.0), (-1.6, 1.6)]]
    return drawn


def w1w2() -> tuple[Flow, Portrait]:
    """The first-minute story: one drop, three answers."""
    one = story(W1W2, (1.9, -1.2), 20.0, [(0.45, False), (0.15, True)])
    for track in (one.flow, *one.descents):
        a, b = track.points[0], track.points[-1]
        track.conserved = {"w₁²−w₂²": (a[0] ** 2 - a[1] ** 2, b[0] ** 2 - b[1] ** 2)}
    flow = Flow("w1w2", "w1w2", 2, "float64", True, 20.0, "L = ½(w₁w₂ − 1)²: the smallest deep net", [one])
    return flow, portrayed(W1W2)


def many(count: int = 60, seed: int = 0) -> tuple[Flow, Portrait]:
    """Many drops on Himmelblau's function."""
    rng = random.Random(seed)
    tracks = [solved(HIMMELBLAU, (rng.uniform(-5.5, 5.5), rng.uniform(-5.5, 5.5)), 1.0, 0.004) for _ in range(count)]
    minima = [(3.0, 2.0), (-2.8051, 3.1313), (-3.7793, -3.2832), (3.5844, -1.8481)]
    basin = [min(range(4), key=lambda k: math.dist(minima[k], t.points[-1])) for t in tracks]
    drops = Drops(
        count, "rkc2", Status("reached", "t = 1"), {"reached": count}, [1.0] * count, [t.loss[-1] for t in tracks if t.loss],
        [t.grad_norm[-1] for t in tracks], [40] * count, Spent(9000, 0, 0, 1.2, 0.9, 0.0, 9000.0),
        [Check("monotone", True, 0.0, 1e-9, "no loss rose")], [Rest(basin.count(k), 1e-12, 1e-6, list(minima[k])) for k in range(4)],
        basin, [t.points[0] for t in tracks], [t.points[-1] for t in tracks], [t.points for t in tracks], [], {"rtol": 1e-3},
    )  # fmt: skip
    flow = Flow("himmelblau", "himmelblau", 2, "float64", True, 1.0, "four minima of equal depth", [], drops)
    return flow, portrayed(HIMMELBLAU)


def network() -> Flow:
    """A network's flow that never was: progressive sharpening past 2/η, and two descents that leave it or do not."""
    times = [0.0, *(100 * (k / 240) ** 2 for k in range(1, 241))]

    def loss(t: float) -> float:
        return 0.45 / (1 + 0.35 * t) + 0.002

    def sharp(t: float) -> float:
        return 6 + 24 * t / (t + 25)

    def track(label: str, kind: str, method: str, ts: list[float], wobble: float, threshold: float | None) -> Track:
        n = len(ts)
        shake = [wobble * (-1) ** k * (1 if sharp(t) > (threshold or 1e9) else 0.02) for k, t in enumerate(ts)]
        return Track(
            label, kind, method, ts, [loss(t) * (1 + abs(s)) for t, s in zip(ts, shake, strict=True)],
            [0.4 * loss(t) * (1 + abs(s)) for t, s in zip(ts, shake, strict=True)],
            [min(sharp(t), (threshold or 1e9) * (1 + 0.1 * s)) if t else None for t, s in zip(ts, shake, strict=True)],
            [-0.5] * n, [0.0, *(b - a for a, b in itertools.pairwise(ts))], [0] + [9] * (n - 1),
            Status("reached", f"t = {ts[-1]:g}"), Spent(n * 6, n // 3, 0, 3.2, 2.9, 300.0, n * 6 + 2 * (n // 3)),
            notes=[], settings={"rtol": 1e-3} if kind == "flow" else {}, moments=n, threshold=threshold,
            threshold_name="2/η" if threshold else "",
        )  # fmt: skip

    flow = track("flow", "flow", "dp54 then rkc2", times, 0.0, None)
    flow.checks = [
        Check("monotone", True, 0.0, 1e-6, "the loss never rose"),
        Check("energy", True, 3.1e-4, 1e-2, "L(0) − L(t) against ∫‖∇L‖² dt: they differ by 3.1e-04, allowed 1e-02"),
        Check("stability", True, 0.93, 1.0, "h·ρ was at most 0.93 of what the stages can hold"),
        Check("error", None, None, None, "not estimated: a second run was not affordable within --max-gradients"),
    ]
    flow.notes = ["switched from dp54 to rkc2 at t = 2.1: h·ρ had reached 3.2"]
    others = []
    for lr, ts in ((0.1, [0.1 * k for k in range(1001)]), (0.04, [0.04 * k for k in range(2501)])):
        others.append(track(f"SGD lr={lr:g}", "descent", "SGD", ts, 0.6, 2 / lr))
    adam = track("Adam lr=0.001", "descent", "Adam", [0.02 * k for k in range(5001)], 0.05, None)
    adam.sharpness = [None] * len(adam.times)
    others.append(adam)
    gaps = [
        Apart(
            o.label, o.times, [1e-4 + c * t / (1 + 0.02 * t) for t in o.times], predicted=[0.8 * c * t for t in o.times]
        )
        for o, c in zip(others, (0.01, 0.004, 0.03), strict=True)
    ]
    gaps[0].left, gaps[0].crossed = 37.0, (34.0, 36.0)
    gaps[0].why = "It leaves the flow at t = 37: the flow's sharpness crosses 2/η = 20 between t = 34 and 36."
    gaps[1].why = "It stays with the flow: at most 0.04 of the flow's whole way beside it."
    gaps[2].predicted = []
    return Flow(
        "mine.py:make", "CrossEntropyLoss of MLP", 16_710, "float64", True, 100.0, "", [Story(1, flow, others, gaps)]
    )
