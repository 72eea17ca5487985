"""A client that sends its last request and says so, and reads a long answer slowly, gets all of it."""

from __future__ import annotations

import socket
import time

import pytest

from tests.proxy.worker.fast_path_bed import DATE, FastPathBed
from tests.support.http_bed import get, ok, read_response, receive_all, receive_head

SIZE = 2 << 20
"""Of the last answer: the longest that the kernel carries, and more than a client's buffer takes."""


def _server(sock: socket.socket) -> None:
    while True:
        head = receive_head(sock)
        sock.sendall(ok(bytes(SIZE if b"/last" in head else 3), DATE))


@pytest.mark.parametrize("far", [False, True], ids=["here", "remote"])
@pytest.mark.parametrize("pause", [0, 0.002])
def test_it_gets_all_of_its_answer(bed: FastPathBed, far: bool, pause: float) -> None:
    bed.configure([bed.serve(_server, far)])
    for _ in range(3):
        with bed.connect() as client:
            for _ in range(3):
                client.sendall(get(b"/first"))
                assert len(read_response(client)[1]) == 3
            assert bed.carried(client).responses == 2
            client.sendall(get(b"/last"))
            client.shutdown(socket.SHUT_WR)
            got = client.recv(65536)
            while piece := client.recv(65536):
                got += piece
                time.sleep(pause)
            assert len(got.partition(b"\r\n\r\n")[2]) == SIZE
            assert receive_all(client) == b""
