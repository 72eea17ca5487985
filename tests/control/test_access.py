"""TLS and authentication of the ADS stream, over real sockets: our agent's client and a real Envoy."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.core.v3 import base_pb2
from envoy.extensions.transport_sockets.tls.v3 import common_pb2, tls_pb2

from meshd.agent.control_plane import ControlPlane
from meshd.control.access import Access
from meshd.control.control import Control, Options
from meshd.control.directory import Directory
from meshd.control.metrics import exposition
from meshd.control.server import AdsServer
from meshd.control.tokens import TokensFile
from meshd.tls_files import TlsFileError, TlsFiles
from tests.control.running import Agent, agent, until, web
from tests.control.test_command import line_with, started
from tests.support import envoy
from tests.support.certificates import Authority, Certificate
from tests.support.mesh_node import MeshNode
from tests.xds.example import resources, service

HERE = "IP:127.0.0.1,DNS:localhost"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def server_files(authority: Authority) -> Certificate:
    return authority.sign("control", HERE)


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.csv"
    path.write_text("s3cret,system:node:node1,1\n")
    return path


@contextlib.asynccontextmanager
async def serving(access: Access, *services: str, **more: float) -> AsyncIterator[tuple[AdsServer, str]]:
    server = AdsServer(access, **more)
    port = server.listen("127.0.0.1:0")
    await server.start()
    server.publish(resources(service(*services or ("a",))))
    try:
        yield server, f"127.0.0.1:{port}"
    finally:
        await server.stop()


def plane(
    address: str, authority: Authority, token: Path | None = None, own: Certificate | None = None
) -> ControlPlane:
    certificate, key = own or (None, None)
    return ControlPlane(
        targets=(address,), tls=TlsFiles(certificate, key, authority.certificate), token_file=token
    )


async def until_served(node: Agent, name: str = "a") -> None:
    await until(lambda: node.client.synced and name in node.snapshot.clusters, f"cluster {name}")


async def until_refused(node: Agent, reason: str) -> None:
    await until(lambda: reason in node.client.last_error, reason)
    assert not node.client.connected


def test_right_token_is_served_and_a_wrong_one_keeps_the_last_config(
    authority: Authority, server_files: Certificate, tokens: Path, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO)
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    access = Access(TlsFiles(*server_files), TokensFile(tokens))

    async def run() -> None:
        # A connection's age is bounded: what a client shows is asked for again.
        async with (
            serving(access, max_connection_seconds=0.5) as (server, address),
            agent(plane(address, authority, token)) as node,
        ):
            await until_served(node)
            deltas = len(node.deltas)
            await until(lambda: node.client.connects > 1, "another stream")
            token.write_text("gu3ss")
            await until_refused(node, "UNAUTHENTICATED: the bearer token is not known here")
            assert set(node.snapshot.clusters) == {"a"}
            assert node.deltas[deltas:] == []
            server.publish(resources(service("a", "b")))
            token.unlink()
            await until_refused(node, f"{token}: No such file or directory")
            token.write_text("s3cret")
            await until_served(node, "b")

    asyncio.run(run())
    lines = [record.getMessage() for record in caplog.records]
    assert any('reason="the bearer token is not known here"' in line for line in lines)
    assert any("identity=system:node:node1" in line for line in lines)
    assert not any("gu3ss" in line or "s3cret" in line for line in lines), "a token is in the log"


def test_no_token_at_all(authority: Authority, server_files: Certificate, tokens: Path) -> None:
    async def run() -> None:
        access = Access(TlsFiles(*server_files), TokensFile(tokens))
        async with serving(access) as (_, address), agent(plane(address, authority)) as node:
            await until_refused(node, "UNAUTHENTICATED: a bearer token is asked for")

    asyncio.run(run())


def test_client_certificate_is_asked_for(
    authority: Authority, server_files: Certificate, tmp_path: Path
) -> None:
    folder = tmp_path / "others"
    folder.mkdir()
    stranger = Authority(folder, "stranger").sign("system:node:node1", file="stranger-node")
    access = Access(TlsFiles(*server_files, authority.certificate))

    async def run() -> None:
        async with serving(access) as (server, address):
            own = authority.sign("system:node:node1", file="node")
            async with agent(plane(address, authority, own=own)) as node:
                await until_served(node)
                (stream,) = server.streams
                assert [identity.user for identity in stream.identities] == ["system:node:node1"]
            for other in (None, stranger):
                async with agent(plane(address, authority, own=other)) as node:
                    await until_refused(node, "UNAVAILABLE")
            async with agent(plane(address, authority, own=own), "node2") as node:
                await until_refused(node, "PERMISSION_DENIED: system:node:node1 may not ask as node node2")
                assert not node.snapshot.clusters

    asyncio.run(run())


def test_server_that_is_not_believed(authority: Authority, tmp_path: Path) -> None:
    folder = tmp_path / "others"
    folder.mkdir()
    access = Access(TlsFiles(*Authority(folder).sign("control", HERE)))

    async def run() -> None:
        async with serving(access) as (_, address), agent(plane(address, authority)) as node:
            await until_refused(node, "CERTIFICATE_VERIFY_FAILED")

    asyncio.run(run())


def test_rotated_certificates_are_served_and_bad_ones_are_not(
    authority: Authority, server_files: Certificate
) -> None:
    async def run() -> None:
        async with serving(Access(TlsFiles(*server_files))) as (_, address):
            host, _, port = address.rpartition(":")

            async def served() -> str:
                pem = await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)))
                return pem.strip()

            first = server_files.certificate.read_text().strip()
            assert await served() == first
            server_files.certificate.write_text("nonsense")
            assert await served() == first
            authority.sign("control", HERE)  # certificate and key, one after the other
            assert await served() == server_files.certificate.read_text().strip() != first
            async with agent(plane(address, authority)) as node:
                await until_served(node)

    asyncio.run(run())


def test_a_certificate_that_is_about_to_end_is_told_of(
    server_files: Certificate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is good for two days. The file is looked at each time that somebody asks."""
    access = Access(TlsFiles(*server_files))
    options = Options(Directory(tmp_path / "objects"), (f"unix:{tmp_path / 'ads'}",), access)
    (tmp_path / "objects").mkdir()

    async def run() -> None:
        stop, plane = asyncio.Event(), Control(options)

        def told() -> list[float]:
            text = exposition(plane.resources, plane.server, access.certificate_ends()).decode()
            name = "meshd_control_certificate_expiry_timestamp_seconds "
            return [float(each.removeprefix(name)) for each in text.splitlines() if each.startswith(name)]

        task = asyncio.create_task(plane.run(stop))
        await until(lambda: "certificate ends" in caplog.text, "the warning")
        (ends,) = told()
        assert abs(ends - time.time() - 2 * 86400) < 3600
        server_files.certificate.unlink()
        assert told() == []
        stop.set()
        await task

    with caplog.at_level(logging.WARNING, "meshd.control"):
        asyncio.run(run())


def test_files_that_cannot_be_used_are_named(authority: Authority, server_files: Certificate) -> None:
    other = authority.sign("other")
    for files, message in (
        (
            TlsFiles(server_files.certificate, other.key),
            "other.key are no certificate and its key: key values",
        ),
        (TlsFiles(authorities=other.key), "other.key: no certificates of CAs"),
        (TlsFiles(other.key.with_name("none"), other.key), "none: No such file"),
    ):
        with pytest.raises(TlsFileError, match=message):
            files.read()


def test_the_commands_themselves(
    authority: Authority, server_files: Certificate, tokens: Path, tmp_path: Path
) -> None:
    own = authority.sign("agents")
    (tmp_path / "token").write_text("s3cret")
    tokens.write_text("s3cret,agents,1\n")
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    (manifests / "web.yaml").write_text(web())
    with started(
        "--manifests", str(manifests), "--listen", "127.0.0.1:0",
        "--tls-cert", str(server_files.certificate), "--tls-key", str(server_files.key),
        "--client-ca", str(authority.certificate), "--tokens-file", str(tokens),
    ) as plane:  # fmt: skip
        port = line_with(plane, "listening").rpartition("port=")[2].strip()
        with MeshNode(
            f"localhost:{port}", "--control-ca", str(authority.certificate),
            "--control-cert", str(own.certificate), "--control-key", str(own.key),
            "--control-token-file", str(tmp_path / "token"),
        ) as node:  # fmt: skip
            node.wait_for_services(["default/web:80"])
            assert "identity=agents,agents" in line_with(plane, "stream began")


def test_real_envoy_with_certificate_and_token(
    authority: Authority, server_files: Certificate, tokens: Path
) -> None:
    own = authority.sign("envoy")
    tokens.write_text("s3cret,envoys,1\n")
    access = Access(TlsFiles(*server_files, authority.certificate), TokensFile(tokens))

    def message(name: str, token: str, port: int) -> bootstrap_pb2.Bootstrap:
        message = envoy.with_ads(envoy.bootstrap(name), ("127.0.0.1", port))
        context = tls_pb2.UpstreamTlsContext(
            common_tls_context=tls_pb2.CommonTlsContext(
                tls_certificates=[
                    common_pb2.TlsCertificate(
                        certificate_chain=base_pb2.DataSource(filename=str(own.certificate)),
                        private_key=base_pb2.DataSource(filename=str(own.key)),
                    )
                ],
                validation_context=common_pb2.CertificateValidationContext(
                    trusted_ca=base_pb2.DataSource(filename=str(authority.certificate))
                ),
                alpn_protocols=["h2"],
            )
        )
        (cluster,) = message.static_resources.clusters
        cluster.transport_socket.name = "envoy.transport_sockets.tls"
        cluster.transport_socket.typed_config.Pack(context)
        (grpc_service,) = message.dynamic_resources.ads_config.grpc_services
        grpc_service.initial_metadata.add(key="authorization", value=f"Bearer {token}")
        return message

    async def run() -> None:
        async with serving(access) as (server, address):
            port = int(address.rpartition(":")[2])
            with envoy.EnvoyProcess(message("envoy1", "s3cret", port), short) as peer:
                await asyncio.to_thread(peer.wait_for_listeners, {"a"})
                (stream,) = server.streams
                assert [identity.user for identity in stream.identities] == ["envoy", "envoys"]
            await until(lambda: not server.streams, "its end")
            with envoy.EnvoyProcess(message("envoy2", "gu3ss", port), short) as peer:
                await until(lambda: "the bearer token is not known here" in peer.log(), "the refusal")
                assert not server.streams

    with tempfile.TemporaryDirectory(prefix="mt-", dir="/tmp") as folder:
        short = Path(folder)
        asyncio.run(run())
