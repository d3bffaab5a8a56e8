"""What the app tells of a run: slices of its record, only of runs that are offered, also while it is written."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradientflow import store
from gradientflow.app.runs import Runs, Seen
from gradientflow.app.wire import frames
from gradientflow.errors import RecordError, UsageError
from gradientflow.report.view.course import thinned
from tests.app.run_records import GAIN, Served, meta, more, probe, served, write


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    write(runs / "one").close()
    write(runs / "two", layers=2).close()
    outside = tmp_path_factory.mktemp("elsewhere")
    write(outside / "secret").close()
    (runs / "linked").symlink_to(outside / "secret")
    (runs / "none").mkdir()
    return runs


@pytest.fixture(scope="module")
def app(folder: Path) -> Iterator[Served]:
    with served(Runs(None, folder)) as running:
        yield running


def test_runs_are_offered_by_name_the_newest_first(app: Served, folder: Path) -> None:
    os.utime(folder / "one" / store.FILE, (1, 1))
    told = app.json("/api/runs")
    assert [r["name"] for r in told["runs"]] == ["two", "one"]  # no link that leads elsewhere, no folder without a run
    assert told["called"] is None
    assert app.json("/api/run")["name"] == "two"


def test_the_run_that_the_app_was_called_with_is_opened(folder: Path) -> None:
    told = Runs(folder / "one", None).offered()
    assert told.called == "one"
    assert {r.name for r in told.runs} == {"one", "two"}
    assert Runs(folder / "one" / store.FILE, None).get(None).name == "one"


@pytest.mark.parametrize(
    "name", ["../elsewhere", "linked", "none", "/etc", "one/../two", "one/", ".", "..", "\0", "%2e%2e", "unknown"]
)
def test_no_other_run_is_opened(app: Served, name: str) -> None:
    status, body = app.get("/api/run", {"name": name})
    assert status == 422
    assert "there is no run" in json.loads(body)["problem"]


def test_without_the_cookie_or_from_another_page_nothing_is_told(app: Served) -> None:
    for path in ("/api/runs", "/api/run", "/api/run/follow", "/api/run/way?probe=0"):
        assert app.get(path, Cookie="")[0] == 401
        assert app.get(path, Origin="http://evil.example")[0] == 403
        assert app.get(path, Host="evil.example")[0] == 421


def test_the_view_is_the_verdict_and_the_probed_steps(app: Served) -> None:
    view = app.json("/api/run", {"name": "one"})
    while not view["judged"]:
        view = app.json("/api/run", {"name": "one"})
    assert view["state"] == "ended"
    assert [t["step"] for t in view["probes"]] == [0, 13, 26, 39]
    assert view["at"] == 0
    assert view["verdict"]["schema"] == "gradientflow.verdict/1"
    assert view["verdict"]["budget"]["step"] == 0


def test_each_probed_step_has_a_way_back_of_its_own(app: Served) -> None:
    ways = [app.json("/api/run/way", {"name": "one", "probe": k}) for k in range(4)]
    assert [w["step"] for w in ways] == [0, 13, 26, 39]
    for k, way in enumerate(ways):
        gain = GAIN ** (1 / (1 + 0.1 * k))
        assert way["budget"]["total_decades"] == pytest.approx(
            8 * 1.5 * math.log10(gain)
        )  # from the loss through 8 ops
        assert len(way["spans"]) == len(way["budget"]["by_op"]) == len(way["sites"]) == len(way["paths"])
        assert way["low"] < min(after for _, after in way["spans"])
    totals = [w["budget"]["total_decades"] for w in ways]
    assert totals == sorted(totals) and totals[0] < totals[-1]  # (they do differ)
    assert ways[0]["paths"][:3] == ["", "", "layers.3"]  # the root, which is recorded by its class, has no path


def test_a_row_in_full_with_its_source(app: Served) -> None:
    op = app.json("/api/run/op", {"name": "one", "probe": 1, "row": 2})
    assert op["name"] == "linear"
    assert ["norm", "0.333"] not in op["groups"][0][1]
    assert {name for name, _ in op["groups"]} == {"gain", "forward: its output", "backward: gradient at its output"}
    assert op["excerpt"]["path"] == "/home/somebody/net.py"
    assert [text for _, text, hit in op["excerpt"]["lines"] if hit] == [
        "        x = torch.sigmoid(layer(x))".strip()
    ] or any("torch.sigmoid" in text for _, text, hit in op["excerpt"]["lines"] if hit)


@pytest.mark.parametrize(
    "file", ["/etc/passwd", "../../../etc/passwd", "net.py\0", "", "other.py", str(Path(__file__))]
)
def test_only_recorded_lines_of_source_are_told(app: Served, file: str) -> None:
    assert app.get("/api/run/source", {"name": "one", "file": "net.py", "line": 6})[0] == 200
    status, body = app.get("/api/run/source", {"name": "one", "file": file, "line": 6})
    assert status == 422
    assert "recorded no such line" in json.loads(body)["problem"]
    assert app.get("/api/run/source", {"name": "one", "file": "net.py", "line": 999})[0] == 422


@pytest.mark.parametrize(
    "asked",
    ["way?probe=4", "way?probe=-1", "way?probe=x", "way", "way?probe=99999999999999999999", "op?probe=0&row=99", "way?probe=0&own=0", "way?probe=0&own=x", "curves?points=15",
     "curves?points=2001", "cell?param=8&step=0", "cell?param=1e3&step=0"],
)  # fmt: skip
def test_what_is_not_there_is_refused_in_words(app: Served, asked: str) -> None:
    status, body = app.get(f"/api/run/{asked}{'&' if '?' in asked else '?'}name=one")
    assert status == 422
    assert len(json.loads(body)["problem"]) > 10


def test_curves_are_thinned_and_keep_their_peaks(tmp_path: Path) -> None:
    write(tmp_path / "long", steps=5000, probes=2, every=50).close()
    with served(Runs(None, tmp_path)) as app:
        status, body = app.get("/api/run/curves", {"points": 200})
    assert status == 200
    (head, floats), *rest = frames(body)
    told = json.loads(head)
    assert not rest
    loss = told["lines"][0]
    steps, values = floats[: loss["count"]], floats[loss["count"] : 2 * loss["count"]]
    assert loss["name"] == "loss" and loss["count"] <= 200
    assert list(steps) == sorted(set(steps)) and steps[-1] == 4999
    assert {int(s) for s, v in zip(steps, values, strict=True) if v == 9.0} == {
        0,
        977,
        1954,
        2931,
        3908,
        4885,
    }  # the outliers
    assert {line["name"] for line in told["lines"]} == {
        "loss",
        "learning rate",
        "update/weight",
        "gradient",
        "sharpness",
        "2/η",
    }
    assert len(floats) == sum(2 * line["count"] for line in told["lines"])


def test_thinning_keeps_what_is_not_finite() -> None:
    points = [(k, 1.0) for k in range(1000)]
    points[431] = (431, math.nan)
    points[777] = (777, math.inf)
    kept = dict(thinned(points, 40))
    assert math.isnan(kept[431]) and kept[777] == math.inf
    assert len(kept) <= 40
    assert thinned(points[:30], 40) == points[:30]


def test_the_map_holds_weights_and_on_demand_the_rest(app: Served) -> None:
    weights = app.json("/api/run/heat", {"name": "one"})
    rest = app.json("/api/run/heat", {"name": "one", "biases": 1})
    assert weights["names"] == [f"layers.{k}.weight" for k in (3, 2, 1, 0)]
    assert rest["names"] == [f"layers.{k}.bias" for k in (3, 2, 1, 0)]
    assert (weights["others"], rest["others"]) == (4, 4)


def test_a_cell_leads_to_its_parameter_step_and_row(app: Served) -> None:
    cell = app.json("/api/run/cell", {"name": "one", "param": 4, "step": 30})
    assert (cell["name"], cell["step"], cell["probe"]) == ("layers.2.weight", 30, 2)
    assert ["‖gradient‖", "1e−4"] in cell["facts"]
    way = app.json("/api/run/way", {"name": "one", "probe": 2})
    assert way["paths"][cell["row"]] == "layers.2" and way["budget"]["by_op"][cell["row"]]["name"] == "linear"
    assert app.json("/api/run/cell", {"name": "one", "param": 0, "step": 31})["marks"] == ["dead"]
    assert app.json("/api/run/cell", {"name": "one", "param": 0, "step": 30})["facts"][0] == ["‖gradient‖", "none came"]


def test_a_run_that_is_written_is_read_on_and_never_read_twice(tmp_path: Path) -> None:
    kept = write(tmp_path / "live", steps=10, probes=1, ended=None)
    seen = Seen(tmp_path / "live")
    first = seen.now()
    assert (first.state, len(first.run.steps), len(first.run.probes)) == ("going", 10, 1)
    more(kept, 10, 30, probes=1)
    second = seen.now()
    assert [s.step for s in second.run.steps] == list(range(30))
    assert [n.step for n in second.run.norms] == list(range(30))
    assert len(second.run.probes) == 2 and second.version > first.version
    assert len(first.run.steps) == 10  # a moment stays what it was
    assert second.run.steps[:10] == first.run.steps and second.run.steps[0] is first.run.steps[0]  # (not decoded again)
    kept.meta(meta(4, ended="finished"))
    kept.flush()
    assert seen.now().state == "ended"
    whole = store.read(tmp_path / "live")
    assert seen.now().run.steps == whole.steps and seen.now().run.meta == whole.meta


def test_a_run_that_was_begun_anew_is_read_anew(tmp_path: Path) -> None:
    write(tmp_path / "live", steps=30).close()
    seen = Seen(tmp_path / "live")
    assert len(seen.now().run.steps) == 30
    (tmp_path / "live" / store.FILE).unlink()
    with pytest.raises(RecordError):
        seen.now()
    write(tmp_path / "live", steps=5, probes=1).close()
    assert len(seen.now().run.steps) == 5


def test_half_a_record_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    write(tmp_path / "half").close()
    with sqlite3.connect(tmp_path / "half" / store.FILE) as db:
        db.execute("UPDATE rows SET data = substr(data, 1, 20) WHERE kind = 'Probe' AND step = 26")
        db.execute("DELETE FROM meta WHERE key = 'meta'")
    db.close()
    with served(Runs(None, tmp_path)) as app:
        view = app.json("/api/run")
        assert [t["step"] for t in view["probes"]] == [0, 13, 39]
        assert any("damaged" in text for _, text in view["notes"])
        assert app.json("/api/run/way", {"probe": 2})["step"] == 39


def test_a_folder_that_nothing_is_recorded_in_yet_waits(tmp_path: Path) -> None:
    store.Store(tmp_path / "begun").close()
    with served(Runs(None, tmp_path)) as app:
        status, body = app.get("/api/run")
        assert status == 422 and "nothing is recorded in it yet" in json.loads(body)["problem"]


def test_the_stream_tells_of_each_growth_and_ends_with_the_app(tmp_path: Path) -> None:
    kept = write(tmp_path / "live", steps=10, probes=1, ended=None)
    told: list[bytes] = []
    with served(Runs(None, tmp_path)) as app:
        reader = threading.Thread(target=lambda: told.append(app.get("/api/run/follow", {"version": 0})[1]))
        reader.start()
        time.sleep(1.3)
        more(kept, 10, 20, probes=1)
        kept.meta(meta(4, ended="finished"))
        kept.flush()
        time.sleep(2.4)
    reader.join(5)
    assert not reader.is_alive()  # (`served` sees to it that the app ended as well)
    news = [json.loads(line[6:]) for line in told[0].decode().splitlines() if line.startswith("data: ")]
    assert news[0]["steps"] == 10 and news[0]["probes"] == 1 and news[0]["state"] == "going"
    assert news[-1]["probes"] == 2 and news[-1]["state"] == "ended"
    assert [n["version"] for n in news] == sorted(n["version"] for n in news)


def test_several_probes_of_a_run_without_any_say_so(tmp_path: Path) -> None:
    kept = write(tmp_path / "bare", probes=0)
    kept.close()
    moment = Seen(tmp_path / "bare").now()
    with pytest.raises(UsageError, match="0 of them"):
        moment.probe(0)


def test_a_probe_that_is_not_finite_is_marked(tmp_path: Path) -> None:
    kept = write(tmp_path / "bad", probes=1)
    kept.add(probe(39, 4, norm=math.nan))
    kept.close()
    with served(Runs(None, tmp_path)) as app:
        assert [t["broken"] for t in app.json("/api/run")["probes"]] == [False, True]
        assert app.json("/api/run/way", {"probe": 1})["budget"]["by_op"][0]["mark"] == "not-finite"
