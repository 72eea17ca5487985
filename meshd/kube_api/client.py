"""Requests to an API server over aiohttp: lists in pieces, watches line by line, status patches."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Mapping
from types import TracebackType

import aiohttp
import msgspec

from meshd.kube_api.access import Access, tls_context
from meshd.kube_api.credentials import Certificate, Credential
from meshd.kube_api.resource import PAGE, Resource, Status

MAX_LINE_BYTES = 8 * 1024 * 1024
"""etcd holds objects of up to 1.5 MiB by default; JSON is longer than what is stored."""
CONNECT_SECONDS = 10.0
LIST_SECONDS = 120.0
WATCH_GRACE_SECONDS = 30.0
"""A watch that the server has not ended so long after its time is dead."""
_KEEP_ALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000),
)
"""A watch is silent for minutes: only this tells that its server is gone (30 s, like client-go's pings)."""
_SHORT = aiohttp.ClientTimeout(total=30.0, sock_connect=CONNECT_SECONDS)
_statuses = msgspec.json.Decoder(Status)
_AddressInfo = tuple[int, int, int, str, tuple[object, ...]]


class ApiError(Exception):
    """The API server refused, or could not be reached."""

    def __init__(self, status: int, reason: str, message: str, retry_after: float = 0.0) -> None:
        """``status``: HTTP's; 0: there was no answer. ``retry_after``: seconds that it asks us to wait."""
        super().__init__(f"{status} {reason}: {message}" if status else message)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after


class Client:
    """An asynchronous context manager. Its connections are made anew when the certificate changes."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._session: aiohttp.ClientSession | None = None
        self._certificate: Certificate | None = None
        self._connecting = asyncio.Lock()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def page(self, resource: Resource, namespace: str, continue_token: str) -> bytes:
        """A piece of a list. Raises ApiError, CredentialError, KubeConfigError."""
        query = {"limit": str(PAGE), **_selected(resource)}
        if continue_token:
            query["continue"] = continue_token
        path = resource.path_in(namespace)
        limits = aiohttp.ClientTimeout(total=LIST_SECONDS, sock_connect=CONNECT_SECONDS)
        async with self._answer("GET", path, limits, query) as response:
            return await response.read()

    async def watch(
        self, resource: Resource, namespace: str, version: str, seconds: int
    ) -> AsyncGenerator[bytes, None]:
        """The lines of a watch from ``version`` on, until the server ends it: within ``seconds``.

        Raises ApiError, CredentialError, KubeConfigError.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
            **_selected(resource),
        }
        limits = aiohttp.ClientTimeout(total=seconds + WATCH_GRACE_SECONDS, sock_connect=CONNECT_SECONDS)
        rest = b""
        async with self._answer("GET", resource.path_in(namespace), limits, query) as response:
            async for piece in response.content.iter_any():
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    if line.strip():
                        yield line
                if len(rest) > MAX_LINE_BYTES:
                    raise ApiError(0, "", f"a line of a watch is longer than {MAX_LINE_BYTES} bytes")

    async def get(self, path: str) -> bytes:
        """An object. Raises ApiError, CredentialError, KubeConfigError."""
        async with self._answer("GET", path, _SHORT, {}) as response:
            return await response.read()

    async def send(
        self, method: str, path: str, body: bytes, content_type: str = "application/json"
    ) -> bytes:
        """Create, replace or patch an object, and give what it is now.

        Raises ApiError, CredentialError, KubeConfigError.
        """
        query = {"fieldManager": "meshd"}
        async with self._answer(method, path, _SHORT, query, body, content_type) as response:
            return await response.read()

    @contextlib.asynccontextmanager
    async def _answer(
        self,
        method: str,
        path: str,
        limits: aiohttp.ClientTimeout,
        query: Mapping[str, str],
        body: bytes | None = None,
        content_type: str = "",
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        credential = await self._access.credentials.current()
        session = await self._session_of(credential)
        headers = {"Accept": "application/json"}
        if credential.token:
            headers["Authorization"] = f"Bearer {credential.token}"
        if body is not None:
            headers["Content-Type"] = content_type
        try:
            async with session.request(
                method,
                self._access.server + path,
                params=query,
                headers=headers,
                data=body,
                timeout=limits,
                server_hostname=self._access.server_name or None,
                allow_redirects=False,
            ) as response:
                if response.status not in (200, 201):
                    await self._refuse(response)
                yield response
        except (aiohttp.ClientError, OSError) as error:
            text = str(error) or type(error).__name__
            raise ApiError(0, "", f"{self._access.server}: {text}") from None
        except TimeoutError:
            raise ApiError(0, "", f"{self._access.server}: no answer in time") from None

    async def _refuse(self, response: aiohttp.ClientResponse) -> None:
        text = await response.content.read(64 * 1024)
        try:
            status = _statuses.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            status = Status(message=text.decode("utf-8", "replace")[:200])
        if response.status == 401:
            self._access.credentials.refused()
        after = response.headers.get("Retry-After", "")
        wait = float(after) if after.isascii() and after.isdigit() and len(after) < 4 else 0.0
        reason = status.reason or response.reason or ""
        raise ApiError(response.status, reason, status.message or "no message", wait)

    async def _session_of(self, credential: Credential) -> aiohttp.ClientSession:
        async with self._connecting:
            session = self._session
            if session is not None and credential.certificate == self._certificate:
                return session
            context = await asyncio.to_thread(tls_context, self._access, credential.certificate)
            connector = aiohttp.TCPConnector(ssl=context, limit=0, socket_factory=_socket)
            self._session = aiohttp.ClientSession(connector=connector)
            self._certificate = credential.certificate
            if session is not None:
                await session.close()
            return self._session


def _selected(resource: Resource) -> dict[str, str]:
    return {"fieldSelector": resource.field_selector} if resource.field_selector else {}


def _socket(info: _AddressInfo) -> socket.socket:
    """A socket that notices when its peer is gone."""
    made = socket.socket(info[0], info[1], info[2])
    made.setblocking(False)
    for level, option, value in _KEEP_ALIVE:
        made.setsockopt(level, option, value)
    return made
