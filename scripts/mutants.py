"""Are the thresholds held by tests? Changes each of them a little, and sees whether a boundary test notices.

    python scripts/mutants.py [PATH ...]          every `Limit(...)` under src (or only under these paths)
    python scripts/mutants.py --literals PATH     instead: numbers left inside comparisons under a path

A mutant is the package with one number changed: a count by one, a number near 1 by its distance from 1, any other by a
factor. It runs in a fork, so that imports are paid once, against the tests that concern it: of the room that mirrors the
file, `test_limits_FILE.py` first, then its other `test_limits_*.py`, then those elsewhere that name the room. Exit code 1
if fewer than 95 % are noticed, 2 if a test fails with nothing changed.
"""

from __future__ import annotations

import argparse
import ast
import importlib.machinery
import importlib.util
import os
import re
import select
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

FACTOR = 1.25
COUNTED = 20  # up to here a whole number is a count, and is changed by one
NEAR_ONE = 0.9  # from here on it is the distance from 1 that is changed
PLAIN = (0, 1, 2)  # with −1 as 1: numbers in a comparison that are no thresholds
LEAST = 0.95
PATIENCE = 120.0  # seconds for one mutant; one that makes a test hang is noticed
SURVIVED, NOTICED, BROKEN = 0, 1, 2


@dataclass(frozen=True)
class Site:
    """One number in the source, from one place in the text to another."""

    file: Path
    line: int
    name: str
    text: str
    first: int  # offsets in the file, in characters
    last: int

    def mutants(self) -> list[str]:
        """Return what is put in its place, one mutant each."""
        value = _value(self.text)
        if value is None:
            return [f"(({self.text}) * {FACTOR})", f"(({self.text}) / {FACTOR})"]
        if isinstance(value, int) and abs(value) <= COUNTED:
            return [f"({value - 1})", f"({value + 1})"]
        if value == 0.0:
            return ["(-0.1)", "0.1"]
        if NEAR_ONE <= value < 1.0:
            return [repr(1 - (1 - value) * FACTOR), repr(1 - (1 - value) / FACTOR)]
        return [f"({value * FACTOR!r})", f"({value / FACTOR!r})"]


@dataclass(frozen=True)
class Mutant:
    """One site with one other text."""

    site: Site
    text: str

    def code(self) -> CodeType:
        source = self.site.file.read_text(encoding="utf-8")
        changed = source[: self.site.first] + self.text + source[self.site.last :]
        return compile(changed, str(self.site.file), "exec", dont_inherit=True)


def _value(text: str) -> float | None:
    """Return the number that a text of numbers and signs is; None for any other."""
    tree = ast.parse(text, mode="eval")
    plain = (ast.Expression, ast.Constant, ast.UnaryOp, ast.BinOp, ast.operator, ast.unaryop)
    if not all(isinstance(node, plain) for node in ast.walk(tree)):
        return None
    found = eval(compile(tree, "number", "eval"), {"__builtins__": {}})
    return found if isinstance(found, (int, float)) else None


# ── what there is to change ──────────────────────────────────────────────────────────────────────────────────────────


def files_under(paths: Iterable[Path]) -> list[Path]:
    return sorted({f.resolve() for p in paths for f in ([p] if p.is_file() else p.rglob("*.py"))})


def _site(file: Path, source: str, node: ast.expr, name: str) -> Site:
    starts = [0]
    for row in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(row))

    def offset(line: int, column: int) -> int:  # (ast counts columns in bytes)
        begin = starts[line - 1]
        return begin + len(source[begin : starts[line]].encode()[:column].decode())

    first = offset(node.lineno, node.col_offset)
    last = offset(node.end_lineno or node.lineno, node.end_col_offset or node.col_offset)
    return Site(file, node.lineno, name, source[first:last], first, last)


def limits(file: Path) -> Iterator[Site]:
    """Yield the value of every `Limit(name, value, source)` in a file."""
    source = file.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or _last_name(node.func) != "Limit":
            continue
        given = [*node.args[1:2], *(k.value for k in node.keywords if k.arg == "value")]
        named = [*node.args[:1], *(k.value for k in node.keywords if k.arg == "name")]
        if given:
            name = named[0].value if named and isinstance(named[0], ast.Constant) else "?"
            yield _site(file, source, given[0], str(name))


def literals(file: Path) -> Iterator[Site]:
    """Yield every number inside a comparison in a file that is not 0, 1, −1 or 2."""
    source = file.read_text(encoding="utf-8")
    seen: set[tuple[int, int]] = set()
    for compared in (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Compare)):
        for node in ast.walk(compared):
            if not isinstance(node, ast.Constant) or isinstance(node.value, (bool, str, bytes)):
                continue
            at = (node.lineno, node.col_offset)
            if isinstance(node.value, (int, float)) and node.value not in PLAIN and at not in seen:
                seen.add(at)
                yield _site(file, source, node, ast.unparse(compared))


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def concerned(file: Path, src: Path, tests: Path, pattern: str) -> list[list[Path]]:
    """Return the tests that concern a file, in the stages in which they are asked."""
    parts = file.relative_to(src).with_suffix("").parts
    room = tests.joinpath(*parts[1:-1])
    mine = sorted(room.glob(pattern))
    own = [t for t in mine if t.name == f"test_limits_{parts[-1]}.py"]
    package = ".".join(parts[:-1])
    named = re.compile(rf"\b{re.escape('.'.join(parts))}\b|\bfrom {re.escape(package)} import\b")
    other = [t for t in sorted(tests.rglob(pattern)) if t not in mine and named.search(t.read_text(encoding="utf-8"))]
    return [stage for stage in (own, [t for t in mine if t not in own], other) if stage]


# ── one mutant, in a fork ────────────────────────────────────────────────────────────────────────────────────────────


class _Changed(importlib.machinery.SourceFileLoader):
    """Loads a module from code that is not its file's."""

    code: CodeType

    def get_code(self, fullname: str) -> CodeType:
        return self.code


class Finder:
    """Finds one module changed, and no other."""

    def __init__(self, mutant: Mutant, src: Path) -> None:
        file = mutant.site.file
        parts = file.relative_to(src).with_suffix("").parts
        self.name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        self.file, self.code = file, mutant.code()

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        if name != self.name:
            return None
        loader = _Changed(name, str(self.file))
        loader.code = self.code
        inside = [str(self.file.parent)] if self.file.name == "__init__.py" else None
        return importlib.util.spec_from_file_location(
            name, str(self.file), loader=loader, submodule_search_locations=inside
        )


def asked(stages: Sequence[Sequence[Path]], root: Path) -> int:
    """Run tests, stage by stage, to the first that fails."""
    import pytest

    for stage in stages:
        told = pytest.main(
            ["-x", "-q", "--import-mode=importlib", "-p", "no:cacheprovider", f"--rootdir={root}", *map(str, stage)]
        )
        if told in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.INTERRUPTED):  # (the second: it cannot be imported)
            return NOTICED
        if told not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            return BROKEN
    return SURVIVED


def forked(
    mutant: Mutant | None, stages: Sequence[Sequence[Path]], src: Path, root: Path, log: Path | None = None
) -> int:
    """Start one mutant (None: nothing changed) in a fork, and return its process."""
    process = os.fork()
    if process:
        return process
    try:
        out = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        if mutant is not None:
            sys.meta_path.insert(0, Finder(mutant, src))  # type: ignore[arg-type]
        code = asked(stages, root)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    except BaseException:
        os._exit(BROKEN)


def ended(process: int, within: float) -> int:
    """Wait for a process; one that takes too long is ended, and counts as noticed."""
    watch = os.pidfd_open(process) if hasattr(os, "pidfd_open") else None
    over = time.monotonic() + within
    while True:
        if watch is not None:
            select.select([watch], [], [], max(over - time.monotonic(), 0.0))
        done, status = os.waitpid(process, os.WNOHANG)
        if not done and time.monotonic() > over:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            done, status = process, NOTICED << 8
        if done:
            if watch is not None:
                os.close(watch)
            return os.waitstatus_to_exitcode(status)
        if watch is None:
            time.sleep(0.01)


def preload(files: Iterable[Path], stages: Iterable[Sequence[Path]], src: Path) -> None:
    """Import what all mutants need and none changes: never a module of the package itself."""
    import msgspec  # noqa: F401
    import numpy  # noqa: F401
    import pytest  # noqa: F401

    rooms = {sibling for f in files for sibling in f.parent.glob("*.py")}
    read = rooms | {test for stage in stages for test in stage}
    if any(re.search(r"^\s*(import|from) torch\b", f.read_text(encoding="utf-8"), re.MULTILINE) for f in read):
        import torch

        torch.set_num_threads(1)
    if str(src) not in sys.path:
        sys.path.insert(0, str(src))


# ── the run ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def main(argv: Sequence[str] | None = None) -> int:
    """Run the mutants and print what was noticed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path, help="files or folders (default: all of --src)")
    parser.add_argument("--literals", type=Path, help="mutate numbers inside comparisons under this path instead")
    parser.add_argument("--src", type=Path, default=Path("src"))
    parser.add_argument("--tests", type=Path, default=Path("tests"))
    parser.add_argument("--pattern", default="test_limits_*.py", help="names of the tests that are asked")
    given = parser.parse_args(argv)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    src, tests = given.src.resolve(), given.tests.resolve()
    looked = files_under([given.literals] if given.literals else given.paths or [src])
    mutants = [
        Mutant(site, text)
        for file in looked
        for site in (literals(file) if given.literals else limits(file))
        for text in site.mutants()
    ]
    files = sorted({m.site.file for m in mutants})
    stages = {file: concerned(file, src, tests, given.pattern) for file in files}
    preload(files, (stage for each in stages.values() for stage in each), src)
    used = sorted({test for each in stages.values() for stage in each for test in stage})
    if used and ended(forked(None, [used], src, tests.parent), 10 * PATIENCE) != SURVIVED:
        print("a boundary test fails with nothing changed: run pytest on", *(os.path.relpath(t) for t in used))
        return 2
    return told(_run(mutants, stages, src, tests.parent), src, len({m.site for m in mutants}))


def _run(
    mutants: Sequence[Mutant], stages: dict[Path, list[list[Path]]], src: Path, root: Path
) -> list[tuple[Mutant, int]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    found = []
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("mutants", total=len(mutants))
        for mutant in mutants:
            bar.update(task, description=f"{mutant.site.file.stem}: {mutant.site.name[:30]}")
            todo = stages[mutant.site.file]
            found.append((mutant, ended(forked(mutant, todo, src, root), PATIENCE) if todo else SURVIVED))
            bar.advance(task)
    return found


def told(found: Sequence[tuple[Mutant, int]], src: Path, sites: int) -> int:
    """Print the table and return the exit code."""
    width = max((len(str(m.site.file.relative_to(src))) for m, _ in found), default=4)
    print(f"{'file':<{width}}  numbers  mutants   killed  survived")
    for file in sorted({m.site.file for m, _ in found}):
        mine = [(m, code) for m, code in found if m.site.file == file]
        killed = sum(code == NOTICED for _, code in mine)
        numbers = len({m.site for m, _ in mine})
        name = str(file.relative_to(src))
        print(f"{name:<{width}}  {numbers:7d}  {len(mine):7d}  {killed:7d}  {len(mine) - killed:8d}")
    survivors = [(m, code) for m, code in found if code != NOTICED]
    share = 1 - len(survivors) / len(found) if found else 1.0
    print(f"{sites} numbers, {len(found)} mutants, {len(found) - len(survivors)} killed: {share:.1%}")
    for m, code in survivors:
        what = "survived" if code == SURVIVED else "broke the run of the tests"
        print(f"{what}: {os.path.relpath(m.site.file)}:{m.site.line}  {m.site.name}  {m.site.text} -> {m.text}")
    return 0 if share >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
