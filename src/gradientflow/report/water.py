"""The water of a field of two parameters: thousands of short streaks along the flow, as an array of pixels.

Direction is exact to the samples; speed is bent. ‖dθ/dt‖ spans decades, and at true speed the water would stand still
where it matters: a streak's length goes as ‖dθ/dt‖^BEND instead, and its colour tells log ‖dθ/dt‖.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradientflow.records import Portrait
from gradientflow.records.flow import Numbers
from gradientflow.report.maps import grayc, navia

Floats = NDArray[np.float64]

BEND = 0.35
GROUND = (0.043, 0.063, 0.125)  # #0b1020


@dataclass(frozen=True, slots=True)
class Water:
    """Pixels (height, width, 3) in 0..1, bottom row first, and the log10 speeds at the two ends of the colours."""

    pixels: Floats
    slow: float
    fast: float


def water(
    portrait: Portrait, width: int, height: int, *, gap: float = 6.0, longest: float = 95.0, seed: int = 0
) -> Water:
    """Draw the water.

    Args:
        portrait: the samples.
        width, height: pixels.
        gap: pixels between neighbouring streaks.
        longest: pixels of a streak where the water is fastest.
        seed: of where streaks begin.

    Returns:
        The picture and the scale of its colours.
    """
    u, v = _grid(portrait, portrait.u), _grid(portrait, portrait.v)
    x0, x1, y0, y1 = portrait.box
    speed = np.hypot(u, v)
    u, v = u * (width - 1) / (x1 - x0), v * (height - 1) / (y1 - y0)  # in pixels
    some = speed[np.isfinite(speed) & (speed > 0)]
    if not some.size:
        return Water(np.broadcast_to(np.array(GROUND), (height, width, 3)).copy(), 0.0, 0.0)
    slow, fast = (float(x) for x in np.log10(np.percentile(some, (8, 99))))
    fast = max(fast, slow + 0.5)
    level = (np.log10(np.maximum(speed, 10.0 ** (slow - 3))) - slow) / (fast - slow)
    level = np.clip(np.nan_to_num(level, nan=0.0), -0.5, 1.0)

    rng = np.random.default_rng(seed)
    seeds = _seeds(width, height, gap, rng)
    at_seed = _pick(level, seeds, width, height)
    length = longest * np.clip(10.0 ** (BEND * (fast - slow) * (at_seed - 1)), 0.12, 1.0)
    length *= rng.uniform(0.6, 1.25, len(seeds))
    light = 0.16 + 1.5 * rng.random(len(seeds)) ** 5
    ink = _streaks(u, v, seeds, length, light, width, height)

    yy, xx = np.mgrid[0:height, 0:width]
    everywhere = np.stack([xx.reshape(-1), yy.reshape(-1)], 1).astype(float)
    tone = np.clip(_pick(level, everywhere, width, height), 0.0, 1.0).reshape(height, width)
    colour = tint(tone)
    ground = np.array(GROUND) + 0.25 * (navia(0.02 + 0.2 * tone) - np.array(GROUND))
    if portrait.leak:
        leak = _pick(_grid(portrait, portrait.leak), everywhere, width, height).reshape(height, width)
        colour, ground = greyed(colour, leak), greyed(ground, leak)
    strength = (1 - np.exp(-1.3 * ink)) * (0.58 + 0.30 * tone)
    return Water(np.clip(ground + strength[:, :, None] * (colour - ground), 0, 1), slow, fast)


def tint(level: Floats) -> Floats:
    """The colours of the water at levels 0..1, slow to fast: a part of navia, brightened to be seen on the ground."""
    return np.minimum(1.4 * navia(0.26 + 0.28 * level), 1.0)


def greyed(colour: Floats, leak: Floats) -> Floats:
    """Colours of the water, (…, 3), grey as it leaks, (…): about as bright as they were, and where nothing is known all grey."""
    share = np.clip(np.nan_to_num(leak, nan=1.0), 0.0, 1.0)[..., None]
    bright = colour @ np.array([0.2126, 0.7152, 0.0722])
    return colour + share * (grayc(bright) - colour)


def _grid(portrait: Portrait, numbers: Numbers) -> Floats:
    return np.asarray(numbers, dtype=float).reshape(portrait.n, portrait.n)


def smoothed(samples: Floats, least: int) -> Floats:
    """Samples, (n, n), with as many between them as make `least` along each side, by cubic interpolation (Catmull & Rom 1974).

    The samples stay what they are. Fine grids, and those that have holes, are returned as they came.
    """
    n = len(samples)
    parts = -(-(least - 1) // (n - 1)) if n > 1 else 1
    if parts <= 1 or n < 4 or not np.isfinite(samples).all():
        return samples
    return _between(_between(samples, parts).T, parts).T


def _between(samples: Floats, parts: int) -> Floats:
    """Rows between rows."""
    around = np.concatenate([2 * samples[:1] - samples[1:2], samples, 2 * samples[-1:] - samples[-2:-1]])
    a, b, c, d = around[:-3], around[1:-2], around[2:-1], around[3:]
    s = (np.arange(parts) / parts)[:, None, None]
    inner = b + 0.5 * s * (c - a + s * (2 * a - 5 * b + 4 * c - d + s * (3 * (b - c) + d - a)))
    out: Floats = np.concatenate([inner.transpose(1, 0, 2).reshape(-1, samples.shape[1]), samples[-1:]])
    return out


def _seeds(width: int, height: int, gap: float, rng: np.random.Generator) -> Floats:
    """One point in each square of a lattice that reaches past the edges."""
    xs, ys = np.arange(-6 * gap, width + 6 * gap, gap), np.arange(-6 * gap, height + 6 * gap, gap)
    corners = np.stack(np.meshgrid(xs, ys), -1).reshape(-1, 2)
    points: Floats = corners + gap * rng.random(corners.shape)
    return points


def _pick(samples: Floats, points: Floats, width: int, height: int) -> Floats:
    """Samples at points given in pixels, bilinear; past the edges the samples at the edges go on."""
    rows, columns = samples.shape
    x = np.clip(points[:, 0] * ((columns - 1) / max(width - 1, 1)), 0, columns - 1.000001)
    y = np.clip(points[:, 1] * ((rows - 1) / max(height - 1, 1)), 0, rows - 1.000001)
    i, j = y.astype(int), x.astype(int)
    p, q = y - i, x - j
    k = i * columns + j
    flat = samples.reshape(-1)
    picked: Floats = (1 - p) * ((1 - q) * flat[k] + q * flat[k + 1]) + p * (
        (1 - q) * flat[k + columns] + q * flat[k + columns + 1]
    )
    return picked


def _heading(u: Floats, v: Floats, points: Floats, width: int, height: int) -> Floats:
    """Unit directions of the flow at points, in pixels; zero where it is not known."""
    d = np.stack([_pick(u, points, width, height), _pick(v, points, width, height)], 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        d /= np.linalg.norm(d, axis=1, keepdims=True)
    return np.nan_to_num(d, nan=0.0, posinf=0.0, neginf=0.0)


def _streaks(
    u: Floats, v: Floats, seeds: Floats, length: Floats, light: Floats, width: int, height: int, step: float = 0.7
) -> Floats:
    """Light along each streak, half of it behind its seed and half before, brighter towards where the flow goes."""
    ink = np.zeros(width * height)
    for sign in (-1.0, 1.0):
        points, live = seeds.copy(), np.arange(len(seeds))
        for k in range(int(length.max() / 2 / step) + 1):
            along = 0.5 + sign * k * step / length[live]  # 0 at the tail, 1 at the head
            live_on = (along >= 0) & (along <= 1)
            live, points, along = live[live_on], points[live_on], along[live_on]
            if not len(live):
                break
            if k or sign > 0:
                _splat(ink, points, light[live] * along**1.3 * np.minimum(1.0, 12 * (1 - along)) * step, width, height)
            half = points + 0.5 * step * sign * _heading(u, v, points, width, height)
            points = points + step * sign * _heading(u, v, half, width, height)
    return ink.reshape(height, width)


def _splat(ink: Floats, points: Floats, light: Floats, width: int, height: int) -> None:
    """Add light at points between pixels to the four pixels around each."""
    x, y = points[:, 0], points[:, 1]
    here = (x >= 0) & (x < width - 1) & (y >= 0) & (y < height - 1)
    x, y, light = x[here], y[here], light[here]
    j, i = x.astype(int), y.astype(int)
    q, p = x - j, y - i
    k = i * width + j
    where = np.concatenate([k, k + 1, k + width, k + width + 1])
    what = np.concatenate([(1 - p) * (1 - q) * light, (1 - p) * q * light, p * (1 - q) * light, p * q * light])
    ink += np.bincount(where, what, minlength=ink.size)
