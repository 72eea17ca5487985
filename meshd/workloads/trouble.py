"""A runtime that does not answer: said once for each reason, and asked again less and less often."""

from __future__ import annotations

import logging
from pathlib import Path

from meshd import log
from meshd.kube_api.backoff import Backoff

FIRST_SECONDS, LONGEST_SECONDS = 0.5, 8.0
"""Of the waits before it is asked again."""


def backoff() -> Backoff:
    """The waits."""
    return Backoff(FIRST_SECONDS, LONGEST_SECONDS)


class Trouble:
    """With one runtime."""

    def __init__(self, logger: logging.Logger, socket: Path) -> None:
        self._logger = logger
        self._socket = socket
        self._reason = ""
        self._backoff = backoff()

    def met(self, reason: str) -> None:
        """It does not answer."""
        if reason != self._reason:
            log.event(self._logger, logging.WARNING, "runtime", socket=self._socket, reason=reason)
            self._reason = reason

    def wait(self) -> float:
        """The seconds until it is asked again."""
        return self._backoff.take()

    def over(self) -> None:
        """It has answered."""
        self._backoff.reset()
        if self._reason:
            log.event(self._logger, logging.INFO, "runtime answers again", socket=self._socket)
            self._reason = ""
