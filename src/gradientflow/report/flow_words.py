"""How flows are told: one spelling of status, cost and trust for the terminal and for figures."""

from __future__ import annotations

from collections.abc import Sequence

from gradientflow.records import Check, Drops, Flow, Portrait, Spent, Track
from gradientflow.report.words import count, number, percent, seconds

ENDINGS = {
    "reached": "✓",
    "event": "✓",
    "budget": "◔",
    "cancelled": "◔",
    "blow-up": "▲",
    "diverged": "▲",
    "not-lipschitz": "✕",
    "sliding": "✕",
    "not-finite": "✕",
    "stuck": "✕",
}


def ending_mark(reason: str) -> str:
    """The glyph of a status; every status has one, so that none is told by colour alone."""
    return ENDINGS.get(reason, "?")


def check_mark(check: Check) -> str:
    """The glyph of a certificate."""
    return {True: "✓", False: "✗", None: "–"}[check.ok]


def tolerance(track: Track | Drops) -> str:
    """The tolerance of a path: "rtol 1e−3"; empty where it has none."""
    rtol = track.settings.get("rtol")
    return "" if not isinstance(rtol, (int, float)) else f"rtol {power(rtol)}"


def unresolved(values: Sequence[float | None], floors: Sequence[float | None]) -> list[bool]:
    """Where a flow's loss or ‖∇L‖ lies below what its tolerance resolves."""
    return [y is not None and f is not None and 0 <= y < f for y, f in zip(values, floors, strict=False)]


def power(x: float) -> str:
    """A tolerance or a step as people write it: 1e−3, 0.1."""
    if x and not 0.01 <= abs(x) < 1000:
        mantissa, exponent = f"{x:.2e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".")
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    return number(x)


def coordinate(x: float) -> str:
    """A coordinate in two decimals, or in few digits where it is large."""
    if not abs(x) < 1000:
        return number(float(x), 2)
    text = f"{x:.2f}".replace("-", "−")
    return "0.00" if text == "−0.00" else text


def point(at: Sequence[float]) -> str:
    """A point: (1.90, −1.20)."""
    return f"({', '.join(coordinate(x) for x in at)})" if at else "—"


def solving(spent: Spent) -> int:
    """Gradient equivalents that went into the path itself, without those of its checks."""
    return round(spent.equivalents - spent.checking)


def cost(spent: Spent) -> str:
    """The cost in words: "1940 gradients in 0.4 s; 757 of them (39 %) for the checks"."""
    parts = [count(spent.gradients, "gradient")]
    if spent.hvps:
        parts.append(count(spent.hvps, "HVP"))
    if spent.losses:
        parts.append(f"{number(spent.losses)} losses" if spent.losses != 1 else "1 loss")
    told = parts[0]
    if len(parts) > 1:
        told = f"{number(round(spent.equivalents))} gradient equivalents ({', '.join(parts)})"
    told += f" in {seconds(spent.seconds)}"
    if spent.checking and spent.equivalents:
        told += (
            f"; {number(round(spent.checking))} of them ({percent(spent.checking / spent.equivalents)}) for the checks"
        )
    return told


def leaking(portrait: Portrait) -> str:
    """How much of the rate leaves a plane: "leak ‖g⊥‖/‖g‖, median 0.94"; empty where nothing can."""
    middle, g = portrait.middle_leak, "f" if portrait.loss is None else "g"
    return "" if middle is None else f"leak ‖{g}⊥‖/‖{g}‖, median {number(middle, 2)}"


def sliced(portrait: Portrait) -> str:
    """Which plane was sampled, how much leaves it, at what cost."""
    parts = []
    if portrait.plane is not None:
        held = f", holding {share(sum(portrait.plane.share))} of their variance" if portrait.plane.share else ""
        parts.append(portrait.plane.about + held)
    told = [*parts, leaking(portrait), f"{portrait.n}×{portrait.n} samples"]
    if portrait.spent is not None:
        told[-1] += f", {cost(portrait.spent)}"
    return "; ".join(t for t in told if t)


def share(x: float) -> str:
    """A share in per cent, with a decimal where it is nearly nothing or nearly all."""
    return f"{100 * x:.1f} %" if x < 0.0995 or 0.985 < x < 0.9995 else f"{100 * x:.0f} %"


def total(tracks: list[Track]) -> Spent:
    """The cost of several paths together."""
    names = Spent.__struct_fields__
    return Spent(**{n: sum(getattr(t.spent, n) for t in tracks) for n in names})


def scatter(drops: Drops) -> str:
    """In words where drops came to rest that came to rest everywhere."""
    there = sum(r.count for r in drops.rests)
    return f"{number(there)} of {number(drops.count)} came to rest, in {number(len(drops.rests))} places: a valley, or many minima"


def losses(drops: Drops, *, moving: bool) -> str:
    """Least, middle and largest loss of the drops that came to rest, or of those that still move; empty without a loss."""
    seen = sorted(x for x, b in zip(drops.loss or [], drops.basin, strict=False) if (b < 0) == moving and x is not None)
    if not seen:
        return ""
    if len(seen) < 3:
        return f"loss {' and '.join(number(x) for x in seen)}"
    return f"loss {number(seen[0])} to {number(seen[-1])}, middle {number(seen[len(seen) // 2])}"


def solved_by(flow: Flow) -> str:
    """Who solved the flow, how tightly, at what cost."""
    paths: list[Track | Drops] = [s.flow for s in flow.stories]
    if flow.drops is not None:
        paths.append(flow.drops)
    if not paths:
        return "nothing"
    spent = sum(solving(p.spent) for p in paths)
    parts = [paths[0].method, tolerance(paths[0]), f"{number(spent)} gradients"]
    return ", ".join(p for p in parts if p)


def trust(flow: Flow) -> str:
    """One line on status and certificates."""
    broken = flow.broken
    if broken:
        names = ", ".join(dict.fromkeys(c.name for _, c in broken))
        return f"✗ BROKEN: {names}. Do not trust the white paths; see the table on the terminal."
    paths: list[Track | Drops] = [s.flow for s in flow.stories]
    if flow.drops is not None:
        paths.append(flow.drops)
    ends = list(dict.fromkeys(f"{ending_mark(p.ending.reason)} {p.ending.reason}" for p in paths))
    held = [c for p in paths for c in p.checks if c.ok]
    if not any(p.checks for p in paths):
        return f"{', '.join(ends)} · no certificates"
    names = ", ".join(dict.fromkeys(c.name for c in held))
    return (
        f"{', '.join(ends)} · certificates hold: {names}"
        if held
        else f"{', '.join(ends)} · no certificate could be made"
    )
