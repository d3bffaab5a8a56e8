"""Runs the examples in README.md and docs/*.md, so that none of them can lie.

Which blocks are run is said by the word after the fence:

- ```python     run with this Python; must exit with 0
- ```bash       run with bash; every line must succeed
- ```console    lines that begin with "$ " are run one after the other and must exit with 0 (a command expected to fail
                ends in `; echo "exit code $?"`); the lines below a command must appear in its output, in that
                order, other lines between them being fine. Space counts as one blank, and … stands for anything.
- anything else (```text, ```yaml, ```json, …) is not run

Every page gets its own copy of what a reader has: the examples. The blocks of a page run in order in that one copy.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUN = ("python", "bash", "console")
COPIED = ("examples", "README.md")
AT_ONCE = 2  # pages; each has a folder of its own
FENCE = re.compile(r"^(?P<indent> *)```(?P<word>[\w-]*)[^\n]*\n(?P<body>.*?)^(?P=indent)```[ \t]*$", re.M | re.S)


@dataclass
class Block:
    """One fenced block: the word after the fence, its text, and the line it begins at."""

    word: str
    text: str
    line: int


def blocks(markdown: str) -> Iterator[Block]:
    """All fenced blocks of a page, in order."""
    for match in FENCE.finditer(markdown):
        indent = len(match["indent"])
        body = "".join(line[indent:] if line.strip() else line for line in match["body"].splitlines(keepends=True))
        yield Block(match["word"], body, markdown.count("\n", 0, match.start()) + 1)


def commands(console: str) -> list[tuple[str, list[str]]]:
    """A console block as (command, lines expected in its output)."""
    found: list[tuple[str, list[str]]] = []
    for line in console.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line.strip() and not found:
            raise ValueError(f"output before the first '$ ' command: {line!r}")
        elif line.strip():
            found[-1][1].append(line)
    return found


def first_missing(expected: list[str], output: str) -> str | None:
    """The first expected line that does not appear in the output after those before it; None if all do."""
    lines = iter([" ".join(line.split()) for line in output.splitlines()])
    for want in expected:
        words = " ".join(want.split())
        pattern = re.compile(".*".join(re.escape(part.strip()) for part in words.split("…")))
        if not any(pattern.search(line) for line in lines):
            return want
    return None


def execute(command: list[str], folder: Path, timeout: float) -> tuple[int, str]:
    """Exit code and output (both streams) of a command, as a reader's terminal would have them, without colours."""
    environment = os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "NO_COLOR": "1",
        "COLUMNS": "120",
        "PYTHONIOENCODING": "utf-8",
    }
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return 124, f"not finished after {timeout:.0f} s"
    return done.returncode, done.stdout


def run_block(block: Block, folder: Path, timeout: float = 120) -> str | None:
    """Run one block in a folder. None if it does what it says, else what went wrong."""
    if block.word == "python":
        code, output = execute([sys.executable, "-c", block.text], folder, timeout)
        return None if code == 0 else f"exit code {code}\n{output}"
    if block.word == "bash":
        code, output = execute(["bash", "-e", "-c", block.text], folder, timeout)
        return None if code == 0 else f"exit code {code}\n{output}"
    for command, expected in commands(block.text):
        code, output = execute(["bash", "-c", command], folder, timeout)
        if code != 0:
            return f"$ {command}\nexit code {code}\n{output}"
        missing = first_missing(expected, output)
        if missing is not None:
            return f"$ {command}\nexpected this line: {missing}\nin this output:\n{output}"
    return None


def check_page(page: Path, root: Path) -> list[str]:
    """Run a page's blocks; the failures, each with file:line."""
    failures = []
    to_run = [block for block in blocks(page.read_text(encoding="utf-8")) if block.word in RUN]
    with tempfile.TemporaryDirectory(prefix="check-docs-") as temporary:
        for name in COPIED if to_run else ():
            source = root / name
            if source.is_dir():
                shutil.copytree(source, Path(temporary) / name, ignore=shutil.ignore_patterns("__pycache__", "runs"))
            elif source.exists():
                shutil.copy(source, temporary)
        for block in to_run:
            began = time.perf_counter()
            where = f"{page.relative_to(root)}:{block.line}"
            try:
                failure = run_block(block, Path(temporary))
            except ValueError as error:
                failure = str(error)
            said = "ok" if failure is None else "FAILED"
            print(f"{where}  {block.word}  {said}  {time.perf_counter() - began:.1f} s", flush=True)
            if failure is not None:
                failures.append(f"{where}: {failure}")
    return failures


def main() -> int:
    """Check the pages named on the command line, or README.md and docs/*.md."""
    parser = argparse.ArgumentParser(description="Run the examples in the docs.")
    parser.add_argument("pages", nargs="*", type=Path, help="pages to check (default: README.md and docs/*.md)")
    arguments = parser.parse_args()
    pages = [page.resolve() for page in arguments.pages] or [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        failures = [failure for found in pool.map(lambda page: check_page(page, ROOT), pages) for failure in found]
    for failure in failures:
        print(f"\n{failure}", file=sys.stderr)
    print(f"{len(pages)} pages, {len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
