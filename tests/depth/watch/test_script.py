"""A script run by us finds the world as `python script.py` would have made it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from gradientflow.depth.watch import session
from gradientflow.depth.watch.script import Ending, execute, load
from gradientflow.errors import OutputError, ScriptError
from tests.depth.scripts import sandbox, watched, write

TELL = """
import json, os, sys
print(json.dumps(dict(
    argv=sys.argv, name=__name__, file=__file__, path=sys.path[0], cwd=os.getcwd(), package=__package__,
    spec=getattr(__spec__, "name", None), doc=__doc__, main=sys.modules["__main__"].__dict__ is globals(),
    future=type(f).__name__,
)))
"""
HEAD = '"""What it says."""\nfrom __future__ import annotations\nf: int = 3\n'


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    with sandbox():
        yield


def _here(target: list[str], module: bool = False) -> tuple[Ending, str]:
    """Run in this process."""
    out, kept = io.StringIO(), sys.stdout
    program = load(target, module=module)
    sys.stdout = out
    try:
        ending = execute(program)
        return ending, "" if out.closed else out.getvalue()
    finally:
        sys.stdout = kept
        for name in [n for n in sys.modules if n.split(".")[0] in ("pack", "deep", "sick")]:
            del sys.modules[name]


def _python(*args: str) -> subprocess.CompletedProcess[str]:
    """Run as Python itself does."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, env=env, timeout=60)


def _make_files(root: Path) -> None:
    for place in (
        "one.py",
        "deep/two.py",
        "folder/__main__.py",
        "pack/__init__.py",
        "pack/__main__.py",
        "pack/sub/three.py",
    ):
        (root / place).parent.mkdir(exist_ok=True, parents=True)
        (root / place).write_text(
            HEAD + TELL if not place.endswith("__init__.py") else "import sys\nsys.path.insert(0, '/x')\n"
        )
    (root / "elsewhere").mkdir()
    (root / "elsewhere" / "link.py").symlink_to(root / "deep" / "two.py")


@pytest.mark.parametrize(
    ("target", "module"),
    [
        (["one.py"], False),
        (["one.py", "-x", "--out", "y", "-m"], False),
        (["./deep/../deep/two.py", "a"], False),
        (["ABSOLUTE/deep/two.py"], False),
        (["elsewhere/link.py"], False),
        (["folder", "1"], False),
        (["one", "--lr", "3"], True),
        (["deep.two"], True),
        (["pack", "b"], True),
        (["pack.sub.three"], True),
    ],
)
def test_a_script_sees_what_python_shows_it(target: list[str], module: bool, tmp_path: Path) -> None:
    _make_files(tmp_path)
    target = [t.replace("ABSOLUTE", str(tmp_path)) for t in target]
    ending, output = _here(target, module)
    reference = _python(*(["-m"] if module else []), *target)
    assert reference.returncode == 0, reference.stderr
    expected, found = json.loads(reference.stdout), json.loads(output)
    if target[0] == "folder":
        expected["spec"], expected["package"] = found["spec"], found["package"]  # ("__main__", "" and None, None)
    assert found == expected
    assert ending == Ending("finished", 0)


def test_the_comparison_notices_a_difference(tmp_path: Path) -> None:
    _make_files(tmp_path)
    _, output = _here(["one.py", "a"])
    assert json.loads(output) != json.loads(_python("one.py", "b").stdout)


@pytest.mark.parametrize(
    "end",
    [
        "sys.exit(3)", "sys.exit()", "sys.exit('a message')", "sys.exit(-1)", "sys.exit(300)", "sys.exit(True)",
        "raise SystemExit", "raise ValueError('bad')", "raise BaseException('worse')", "1/0", "exit(5)", "pass",
        "import no_such_package", "sys.excepthook = lambda *a: 1/0; raise KeyError('x')",
        "sys.excepthook = lambda *a: sys.exit(9); raise KeyError('x')",
        "sys.stdout.close()", "sys.stdout = None",
    ],
)  # fmt: skip
def test_the_exit_code_is_pythons(end: str, tmp_path: Path) -> None:
    write(tmp_path, f"import sys\nprint('out')\n{end}\n", "s.py")
    ending, _ = _here(["s.py"])
    reference = _python("s.py")
    if "sys.exit(9)" in end:
        assert ending.code == 9  # (Python itself prints an error there, and exits with 1)
    else:
        assert ending.code == reference.returncode
    assert ending.how == ("finished" if reference.returncode == 0 and "exit" not in end.lower() else ending.how)
    if "no_such_package" in end:
        assert ending.advice is not None
        assert "pip install no_such_package" in ending.advice


def test_a_traceback_is_the_users_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(
        tmp_path,
        """
        def inner():
            try:
                {}["a"]
            except KeyError:
                raise ValueError("second")
        inner()
        """,
        "s.py",
    )
    ending, _ = _here(["s.py"])
    assert capsys.readouterr().err == _python("s.py").stderr
    assert ending == Ending("exception", 1, "ValueError: second")


def test_a_traceback_from_inside_a_watched_call_is_the_users_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(
        tmp_path,
        """
        import torch
        try:
            torch.ones(2, 3) @ torch.ones(2, 3)
        except RuntimeError:
            torch.relu(torch.ones(2)).view(5)
        """,
    )
    left = watched(file)
    err = capsys.readouterr().err
    assert "gradientflow/depth" not in err
    assert err.count("Traceback") == 2
    assert "torch.ones(2, 3) @ torch.ones(2, 3)" in err
    assert left.outcome is not None
    assert left.outcome.ending.code == 1
    assert left.outcome.verdict.symptom == "not-measured"


@pytest.mark.parametrize(
    ("target", "module", "words"),
    [
        (["nothing.py"], False, ["no such script: nothing.py", "one.py", "gradientflow run"]),
        (["empty"], False, ["no such script"]),
        (["broken.py"], False, ["does not compile", "line 2", "Mend that line"]),
        (["bad_bytes.py"], False, ["does not compile"]),
        (["none"], True, ["no module named none", "__main__.py"]),
        (["empty"], True, ["no module named empty"]),
        (["sick.mod"], True, ["RuntimeError: no good", "python -m sick.mod"]),
    ],
)
def test_what_cannot_be_run_is_said_with_the_mend(
    target: list[str], module: bool, words: list[str], tmp_path: Path
) -> None:
    write(tmp_path, "print(1)", "one.py")
    write(tmp_path, "x = 1\nx = = 2\n", "broken.py")
    (tmp_path / "bad_bytes.py").write_bytes(b"x = '\xff\xfe'\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "sick").mkdir()
    (tmp_path / "sick" / "__init__.py").write_text("raise RuntimeError('no good')")
    (tmp_path / "sick" / "mod.py").write_text("")
    with pytest.raises(ScriptError) as caught:
        load(target, module=module)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("where", ["file/below", "/proc/gradientflow-test", "/dev/null/x"])
def test_a_folder_that_cannot_be_written_stops_before_the_script(where: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    file = write(tmp_path, "open('ran', 'w').close()")
    with pytest.raises(OutputError) as caught:
        session.run_script([str(file)], out=Path(where))
    assert "--out DIR" in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_a_folder_that_holds_a_run_is_left_alone(tmp_path: Path) -> None:
    file = write(tmp_path, "with open('ran', 'a') as f:\n    f.write('x')\n")
    session.run_script([str(file)], out=tmp_path / "here")
    before = (tmp_path / "here" / "run.db").read_bytes()
    with pytest.raises(OutputError, match="already holds a run"):
        session.run_script([str(file)], out=tmp_path / "here")
    assert (tmp_path / "here" / "run.db").read_bytes() == before
    assert (tmp_path / "ran").read_text() == "x"


STEPS = """
import time, torch
w = torch.ones(3, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=0.1)
record = []
try:
    for step in range({steps}):
        optimizer.zero_grad()
        (w ** 2).sum().backward()
        optimizer.step()
        record.append(step)
        time.sleep({pause})
except BaseException as stopped:
    record.append(type(stopped).__name__)
    raise
finally:
    record.append("finally")
"""


def test_limits_stop_the_script(tmp_path: Path) -> None:
    left = watched(write(tmp_path, STEPS.format(steps=50, pause=0)), max_steps=7)
    assert left.outcome is not None
    assert (left.outcome.ending.how, left.outcome.ending.code, left.outcome.verdict.steps) == ("max-steps", 0, 7)
    assert left.scope["record"][-2:] == ["StopRun", "finally"]
    left = watched(write(tmp_path, STEPS.format(steps=50, pause=0.05)), max_time=0.3)
    assert left.outcome is not None
    assert left.outcome.ending.how == "max-time"
    assert 1 <= left.outcome.verdict.steps < 50  # (how many is up to the machine; not all of them)
    left = watched(write(tmp_path, STEPS.format(steps=5, pause=0)), max_steps=7, max_time=50)  # and only when reached
    assert left.outcome is not None
    assert (left.outcome.ending.how, left.outcome.verdict.steps) == ("finished", 5)


def test_the_limit_of_time_wakes_a_script_that_sleeps(tmp_path: Path) -> None:
    began = time.monotonic()
    left = watched(write(tmp_path, "import time\ntime.sleep(60)\n"), max_time=0.2)
    assert left.outcome is not None
    assert (left.outcome.ending.how, left.outcome.ending.code) == ("max-time", 0)
    assert time.monotonic() - began < 20
    assert threading.active_count() < 20


def test_a_script_without_training_is_told_what_is_missing(tmp_path: Path) -> None:
    left = watched(write(tmp_path, "import torch\nprint(torch.ones(3).sum())\n"))
    assert left.outcome is not None
    assert left.outcome.verdict.symptom == "not-measured"
    assert "never called backward" in left.outcome.verdict.summary
    assert "loss.backward()" in left.outcome.verdict.summary
    left = watched(
        write(
            tmp_path, "import torch\nfor i in range(3):\n    torch.nn.Linear(2, 2)(torch.ones(1, 2)).sum().backward()\n"
        )
    )
    assert left.outcome is not None
    assert "optimizer.step()" in left.outcome.verdict.summary


def test_a_forked_child_that_runs_to_the_end_gives_no_verdict(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        STEPS.format(steps=3, pause=0)
        + """
import os
child = os.fork()
if child == 0:
    optimizer.step()
    raise KeyError("in the child")
record.append(os.waitpid(child, 0)[1])
""",
    )
    folder = tmp_path / "here"
    parent = os.getpid()
    code: Any = None
    try:
        outcome = session.run_script([str(file)], out=folder)
    except SystemExit as stop:  # the child comes out here
        code = stop.code
    finally:
        if os.getpid() != parent:
            os._exit(40 + int(code or 0))
    assert (
        os.waitstatus_to_exitcode(sys.modules["__main__"].record[-1]) == 41
    )  # the code of an exception, and no verdict
    assert outcome.ending.how == "finished"
    assert outcome.verdict.steps == 3


def test_a_file_beside_the_script_is_the_one_it_imports(tmp_path: Path) -> None:
    """Also where we have loaded a module of that name before: the standard library's, or one that we depend on."""
    (tmp_path / "rich").mkdir()
    for name in ("statistics.py", "rich/__init__.py", "calculus.py", "os.py"):
        (tmp_path / name).write_text(f"whose = {name!r}\n")
    import statistics as ours

    import rich.console

    write(
        tmp_path,
        """
        import os, statistics, calculus, rich
        print([getattr(m, "whose", None) for m in (os, statistics, calculus, rich)])
        import json, html
        print(json.dumps(1), html.escape("<"))
        """,
        "s.py",
    )
    _, output = _here(["s.py"])
    assert output == _python("s.py").stdout
    assert "statistics.py" in output
    assert sys.modules["statistics"] is ours
    assert sys.modules["rich.console"] is rich.console
    del sys.modules["calculus"]
