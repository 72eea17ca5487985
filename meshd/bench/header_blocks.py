"""HPACK for the load tools of HTTP/2: requests' blocks are written plainly, answers' read by libnghttp2.

What the tools need is less than the proxy has, and a tool that shared the proxy's code would share its
errors: here are the library's decoder and nothing else of it (nghttp2.h, nghttp2_hd_inflate_hd2).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import cffi

from meshd.libraries import NGHTTP2, why_not_nghttp2

Field = tuple[bytes, bytes]

_DECLARATIONS = """
typedef struct nghttp2_hd_inflater nghttp2_hd_inflater;
typedef struct {
  uint8_t *name; uint8_t *value; size_t namelen; size_t valuelen; uint8_t flags;
} nghttp2_nv;
int nghttp2_hd_inflate_new(nghttp2_hd_inflater **);
void nghttp2_hd_inflate_del(nghttp2_hd_inflater *);
ssize_t nghttp2_hd_inflate_hd2(
  nghttp2_hd_inflater *, nghttp2_nv *, int *, const uint8_t *, size_t, int);
int nghttp2_hd_inflate_end_headers(nghttp2_hd_inflater *);
"""
# enum nghttp2_hd_inflate_flag
_FINAL, _EMIT = 1, 2
_ffi: Any = cffi.FFI()
_ffi.cdef(_DECLARATIONS)


class BlockError(Exception):
    """A block cannot be read, or not without a library that is missing; the message says what it is."""


class Decoder:
    """Reads the blocks of one connection, in their order. Owns the library's decoder until ``close``."""

    def __init__(self) -> None:
        """Raises BlockError."""
        try:
            self._library: Any = _ffi.dlopen(NGHTTP2)
        except OSError:
            raise BlockError(why_not_nghttp2(None)) from None
        place = _ffi.new("nghttp2_hd_inflater **")
        if self._library.nghttp2_hd_inflate_new(place):
            raise MemoryError
        self._inflater: Any = place[0]
        self._field: Any = _ffi.new("nghttp2_nv *")
        self._flags: Any = _ffi.new("int *")

    def close(self) -> None:
        """Free it; nothing may be read any more."""
        self._library.nghttp2_hd_inflate_del(self._inflater)

    def fields(self, block: bytes) -> list[Field]:
        """Those of one whole block. Raises BlockError."""
        found: list[Field] = []
        field, flags, buffer = self._field, self._flags, _ffi.buffer
        inflate = self._library.nghttp2_hd_inflate_hd2
        text = _ffi.from_buffer("uint8_t[]", block)
        at, left = text, len(block)
        while True:
            used = inflate(self._inflater, field, flags, at, left, 1)
            if used < 0:
                raise BlockError(f"a block of header fields that is no HPACK (libnghttp2: {used})")
            at, left = at + used, left - used
            if flags[0] & _EMIT:
                name = buffer(field.name, field.namelen)[:]
                found.append((name, buffer(field.value, field.valuelen)[:]))
            elif flags[0] & _FINAL:
                self._library.nghttp2_hd_inflate_end_headers(self._inflater)
                return found


def block(fields: Iterable[tuple[str, str]]) -> bytes:
    """Literals without indexing and without Huffman's code (RFC 7541, 6.2.2): the same for each request."""
    written = bytearray()
    for field in fields:
        written.append(0)
        for text in field:
            written += _integer(len(text)) + text.encode("latin-1")
    return bytes(written)


def _integer(value: int) -> bytes:
    """With a prefix of seven bits (RFC 7541, 5.1)."""
    if value < 127:
        return bytes((value,))
    value, found = value - 127, bytearray((127,))
    while value >= 128:
        found.append(value % 128 + 128)
        value //= 128
    found.append(value)
    return bytes(found)
