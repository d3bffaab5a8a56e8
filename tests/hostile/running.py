"""Runs a case plain and watched: each in a process of its own, from nothing or forked from one that has loaded PyTorch."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from tests.hostile.case import Case, Seen
from tests.hostile.compare import differences, files_under, shell_code
from tests.interrupts import heeds_ctrl_c

ROOT = Path(__file__).parents[2]
WATCH = (sys.executable, "-m", "gradientflow")
_NAMES = ("out", "verdict.json")  # of a case with relative paths; they lie in the script's folder and are not its own


@dataclass(frozen=True)
class Errand:
    """One process to be run: arguments after the interpreter's, where, and with which streams."""

    argv: tuple[str, ...]  # the script (or -m module) with its arguments; watched: those of the command line
    watched: bool
    cwd: str
    folder: str  # streams lie here: stdin, stdout, stderr
    env: dict[str, str]
    seconds: float
    deaf: bool = False  # started with SIGINT ignored, as `&` in a script starts it (only of one that is forked)

    def stream(self, name: str) -> str:
        return os.path.join(self.folder, name)


class Cold:
    """Starts an interpreter for each run, as a user does.

    Args:
        watch: the command in front of `run`.
    """

    def __init__(self, watch: Sequence[str] = WATCH) -> None:
        self.watch = watch

    def __enter__(self) -> Cold:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def fits(self, case: Case) -> bool:
        return True

    def run(self, errand: Errand) -> int | None:
        """Return the exit code; None where it had to be killed."""
        command = [*(self.watch if errand.watched else (sys.executable,)), *errand.argv]
        with (
            open(errand.stream("stdin"), "rb") as given,
            open(errand.stream("stdout"), "wb") as out,
            open(errand.stream("stderr"), "wb") as err,
        ):
            process = subprocess.Popen(
                command, cwd=errand.cwd, env=os.environ | errand.env, stdin=given, stdout=out, stderr=err,
                start_new_session=True,
            )  # fmt: skip
            try:
                return process.wait(errand.seconds)
            except subprocess.TimeoutExpired:
                return None
            finally:  # with what it has left running
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


class Warm:
    """Forks each run from one interpreter that has loaded PyTorch and gradientflow: a tenth of the time.

    Args:
        door: `module:function` that is given the arguments of the command line.
    """

    def __init__(self, door: str = "gradientflow.cli:main") -> None:
        self.door = door
        self._mother: subprocess.Popen[str] | None = None

    def __enter__(self) -> Warm:
        self._mother = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("mother.py"))],
            cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heeds_ctrl_c,
        )  # fmt: skip
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        mother, self._mother = self._mother, None
        if mother is not None:
            if mother.stdin is not None:
                mother.stdin.close()
            mother.kill()
            mother.wait()
            if mother.stdout is not None:
                mother.stdout.close()

    def fits(self, case: Case) -> bool:
        """Whether nothing in the case is decided when an interpreter starts."""
        return not case.cold and case.module is None and not any(n.startswith(("PYTHON", "LC_")) for n in case.env)

    def run(self, errand: Errand) -> int | None:
        """Return the exit code; None where it had to be killed."""
        mother = self._mother
        assert mother is not None and mother.stdin is not None and mother.stdout is not None
        mother.stdin.write(json.dumps({**asdict(errand), "door": self.door}) + "\n")
        mother.stdin.flush()
        line = mother.stdout.readline()
        if not line:
            raise RuntimeError(f"the interpreter that forks is gone (exit code {mother.wait()})")
        code: int | None = json.loads(line)
        return code


Runner = Cold | Warm


def both(case: Case, folder: Path, runner: Runner, options: Sequence[str] = ()) -> tuple[Seen, Seen]:
    """Run a case plain, then watched, in one and the same folder, made anew in between."""
    return _one(case, folder, runner, False), _one(case, folder, runner, True, options)


def compared(case: Case, folder: Path, runner: Runner, options: Sequence[str] = ()) -> list[str]:
    """Run a case both ways and say where they differ."""
    return differences(case, *both(case, folder, runner, options))


def _one(case: Case, folder: Path, runner: Runner, watched: bool, options: Sequence[str] = ()) -> Seen:
    work, out, streams = folder / "work", folder / "out", folder / "streams"
    for part in (work, out, streams):
        shutil.rmtree(part, ignore_errors=True)
    work.mkdir(parents=True)
    streams.mkdir()
    case.lay_out(work)
    (streams / "stdin").write_bytes(case.stdin)
    script = ["-m", case.module] if case.module is not None else [str(work / case.path)]
    argv = [*script, *(a.replace("{out}", str(out)) for a in case.args)]
    if watched:
        place = _NAMES if case.relative else (str(out), str(folder / "verdict.json"))
        argv = ["run", "--quiet", "--out", place[0], "--json", place[1], *case.options, *options, *argv]
    env = {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0", **case.env}
    began = time.perf_counter()
    code = runner.run(Errand(tuple(argv), watched, str(work), str(streams), env, case.timeout))
    seconds = time.perf_counter() - began
    said = [(streams / name).read_bytes().decode("utf-8", "backslashreplace") for name in ("stdout", "stderr")]
    written = work / "verdict.json" if case.relative else folder / "verdict.json"
    verdict = None
    if watched:
        with contextlib.suppress(OSError, ValueError):
            verdict = json.loads(written.read_bytes())
            written.unlink()
    left = {n: d for n, d in files_under(work).items() if not (case.relative and n.split(os.sep)[0] in _NAMES)}
    work.chmod(0o755)
    return Seen(shell_code(code), *said, left, verdict, seconds)
