"""What the kernel tells of one TCP socket, and an end put to it: NETLINK_SOCK_DIAG (sock_diag(7)).

Layouts: struct inet_diag_req_v2 and inet_diag_msg of linux/inet_diag.h.
"""

from __future__ import annotations

import os
import socket
import struct

from meshd.datapath.addresses import End

NETLINK_SOCK_DIAG = 4
_BY_FAMILY, _DESTROY = 20, 21
_NLMSG_ERROR = 2
_REQUEST, _ACK = 1, 4
_HEADER = struct.Struct("=IHHII")
_REQUEST_BODY = struct.Struct("=BBBBI")
_PORTS = struct.Struct("!HH")
_NO_COOKIE = struct.pack("=III", 0, 0xFFFF_FFFF, 0xFFFF_FFFF)
_ALL_STATES = 0xFFFF_FFFF
_BYTES = 65536
_WAIT_SECONDS = 1.0
# Of struct inet_diag_msg: after four bytes and the socket's id come expires, then rqueue.
_UNREAD_AT = 4 + 48 + 4


class SocketQuestions:
    """Asks in the network namespace that it was made in. Owns its socket."""

    def __init__(self, fd: int | None = None) -> None:
        """``fd``: such a socket, taken over; None: a new one, in the calling thread's namespace.

        Raises OSError.
        """
        if fd is None:
            self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)
        else:
            self._sock = socket.socket(fileno=fd)
        self._sock.settimeout(_WAIT_SECONDS)

    @property
    def fd(self) -> int:
        """Of its socket."""
        return self._sock.fileno()

    def unread(self, local: End, remote: End) -> int:
        """Bytes that came by TCP and have not been read, wherever the kernel has put them.

        Raises OSError (ENOENT: there is no such socket).
        """
        answer = self._ask(_BY_FAMILY, _REQUEST, local, remote)
        (unread,) = struct.unpack_from("=I", answer, _UNREAD_AT)
        return int(unread)

    def destroy(self, local: End, remote: End) -> None:
        """End a connection with RST: its own end gets ECONNABORTED (CONFIG_INET_DIAG_DESTROY).

        Raises OSError (ENOENT: there is no such socket; EOPNOTSUPP: not with this kernel).
        """
        self._ask(_DESTROY, _REQUEST | _ACK, local, remote)

    def close(self) -> None:
        """Close its socket."""
        self._sock.close()

    def _ask(self, kind: int, flags: int, local: End, remote: End) -> bytes:
        family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
        ends = _PORTS.pack(local[1], remote[1])
        ends += b"".join(socket.inet_pton(family, each[0]).ljust(16, b"\0") for each in (local, remote))
        body = _REQUEST_BODY.pack(family, socket.IPPROTO_TCP, 0, 0, _ALL_STATES) + ends + _NO_COOKIE
        self._sock.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, 0, 0) + body)
        answer = self._sock.recv(_BYTES)
        _, kind, _, _, _ = _HEADER.unpack_from(answer)
        found = answer[_HEADER.size :]
        if kind == _NLMSG_ERROR:
            (error,) = struct.unpack_from("=i", found)
            if error:
                raise OSError(-error, f"{os.strerror(-error)} (sock_diag)")
        return found
