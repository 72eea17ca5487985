"""Opens many connections, has a request answered on each, and holds them until its standard input ends.

Run as a program in a pod: ``idle_flows.py COUNT PORT PATH`` with addresses to call, one a line, in the file
that is standard input's first line. Connection i calls address i modulo their number. When all are open it
writes ``open``.
"""

from __future__ import annotations

import resource
import socket
import sys
from pathlib import Path

_BATCH = 50
_SECONDS = 10.0
_END_OF_HEAD = b"\r\n\r\n"


class BadAnswerError(Exception):
    """Not a 200 with a Content-Length."""


def _ask(sock: socket.socket, address: str, port: int, path: str) -> None:
    sock.settimeout(_SECONDS)
    sock.connect((address, port))
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {address}:{port}\r\n\r\n".encode())


def _read_answer(sock: socket.socket) -> None:
    data = b""
    while _END_OF_HEAD not in data:
        if not (piece := sock.recv(65536)):
            raise BadAnswerError(f"closed after {data!r}")
        data += piece
    head, _, body = data.partition(_END_OF_HEAD)
    lines = head.lower().split(b"\r\n")
    length = next((int(x.partition(b":")[2]) for x in lines if x.startswith(b"content-length:")), -1)
    if not lines[0].startswith(b"http/1.1 200 ") or length < 0:
        raise BadAnswerError(f"answered {data!r}")
    while len(body) < length:
        if not (piece := sock.recv(65536)):
            raise BadAnswerError("closed within a body")
        body += piece


def main() -> None:
    count, port, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    addresses = Path(sys.stdin.readline().strip()).read_text().split()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    opened: list[socket.socket] = []
    for start in range(0, count, _BATCH):
        batch = range(start, min(count, start + _BATCH))
        for i in batch:
            opened.append(socket.socket())
            _ask(opened[i], addresses[i % len(addresses)], port, path)
        for i in batch:
            _read_answer(opened[i])
    print("open", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
