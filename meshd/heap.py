"""The process's own memory."""

from __future__ import annotations

import asyncio
import ctypes
import gc

START_SECONDS = 3.0
"""After which a daemon has read its config and made what it keeps."""


def trim_after_start(loop: asyncio.AbstractEventLoop) -> None:
    """Give back, once, what starting has used: about 1 MB, which a daemon would hold for good."""
    loop.call_later(START_SECONDS, trim)


def trim() -> None:
    """Give the allocator's free pages back to the kernel. With glibc; another libc keeps them.

    And leave what there is now out of later collections: of 1,000 services' config one takes 50 ms.
    """
    gc.collect()
    gc.freeze()
    release = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if release is not None:
        release(0)
