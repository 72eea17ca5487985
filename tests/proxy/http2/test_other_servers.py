"""nginx and nghttpd behind the proxy: they end connections, pad frames, and allow few streams."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
from collections.abc import Iterator

import pytest

from meshd.model.clusters import Cluster, HttpVersion
from tests.support.http2_client import Http2Client
from tests.support.http_bed import Bed, bed, config, eventually, get, read_response

_CLUSTER = Cluster(name="web", http_version=HttpVersion.HTTP2)
_BODY = bytes(range(256)) * 1000
_NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr crit;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  http2_max_concurrent_streams 4;
  keepalive_requests 20;
  server {{
    listen 127.0.0.1:{port} http2;
    root {folder}/www;
  }}
}}
"""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def _running(port: int, *command: str) -> Iterator[None]:
    def answers() -> bool:
        assert process.poll() is None, f"{command[0]} has ended"
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 10).close()
            return True
        return False

    with subprocess.Popen(command) as process:
        try:
            eventually(answers, 30)
            yield
        finally:
            process.kill()


@pytest.fixture(scope="module", params=["nginx", "nghttpd"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Bed]]:
    """The server's name, and the proxy before it."""
    folder, port = tmp_path_factory.mktemp("served"), _free_port()
    (folder / "www").mkdir()
    (folder / "www" / "big").write_bytes(_BODY)
    if request.param == "nginx":
        file = folder / "nginx.conf"
        file.write_text(_NGINX.format(folder=folder, port=port))
        command = ["/usr/sbin/nginx", "-p", str(folder), "-c", str(file), "-e", "stderr"]
    else:
        command = [
            "nghttpd",
            "--no-tls",
            "-a",
            "127.0.0.1",
            "-d",
            str(folder / "www"),
            "-m",
            "4",
            "-b",
            "200",
        ]
        command += ["--trailer", "x-sum: 7", "--push", "/big=/pushed", str(port)]
    with _running(port, *command), bed(config((port,), cluster=_CLUSTER)) as proxy:
        yield request.param, proxy


def test_a_body_by_http1_and_http2(served: tuple[str, Bed]) -> None:
    name, proxy = served
    with proxy.connect() as plain:
        plain.sendall(get(b"/big"))
        head, body, _ = read_response(plain)
        assert head.startswith(b"HTTP/1.1 200 ")
        assert body == _BODY
    with Http2Client(proxy.connect()) as client:
        answer = client.get(b"/big")
        assert (answer.status, answer.body) == (200, _BODY)
        assert answer.trailers == ([(b"x-sum", b"7")] if name == "nghttpd" else [])


def test_many_streams_over_the_connections_that_the_server_allows(served: tuple[str, Bed]) -> None:
    """nginx ends a connection after 20 requests: no request is lost over it."""
    name, proxy = served
    command = ["h2load", "-n", "300", "-c", "3", "-m", "20", f"http://127.0.0.1:{proxy.port}/big"]
    out = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert re.search(r"requests: 300 total, 300 started, 300 done, 300 succeeded, 0 failed", out), out
    assert "status codes: 300 2xx" in out
    assert name != "nginx" or proxy.counter("upstream_goaways_total") > 0
    assert {row.status for row in proxy.rows()} == {200}
