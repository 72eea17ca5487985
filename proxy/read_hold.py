"""Backpressure: reading from a connection is held while anyone has a reason to hold it."""

from __future__ import annotations

import asyncio
import enum


class Reason(enum.IntFlag):
    """Why a connection is not read from."""

    OTHER_SIDE = 1
    """What is read could not be passed on: the other side is not connected, or does not keep up."""
    PIPELINE = 2
    """Enough requests wait already."""
    UNREAD_ANSWERS = 4
    """The client does not read what it has asked for."""


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
