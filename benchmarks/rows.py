"""What benchmarks/flow.py makes of its runs: rows, comparisons at equal or better error, aims, tables. No torch here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

WRONG = 0.1  # relative error from which a run is called wrong and no longer compared with


@dataclass
class Row:
    """One run. None means: not known, or not measured.

    Attributes:
        method, setting: what was run; `ours` says whose it is.
        gradients, hvps, losses: evaluations.
        checking: gradient equivalents among them that were spent on certificates.
        error: ‖θ − θ_ref‖ / ‖θ_ref − θ₀‖ at the end.
        loss: at the end.
        sharpness: the largest the run itself measured.
        seconds: CPU time of the whole run.
        outside: share of it spent outside gradients and Hessian-vector products.
        note: why there is no result, or what a reader must know of it.
        judge: it is the reference; `error` is its distance from the second opinion, and it is nobody's rival in aims.
    """

    method: str
    setting: str
    ours: bool = False
    gradients: int = 0
    hvps: int = 0
    losses: int = 0
    checking: float = 0.0
    error: float | None = None
    loss: float | None = None
    sharpness: float | None = None
    seconds: float | None = None
    outside: float | None = None
    note: str = ""
    judge: bool = False

    @property
    def name(self) -> str:
        return f"{self.method}, {self.setting}" if self.setting else self.method

    @property
    def total(self) -> float:
        """Gradient equivalents: gradients + 2 HVPs + ⅓ of the losses."""
        return self.gradients + 2 * self.hvps + self.losses / 3

    @property
    def cost(self) -> float:
        """Gradient equivalents without those spent on certificates, which no rival has."""
        return self.total - self.checking

    @property
    def arrived(self) -> bool:
        """True where the run has a result that is right enough to compare with."""
        return self.error is not None and self.error < WRONG


def cheapest(rows: Iterable[Row], error: float) -> Row | None:
    """The row of least cost whose error is at most this."""
    good = [row for row in rows if row.arrived and row.error is not None and row.error <= error]
    return min(good, key=lambda row: row.cost, default=None)


def families(rows: Iterable[Row], *names: str) -> list[Row]:
    """The rivals' rows whose method starts with one of the names; all of the rivals' without names."""
    return [row for row in rows if not row.ours and (not names or row.method.startswith(names))]


def comparisons(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For each of our runs: the cheapest rival that errs no more, and the cheapest of each rival method."""
    out = []
    methods = sorted({row.method for row in families(rows)})
    for mine in rows:
        if not mine.ours or not mine.arrived or mine.error is None:
            continue
        best = cheapest(families(rows), mine.error)
        by_method = {}
        for method in methods:
            other = cheapest([row for row in families(rows) if row.method == method], mine.error)
            by_method[method] = None if other is None else {"setting": other.setting, "ratio": mine.cost / other.cost}
        out.append(
            {
                "ours": mine.name,
                "rival": None if best is None else best.name,
                "ratio": None if best is None else mine.cost / best.cost,
                "by_method": by_method,
            }
        )
    return out


@dataclass
class Aim:
    """A figure that was aimed at, and what was measured; None where the runs it needs were not made."""

    text: str
    bound: float
    measured: float | None
    how: str = ""

    @property
    def met(self) -> bool | None:
        return None if self.measured is None else self.measured <= self.bound

    def __str__(self) -> str:
        if self.measured is None:
            return f"–  {self.text}: not measured{self.how and f' ({self.how})'}"
        verdict = "met   " if self.met else "MISSED"
        if math.isinf(self.measured):
            return f"MISSED {self.text}: {self.how}"
        off = "" if self.met else f", {100 * (self.measured / self.bound - 1):.0f} % over"
        return f"{verdict} {self.text}: {fraction(self.measured)} (aim ≤ {fraction(self.bound)}{off}). {self.how}"


def figures(row: Row) -> str:
    """A row in a few words: what it cost, with its checks in brackets, and how far off it is."""
    checked = f" ({row.total:.0f} with its checks)" if row.checking else ""
    return f"{row.name}: {row.cost:.0f}{checked} at {row.error or 0.0:.1e}"


def fraction(ratio: float) -> str:
    """A ratio as people say it: 1/25.3 below a third, else 1.05."""
    return f"1/{1 / ratio:.1f}" if 0 < ratio < 1 / 3 else f"{ratio:.3g}"


def reached(rows: Sequence[Row], others: Sequence[Row], *, worst: bool) -> tuple[float | None, str]:
    """Our cost over the rivals', each rival against the cheapest of our `auto` runs that errs no more than it.

    Returns:
        The ratio, over the worst of the rivals' rows or against the best of them, and which runs it is between. A rival
        that none of our runs matches counts as infinitely cheap when the worst is asked for.
    """
    mine = [row for row in rows if row.ours and row.method == "auto"]
    pairs: list[tuple[float, str]] = []
    for other in others:
        if not other.arrived or other.error is None:
            continue
        one = cheapest(mine, other.error)
        if one is not None:
            said = (
                f"{one.setting}: {one.cost:.0f} at {one.error:.1e}; {other.name}: {other.cost:.0f} at {other.error:.1e}"
            )
            pairs.append((one.cost / other.cost, said))
        elif worst and mine:
            pairs.append((math.inf, f"none of our runs errs as little as {figures(other)}"))
    if not pairs or not mine:
        return None, ""
    return max(pairs) if worst else min(pairs)


def at_default(rows: Sequence[Row], others: Sequence[Row], default: str) -> tuple[float | None, str]:
    """The cost of our default run over the cheapest rival's that errs no more than it."""
    ratios: dict[str, tuple[float, str]] = {}
    for one in rows:
        other = cheapest(others, one.error) if one.ours and one.method == "auto" and one.arrived and one.error else None
        if other is not None:
            ratios[one.setting] = one.cost / other.cost, f"{figures(one)}; {figures(other)}"
    if default not in ratios:
        return None, ""
    at_all = [ratio for ratio, _ in ratios.values()]
    also = f"; over all our tolerances {fraction(min(at_all))} to {fraction(max(at_all))}" if len(at_all) > 1 else ""
    return ratios[default][0], ratios[default][1] + also


def aims(problem: str, t: float, rows: Sequence[Row], *, default: str = "rtol 1e-03") -> list[Aim]:
    """What was aimed at on one problem, by counts."""
    out = []
    if problem == "A":
        if t >= 3000:
            gd = [row for row in families(rows, "gd") if "1.9" in row.setting]
            out.append(_aim("gradient descent at 1.9/λ", 1 / 20, reached(rows, gd, worst=True)))
        out.append(_aim("RK4 at 1/S", 1 / 25, reached(rows, families(rows, "rk4"), worst=True)))
    if problem in "AB":
        dopri = families(rows, "torchdiffeq dopri", "scipy DOP853", "scipy RK45", "diffrax")
        out.append(_aim("the best Dormand–Prince that errs no more", 1 / 10, at_default(rows, dopri, default)))
    if problem == "C":
        out.append(
            _aim(
                "DOP853, at each of its tolerances",
                1.10,
                reached(rows, [row for row in families(rows, "scipy DOP853") if not row.judge], worst=True),
            )
        )
    return out


def _aim(text: str, bound: float, measured: tuple[float | None, str]) -> Aim:
    return Aim(f"our cost over that of {text}", bound, *measured)


# ── telling ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def number(value: float | None, form: str) -> str:
    """A figure as text, or a dash."""
    return "–" if value is None else format(value, form)


def table(rows: Sequence[Row], unit: float | None) -> str:
    """The rows as text; `unit` is the CPU time that the others are told in multiples of."""
    header = [
        "method",
        "setting",
        "gradients",
        "HVPs",
        "equivalents",
        "checks",
        "error",
        "loss",
        "max λ",
        "CPU ×",
        "outside",
        "",
    ]
    cells = [header]
    for row in rows:
        ran = row.total > 0
        times = row.seconds / unit if row.seconds is not None and unit else None
        note = row.note or ("WRONG" if row.error is not None and not row.arrived else "")
        cells.append(
            [
                ("▸ " if row.ours else "  ") + row.method,
                row.setting,
                f"{row.gradients}" if ran else "–",
                f"{row.hvps}" if ran else "–",
                f"{row.total:.0f}" if ran else "–",
                f"{row.checking:.0f}" if row.checking else "",
                number(row.error, ".1e"),
                number(row.loss, ".5f"),
                number(row.sharpness, ".2f"),
                number(times, ".2f"),
                "–" if row.outside is None else f"{100 * row.outside:.1f} %",
                note,
            ]
        )
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(width) if i < 2 or i == len(header) - 1 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    return "\n".join([lines[0], "─" * max(map(len, lines)), *lines[1:]])


def compared(rows: Sequence[Row]) -> str:
    """The comparisons as text, one line for each of our runs."""
    lines = []
    for item in comparisons(rows):
        if item["rival"] is None:
            lines.append(f"  {item['ours']}: no rival run errs as little")
        else:
            lines.append(
                f"  {item['ours']}: {fraction(item['ratio'])} of the cheapest rival that errs no more, {item['rival']}"
            )
    return "\n".join(lines)


def content(rows: Sequence[Row], found: Sequence[Aim]) -> dict[str, Any]:
    """Rows, comparisons and aims as plain data."""
    return {
        "rows": [asdict(row) | {"equivalents": row.total, "cost": row.cost} for row in rows],
        "comparisons": comparisons(rows),
        "aims": [asdict(aim) | {"met": aim.met, "measured": _finite(aim.measured)} for aim in found],
    }


def _finite(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None  # JSON has no infinity; `how` says it in words
