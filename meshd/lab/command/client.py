"""Talks to a lab's supervisor, from the command line."""

from __future__ import annotations

import socket
from typing import TypeVar

import msgspec

from meshd.lab.command.protocol import Failed, Reply, Request
from meshd.lab.names import Lab

_T = TypeVar("_T", bound=msgspec.Struct)
_TIMEOUT = 30.0


class LabError(RuntimeError):
    """The lab cannot do what it was asked: the message says why, and what to do."""


class NotRunningError(LabError):
    """No supervisor answers."""


def ask(lab: Lab, request: Request, expected: type[_T], seconds: float = _TIMEOUT) -> _T:
    """Send a request and wait so long for its answer. Raises NotRunningError, LabError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        try:
            connection.connect(str(lab.socket))
        except (FileNotFoundError, ConnectionRefusedError):
            raise NotRunningError(f"lab {lab.name} is not running: start it with `meshd lab up`") from None
        try:
            connection.sendall(msgspec.msgpack.encode(request))
            connection.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        except OSError as error:
            raise LabError(f"lab {lab.name} does not answer: {error}; see {lab.log('supervisor')}") from error
    try:
        reply = msgspec.msgpack.decode(answer, type=Reply)
    except msgspec.MsgspecError as error:
        raise LabError(f"lab {lab.name} ended before it answered; see {lab.log('supervisor')}") from error
    if isinstance(reply, Failed):
        raise LabError(reply.reason)
    if not isinstance(reply, expected):
        raise LabError(f"lab {lab.name} answered {type(reply).__name__}: it runs another version of meshd")
    return reply
