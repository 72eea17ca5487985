"""Structured log lines for the daemons: ``time level logger event key=value ...`` (logfmt)."""

from __future__ import annotations

import logging
import sys
import time

_NEEDS_QUOTES = frozenset(' "=\\')


def _value(value: object) -> str:
    text = str(value)
    if text and _NEEDS_QUOTES.isdisjoint(text) and text.isprintable():
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else repr(c)[1:-1] for c in escaped) + '"'


def event(logger: logging.Logger, level: int, name: str, /, **fields: object) -> None:
    """Log one event. ``name`` is a few words; each field becomes ``key=value``, quoted where needed."""
    if logger.isEnabledFor(level):
        logger.log(level, "%s", " ".join([_value(name), *(f"{k}={_value(v)}" for k, v in fields.items())]))


def configure(level: str) -> None:
    """Send all loggers to standard error. ``level``: debug, info, warning or error."""
    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter(
        "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Its debug lines are about its own event loop, several a call.
    logging.getLogger("grpc").setLevel(max(logging.INFO, logging.getLogger().level))
