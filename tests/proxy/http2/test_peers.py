"""Other people's HTTP/2 clients: curl, nghttp and h2load, and Node's."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
from collections.abc import Iterator

import pytest

from tests.proxy.http2.pairs import to_http1
from tests.support.http_bed import Bed, bed, ok, server

_BODY = bytes(range(256)) * 400


def _script(sock: socket.socket) -> None:
    data = b""
    while True:
        while b"\r\n\r\n" not in data:
            data = _more(sock, data)
        head, _, data = data.partition(b"\r\n\r\n")
        size = 0
        if b"Transfer-Encoding: chunked" in head:
            while b"\r\n0\r\n\r\n" not in data:
                data = _more(sock, data)
            size = data.count(b"x")
            data = b""
        elif length := re.search(rb"content-length: (\d+)", head):
            size = int(length[1])
            while len(data) < size:
                data = _more(sock, data)
            data = data[size:]
        if head.startswith(b"POST"):
            sock.sendall(ok(b"got %d" % size))
        elif head.startswith(b"GET /trailers"):
            sock.sendall(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n"
            )
        else:
            sock.sendall(ok(_BODY))


def _more(sock: socket.socket, data: bytes) -> bytes:
    piece = sock.recv(65536)
    if not piece:
        raise EOFError
    return data + piece


@pytest.fixture(scope="module")
def proxy() -> Iterator[Bed]:
    with contextlib.ExitStack() as stack:
        web = stack.enter_context(server(_script))
        yield stack.enter_context(bed(to_http1(web.port)))


def _run(*command: str) -> bytes:
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("--http2-prior-knowledge",),
        ("--http2",),
        ("--http2-prior-knowledge", "-d", "x" * 1000),
        ("--http2-prior-knowledge", "-H", "Transfer-Encoding: chunked", "-d", "x" * 1000),
    ],
    ids=["prior knowledge", "upgrade", "with a body", "with a body of unknown length"],
)
def test_curl(proxy: Bed, arguments: tuple[str, ...]) -> None:
    url = f"http://127.0.0.1:{proxy.port}/"
    out = _run("curl", "-sS", "-m", "30", *arguments, "-w", "|%{http_version} %{http_code}", url)
    body = b"got 1000" if "-d" in arguments else _BODY
    assert out == body + b"|2 200"


def test_nghttp_upgrades_and_gets_trailers(proxy: Bed) -> None:
    url = f"http://127.0.0.1:{proxy.port}/trailers"
    for more in ((), ("-u",)):
        out = _run("nghttp", "-v", *more, url).decode()
        assert ":status: 200" in out
        assert "x-sum: 7" in out
        assert "error_code=NO_ERROR" in out


def test_h2load_with_many_streams(proxy: Bed) -> None:
    url = f"http://127.0.0.1:{proxy.port}/"
    out = _run("h2load", "-n", "400", "-c", "4", "-m", "50", url).decode()
    assert re.search(r"requests: 400 total, 400 started, 400 done, 400 succeeded, 0 failed", out), out


_NODE = """
const http2 = require('http2');
const session = http2.connect('http://127.0.0.1:' + process.argv[1]);
const one = (headers, body) => new Promise((resolve, reject) => {
  const request = session.request(headers);
  const seen = {size: 0};
  request.on('response', (head) => { seen.status = head[':status']; });
  request.on('trailers', (fields) => { seen.trailer = fields['x-sum']; });
  request.on('data', (piece) => { seen.size += piece.length; });
  request.on('end', () => resolve(seen));
  request.on('error', reject);
  request.end(body);
});
(async () => {
  const answers = await Promise.all([
    one({':path': '/'}), one({':path': '/trailers'}),
    one({':path': '/', ':method': 'POST'}, 'x'.repeat(70000)),
  ]);
  const ping = await new Promise((resolve) => session.ping((error, ms) => resolve(error === null)));
  console.log(JSON.stringify({answers, ping, limit: session.remoteSettings.maxConcurrentStreams}));
  session.close();
})();
"""


def test_node(proxy: Bed) -> None:
    told = json.loads(_run("node", "-e", _NODE, str(proxy.port)))
    assert told == {
        "answers": [
            {"size": len(_BODY), "status": 200},
            {"size": 3, "status": 200, "trailer": "7"},
            {"size": len("got 70000"), "status": 200},
        ],
        "ping": True,
        "limit": 1024,
    }
