"""Backpressure: reading from a connection is held while anyone has a reason to hold it."""

from __future__ import annotations

import asyncio
from typing import Final

# Bits, and no enum.IntFlag: its operators are Python code, and this is in every request's path.
OTHER_SIDE: Final = 1
"""What is read could not be passed on: the other side is not connected, or does not keep up."""
PIPELINE: Final = 2
"""Enough requests wait already."""
UNREAD_ANSWERS: Final = 4
"""The client does not read what it has asked for."""
KERNEL_READS: Final = 8
"""The kernel answers the client with what comes; it rings when that is the proxy's to read (bpf/bell.h)."""
ANY_REASON: Final = 15


class ReadHold:
    """Pauses a transport while at least one reason stands."""

    __slots__ = ("_reasons", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._reasons = 0

    def add(self, reason: int) -> None:
        """Hold for ``reason``."""
        if self._reasons == 0 and not self._transport.is_closing():
            self._transport.pause_reading()
        self._reasons |= reason

    def remove(self, reason: int) -> None:
        """``reason`` stands no more."""
        if self._reasons & reason:
            self._reasons &= ~reason
            if self._reasons == 0 and not self._transport.is_closing():
                self._transport.resume_reading()
