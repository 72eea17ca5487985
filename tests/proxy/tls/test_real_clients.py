"""The first bytes of real TLS clients."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from proxy.tls.client_hello import Hello, HelloReader

NAME = "shop.example"
_JAVA = """
import java.net.*;
import javax.net.ssl.*;
class Ask {
    public static void main(String[] args) throws Exception {
        Socket plain = new Socket("127.0.0.1", Integer.parseInt(args[0]));
        SSLSocketFactory made = (SSLSocketFactory) SSLSocketFactory.getDefault();
        SSLSocket sock = (SSLSocket) made.createSocket(plain, args[1], 443, true);
        sock.startHandshake();
    }
}
"""


def _command(client: str, port: int, folder: Path) -> list[str]:
    at = f"127.0.0.1:{port}"
    match client:
        case "openssl":
            return ["openssl", "s_client", "-connect", at, "-servername", NAME]
        case "curl":
            return ["curl", "-sk", "--connect-to", f"{NAME}:443:{at}", f"https://{NAME}/"]
        case "node":
            options = f"{{host: '127.0.0.1', port: {port}, servername: '{NAME}', rejectUnauthorized: false}}"
            return ["node", "-e", f"require('tls').connect({options}).on('error', () => {{}})"]
        case "java":
            source = folder / "Ask.java"
            source.write_text(_JAVA)
            return ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", str(source), str(port), NAME]
    raise AssertionError(client)


def _read(listener: socket.socket) -> Hello | None:
    reader, found = HelloReader(), None
    connection, _ = listener.accept()
    with contextlib.closing(connection):
        connection.settimeout(60)
        while found is None and (data := connection.recv(100)):
            found = reader.feed(data)
    return found


@pytest.mark.parametrize("client", ["openssl", "curl", "node", "java"])
def test_its_name_is_read(client: str, tmp_path: Path) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        listener.settimeout(60)
        command = _command(client, listener.getsockname()[1], tmp_path)
        assert shutil.which(command[0])
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                assert _read(listener) == Hello(True, NAME)
            finally:
                process.terminate()
