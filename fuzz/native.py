"""The kernel's parsers of heads (bpf/), built for this machine and called."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Sequence
from pathlib import Path

from meshd.datapath.loading import source

MAX_PREFIX_ELEMENTS = 8
MAX_INDEXED_HEADERS = 4
MAX_HEADER_NAME_BYTES = 32
FIELD_HOST, FIELD_SLOTS = 4, 8
UPCALLS = {7: "incomplete", 8: "syntax", 9: "method", 10: "target", 11: "field", 12: "body", 20: "response"}
"""Names of enum upcall, of the reasons that the parsers give."""

_U32, _U64 = ctypes.c_uint32, ctypes.c_uint64
_FOLDER = Path(__file__).resolve().parent


class HeadScan(ctypes.Structure):
    """struct head_scan."""

    _fields_ = (
        *((name, _U32) for name in ("size", "at", "in_value", "ended", "ipv6", "slot", "name_length")),
        *((name, _U32) for name in ("single", "singles", "zero")),
        ("name", _U64 * 8),
    )


class HeadField(ctypes.Structure):
    """struct head_field."""

    _fields_ = (("start", _U32), ("length", _U32), ("count", _U32))


class PathElement(ctypes.Structure):
    """struct path_element."""

    _fields_ = (("hash", _U64), ("end", _U32), ("zero", _U32))


class RequestHead(ctypes.Structure):
    """struct request_head."""

    length: int
    method: int
    path_start: int
    path_end: int
    path_hash: int
    content_length: int
    has_query: int
    has_forwarded_proto: int
    has_request_id: int
    elements: int
    element: Sequence[PathElement]
    field: Sequence[HeadField]
    _fields_ = (
        *((name, _U32) for name in ("length", "method", "path_start", "path_end")),
        *((name, _U64) for name in ("path_hash", "content_length")),
        *((name, _U32) for name in ("has_query", "has_forwarded_proto", "has_request_id")),
        *((name, _U32) for name in ("match_length", "match_kind", "elements", "known", "candidate")),
        *((name, _U64) for name in ("match_hash", "rules")),
        ("element", PathElement * MAX_PREFIX_ELEMENTS),
        ("scan", HeadScan),
        ("field", HeadField * FIELD_SLOTS),
    )


class ResponseHead(ctypes.Structure):
    """struct response_head."""

    length: int
    status: int
    content_length: int
    chunked: int
    _fields_ = (
        *((name, _U32) for name in ("length", "status")),
        ("content_length", _U64),
        *((name, _U32) for name in ("chunked", "zero")),
        ("scan", HeadScan),
        ("field", HeadField * FIELD_SLOTS),
    )


class RuleSet(ctypes.Structure):
    """struct rule_set, of which the parser reads the indexed names alone."""

    _fields_ = (
        *((name, _U32) for name in ("exact", "prefixes", "headers", "zero")),
        ("header_length", _U32 * MAX_INDEXED_HEADERS),
        ("header", (ctypes.c_char * MAX_HEADER_NAME_BYTES) * MAX_INDEXED_HEADERS),
    )


class Heads:
    """The two parsers. What one finds is in ``request`` or ``response`` until its next call."""

    def __init__(self, folder: Path, indexed: Sequence[bytes] = ()) -> None:
        """Build the library in ``folder``. ``indexed``: the names, in lower case, that routes ask for.

        Raises subprocess.CalledProcessError when the compiler does, and ValueError when the structs are not
        what is said here.
        """
        self.indexed = tuple(indexed)
        self._library = _build(folder)
        self.request = RequestHead()
        self.response = ResponseHead()
        self._set = RuleSet(headers=len(indexed))
        for i, header in enumerate(indexed):
            self._set.header_length[i] = len(header)
            self._set.header[i].raw = header.ljust(MAX_HEADER_NAME_BYTES, b"\0")
        for struct in (
            ("request_head", self.request),
            ("response_head", self.response),
            ("rule_set", self._set),
        ):
            if self._library[f"size_of_{struct[0]}"]() != ctypes.sizeof(struct[1]):
                raise ValueError(f"struct {struct[0]} of bpf/types/ is another one")
        self._request = ctypes.byref(self.request)
        self._response = ctypes.byref(self.response)
        self._rules = ctypes.byref(self._set)
        self._parse_request = self._library.request
        self._parse_response = self._library.response

    def parse_request(self, data: bytes) -> int:
        """Read the head of a message; 0, or one of UPCALLS."""
        reason: int = self._parse_request(data, len(data), self._request, self._rules)
        return reason

    def parse_response(self, data: bytes, to_head: bool = False) -> int:
        """The same. ``to_head``: it answers a HEAD request."""
        reason: int = self._parse_response(data, len(data), self._response, to_head)
        return reason


def _build(folder: Path) -> ctypes.CDLL:
    library = folder / "head.so"
    subprocess.run(
        (
            *("cc", "-shared", "-fPIC", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function"),
            *("-Wno-sign-compare", "-fsanitize=undefined", "-fno-sanitize-recover"),
            *("-I", str(source.FOLDER), "-I", str(source.SHIM / "include")),
            *("-o", str(library), str(_FOLDER / "head.c")),
        ),
        check=True,
    )
    return ctypes.CDLL(str(library))
