"""The table of a flow's states (bpf/flow_state.h), and where chunks end (bpf/chunks.h)."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.datapath.native import build

IDLE, CARRYING, ANSWERING, SLOW = 1, 2, 3, 4
NONE, LINE, END, SPILLED, BROKEN = 0, 3, 5, 7, 8
LIMIT = 2 << 20
Chunk = tuple[int, int, int]


class Counts(ctypes.Structure):
    """struct flow_counts."""

    _fields_ = (
        *((name, ctypes.c_uint) for name in ("passed_up", "consumed", "written", "arrived", "read")),
        *((name, ctypes.c_uint) for name in ("requests", "responses", "adopted")),
        ("left", ctypes.c_ulonglong),
    )


class Piece(ctypes.Structure):
    """struct chunk_piece."""

    _fields_ = (("length", ctypes.c_uint), ("data", ctypes.c_ulonglong), ("next", ctypes.c_int))


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return build(
        """
        #include "flow_state.h"
        #include "chunks.h"
        int state(const struct flow_counts *c) { return flow_state(c); }
        void chunk(struct chunk_piece *piece, const u8 *at, u32 length, int after_data, u64 carried)
        {
            read_chunk(piece, at, at + length, after_data, carried);
        }
        """,
        tmp_path_factory.mktemp("native"),
    )


@pytest.fixture(scope="module")
def read_chunk(native: ctypes.CDLL) -> Callable[[bytes, bool, int], Chunk]:
    native.chunk.argtypes = (
        ctypes.POINTER(Piece),
        ctypes.c_char_p,
        ctypes.c_uint,
        ctypes.c_int,
        ctypes.c_ulonglong,
    )

    def read(data: bytes, after_data: bool = False, carried: int = 0) -> Chunk:
        piece = Piece()
        # A copy of exactly this size: to read beyond it is an error that the sanitizer of the fuzzer finds.
        native.chunk(ctypes.byref(piece), data, len(data), after_data, carried)
        return piece.length, piece.data, piece.next

    return read


@pytest.mark.parametrize(
    ("left", "consumed", "read", "answered"), list(itertools.product((False, True), repeat=4))
)
def test_the_table_of_states(
    native: ctypes.CDLL, left: bool, consumed: bool, read: bool, answered: bool
) -> None:
    caught_up = consumed and read
    expected = {
        (True, False, False): CARRYING,
        (True, False, True): CARRYING,
        (True, True, False): CARRYING,
        (True, True, True): CARRYING,
        (False, False, False): SLOW,
        (False, False, True): SLOW,
        (False, True, False): ANSWERING,
        (False, True, True): IDLE,
    }[left, caught_up, answered]
    # Near the wrap: all counts are mod 2^32.
    top = 2**32 - 1
    for arrived in (top, 0, 5):
        counts = Counts(
            passed_up=3,
            consumed=3 if consumed else top,
            written=5,
            arrived=5 if read else arrived,
            read=5 if read else 4,
            requests=1,
            responses=top,
            adopted=2 if answered else 1,
            left=1 if left else 0,
        )
        assert native.state(ctypes.byref(counts)) == expected


@pytest.mark.parametrize(
    ("data", "after_data", "piece"),
    [
        (b"5\r\nhello\r\n", False, (3, 5, END)),
        (b"a\r\n", False, (3, 10, END)),
        (b"00fF\r\nx", False, (6, 255, END)),
        (b"\r\n5\r\nhello", True, (5, 5, END)),
        (b"0\r\n\r\n", False, (5, 0, NONE)),
        (b"000\r\n\r\n", False, (7, 0, NONE)),
        (b"\r\n0\r\n\r\n", True, (7, 0, NONE)),
        (b"\r\n", True, (2, 0, LINE)),
        # The proxy's, from the line on: extensions, trailers, and what is not whole.
        (b"5;a=b\r\nhello\r\n", False, (0, 0, SPILLED)),
        (b"5 \r\nhello\r\n", False, (0, 0, SPILLED)),
        (b"\r\n5;a\r\n", True, (2, 0, LINE)),
        (b"0\r\nTrailer: a\r\n\r\n", False, (0, 0, SPILLED)),
        (b"0\r\n", False, (0, 0, SPILLED)),
        (b"0\r\n\r", False, (0, 0, SPILLED)),
        (b"5", False, (0, 0, SPILLED)),
        (b"5\r", False, (0, 0, SPILLED)),
        (b"5\nhello", False, (0, 0, SPILLED)),
        (b"\r\n\r\n", False, (0, 0, SPILLED)),
        (b"-5\r\n", False, (0, 0, SPILLED)),
        (b"0x5\r\n", False, (0, 0, SPILLED)),
        (b"12345678\r\n", False, (0, 0, SPILLED)),
        # Neither the line end that is due nor anything else of use.
        (b"\r", True, (0, 0, BROKEN)),
        (b"5\r\n", True, (0, 0, BROKEN)),
        (b"\n\r", True, (0, 0, BROKEN)),
    ],
)
def test_a_chunks_first_bytes(
    read_chunk: Callable[..., Chunk], data: bytes, after_data: bool, piece: Chunk
) -> None:
    assert read_chunk(data, after_data) == piece


def test_a_body_beyond_the_limit_goes_to_the_proxy_where_a_chunk_begins(
    read_chunk: Callable[..., Chunk],
) -> None:
    assert read_chunk(b"10\r\n", False, LIMIT - 16) == (4, 16, END)
    assert read_chunk(b"10\r\n", False, LIMIT - 15) == (0, 0, SPILLED)
    assert read_chunk(b"\r\n10\r\n", True, LIMIT - 15) == (2, 0, LINE)


@given(st.binary(max_size=20), st.booleans())
def test_no_bytes_make_a_piece_longer_than_they_are(
    read_chunk: Callable[..., Chunk], data: bytes, after_data: bool
) -> None:
    length, size, following = read_chunk(data, after_data)
    assert length <= len(data)
    if size:
        assert following == END
        assert int(data[:length].strip(), 16) == size
