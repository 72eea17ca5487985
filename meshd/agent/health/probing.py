"""One probe of one endpoint, from the agent's own network namespace, on a connection of its own."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from dataclasses import dataclass

import aiohttp
import grpc
import yarl
from grpc_health.v1 import health_pb2, health_pb2_grpc

from meshd.agent.health.probe_state import ProbeResult
from meshd.model.cluster_policies import GrpcProbe, HealthCheck, HttpProbe, TcpProbe

USER_AGENT = "meshd-probe"
_MAX_HEAD_BYTES = 8190
_SCHEMES = ("ipv4", "ipv6")
_CHANNEL_OPTIONS = (
    # A connection of its own, as for every probe.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.primary_user_agent", USER_AGENT),
)


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to ask, and how."""

    cluster: str
    address: str
    port: int
    """Where it is asked, which may be another one than where its requests go."""
    check: HealthCheck

    @property
    def authority(self) -> str:
        """``address:port`` as a URL and Host have it."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"


def new_session() -> aiohttp.ClientSession:
    """For ``probe``; the caller closes it."""
    return aiohttp.ClientSession(
        # No connection is kept: a probe is to say whether one can be made. Whoever calls bounds their number.
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(),
        auto_decompress=False,
        max_line_size=_MAX_HEAD_BYTES,
        max_field_size=_MAX_HEAD_BYTES,
    )


async def probe(session: aiohttp.ClientSession, target: Target) -> ProbeResult:
    """Ask once; takes no longer than the check's timeout. Raises nothing."""
    try:
        async with asyncio.timeout(target.check.timeout):
            match target.check.probe:
                case HttpProbe() as http:
                    return await _ask(session, target, http)
                case GrpcProbe() as call:
                    return await _call(target, call)
                case TcpProbe():
                    await _connect(target)
                    return ProbeResult()
    except TimeoutError:
        return ProbeResult(f"no answer within {target.check.timeout:g} s")
    except aiohttp.ClientConnectorError as error:
        return ProbeResult(_text(error.os_error))
    except aiohttp.ServerDisconnectedError:
        return ProbeResult("the connection was closed before an answer came")
    except (aiohttp.ClientError, ValueError) as error:
        return ProbeResult(f"the answer is not HTTP: {' '.join(str(error).split())[:200]}")
    except OSError as error:
        return ProbeResult(_text(error))


async def _ask(session: aiohttp.ClientSession, target: Target, http: HttpProbe) -> ProbeResult:
    url = yarl.URL(f"http://{target.authority}{http.path}", encoded=True)
    headers = {"host": host_field(target, http.host), "user-agent": USER_AGENT}
    async with session.get(url, headers=headers, allow_redirects=False) as answer:
        if any(first <= answer.status <= last for first, last in http.statuses):
            return ProbeResult()
        return ProbeResult(f"HTTP status {answer.status}", certain=True)


async def _call(target: Target, call: GrpcProbe) -> ProbeResult:
    options = (
        *_CHANNEL_OPTIONS,
        ("grpc.default_authority", host_field(target, call.authority)),
    )
    async with grpc.aio.insecure_channel(
        f"{_SCHEMES[':' in target.address]}:{target.authority}", options
    ) as channel:
        question = health_pb2.HealthCheckRequest(service=call.service)
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(question)
        except grpc.aio.AioRpcError as error:
            # What the channel says itself of a connection that is none looks like a server's answer.
            status = error.code()
            certain = status is not grpc.StatusCode.UNAVAILABLE
            details = " ".join((error.details() or "").split())[:200]
            return ProbeResult(f"gRPC status {status.name}{f': {details}' if details else ''}", certain)
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return ProbeResult()
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return ProbeResult(f"it says {status}", certain=True)


def host_field(target: Target, name: str) -> str:
    """What Host says; ``name``: by the policy. A name with "/" cannot stand there (RFC 9110, 7.2)."""
    name = name or target.cluster
    return target.authority if "/" in name else name


async def _connect(target: Target) -> None:
    _, writer = await asyncio.open_connection(target.address, target.port)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def _text(error: OSError) -> str:
    if not error.errno:
        return str(error)
    name = errno.errorcode.get(error.errno, "")
    text = os.strerror(error.errno)
    return f"{text} ({name})" if name else text
