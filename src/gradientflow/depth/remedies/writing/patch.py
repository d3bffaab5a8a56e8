"""Changes of a text, collected and made at once: everything that is not named stays as it is, to the byte."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Sequence

from gradientflow.depth.remedies.writing.source import NoEditError, Source

_TIGHT = (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.List, ast.Tuple, ast.ListComp, ast.JoinedStr)


class Patch:
    """Replacements and insertions in one source.

    Args:
        source: what is edited.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.notes: list[str] = []
        self._changes: list[tuple[int, int, str]] = []
        self._imports: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._changes)

    # ── expressions ──────────────────────────────────────────────────────────────────────────────────────────────────

    def cut(self, start: int, end: int, text: str = "") -> None:
        """Put `text` in place of what stands from `start` to `end`."""
        change = (start, end, text)
        if change not in self._changes:
            self._changes.append(change)

    def replace(self, node: ast.expr | ast.stmt | ast.keyword, text: str) -> None:
        """Put `text` in place of a node."""
        self.cut(*self.source.span(node), text)

    def wrap(self, node: ast.expr, before: str, after: str) -> None:
        """Put text before and after a node, and leave the node as it is."""
        start, end = self.source.span(node)
        self.cut(start, start, before)
        self.cut(end, end, after)

    def tight(self, node: ast.expr) -> str:
        """Return a node's text, in parentheses where an operator next to it could take it apart."""
        text = self.source.segment(node)
        return text if isinstance(node, _TIGHT) and not _bare_tuple(node, text) else f"({text})"

    def operand(self, node: ast.expr) -> str:
        """Return a node's text as an operand of `*` or `/`: numbers and powers stay without parentheses."""
        if isinstance(node, ast.Constant) or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow)):
            return self.source.segment(node)
        return self.tight(node)

    def unwrap(self, node: ast.expr, inner: ast.expr) -> None:
        """Put `inner`, a part of `node`, in the place of `node`."""
        parent = self.source.parents.get(node)
        text = self.source.segment(inner)
        loose = isinstance(parent, (ast.Assign, ast.Return, ast.Expr, ast.AnnAssign, ast.keyword, ast.Call))
        safe = "\n" not in text and loose and not (isinstance(parent, ast.Call) and parent.func is node)
        self.replace(node, text if safe and not isinstance(inner, ast.GeneratorExp) else self.tight(inner))

    def argument(self, call: ast.Call, text: str) -> None:
        """Add an argument at the end of a call."""
        given: list[ast.expr | ast.keyword] = [*call.args, *call.keywords]
        end = self.source.span(call)[1]
        if not given:
            self.cut(end - 1, end - 1, text)
            return
        last = max(self.source.span(g)[1] for g in given)
        tail = self.source.text[last : end - 1]
        if "#" in tail or tail.strip(" \t\r\n),"):
            raise NoEditError("the call's end is not plain")
        if "," in tail:
            at = last + tail.index(",") + 1
            self.cut(at, at, f" {text},")
        else:
            self.cut(last + tail.rfind(")") + 1, last + tail.rfind(")") + 1, f", {text}")

    def drop_keyword(self, call: ast.Call, keyword: ast.keyword) -> None:
        """Take a keyword argument out of a call."""
        self.drop(keyword, [*call.args, *call.keywords])

    def drop(self, element: ast.expr | ast.keyword, siblings: Sequence[ast.expr | ast.keyword]) -> None:
        """Take an element out of a list of elements separated by commas, with its line if it stands there alone.

        Raises:
            NoEditError: a comment or a parenthesis stands between the element and its neighbours.
        """
        source, text = self.source, self.source.text
        start, end = source.span(element)
        if isinstance(element, ast.keyword) and element.arg is None:
            raise NoEditError("the argument is unpacked")
        first, last = source.line_of(start), source.line_of(end - 1)
        head, tail = text[source.offset(first, 0) : start], text[end : source.after_line(last)]
        if not head.strip() and re.fullmatch(r"\s*,\s*(#.*)?\s*", tail):
            self.cut(source.offset(first, 0), source.after_line(last))
            return
        place = siblings.index(element)
        if place + 1 < len(siblings):
            after = source.span(siblings[place + 1])[0]
            if re.fullmatch(r"\s*,[ \t]*", text[end:after]):
                self.cut(start, after)
                return
        if place:
            before = source.span(siblings[place - 1])[1]
            if re.fullmatch(r"\s*,\s*", text[before:start]):
                self.cut(before, end)
                return
        raise NoEditError("the element cannot be taken out of its list without touching its neighbours")

    # ── statements ───────────────────────────────────────────────────────────────────────────────────────────────────

    def indent(self, stmt: ast.stmt) -> str:
        """Return what stands before a statement on its line; it must be white space.

        Raises:
            NoEditError: the statement shares its line with another one.
        """
        source = self.source
        start = source.span(stmt)[0]
        head = source.text[source.offset(stmt.lineno, 0) : start]
        if head.strip() or source.line(stmt.lineno - 1).rstrip("\r\n").endswith("\\") * (stmt.lineno > 1):
            raise NoEditError("the statement does not begin its line")
        return head

    def before(self, stmt: ast.stmt, *lines: str) -> None:
        """Insert lines before a statement, at its indentation; a leading tab in a line means one step deeper."""
        at = self.source.offset(self._first_line(stmt), 0)
        self.cut(at, at, self._lines(stmt, lines))

    def after(self, stmt: ast.stmt, *lines: str) -> None:
        """Insert lines after a statement, at its indentation; a leading tab in a line means one step deeper."""
        source = self.source
        indented = self._lines(stmt, lines)
        end = source.span(stmt)[1]
        last = source.line_of(max(end - 1, 0))
        tail = source.text[end : source.after_line(last)]
        if tail.strip() and not tail.lstrip().startswith("#"):
            raise NoEditError("another statement stands on the same line")
        at = source.after_line(last)
        if at == len(source.text) and not source.text.endswith(("\n", "\r")):
            indented = source.newline + indented.removesuffix(source.newline)
        self.cut(at, at, indented)

    def delete(self, stmt: ast.stmt) -> None:
        """Take out a statement that stands alone on its lines and is not alone in its block."""
        self.indent(stmt)
        if len(self.source.block(stmt)) < 2:
            raise NoEditError("the block would be empty")
        end = self.source.span(stmt)[1]
        last = self.source.line_of(end - 1)
        if self.source.text[end : self.source.after_line(last)].strip():
            raise NoEditError("something else stands on the same line")
        self.cut(self.source.offset(stmt.lineno, 0), self.source.after_line(last))

    def step(self) -> str:
        """Return one step of indentation as this file writes it: a tab, or the smallest number of spaces."""
        best: str | None = None
        for node in ast.walk(self.source.tree):
            body = getattr(node, "body", None)
            if isinstance(node, ast.stmt) and isinstance(body, list) and body and body[0].lineno > node.lineno:
                outer, inner = self._head(node), self._head(body[0])
                if inner.startswith(outer) and inner != outer and not inner.strip():
                    deeper = inner[len(outer) :]
                    best = deeper if best is None or len(deeper) < len(best) else best
        return best or "    "

    def _head(self, stmt: ast.stmt) -> str:
        return self.source.text[self.source.offset(stmt.lineno, 0) : self.source.span(stmt)[0]]

    def _first_line(self, stmt: ast.stmt) -> int:
        decorators: list[ast.expr] = getattr(stmt, "decorator_list", [])
        return min([stmt.lineno, *(d.lineno for d in decorators)])

    def _lines(self, stmt: ast.stmt, lines: tuple[str, ...]) -> str:
        head, step, out = self.indent(stmt), self.step(), ""
        for line in lines:
            deeper = len(line) - len(line.lstrip("\t"))
            out += (head + step * deeper + line.lstrip("\t") if line else "") + self.source.newline
        return out

    # ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def name(self, full: str) -> str:
        """Return how to write a dotted name of torch here; imports `torch` where nothing fitting is imported.

        Raises:
            NoEditError: `torch` is another thing in this file.
        """
        written = self.source.spell(full)
        if written is not None:
            return written
        if "torch" in self.source.stored:
            raise NoEditError("the name torch is taken")
        if "import torch" not in self._imports:
            self._imports.append("import torch")
        return full

    def _place_imports(self) -> None:
        body = self.source.tree.body
        imports = [s for s in body if isinstance(s, (ast.Import, ast.ImportFrom))]
        late = [s for s in imports if not (isinstance(s, ast.ImportFrom) and s.module == "__future__")]
        for line in self._imports:
            if late:
                self.before(late[0], line)
            elif imports:
                self.after(imports[-1], line)
            elif body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
                self.after(body[0], line)
            elif body:
                self.before(body[0], line)
        self._imports = []

    # ── the result ───────────────────────────────────────────────────────────────────────────────────────────────────

    def result(self) -> str:
        """Return the edited text.

        Raises:
            NoEditError: there is nothing to change, two changes touch the same text, or the result does not parse.
        """
        if any("torch." in new for _, _, new in self._changes):
            self._place_imports()
        text, out, at = self.source.text, [], 0
        ordered = sorted(enumerate(self._changes), key=lambda c: (c[1][0], c[1][1], c[0]))
        for _, (start, end, new) in ordered:
            if start < at:
                raise NoEditError("two changes touch the same text")
            out += [text[at:start], new]
            at = end
        edited = "".join([*out, text[at:]])
        if edited == text:
            raise NoEditError("nothing was changed")
        try:
            ast.parse(edited)
        except (SyntaxError, ValueError) as problem:
            raise NoEditError(f"the edited text does not parse: {problem}") from problem
        return edited


def unified(file: str, before: str, after: str) -> str:
    """Return the difference of two texts as a unified diff with three lines of context.

    Args:
        file: the file's name, for the two heads `a/file` and `b/file`.
        before: the text as it is.
        after: the text as it will be.

    Returns:
        The diff; lines end as they do in the texts; a text without a last line end is marked as `diff` marks it.
    """
    name = file.lstrip("/")
    old, new = _split(before), _split(after)
    out = []
    for line in difflib.unified_diff(old, new, f"a/{name}", f"b/{name}", n=3):
        out.append(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n")
    return "".join(out)


def _split(text: str) -> list[str]:
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _bare_tuple(node: ast.expr, text: str) -> bool:
    return isinstance(node, ast.Tuple) and not text.startswith("(")


def number(value: float) -> str:
    """Return a number as one would write it: four digits at most.

    Example:
        >>> number(0.1 * 0.003), number(64.0)
        ('0.0003', '64')
    """
    return format(value, ".4g")
