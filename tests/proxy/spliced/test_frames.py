"""Where frames are, as the proxy follows them and as the kernel does (bpf/frames.h)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd.datapath.flows.frame_position import Position
from proxy.spliced.frames import AFTER_PREFACE, BEFORE_PREFACE, Frames
from tests.datapath.native import build
from tests.proxy.spliced.made_frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    HEADERS,
    PREFACE,
    SETTINGS,
    Frame,
    cuts,
    frames,
    pieces,
)

_HEAD_AT = 8
"""Of struct frames."""
Pass = Callable[[Position, bytes, int], Position]


class _Frames(ctypes.Structure):
    """struct frames."""

    left: int
    have: int
    head: bytes
    in_block: int
    begun: int
    highest: int
    opened: int
    _fields_ = (
        ("left", ctypes.c_uint32),
        ("have", ctypes.c_uint32),
        ("head", ctypes.c_char * 16),
        *((name, ctypes.c_uint32) for name in ("in_block", "begun", "highest", "opened")),
    )


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Pass:
    """Passes over bytes as the programs do, at most so many steps a call."""
    library = build(
        """
        #include "frames.h"
        __u32 size(void) { return sizeof(struct frames); }
        __u32 pass(struct frames *frames, const __u8 *data, __u32 size, __u32 steps)
        {
            __u32 at = 0, part, left;

            for (__u32 i = 0; i < steps && at < size; i++) {
                left = frames->left;
                part = next_part(frames, size - at);
                if (!left && !pass_header(frames, data + at, data + at + part, part))
                    return at;
                at += part;
            }
            return at;
        }
        """,
        tmp_path_factory.mktemp("native"),
    )
    assert library.size() == ctypes.sizeof(_Frames)

    def passed(position: Position, data: bytes, steps: int) -> Position:
        left, have, head, in_block, begun, highest, opened = position
        state = _Frames(left, have, b"", in_block, begun, highest, opened)
        ctypes.memmove(ctypes.addressof(state) + _HEAD_AT, head, len(head))
        while data:
            taken = library["pass"](ctypes.byref(state), data, len(data), steps)
            assert taken
            data = data[taken:]
        head = ctypes.string_at(ctypes.addressof(state) + _HEAD_AT, state.have)
        return Position(
            *(state.left, state.have, head, state.in_block != 0, state.begun != 0),
            *(state.highest, state.opened),
        )

    return passed


def _after(data: bytes, position: Position = AFTER_PREFACE) -> Frames:
    found = Frames(position)
    found.feed(data)
    return found


@given(sequence=frames, where=cuts, by_kernel=st.lists(st.booleans(), min_size=14, max_size=14))
def test_the_kernel_and_the_proxy_go_on_where_the_other_stopped(
    kernel: Pass, sequence: list[Frame], where: list[int], by_kernel: list[bool]
) -> None:
    data = PREFACE + b"".join(frame.packed() for frame in sequence)
    position = BEFORE_PREFACE
    passed = 0
    for piece, mine in zip(pieces(data, where), by_kernel, strict=False):
        ours = _after(piece, position).position()
        theirs = kernel(position, piece, 3)
        assert ours == theirs
        position = theirs if mine else ours
        passed += len(piece)
        assert position == _after(data[:passed], BEFORE_PREFACE).position()
    assert passed == len(data)
    assert (position.left, position.have, position.in_block) == (0, 0, False)
    opened: set[int] = set()
    for frame in sequence:
        if frame.type == HEADERS and frame.stream % 2 and frame.stream > max(opened, default=0):
            opened.add(frame.stream)
    assert (position.highest, position.opened) == (max(opened, default=0), len(opened))


def test_nothing_may_come_before_the_first_frame_nor_into_one_nor_into_a_header_block() -> None:
    assert not Frames(AFTER_PREFACE).is_between
    settings = Frame(SETTINGS).packed()
    assert _after(settings).is_between
    assert not _after(settings + b"\0").is_between
    data = Frame(DATA, 0, 1, b"hello").packed()
    assert not _after(data[:-1]).is_between
    assert _after(data).is_between
    begun = settings + Frame(HEADERS, 0, 1, b"ab").packed()
    assert not _after(begun).is_between
    assert not _after(begun + Frame(CONTINUATION, 0, 1, b"c").packed()).is_between
    assert _after(begun + Frame(CONTINUATION, END_HEADERS, 1, b"c").packed()).is_between
