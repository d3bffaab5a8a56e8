"""One source text: its tree, where each node stands in the text, and what the names in it mean. Runs none of it."""

from __future__ import annotations

import ast
import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import TypeVar

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
N = TypeVar("N", bound=ast.AST)


class NoEditError(Exception):
    """This change cannot be made in this source safely; why is in the text."""


class Source:
    """A source text with positions of its nodes, in characters, and the dotted names its imports stand for.

    Args:
        text: the whole file.

    Raises:
        NoEditError: the text is not Python.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            self.tree = ast.parse(text)
        except (SyntaxError, ValueError) as problem:
            raise NoEditError(f"the source does not parse: {problem}") from problem
        self.newline = "\r\n" if "\r\n" in text else "\n"
        self._starts = [0, *(m.end() for m in re.finditer(r"\r\n|\r|\n", text))]
        self._all = list(ast.walk(self.tree))
        self._by_kind: dict[type[ast.AST], list[ast.AST]] = {}
        self.parents: dict[ast.AST, ast.AST] = {c: node for node in self._all for c in ast.iter_child_nodes(node)}
        self.stored = {n.id for n in self.nodes(ast.Name) if isinstance(n.ctx, ast.Store)} | {
            a.arg for a in self.nodes(ast.arg)
        }
        self._everywhere: set[str] = set()  # names that imports of the module itself give, not those of a function
        self.names = self._imports()

    # ── positions ────────────────────────────────────────────────────────────────────────────────────────────────────

    def offset(self, line: int, column: int) -> int:
        """Return the position of a byte column of a line (1-based), in characters from the start of the text."""
        start = self._starts[line - 1]
        return start + len(self.line(line).encode()[:column].decode(errors="replace"))

    def line(self, number: int) -> str:
        """Return a line with its end."""
        end = self._starts[number] if number < len(self._starts) else len(self.text)
        return self.text[self._starts[number - 1] : end]

    def line_of(self, position: int) -> int:
        """Return the line (1-based) that holds a position."""
        return bisect_right(self._starts, position)

    def after_line(self, number: int) -> int:
        """Return the position where the next line begins."""
        return self._starts[number] if number < len(self._starts) else len(self.text)

    def span(self, node: ast.expr | ast.stmt | ast.keyword) -> tuple[int, int]:
        """Return where a node begins and ends in the text."""
        end_line, end_column = node.end_lineno or node.lineno, node.end_col_offset or 0
        return self.offset(node.lineno, node.col_offset), self.offset(end_line, end_column)

    def segment(self, node: ast.expr | ast.stmt | ast.keyword) -> str:
        """Return a node's text."""
        start, end = self.span(node)
        return self.text[start:end]

    # ── the tree ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def nodes(self, kind: type[N], within: ast.AST | None = None) -> Iterator[N]:
        """Return all nodes of a kind, in no promised order."""
        if within is not None and within is not self.tree:
            return (n for n in ast.walk(within) if isinstance(n, kind))
        if kind not in self._by_kind:
            self._by_kind[kind] = [n for n in self._all if isinstance(n, kind)]
        return iter(self._by_kind[kind])  # type: ignore[arg-type]

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        """Return what a node is in, the nearest first."""
        while node in self.parents:
            node = self.parents[node]
            yield node

    def statement(self, node: ast.AST) -> ast.stmt:
        """Return the statement a node is in, or the node itself."""
        while not isinstance(node, ast.stmt):
            node = self.parents[node]
        return node

    def scope(self, node: ast.AST) -> ast.AST:
        """Return the function, class or module a node is in."""
        for outer in self.above(node):
            if isinstance(outer, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef, ast.Module)):
                return outer
        return self.tree

    def block(self, stmt: ast.stmt) -> list[ast.stmt]:
        """Return the list of statements that a statement is one of."""
        for _, value in ast.iter_fields(self.parents[stmt]):
            if isinstance(value, list) and stmt in value:
                return value
        return [stmt]

    def on_line(self, line: int | None, kind: type[N]) -> list[N]:
        """Return the nodes of a kind that begin on a line, else those of the innermost statement that covers it, in order.

        A compound statement (a loop, a function) covers no more than its head.
        """
        if line is None:
            return []
        found = [n for n in self.nodes(kind) if getattr(n, "lineno", None) == line]
        if found:
            return sorted(found, key=_position)
        covering = [s for s in self.nodes(ast.stmt) if s.lineno <= line <= (s.end_lineno or s.lineno)]
        inner = min(covering, key=lambda s: (s.end_lineno or s.lineno) - s.lineno, default=None)
        if inner is None or hasattr(inner, "body"):
            return []
        return sorted(self.nodes(kind, inner), key=_position)

    # ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _imports(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for node in self._all:
            if isinstance(node, (ast.Import, ast.ImportFrom)) and self.scope(node) is self.tree:
                self._everywhere |= {a.asname or a.name.partition(".")[0] for a in node.names}
            if isinstance(node, ast.Import):
                for a in node.names:
                    found[a.asname or a.name.partition(".")[0]] = a.name if a.asname else a.name.partition(".")[0]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                for a in node.names:
                    found[a.asname or a.name] = f"{node.module}.{a.name}"
        return {name: full for name, full in found.items() if name not in self.stored}

    def dotted(self, node: ast.AST | None) -> str:
        """Return the full dotted name of an expression ("torch.nn.ReLU" for `nn.ReLU`), "" if it is not a name."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            base = self.dotted(node.value)
            return f"{base}.{node.attr}" if base else ""
        return ""

    def torch_name(self, node: ast.AST | None) -> str:
        """Return the part of a dotted name after "torch.", with its long ways cut short; "" if it is not torch's.

        `torch.nn.functional.relu` gives "F.relu", `torch.nn.ReLU` "nn.ReLU", `torch.relu` "relu".
        """
        full = self.dotted(node)
        if not full.startswith("torch."):
            return ""
        name = full.removeprefix("torch.")
        for long, short in (("nn.functional.", "F."), ("nn.modules.", "nn."), ("special.", ""), ("linalg.", "")):
            if name.startswith(long):
                rest = name.removeprefix(long)
                return short + (rest.rpartition(".")[2] if long == "nn.modules." else rest)
        return name

    def spell(self, full: str) -> str | None:
        """Return how this script would write a dotted name with the imports it has; None if it cannot.

        Example:
            >>> Source("from torch import nn").spell("torch.nn.functional.relu")
            'nn.functional.relu'
        """
        best: str | None = None
        for name, meaning in self.names.items():
            if name not in self._everywhere:
                continue
            if full == meaning:
                written = name
            elif full.startswith(meaning + ".") and meaning.partition(".")[0] == "torch":
                written = name + full.removeprefix(meaning)
            else:
                continue
            if best is None or (written.count("."), len(written)) < (best.count("."), len(best)):
                best = written
        return best

    def fresh(self, *names: str) -> str:
        """Return the first of some names that the script does not use yet."""
        used = {n.id for n in self.nodes(ast.Name)} | {a.arg for a in self.nodes(ast.arg)} | set(self.names)
        for name in names:
            if name not in used:
                return name
        return next(f"{names[-1]}_{i}" for i in range(2, 1000) if f"{names[-1]}_{i}" not in used)


def _position(node: ast.AST) -> tuple[int, int]:
    return getattr(node, "lineno", 0), getattr(node, "col_offset", 0)
