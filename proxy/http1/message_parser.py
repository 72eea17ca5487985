"""aiohttp's C parsers as they are used here: fed exactly one head at a time, for any number of connections.

They are private API, and leave more to their caller than a proxy may: tests/proxy/http1/
test_parser_contract.py holds what is relied on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from aiohttp import http_exceptions

MAX_FIELDS = 1024
_PARSER_LIMIT = 1 << 24  # the head's size is bounded before the parser sees it

M = TypeVar("M")


class HeadError(ValueError):
    """The bytes are no head. The message says why."""

    def __init__(self, message: str, cause: http_exceptions.BadHttpMessage | None = None) -> None:
        """``cause``: what the C parser said, where it said something."""
        super().__init__(message)
        self.cause = cause


class MessageParser(Generic[M]):
    """One C parser, made anew whenever a head has left it in another state than it was in before."""

    __slots__ = ("_kind", "_name", "_parser")

    def __init__(self, kind: Callable[..., Any], name: str) -> None:
        """``kind``: HttpRequestParser or HttpResponseParser. ``name``: what errors call the message."""
        self._kind = kind
        self._name = name
        self._parser = self._new()

    def read(self, head: bytes) -> M:
        """What a head says. What comes of it depends on no other head. Raises HeadError."""
        lines = head.count(b"\n")
        if head.count(b"\r\n") != lines or head.count(b"\r") != lines:
            raise HeadError(f"a line of the {self._name}'s head does not end with CRLF")
        try:
            messages, upgraded, _ = self._parser.feed_data(head)
        except http_exceptions.BadHttpMessage as error:
            self._parser = self._new()
            raise HeadError(f"the {self._name}'s head is malformed", error) from None
        if len(messages) != 1:
            self._parser = self._new()
            raise HeadError(f"the {self._name}'s head is malformed")
        message = messages[0][0]
        if upgraded or message.should_close:
            self._parser = self._new()
        read: M = message
        return read

    def _new(self) -> Any:
        # Made to think that no message has a body: the parser ends with the head.
        return self._kind(
            None,
            None,
            1 << 16,
            max_line_size=_PARSER_LIMIT,
            max_field_size=_PARSER_LIMIT,
            max_headers=MAX_FIELDS,
            response_with_body=False,
            auto_decompress=False,
        )
