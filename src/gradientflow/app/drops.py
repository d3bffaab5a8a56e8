"""What a drop does, in parts: a first answer at once, then the whole of it, certified."""

from __future__ import annotations

from collections.abc import Iterator

from gradientflow.app.fields import Fields
from gradientflow.app.wire import frame
from gradientflow.app.work import Token
from gradientflow.records import Answer, DropAsk, LineAsk


def drops(fields: Fields, ask: DropAsk, token: Token) -> Iterator[bytes]:
    """Yield the parts of an answer to one drop."""
    yield frame(Answer("refused", text="not yet"))


def line(fields: Fields, ask: LineAsk, token: Token) -> Iterator[bytes]:
    """Yield the answer to many drops."""
    yield frame(Answer("refused", text="not yet"))
