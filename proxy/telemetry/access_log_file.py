"""Access log lines to a file or standard output, gathered and written in blocks."""

from __future__ import annotations

import logging
import os
import sys

from meshd import log
from proxy.telemetry.access_log import AccessLogEntry, format_json, format_text

_logger = logging.getLogger("meshd.proxy.access_log")

FLUSH_SECONDS = 0.25
MAX_WAITING_LINES = 50_000
"""Between two flushes, or while the disk is full; lines beyond them are dropped and counted."""


class AccessLogFile:
    """Writes entries. Opened again by ``reopen``, for log rotation."""

    def __init__(self, path: str, text: bool) -> None:
        """``path``: "-" for standard output. ``text``: Envoy's default format, else JSON. Raises OSError."""
        self._path = path
        self._format = format_text if text else format_json
        self._lines: list[str] = []
        self._rest = b""
        """Of a block that a full pipe did not take: it goes on where it stopped."""
        self._fd = self._open()
        self.dropped = 0

    def write(self, entry: AccessLogEntry) -> None:
        """Take one entry; it is written with the next flush."""
        if len(self._lines) >= MAX_WAITING_LINES:
            self.dropped += 1
        else:
            self._lines.append(self._format(entry))

    def flush(self) -> None:
        """Write what waits. A failure is logged, and the lines are dropped.

        Of what goes to a pipe that nobody empties, some is left for the next flush, and more waits behind it.
        """
        try:
            if not self._write_rest():
                return
            lines, self._lines = self._lines, []
            self._rest = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
            self._write_rest()
        except OSError as error:
            self.dropped += self._rest.count(b"\n")
            self._rest = b""
            log.event(
                _logger, logging.ERROR, "access log not written", path=self._path, reason=error.strerror
            )

    def _write_rest(self) -> bool:
        """Whether all of it is written. Raises OSError."""
        try:
            while self._rest:
                self._rest = self._rest[os.write(self._fd, self._rest) :]
        except BlockingIOError:
            return False
        return True

    def reopen(self) -> None:
        """Open the path anew. On failure the old file stays in use, and that is logged."""
        self.flush()
        try:
            fd = self._open()
        except OSError as error:
            log.event(
                _logger, logging.ERROR, "access log not reopened", path=self._path, reason=error.strerror
            )
            return
        os.close(self._fd)
        self._fd = fd

    def close(self) -> None:
        """Write what waits and close."""
        self.flush()
        os.close(self._fd)

    def _open(self) -> int:
        if self._path == "-":
            return os.dup(sys.stdout.fileno())
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
