"""One splice by io_uring(7): enough of it for that. Layouts: linux/io_uring.h."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct

_SETUP, _ENTER = 425, 426  # on all architectures
_OP_SPLICE = 30
_GETEVENTS = 1
_SQES_OFFSET = 0x1000_0000
_libc = ctypes.CDLL(None, use_errno=True)


def splice(source: int, into: int, size: int) -> int:
    """From a descriptor into a pipe; how many bytes. Raises OSError, also where there is no io_uring."""
    parameters = ctypes.create_string_buffer(120)
    ring = _call(_SETUP, 1, parameters)
    try:
        # struct io_uring_params: six words, features, wq_fd, three reserved; then sq_off and cq_off.
        sq, cq = (struct.unpack_from("=8I", parameters, at) for at in (40, 80))
        head, tail, _, _, _, _, array, _ = sq
        rings = mmap.mmap(ring, 4096)
        entries = mmap.mmap(ring, 4096, offset=_SQES_OFFSET)
        nowhere = 0xFFFF_FFFF_FFFF_FFFF
        struct.pack_into(
            "=BBHiQQIIQHHiQQ",
            entries,
            0,
            _OP_SPLICE,
            0,
            0,
            into,
            nowhere,
            nowhere,
            size,
            2,
            0,
            0,
            0,
            source,
            0,
            0,
        )
        struct.pack_into("=I", rings, array, 0)
        struct.pack_into("=I", rings, tail, struct.unpack_from("=I", rings, head)[0] + 1)
        _call(_ENTER, ring, 1, 1, _GETEVENTS, None, 0)
        (result,) = struct.unpack_from("=i", rings, cq[5] + 8)
        rings.close()
        entries.close()
    finally:
        os.close(ring)
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return int(result)


def _call(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(number, *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
