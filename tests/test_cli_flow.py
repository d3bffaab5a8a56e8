"""`gradientflow flow`, as a user calls it: in this process, and as a subprocess where signals matter."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradientflow
from gradientflow import cli
from gradientflow.cli.optimizers import read
from gradientflow.errors import UsageError
from gradientflow.records import FLOW_SCHEMA
from gradientflow.river import session
from tests.interrupts import heeds_ctrl_c

SOURCE = str(Path(gradientflow.__file__).parents[1])

MINE = """
import torch
import helper
from gradientflow import river

def loss(w):
    return 0.5 * (w[0] * w[1] - 1) ** 2

def plain():
    return loss

def field():
    return river.Potential(loss, start=[1.9, -1.2], name="mine")

def net():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()
    x = torch.randn(20, 3, dtype=torch.float64)
    return model, torch.nn.functional.cross_entropy, (x, (x[:, 0] > 0).long())

def turn():
    return river.VectorField(lambda z: torch.stack([-z[1], z[0], -z[2]]), start=[1.0, 0.0, 1.0])

def model_alone():
    return torch.nn.Linear(2, 2)

def nothing():
    pass

def three():
    return 3

def pair():
    return 1, 2

def broken():
    x = 1
    return x / 0

def wants(a, b):
    return a

def needs(size):
    return net()

def late():
    def loss(w):
        if float(w.detach()[0]) < 1.7:
            raise RuntimeError("planted, and late")
        return 0.5 * (w[0] * w[1] - 1) ** 2
    return river.Potential(loss, start=[1.9, -1.2])

class Lying(river.Potential):
    def evaluate(self, theta):
        there = super().evaluate(theta)
        return type(there)(1.5 * there.rate, there.value)  # not minus the gradient of its loss

def lying():
    return Lying(loss, start=[1.9, -1.2])

CONSTANT = 5
"""


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "helper.py").write_text("")
    (tmp_path / "bad.py").write_text("import torch\n\nraise RuntimeError('planted')\n")
    (tmp_path / "syntax.py").write_text("def make(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gradientflow.report.water_page.DPI", 50)
    monkeypatch.setattr("gradientflow.report.plane_page.DPI", 50)
    kept, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = kept
    for name in set(sys.modules) - modules:
        if name in ("mine", "helper", "bad", "syntax"):
            del sys.modules[name]


def _here(*args: str) -> int:
    with pytest.raises(SystemExit) as stop:
        cli.main(["flow", *args])
    return int(stop.value.code or 0)


def _told(capfd: pytest.CaptureFixture[str]) -> str:
    out, err = capfd.readouterr()
    assert "Traceback (most recent call last)" not in err
    return " ".join((out + err).replace("│", " ").split())


# ── what is refused, before anything is solved ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], ["Usage"]),
        (["rosenbruck"], ["no field is called 'rosenbruck'", "did you mean rosenbrock?", "--list"]),
        (["xyzzy"], ["Known are:", "himmelblau"]),
        (["mime.py:net", "-t", "1"], ["no such file: mime.py", "did you mean mine.py?"]),
        (["no/mine.py:net", "-t", "1"], ["no such file", "the folder no does not exist"]),
        (["mine.py", "-t", "1"], ["which function?", "mine.py:loss", "plain"]),
        (["mine.py:nett", "-t", "1"], ["mine.py has no 'nett'", "did you mean net"]),
        (["mine.py:zzz", "-t", "1"], ["It has these functions: loss, plain, field, net"]),
        (["mine.py:broken", "-t", "1"], ["mine.py:broken failed", "return x / 0", "ZeroDivisionError: division by zero"]),
        (["mine.py:wants", "-t", "1"], ["wants 2 arguments (a, b)", "a factory is called with none"]),
        (["mine.py:needs", "-t", "1"], ["mine.py:needs wants an argument (size)", "A factory is called with none: give size a default", "--start"]),
        (["mine.py:CONSTANT", "-t", "1"], ["is int", "expected a function"]),
        (["mine.py:nothing", "-t", "1"], ["returned None (is a `return` missing?)", "(model, loss, data)"]),
        (["mine.py:three", "-t", "1"], ["returned int", "(model, loss, data)"]),
        (["mine.py:pair", "-t", "1"], ["a tuple of 2: (int, int)", "(model, loss, data)"]),
        (["mine.py:model_alone", "-t", "1"], ["a model alone", "return (model, loss, data)"]),
        (["mine.py:plain", "-t", "1"], ["--start 1.9,-1.2"]),
        (["bad.py:net", "-t", "1"], ["bad.py cannot be loaded", "RuntimeError: planted", "line 3"]),
        (["syntax.py:make", "-t", "1"], ["SyntaxError", "def make(:"]),
        (["mime:net", "-t", "1"], ["no module 'mime'"]),
        (["mine.py:net"], ["--time is missing", "--time 100"]),
        (["w1w2", "-t", "-1"], ["--time '-1'", "above 0"]),
        (["w1w2", "--rtol", "0"], ["--rtol '0'", "above 0"]),
        (["w1w2", "--start", "a,b"], ["--start 'a,b'", "--start 1.9,-1.2"]),
        (["w1w2", "--start", "1,2,3"], ["--start has 3 numbers", "2 parameters"]),
        (["mine.py:net", "-t", "1", "--plane", "pca"], ["--plane pca is drawn by --plot FILE"]),
        (["mine.py:net", "-t", "1", "--plane", "flattest", "--plot", "a.png"], ["--plane 'flattest'", "pca, sharpest, gradient, random"]),
        (["w1w2", "--plane", "pca", "--plot", "a.png"], ["w1w2 has 2", "--plot draws all of it"]),
        (["mine.py:net", "-t", "1", "--plane", "pca", "--plot", "a.png", "--drops", "3"], ["one drop", "Leave --drops out"]),
        (["mine.py:net", "-t", "1", "--plane", "pca", "--plot", "a.png", "--plane-seconds", "0"], ["--plane-seconds '0'", "above 0"]),
        (["mine.py:turn", "-t", "1", "--plane", "sharpest", "--plot", "a.png"], ["has no loss", "--plane pca"]),
        (["w1w2", "--method", "rkc3"], ["rkc3", "rkc2"]),
        (["w1w2", "--compare", "sgdd:lr=0.1"], ["torch.optim has no 'sgdd'", "did you mean SGD or ASGD?", "AdamW"]),
        (["w1w2", "--compare", "sgd:lr=0.1:momentun=0.9"], ["SGD has no setting 'momentun'", "did you mean momentum?", "nesterov"]),
        (["w1w2", "--compare", "sgd"], ["learning rate is its clock", "sgd:lr=0.1"]),
        (["w1w2", "--compare", "sgd:lr=-1"], ["above 0"]),
        (["w1w2", "--compare", "sgd:lr=abc"], ["lr='abc' is no value"]),
        (["w1w2", "--compare", ","], ["names no optimizer"]),
        (["w1w2", "--compare", "sgd:lr=0.1", "--drops", "10"], ["at most 9", "--drops is 10"]),
        (["w1w2", "--drops", "0"], ["--drops"]),
        (["w1w2", "--drops", "3", "--save", "a.npz"], ["--save keeps the path of one drop", "--json"]),
        (["w1w2", "--plot", "a.gif"], ["--plot a.gif", ".png, .svg, .pdf"]),
        (["w1w2", "--plot", "no/a.png"], ["the folder no does not exist", "mkdir -p no"]),
        (["w1w2", "--save", "no/a.npz"], ["--save", "mkdir -p no"]),
        (["w1w2", "--save", "a.npy"], ["--save a.npy", "a.npz"]),
        (["w1w2", "--json", "no/a.json"], ["--json", "mkdir -p no"]),
        (["w1w2", "--resume"], ["--save path.npz --resume"]),
        (["w1w2", "--no-such-option"], ["--no-such-option"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_before_anything_is_solved(
    args: list[str], words: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = set(tmp_path.iterdir())
    code = _here(*args)
    told = _told(capfd)
    for word in words:
        assert word in told
    assert code == cli.EXIT_USAGE == 2
    assert "reached" not in told
    assert {f for f in tmp_path.iterdir() if f.name != "__pycache__"} == before


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed")
@pytest.mark.parametrize("kind", ["pca", "sharpest", "gradient", "random"])
def test_a_network_is_drawn_in_a_plane_with_the_paths_as_shadows(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    args = ["-t", "5", "--compare", "sgd:lr=0.5", "--plane", kind, "--plane-seconds", "0.5"]
    assert _here("mine.py:net", *args, "--plot", "a.svg", "--json", "a.json") == 0
    told = json.loads(Path("a.json").read_text())
    drawn = told["portrait"]
    assert drawn["plane"]["kind"] == kind and drawn["plane"]["size"] == 26
    assert len(drawn["leak"]) == len(drawn["u"]) == drawn["n"] ** 2 and drawn["spent"]["gradients"] >= drawn["n"] ** 2
    assert [(s["label"], s["kind"]) for s in drawn["shadows"]] == [("flow", "flow"), ("SGD lr=0.5", "descent")]
    assert len(drawn["shadows"][1]["off"]) == 11
    out = capfd.readouterr().out
    steps = next(line.split() for line in out.splitlines() if line.split()[:2] == ["flow", "5"])[2]
    plain = _here("mine.py:net", "-t", "5")
    assert plain == 0 and f" {steps} " in next(
        x for x in capfd.readouterr().out.splitlines() if x.split()[:2] == ["flow", "5"]
    )
    x = drawn["shadows"][0]
    ends = [f"{v:.12g}" for v in (*x["points"][-1], x["off"][-1])]
    assert (kind in ("pca", "sharpest", "random")) == (ends[2] == "0" or float(ends[2]) < 1e-12)


def test_what_is_sampled_can_be_written_without_a_figure_and_fields_without_a_loss_have_planes_too() -> None:
    assert _here("mine.py:turn", "-t", "1", "--plane", "pca", "--plane-seconds", "0.2", "--json", "a.json") == 0
    drawn = json.loads(Path("a.json").read_text())["portrait"]
    assert drawn["loss"] is None and drawn["plane"]["share"][0] > 0.3
    assert _here("mine.py:net", "-t", "1", "--json", "b.json") == 0
    assert json.loads(Path("b.json").read_text())["portrait"] is None  # negative control: only where it is asked for


@pytest.mark.parametrize(
    ("what", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "not sampled as finely as there was time for: stopped"),
        (RuntimeError("planted"), 0, "not sampled as finely as there was time for: RuntimeError: planted"),
    ],
)
def test_what_was_solved_is_told_though_the_sampling_is_stopped_or_fails(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], what: BaseException, code: int, said: str
) -> None:
    real = session.sketches

    def once(*args: Any, **settings: Any) -> Any:
        yield next(iter(real(*args, **settings)))
        raise what

    monkeypatch.setattr(session, "sketches", once)
    args = ["mine.py:net", "-t", "2", "--plane", "random", "--plane-seconds", "5", "--json", "a.json"]
    assert _here(*args) == code
    assert said in _told(capfd)
    told = json.loads(Path("a.json").read_text())
    assert told["portrait"]["n"] == 9 and told["stories"][0]["flow"]["ending"]["reason"] == "reached"

    def none(*_: Any, **__: Any) -> Any:
        raise what

    monkeypatch.setattr(session, "plane", none)
    assert _here(*args) == code
    assert "there is no plane" in _told(capfd)
    assert json.loads(Path("a.json").read_text())["portrait"] is None


def test_without_matplotlib_a_plot_is_refused_before_the_work(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "matplotlib" else real(name, *a))
    assert _here("w1w2", "--plot", "a.png") == 2
    assert "pip install 'gradientflow[plot]'" in _told(capfd)


def test_a_checkpoint_is_not_overwritten_by_forgetting_resume(capfd: pytest.CaptureFixture[str]) -> None:
    assert _here("w1w2", "--save", "a.npz", "--max-gradients", "20", "-q") == 0
    kept = Path("a.npz.ckpt").read_bytes()
    assert _here("w1w2", "--save", "a.npz") == 2
    assert "Add --resume to go on with it" in _told(capfd)
    assert Path("a.npz.ckpt").read_bytes() == kept


# ── optimizers by name ───────────────────────────────────────────────────────────────────────────────────────────────


def test_optimizers_are_read_with_their_settings() -> None:
    one, two, three = read("sgd:lr=0.1:momentum=0.9:nesterov=true, adam:lr=1e-3:betas=0.9/0.99,RMSprop:lr=0.01")
    assert (one.maker.__name__, one.lr, one.settings) == ("SGD", 0.1, {"momentum": 0.9, "nesterov": True})
    assert (two.maker.__name__, two.lr, two.settings) == ("Adam", 1e-3, {"betas": (0.9, 0.99)})
    assert three.maker.__name__ == "RMSprop"
    with pytest.raises(UsageError, match="is no setting"):
        read("sgd:lr=0.1:momentum")


# ── what is solved ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_named_field_is_solved_and_told(capfd: pytest.CaptureFixture[str]) -> None:
    assert _here("w1w2") == 0
    told = _told(capfd)
    for part in ("✓ reached", "w1w2 · 2 parameters · float64", "(1.60, 0.62)", "✓ monotone", "✓ energy", "cost"):
        assert part in told


def test_what_is_told_goes_to_standard_output_and_what_is_wrong_does_not(capfd: pytest.CaptureFixture[str]) -> None:
    assert _here("w1w2") == 0
    out, err = capfd.readouterr()
    assert "reached" in out and "certificates" in out and err == ""
    assert _here("w1w2", "--method", "no") == 2
    out, err = capfd.readouterr()
    assert out == "" and "gradientflow:" in err


def test_who_reads_may_go(tmp_path: Path) -> None:
    run = [sys.executable, "-m", "gradientflow", "flow", "w1w2", "--no-certify"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(run, stdout=write, stderr=-1, timeout=100, check=False, cwd=tmp_path)
    os.close(write)
    assert done.returncode == 0 and done.stderr == b""


def test_a_loss_that_fails_on_the_way_is_shown_with_its_own_line(capfd: pytest.CaptureFixture[str]) -> None:
    assert _here("mine.py:late", "-t", "5") == 2
    told = _told(capfd)
    assert 'raise RuntimeError("planted, and late")' in told
    assert "in loss" in told
    assert "gradientflow/river" not in told


def test_names_are_forgiven_capitals_and_underscores(capfd: pytest.CaptureFixture[str]) -> None:
    assert _here("Double_Well", "-t", "1") == 0
    assert "double-well" in _told(capfd)


def test_every_named_field_is_listed_with_a_line_and_flows(capfd: pytest.CaptureFixture[str]) -> None:
    assert _here("--list") == 0
    out, _ = capfd.readouterr()
    from gradientflow import river

    for name in river.zoo.NAMES:
        (line,) = [one for one in out.splitlines() if one.split()[0] == name]
        assert len(line.split()) > 3
        code = _here(name, "-q")
        told = capfd.readouterr().err
        assert code in (0, 4, 5), told


@pytest.mark.parametrize(
    ("target", "more", "size"),
    [("mine.py:field", [], 2), ("mine:field", [], 2), ("mine.py:plain", ["--start", "1.9,-1.2"], 2), ("mine.py:net", [], 26),
     ("mine.py:loss", ["--start", "1.9 -1.2"], 2)],
)  # fmt: skip
def test_a_field_of_ones_own(target: str, more: list[str], size: int, capfd: pytest.CaptureFixture[str]) -> None:
    assert _here(target, "--time", "1", "--json", "a.json", *more) == 0
    assert f"{size} parameters" in _told(capfd)
    stored = json.loads(Path("a.json").read_bytes())
    assert (stored["schema"], stored["size"], stored["target"], stored["t"]) == (FLOW_SCHEMA, size, target, 1.0)
    (one,) = stored["stories"]
    assert one["flow"]["ending"]["reason"] == "reached"
    assert one["flow"]["loss"][-1] < one["flow"]["loss"][0]


def test_what_is_saved_can_be_read(capfd: pytest.CaptureFixture[str]) -> None:
    assert _here("w1w2", "--save", "a.npz", "--rtol", "1e-6") == 0
    assert "saved a.npz" in _told(capfd)
    with np.load("a.npz") as stored:
        x, y = stored["final"]
        assert x * y == pytest.approx(1.0, abs=1e-5)
    from gradientflow import river

    assert river.Path.load("a.npz").settings["rtol"] == 1e-6
    assert not Path("a.npz.ckpt").exists()


def test_a_budget_ends_early_with_code_0_and_resume_goes_on_bit_for_bit(capfd: pytest.CaptureFixture[str]) -> None:
    assert _here("w1w2", "--rtol", "1e-6", "--save", "a.npz", "--max-gradients", "60") == 0
    told = _told(capfd)
    assert "◔ budget" in told and "max_gradients" in told
    assert Path("a.npz.ckpt").exists()
    assert _here("w1w2", "--rtol", "1e-6", "--save", "a.npz", "--resume") == 0
    assert _here("w1w2", "--rtol", "1e-6", "--save", "b.npz") == 0
    with np.load("a.npz") as a, np.load("b.npz") as b:
        for name in ("times", "loss", "final", "theta"):
            assert np.array_equal(a[name], b[name])
    assert not Path("a.npz.ckpt").exists()


@pytest.mark.parametrize(("field", "reason"), [("blow-up", "blow-up"), ("abs-sqrt", "not-lipschitz")])
def test_a_path_that_the_field_ends_has_code_5(field: str, reason: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert _here(field, "-t", "5") == cli.EXIT_NOT_THERE == 5
    assert reason in _told(capfd)


def test_a_broken_certificate_has_code_4_and_is_told_even_when_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    wrong = ("mine.py:lying", "-t", "5")
    assert _here("mine.py:field", "-t", "5", "-q") == 0  # negative control
    assert _told(capfd) == ""
    assert _here(*wrong) == cli.EXIT_BROKEN == 4
    assert "✗ BROKEN: energy" in _told(capfd)
    assert _here(*wrong, "-q") == 4
    assert "certificate BROKEN" in _told(capfd)
    assert _here(*wrong, "--no-certify") == 0
    assert "none were made" in _told(capfd)


def test_quiet_says_nothing_and_writes_the_files(capfd: pytest.CaptureFixture[str]) -> None:
    assert _here("w1w2", "-q", "--json", "a.json", "--save", "a.npz") == 0
    assert capfd.readouterr() == ("", "")
    assert Path("a.json").exists() and Path("a.npz").exists()


def test_optimizers_run_beside_the_flow_on_one_clock(capfd: pytest.CaptureFixture[str]) -> None:
    specs = "sgd:lr=0.45,adam:lr=0.15"
    assert _here("w1w2", "--start", "1.9,-1.2", "--compare", specs, "--json", "a.json", "--plot", "a.png") == 0
    told = _told(capfd)
    for part in ("(1.60, 0.62)", "(0.62, 1.61)", "(0.71, 1.41)", "distance"):
        assert part in told
    assert Path("a.png").stat().st_size > 50_000
    (story,) = json.loads(Path("a.json").read_bytes())["stories"]
    assert [t["kind"] for t in (story["flow"], *story["descents"])] == ["flow", "descent", "descent"]
    assert len(story["apart"]) == 2
    for track in story["descents"]:
        assert track["times"][-1] == pytest.approx(20.0, abs=0.45)


def test_many_drops_and_where_they_come_to_rest(capfd: pytest.CaptureFixture[str]) -> None:
    assert _here("himmelblau", "--drops", "40", "--seed", "1", "--json", "a.json", "--plot", "a.png") == 0
    told = _told(capfd)
    assert "came to rest at" in told
    for place in ("(3.00, 2.00)", "(−2.81, 3.13)", "(−3.78, −3.28)", "(3.58, −1.85)"):
        assert place in told
    drops = json.loads(Path("a.json").read_bytes())["drops"]
    assert drops["count"] == 40 and sum(r["count"] for r in drops["rests"]) == 40
    assert Path("a.png").stat().st_size > 50_000


def test_a_few_drops_can_be_compared(capfd: pytest.CaptureFixture[str]) -> None:
    assert _here("double-well", "--drops", "3", "--compare", "sgd:lr=0.1", "--start", "1.5,0.5") == 0
    told = _told(capfd)
    assert "1 flow" in told and "3 SGD lr=0.1" in told


def test_a_network_is_drawn_over_time(capfd: pytest.CaptureFixture[str]) -> None:
    assert _here("mine.py:net", "-t", "20", "--compare", "sgd:lr=0.5", "--plot", "net.svg") == 0
    assert "figure net.svg" in _told(capfd)
    assert "<svg" in Path("net.svg").read_text()


def test_help_teaches(capfd: pytest.CaptureFixture[str]) -> None:
    assert _here("--help") == 0
    out, _ = capfd.readouterr()
    for word in (
        "himmelblau --drops 200",
        "sgd:lr=0.45,adam:lr=0.15",
        "mine.py:make",
        "--resume",
        "BROKEN",
        "130",
        "--max-gradients",
        "--list",
    ):
        assert word in out


# ── signals ──────────────────────────────────────────────────────────────────────────────────────────────────────────

SLOW = """
import time
import torch
from gradientflow import river

def loss(w):
    time.sleep(0.03)
    return 0.5 * (w[0] * w[1] - 1) ** 2 + 0.05 * (10 * w[0]).sin()

def make():
    print("ready", flush=True)
    return river.Potential(loss, start=[1.9, -1.2])
"""


def _start(*args: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": ""}
    return subprocess.Popen(
        [sys.executable, "-m", "gradientflow", "flow", *args],
        stdout=-1,
        stderr=-1,
        env=environment,
        preexec_fn=heeds_ctrl_c,
    )


@pytest.mark.slow
def test_interrupted_it_tells_what_there_is_and_resume_finishes_it(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    ask = ("slow.py:make", "-t", "100", "--rtol", "1e-7", "--save", "a.npz", "--no-certify")
    with _start(*ask) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(3.0)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == cli.EXIT_INTERRUPTED == 130, err.decode()
    assert b"Traceback" not in err
    assert "◔ cancelled" in out.decode()  # what it tells goes where its output goes
    assert Path("a.npz.ckpt").exists()
    fast = SLOW.replace("time.sleep(0.03)", "")
    (tmp_path / "slow.py").write_text(fast)
    assert _here(*ask, "--resume", "-q") == 0
    assert not Path("a.npz.ckpt").exists()
    assert _here(*ask[:-3], "--save", "b.npz", "--no-certify", "-q") == 0
    with np.load("a.npz") as a, np.load("b.npz") as b:
        assert np.array_equal(a["times"], b["times"]) and np.array_equal(a["final"], b["final"])
