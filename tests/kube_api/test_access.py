from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from meshd.kube_api.access import Access, from_kubeconfig, in_cluster
from meshd.kube_api.client import ApiError, Client
from meshd.kube_api.credentials import CredentialError, TokenFile
from meshd.kube_api.kubeconfig import KubeConfigError
from tests.kube_api.server import SERVICES, Server


def _kubeconfig(folder: Path, server: str, user: dict[str, Any], **cluster: Any) -> Path:
    path = folder / "config"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "shop"}}],
        "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(yaml.safe_dump(content))
    return path


async def _page(access: Access) -> dict[str, Any]:
    async with Client(access) as client:
        return dict(json.loads(await client.page(SERVICES, "", "")))


def _authorization(server: Server) -> list[str]:
    return [headers.get("Authorization", "") for headers in server.headers]


class _Pki:
    """A CA, and what it signed: files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._openssl("req", "-x509", *_NEW, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=ca")
        self.sign("server", "subjectAltName=IP:127.0.0.1,DNS:kubernetes")
        self.sign("client", "extendedKeyUsage=clientAuth")

    def sign(self, name: str, extension: str) -> None:
        self._openssl("req", *_NEW, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (self.folder / "ext").write_text(extension)
        signing = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "ext")
        self._openssl("x509", "-req", "-in", f"{name}.csr", *signing, "-out", f"{name}.crt")

    def _openssl(self, *args: str) -> None:
        subprocess.run(("openssl", *args), cwd=self.folder, check=True, capture_output=True)

    def data(self, name: str) -> str:
        return base64.b64encode((self.folder / name).read_bytes()).decode()

    def server(self, client_certificate: bool = False) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.folder / "server.crt", self.folder / "server.key")
        if client_certificate:
            context.load_verify_locations(self.folder / "ca.crt")
            context.verify_mode = ssl.CERT_REQUIRED
        return context


_NEW = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> _Pki:
    return _Pki(tmp_path_factory.mktemp("pki"))


def test_in_a_pod(tmp_path: Path, pki: _Pki) -> None:
    """The token is read again when the server refuses it."""

    async def run() -> None:
        server = Server()
        (tmp_path / "token").write_text("first\n")
        (tmp_path / "namespace").write_text("meshd-system")
        (tmp_path / "ca.crt").write_bytes((pki.folder / "ca.crt").read_bytes())

        async def check(request: web.Request) -> web.Response | None:
            good = request.headers["Authorization"] != "Bearer first" or not rotated
            return None if good else web.json_response({"code": 401, "reason": "Unauthorized"}, status=401)

        rotated = False
        server.intercept = check
        async with server.running(pki.server()):
            port = server.url.rpartition(":")[2]
            variables = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": port}
            access = in_cluster(tmp_path, variables)
            assert access.namespace == "meshd-system"
            async with Client(access) as client:
                await client.page(SERVICES, "", "")
                rotated = True
                (tmp_path / "token").write_text("second\n")
                with pytest.raises(ApiError, match="401 Unauthorized"):
                    await client.page(SERVICES, "", "")
                await client.page(SERVICES, "", "")
            assert _authorization(server) == ["Bearer first", "Bearer first", "Bearer second"]

    asyncio.run(run())


def test_not_in_a_pod(tmp_path: Path) -> None:
    with pytest.raises(KubeConfigError, match="KUBERNETES_SERVICE_HOST"):
        in_cluster(tmp_path, {})
    variables = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    with pytest.raises(KubeConfigError, match=r"ca\.crt: No such file"):
        in_cluster(tmp_path, variables)
    for name in ("ca.crt", "namespace"):
        (tmp_path / name).write_text("x")
    assert in_cluster(tmp_path, variables).server == "https://[fd00::1]:443"


def test_a_token_file_is_read_again_after_a_minute(tmp_path: Path) -> None:
    async def run() -> None:
        path, now = tmp_path / "token", 100.0
        tokens = TokenFile(path, lambda: now)
        with pytest.raises(CredentialError, match="No such file"):
            await tokens.current()
        path.write_text("one")
        assert (await tokens.current()).token == "one"
        path.write_text("two")
        now = 159.0
        assert (await tokens.current()).token == "one"
        now = 160.0
        assert (await tokens.current()).token == "two"
        path.unlink()
        now = 300.0
        assert (await tokens.current()).token == "two"

    asyncio.run(run())


@pytest.mark.parametrize("inline", [False, True])
def test_a_client_certificate(tmp_path: Path, pki: _Pki, inline: bool) -> None:
    async def run() -> None:
        server = Server()
        async with server.running(pki.server(client_certificate=True)):
            if inline:
                user = {
                    "client-certificate-data": pki.data("client.crt"),
                    "client-key-data": pki.data("client.key"),
                }
                path = _kubeconfig(
                    tmp_path, server.url, user, **{"certificate-authority-data": pki.data("ca.crt")}
                )
            else:
                relative = os.path.relpath(pki.folder, tmp_path)
                user = {
                    "client-certificate": f"{relative}/client.crt",
                    "client-key": f"{relative}/client.key",
                }
                path = _kubeconfig(
                    tmp_path, server.url, user, **{"certificate-authority": f"{relative}/ca.crt"}
                )
            access = from_kubeconfig((path,))
            assert access.namespace == "shop"
            assert (await _page(access))["kind"] == "ServiceList"

    asyncio.run(run())


def test_a_server_that_is_not_who_it_should_be(tmp_path: Path, pki: _Pki) -> None:
    async def run() -> None:
        server = Server()
        async with server.running(pki.server()):
            authority = {"certificate-authority-data": pki.data("ca.crt")}
            strange = _kubeconfig(tmp_path, server.url, {"token": "t"})
            with pytest.raises(ApiError, match="certificate"):
                await _page(from_kubeconfig((strange,)))
            other = {**authority, "tls-server-name": "elsewhere"}
            with pytest.raises(ApiError, match="elsewhere"):
                await _page(from_kubeconfig((_kubeconfig(tmp_path, server.url, {"token": "t"}, **other),)))
            named = {**authority, "tls-server-name": "kubernetes"}
            await _page(from_kubeconfig((_kubeconfig(tmp_path, server.url, {"token": "t"}, **named),)))
            blind = {"insecure-skip-tls-verify": True}
            await _page(from_kubeconfig((_kubeconfig(tmp_path, server.url, {"token": "t"}, **blind),)))

    asyncio.run(run())


PLUGIN = """
import json, os, sys
from pathlib import Path
info = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
calls = Path(sys.argv[1])
calls.write_text(calls.read_text() + "x" if calls.exists() else "x")
status = {"token": os.environ["PREFIX"] + str(len(calls.read_text()))}
if len(sys.argv) > 2:
    status["expirationTimestamp"] = sys.argv[2]
print(json.dumps({"apiVersion": info["apiVersion"], "kind": "ExecCredential", "status": status}))
"""


def _plugin(folder: Path, *args: str) -> dict[str, Any]:
    script = folder / "plugin.py"
    script.write_text(PLUGIN)
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": sys.executable,
            "args": [str(script), str(folder / "calls"), *args],
            "env": [{"name": "PREFIX", "value": "token-"}],
            "interactiveMode": "IfAvailable",
        }
    }


def test_an_exec_plugin(tmp_path: Path) -> None:
    """It is asked once, and again when the server refuses what it gave."""

    async def run() -> None:
        server = Server()
        async with server.running():
            access = from_kubeconfig((_kubeconfig(tmp_path, server.url, _plugin(tmp_path)),))
            async with Client(access) as client:
                for _ in range(3):
                    await client.page(SERVICES, "", "")
                access.credentials.refused()
                await client.page(SERVICES, "", "")
            assert _authorization(server) == ["Bearer token-1"] * 3 + ["Bearer token-2"]

    asyncio.run(run())


@pytest.mark.parametrize(("left", "asked"), [(5, 3), (3600, 1)])
def test_what_an_exec_plugin_gave_expires(tmp_path: Path, left: int, asked: int) -> None:
    async def run() -> None:
        expires = (datetime.now(UTC) + timedelta(seconds=left)).strftime("%Y-%m-%dT%H:%M:%SZ")
        credentials = from_kubeconfig(
            (_kubeconfig(tmp_path, "http://x", _plugin(tmp_path, expires)),)
        ).credentials
        for _ in range(3):
            await credentials.current()
        assert len((tmp_path / "calls").read_text()) == asked

    asyncio.run(run())


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("import sys; sys.exit('log in first')", "exit code 1: log in first"),
        ("print('hello')", "does not write an ExecCredential"),
        ('print(\'{"apiVersion": "v1", "kind": "Pod"}\')', "writes v1 Pod"),
    ],
)
def test_an_exec_plugin_that_fails(tmp_path: Path, script: str, reason: str) -> None:
    user = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": sys.executable,
            "args": ["-c", script],
        }
    }
    credentials = from_kubeconfig((_kubeconfig(tmp_path, "http://x", user),)).credentials
    with pytest.raises(CredentialError, match=reason):
        asyncio.run(credentials.current())


def test_an_exec_plugin_that_is_not_there(tmp_path: Path) -> None:
    user = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "/nonexistent/plugin",
            "installHint": "install the cloud's own tool",
        }
    }
    credentials = from_kubeconfig((_kubeconfig(tmp_path, "http://x", user),)).credentials
    with pytest.raises(CredentialError, match="No such file or directory; install the cloud's own tool"):
        asyncio.run(credentials.current())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no current-context"),
        ("{", "not valid YAML"),
        ("[]", "Expected `object`"),
        ("current-context: a", "no context 'a'; there are none"),
        ("current-context: a\ncontexts: [{name: a, context: {cluster: c}}]", "no cluster that is there"),
        (
            "current-context: a\ncontexts: [{name: a, context: {cluster: c, user: u}}]\n"
            "clusters: [{name: c, cluster: {server: 'https://x'}}]",
            "no user that is there",
        ),
        (
            "current-context: a\ncontexts: [{name: a, context: {cluster: c}}]\n"
            "clusters: [{name: c, cluster: {server: x}}]",
            "matching regex",
        ),
        (
            "current-context: a\ncontexts: [{name: a, context: {cluster: c, user: u}}]\n"
            "clusters: [{name: c, cluster: {server: 'https://x'}}]\nusers: [{name: u, user: {username: me}}]",
            "not supported",
        ),
    ],
)
def test_a_kubeconfig_that_is_no_good(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(KubeConfigError, match=reason):
        from_kubeconfig((path,))


def test_several_kubeconfigs_the_first_counts(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir()
    second.mkdir()
    files = (
        _kubeconfig(first, "https://one", {"token": "1"}),
        tmp_path / "absent",
        _kubeconfig(second, "https://two", {"token": "2"}),
    )
    assert from_kubeconfig(files).server == "https://one"
    with pytest.raises(KubeConfigError, match="there is no context 'there'; there are here"):
        from_kubeconfig(files, "there")
