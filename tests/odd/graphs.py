"""Runs whose graphs are none, and replays beside them that are none; and all ways to spoil a run."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gradientflow import store
from tests.odd.spoiling import FILES, TABLES, Way, odd_columns, odd_values, pack, rows_of, unpack, write_row

# ── graphs that are none ─────────────────────────────────────────────────────────────────────────────────────────────


def _probes(change: Callable[[dict[str, Any]], Any], every: bool = True) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        rows = rows_of(folder / store.FILE, "Probe")
        for key, data in rows if every else rows[:1]:
            probe = unpack(data)
            change(probe)
            write_row(folder, "Probe", key, pack(probe))

    return spoil


def _point(probe: dict[str, Any], op: Callable[[int, int], int]) -> None:
    ops = probe["ops"]
    for i, one in enumerate(ops):
        for operand in one["operands"]:
            if operand.get("op") is not None:
                operand["op"] = op(i, len(ops))


def _own_parents(probe: dict[str, Any]) -> None:
    _point(probe, lambda i, n: i)


def _loops_of_two(probe: dict[str, Any]) -> None:
    _point(probe, lambda i, n: i + 1 if i % 2 == 0 and i + 1 < n else i - 1)


def _long_chain(probe: dict[str, Any]) -> None:
    """Ten thousand operations, each of the one before."""
    first, ops = probe["ops"][0], []
    for i in range(10_000):
        ops.append({**first, "index": i, "operands": [{"op": i - 1}] if i else first["operands"]})
    probe["ops"], probe["root"] = ops, len(ops) - 1


def _bush(probe: dict[str, Any]) -> None:
    """Every operation of every one before: routes without number."""
    for i, op in enumerate(probe["ops"]):
        own = op["operands"][0] if op["operands"] else {}
        op["operands"] = [*op["operands"], *({**own, "op": j, "param": None} for j in range(i))]


def _doubled(probe: dict[str, Any]) -> None:
    """Forty operations on parameters alone, each of the one before twice: 2⁴⁰ routes to a weight."""
    first = probe["ops"][0]
    weight = next((o for o in first["operands"] if o.get("param") is not None), {"param": 0})
    ops = [{**first, "index": 0, "kind": "elementwise", "operands": [weight, weight]}]
    ops += [{**ops[0], "index": i, "operands": [{"op": i - 1}, {"op": i - 1}]} for i in range(1, 40)]
    ops += [{**first, "index": 40, "operands": [{}, {"op": 39}]}]
    probe["ops"], probe["root"] = ops, 40


def _indices(word: str, value: int) -> Iterator[Way]:
    def ops(probe: dict[str, Any]) -> None:
        for op in probe["ops"]:
            op["index"] = value

    def params(probe: dict[str, Any]) -> None:
        for op in probe["ops"]:
            for operand in op["operands"]:
                if operand.get("param") is not None:
                    operand["param"] = value

    def states(probe: dict[str, Any]) -> None:
        for state in probe["params"]:
            state["param"] = value

    def over_time(probe: dict[str, Any]) -> None:
        for one in probe.get("recurrent") or []:
            one["ops"], one["weight"] = [value], value

    yield Way(f"operations are numbered {word}", _probes(ops))
    yield Way(f"parameters are numbered {word}", _probes(params))
    yield Way(f"states of parameters are numbered {word}", _probes(states, every=False))
    yield Way(f"the recurrence is at {word}", _probes(over_time))
    yield Way(f"operands are at {word}", _probes(lambda probe: _point(probe, lambda i, n: value)))
    yield Way(f"the root is at {word}", _probes(lambda probe: probe.update(root=value)))
    yield Way(f"the probe is of optimizer {word}", _probes(lambda probe: probe.update(optimizer=value)))
    yield Way(f"the probe is at step {word}", _probes(lambda probe: probe.update(step=value), every=False))


GRAPHS = (
    Way("operations are their own parents", _probes(_own_parents)),
    Way("one probe's operations are their own parents", _probes(_own_parents, every=False)),
    Way("loops of two operations", _probes(_loops_of_two)),
    Way("the last feeds the first", _probes(lambda probe: _point(probe, lambda i, n: n - 1))),
    Way("no operations", _probes(lambda probe: probe.update(ops=[]))),
    Way("no operations and no root", _probes(lambda probe: probe.update(ops=[], root=None))),
    Way("operations in reverse", _probes(lambda probe: probe["ops"].reverse())),
    Way("ten thousand operations", _probes(_long_chain, every=False)),
    Way("each operation of every one before", _probes(_bush, every=False)),
    Way("each operation of the one before, twice", _probes(_doubled)),
    *_indices("-1", -1),
    *_indices("99999", 99_999),
    *_indices("2**62", 2**62),
)


# ── the replay beside it ─────────────────────────────────────────────────────────────────────────────────────────────

_OUTLOOK = '{"steps":30,"loss_first":1.0,"loss_last":0.5,"decades":-1.0,"symptom":"vanishing"}'
_TRIAL = '{"changes":[{"kind":"warmup","text":"x"}],"finding":%s,"outcome":"win","reason":"y","difference":%s,"low":%s,"high":0}'


def _replay(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / store.REPLAY).write_text(text) and None  # type: ignore[func-returns-value]


def _told(trial: str, more: str = "") -> str:
    return f'{{"baseline":{_OUTLOOK},"trials":[{trial}]{more}}}'


REPLAYS = tuple(
    Way(f"a replay {word}", _replay(text))
    for word, text in {
        "that is empty": "",
        "that is a list": "[]",
        "that is noise": "\x00\x01{",
        "without a trial": f'{{"baseline":{_OUTLOOK}}}',
        "for a finding that is not there": _told(_TRIAL % ("99", "0.5", "0.1")),
        "for finding -1": _told(_TRIAL % ("-1", "0.5", "0.1")),
        "for finding 10**400": _told(_TRIAL % ("1" + "0" * 400, "0.5", "0.1")),
        "whose best is not there": _told(_TRIAL % ("0", "0.5", "0.1"), ',"best":99'),
        "whose best is -7": _told(_TRIAL % ("0", "0.5", "0.1"), ',"best":-7'),
        "with a difference of 1e308": _told(_TRIAL % ("0", "1e308", "-1e308")),
        "with a difference of -1": _told(_TRIAL % ("0", "-1", "1")),
        "with a difference of nothing": _told(_TRIAL % ("0", "null", "null")),
        "of 10**400 steps": _told(_TRIAL % ("0", "0.5", "0.1"), ',"steps":1' + "0" * 400),
        "of 1e308 seconds": _told(_TRIAL % ("0", "0.5", "0.1"), ',"seconds":1e308,"budget":-1e308'),
        "with an unknown outcome": _told((_TRIAL % ("0", "0.5", "0.1")).replace('"win"', '"\\u001b[31m<b>"')),
    }.items()
)


# ── all of them ────────────────────────────────────────────────────────────────────────────────────────────────────────


def ways(run: Path, name: str, seed: int, values: int, fixed: int = 0) -> list[Way]:
    """Ways to spoil one run.

    Args:
        run: the folder of a sound run.
        name: of the run.
        seed: of what is drawn.
        values: how many odd values are drawn, and as many cells of steps; 0: every one.
        fixed: how many of the ways with tables, files, graphs and replays; 0: every one.
    """
    draw = random.Random(seed)
    odd, all_fixed = list(odd_values(run, name)), [*TABLES, *FILES, *GRAPHS, *REPLAYS]
    drawn = draw.sample(odd, min(values, len(odd))) if values else odd
    shown = draw.sample(all_fixed, fixed) if fixed else all_fixed
    return [*drawn, *odd_columns(name, draw, values), *(Way(f"{name}: {way.name}", way.spoil) for way in shown)]
