"""Which server a TLS client asks for, from the first bytes that it sends. Pure.

Sources: RFC 8446, 4.1.2 (ClientHello), 5.1 (records); RFC 6066, 3 (server_name). What BoringSSL would refuse
at once, as Envoy's tls_inspector has it read, is not taken for TLS here. With Encrypted ClientHello the name
is the outer one (draft-ietf-tls-esni): the other is not for us.
"""

from __future__ import annotations

from typing import NamedTuple

MAX_BYTES = 32 * 1024
"""Of a ClientHello with the headers of its records. Envoy's bound is 16 KiB; hellos with several post-quantum
key shares have 2 to 4 KiB."""

_HANDSHAKE = 22
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_HOST_NAME = 0
_MAX_RECORD = 1 << 14
_MAX_HOST_NAME = 255
_RECORD_HEADER = 5
_MESSAGE_HEADER = 4


class Hello(NamedTuple):
    """What a client's first bytes are."""

    is_tls: bool
    """They are a ClientHello."""
    server_name: str = ""
    """That it asks for, in lower case; empty: it asks for none."""
    why_not: str = ""
    """Why they are none."""


class HelloReader:
    """Reads one, however it is cut into segments and records. Its work is linear in what it is given."""

    __slots__ = ("_bytes", "_message", "_pending")

    def __init__(self) -> None:
        self._pending = bytearray()
        """Of a record that is not whole."""
        self._message = bytearray()
        """Of the handshake message."""
        self._bytes = 0

    def feed(self, data: bytes) -> Hello | None:
        """Take more bytes; None: they do not tell yet. Not to be called again once they do."""
        self._bytes += len(data)
        self._pending += data
        found = self._records()
        if found is None and self._bytes >= MAX_BYTES:
            return _no(f"more than {MAX_BYTES} bytes")
        return found

    def _records(self) -> Hello | None:
        """Move what is whole from records to the message."""
        pending, at = self._pending, 0
        while at < len(pending):
            if pending[at] != _HANDSHAKE:
                return _no("not a handshake record")
            # RFC 8446, 5.1: the minor version says nothing. The major one tells TLS from chance.
            if len(pending) > at + 1 and pending[at + 1] != 3:
                return _no("not a record of TLS")
            if len(pending) < at + _RECORD_HEADER:
                break
            size = pending[at + 3] << 8 | pending[at + 4]
            if not 0 < size <= _MAX_RECORD:
                return _no(f"a record of {size} bytes")
            end = at + _RECORD_HEADER + size
            if len(pending) < end:
                break
            self._message += pending[at + _RECORD_HEADER : end]
            at = end
            refused = _unlike_a_hello(self._message)
            if refused is not None:
                return refused
            whole = _MESSAGE_HEADER + _length(self._message) if len(self._message) >= _MESSAGE_HEADER else 0
            if whole and len(self._message) >= whole:
                return _hello(bytes(self._message[_MESSAGE_HEADER:whole]))
        del pending[:at]
        return None


def _no(reason: str) -> Hello:
    return Hello(False, why_not=reason)


def _length(message: bytearray) -> int:
    return int.from_bytes(message[1:_MESSAGE_HEADER])


def _unlike_a_hello(message: bytearray) -> Hello | None:
    """What can be said of a handshake message that is not whole."""
    if message and message[0] != _CLIENT_HELLO:
        return _no("a handshake message that is no ClientHello")
    if len(message) >= _MESSAGE_HEADER and _length(message) > MAX_BYTES:
        return _no(f"a ClientHello of {_length(message)} bytes")
    return None


class _MalformedError(Exception):
    """The bytes are not what their lengths say."""


class _Reader:
    """Takes vectors (RFC 8446, 3.4) off bytes."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise _MalformedError("ends early")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def vector(self, length_size: int) -> bytes:
        return self.take(self.number(length_size))

    def is_done(self) -> bool:
        return self._at == len(self._data)


def _hello(body: bytes) -> Hello:
    try:
        return Hello(True, _server_name(body))
    except _MalformedError as error:
        return _no(f"a ClientHello that {error}")


def _server_name(body: bytes) -> str:
    """The name in a ClientHello's body. Raises _MalformedError."""
    reader = _Reader(body)
    reader.take(2 + 32)  # legacy_version, random
    if len(reader.vector(1)) > 32:
        raise _MalformedError("has too long a session id")
    suites = reader.vector(2)
    if len(suites) < 2 or len(suites) % 2:
        raise _MalformedError("has no list of cipher suites")
    if not reader.vector(1):
        raise _MalformedError("has no compression methods")
    if reader.is_done():  # before TLS 1.2 there may be no extensions (RFC 5246, 7.4.1.2)
        return ""
    extensions = _Reader(reader.vector(2))
    if not reader.is_done():
        raise _MalformedError("goes on after its extensions")
    seen: dict[int, bytes] = {}
    while not extensions.is_done():
        kind = extensions.number(2)
        if kind in seen:
            raise _MalformedError("has an extension twice")
        seen[kind] = extensions.vector(2)
    return _host_name(seen[_SERVER_NAME]) if _SERVER_NAME in seen else ""


def _host_name(extension: bytes) -> str:
    """The one name of a server_name extension: others than host names were never defined."""
    reader = _Reader(extension)
    names = _Reader(reader.vector(2))
    if names.number(1) != _HOST_NAME:
        raise _MalformedError("asks for a server by no host name")
    name = names.vector(2)
    if not (names.is_done() and reader.is_done()):
        raise _MalformedError("has more than one server name")
    if not 0 < len(name) <= _MAX_HOST_NAME or 0 in name or not name.isascii():
        raise _MalformedError("asks for a server by no host name")
    return name.decode("ascii").lower()
