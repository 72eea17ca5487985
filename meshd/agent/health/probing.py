"""One probe of one endpoint, from the agent's own network namespace, on a connection of its own."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from dataclasses import dataclass

import aiohttp
import yarl

from meshd.agent.health.probe_state import ProbeResult
from meshd.model.cluster_policies import HealthCheck, HttpProbe, TcpProbe

USER_AGENT = "meshd-probe"
_MAX_HEAD_BYTES = 8190


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
    headers = {"host": host_field(target, http), "user-agent": USER_AGENT}
    async with session.get(url, headers=headers, allow_redirects=False) as answer:
        if any(first <= answer.status <= last for first, last in http.statuses):
            return ProbeResult()
        return ProbeResult(f"HTTP status {answer.status}", certain=True)


def host_field(target: Target, http: HttpProbe) -> str:
    """What Host says. A name with "/" cannot stand there (RFC 9110, 7.2)."""
    name = http.host or target.cluster
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
