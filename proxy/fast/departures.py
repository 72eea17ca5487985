"""The sockets of apps that are leaving the kernel's maps, and the worker's ends of their connections."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from meshd import log
from proxy.fast.departure import Departure, OwnEnd
from proxy.transports.reset import reset

_logger = logging.getLogger("meshd.proxy.fast")

SEARCH_SECONDS = 0.5
"""For our end of a connection that has just been made. Who has none until then is another worker."""
LEAVE_SECONDS = 5.0
"""Without a byte of what is on its way to the socket; then the connection is reset."""
_FIRST_LOOK, _LAST_LOOK = 0.001, 0.05

Find = Callable[[], OwnEnd | None]


@dataclass(slots=True, eq=False)
class _Leaving:
    departure: Departure
    find: Find
    waits: Callable[[], bool]
    since: float
    """When it began, or came on last."""
    taken: int = 0
    delay: float = _FIRST_LOOK


class Departures:
    """One worker's."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._leaving: dict[_Leaving, asyncio.TimerHandle] = {}

    def begin(self, departure: Departure, find: Find, waits: Callable[[], bool]) -> None:
        """See to one. ``find``: our end of the connection; None: we have none, or not yet.

        ``waits``: whether that is because the connection waits for its service's config.
        """
        self._look(_Leaving(departure, find, waits, self._loop.time()))

    def close(self) -> None:
        """Give all up."""
        for each, timer in self._leaving.items():
            timer.cancel()
            each.departure.close()
        self._leaving.clear()

    def _look(self, each: _Leaving) -> None:
        self._leaving.pop(each, None)
        now = self._loop.time()
        if self._is_done(each, now):
            each.departure.close()
        else:
            self._leaving[each] = self._loop.call_later(each.delay, self._look, each)
            each.delay = min(2 * each.delay, _LAST_LOOK)

    def _is_done(self, each: _Leaving, now: float) -> bool:
        own = each.find()
        if own is None:
            return now - each.since > SEARCH_SECONDS and not each.waits()
        try:
            if each.departure.is_done(own, now):
                return True
            reason = f"bytes were on their way to it for {LEAVE_SECONDS:g} s"
        except OSError as error:
            reason = str(error)
        else:
            if each.departure.taken > each.taken:
                each.taken, each.since, each.delay = each.departure.taken, now, _FIRST_LOOK
            if now - each.since <= LEAVE_SECONDS:
                return False
        log.event(_logger, logging.WARNING, "connection of an app that calls splice(2) reset", reason=reason)
        reset(own.transport)
        return True
