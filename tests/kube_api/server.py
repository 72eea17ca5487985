"""A Kubernetes API server for list, watch and status patches, that can be slow, forgetful and broken."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from meshd.control.cluster_source import RESOURCES
from meshd.kube_api.leading import LEASES
from tests.kube_api import discovery

Object = dict[str, Any]
NAMESPACES, SERVICES, SLICES, ROUTES, *_ = RESOURCES
_GONE = {"kind": "Status", "apiVersion": "v1", "code": 410, "reason": "Expired", "message": "too old"}


def _status(code: int, reason: str) -> web.Response:
    return web.json_response(
        {"kind": "Status", "code": code, "reason": reason, "message": reason}, status=code
    )


Interceptor = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


class Server:
    """Objects by resource; every change has a resourceVersion of its own."""

    def __init__(self) -> None:
        self.version = 100
        self.objects: dict[tuple[str, str, str], Object] = {}
        """By plural, namespace, name."""
        self.installed = {each.plural: each for each in (*RESOURCES, LEASES)}
        self.tokens: dict[str, Object] = {}
        """What is said of a token that is reviewed: status of a TokenReview."""
        self.history: list[tuple[int, str, str, Object]] = []
        self.oldest = 0
        """Watches from before this version are 410."""
        self.lists: list[dict[str, str]] = []
        self.watches: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        """Of all requests but those of leases."""
        self.patches: list[tuple[str, Object]] = []
        self.open_watches: set[web.StreamResponse] = set()
        self.intercept: Interceptor | None = None
        """Takes requests before the server does; None: not this one."""
        self._news = asyncio.Condition()
        self._pages: dict[str, list[Object]] = {}
        self.url = ""

    async def put(
        self,
        plural: str,
        name: str,
        namespace: str = "default",
        labels: dict[str, str] | None = None,
        uid: str = "",
        **fields: Any,
    ) -> Object:
        key = (plural, namespace, name)
        kind = "MODIFIED" if key in self.objects else "ADDED"
        uid = uid or (
            self.objects[key]["metadata"]["uid"] if key in self.objects else f"uid-{self.version + 1}"
        )
        self.version += 1
        metadata: Object = {"name": name, "resourceVersion": str(self.version), "uid": uid}
        metadata |= {"namespace": namespace} if namespace else {}
        metadata |= {"labels": labels} if labels else {}
        made = {"metadata": metadata, **fields}
        self.objects[key] = made
        await self._tell(kind, plural, made)
        return made

    async def delete(self, plural: str, name: str, namespace: str = "default") -> None:
        self.version += 1
        gone = self.objects.pop((plural, namespace, name))
        gone = {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self.version)}}
        await self._tell("DELETED", plural, gone)

    async def bookmark(self, plural: str) -> None:
        await self._tell("BOOKMARK", plural, {"metadata": {"resourceVersion": str(self.version)}})

    async def forget(self) -> None:
        """Every version but the newest is too old; all watches end."""
        self.oldest = self.version
        await self.cut()

    async def cut(self) -> None:
        """Drop the connections of all watches."""
        for response in tuple(self.open_watches):
            transport = response._req.transport if response._req is not None else None
            if transport is not None:
                transport.abort()

    async def _tell(self, kind: str, plural: str, made: Object) -> None:
        async with self._news:
            self.history.append((self.version, kind, plural, json.loads(json.dumps(made))))
            self._news.notify_all()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.headers.append(dict(request.headers))
        if "/leases" not in request.path:
            self.paths.append(request.path)
        if self.intercept is not None:
            answer = await self.intercept(request)
            if answer is not None:
                return answer
        if (known := discovery.answer(request.path, self.installed.values())) is not None:
            return web.json_response(known)
        parts = request.path.strip("/").split("/")
        at = 3 if parts[0] == "apis" else 2
        namespace = ""
        if parts[at] == "namespaces" and len(parts) > at + 2:
            namespace, at = parts[at + 1], at + 2
        plural, *named = parts[at:]
        if plural == "tokenreviews":
            given = await request.json()
            status = self.tokens.get(given["spec"]["token"], {"authenticated": False})
            return web.json_response({**given, "status": status}, status=201)
        if plural not in self.installed:
            return _status(404, "NotFound")
        if named or request.method == "POST":
            return await self._one(request, plural, namespace, named)
        if request.query.get("watch") == "true":
            self.watches.append(dict(request.query))
            return await self._watch(request, plural, namespace)
        self.lists.append(dict(request.query))
        return self._list(request, plural, namespace)

    async def _one(
        self, request: web.Request, plural: str, namespace: str, named: list[str]
    ) -> web.StreamResponse:
        """An object: read, created, replaced, or its status patched."""
        given = await request.json() if request.can_read_body else {}
        name = named[0] if named else given["metadata"]["name"]
        held = self.objects.get((plural, namespace, name))
        if request.method == "POST" and held is not None:
            return _status(409, "AlreadyExists")
        if request.method != "POST" and held is None:
            return _status(404, "NotFound")
        if request.method != "GET":
            version = given.get("metadata", {}).get("resourceVersion", "")
            if held is not None and version and version != held["metadata"]["resourceVersion"]:
                return _status(409, "Conflict")
            if request.method == "PATCH":
                assert named[1:] == ["status"]
                assert request.content_type == "application/merge-patch+json"
                self.patches.append((request.path, given))
                given = {**(held or {}), "status": given["status"]}
            fields = {key: value for key, value in given.items() if key != "metadata"}
            held = await self.put(plural, name, namespace, **fields)
        resource = self.installed[plural]
        return web.json_response({"kind": resource.kind, "apiVersion": resource.api_version, **(held or {})})

    def _list(self, request: web.Request, plural: str, namespace: str) -> web.Response:
        resource = self.installed[plural]
        limit = int(request.query.get("limit", "0")) or 10**9
        token = request.query.get("continue", "")
        if token:
            if token not in self._pages:
                return web.json_response(_GONE, status=410)
            items = self._pages.pop(token)
            version = int(token.split("-")[0])
        else:
            items = [o for (p, ns, _), o in self.objects.items() if p == plural and namespace in ("", ns)]
            version = self.version
        page, rest = items[:limit], items[limit:]
        metadata: Object = {"resourceVersion": str(version)}
        if rest:
            token = f"{version}-{plural}-{len(rest)}"
            self._pages[token] = rest
            metadata["continue"] = token
            metadata["remainingItemCount"] = len(rest)
        return web.json_response(
            {
                "kind": f"{resource.kind}List",
                "apiVersion": resource.api_version,
                "metadata": metadata,
                "items": page,
            }
        )

    def expire_pages(self) -> None:
        self._pages.clear()

    async def _watch(self, request: web.Request, plural: str, namespace: str) -> web.StreamResponse:
        after = int(request.query["resourceVersion"])
        response = web.StreamResponse()
        response.content_type = "application/json"
        await response.prepare(request)
        if after < self.oldest:
            await response.write(json.dumps({"type": "ERROR", "object": _GONE}).encode() + b"\n")
            return response
        resource = self.installed[plural]
        at = 0
        self.open_watches.add(response)
        try:
            while True:
                async with self._news:
                    while len(self.history) == at:
                        await self._news.wait()
                    news, at = self.history[at:], len(self.history)
                for version, kind, whose, made in news:
                    if version <= after and kind != "BOOKMARK":
                        continue
                    if whose == plural and (
                        kind == "BOOKMARK" or namespace in ("", made["metadata"].get("namespace"))
                    ):
                        full = {"kind": resource.kind, "apiVersion": resource.api_version, **made}
                        line = json.dumps({"type": kind, "object": full}).encode() + b"\n"
                        await response.write(line)
        finally:
            self.open_watches.discard(response)

    @asynccontextmanager
    async def running(
        self, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
    ) -> AsyncIterator[Server]:
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self.handle)
        runner = web.AppRunner(app, shutdown_timeout=1.0, handler_cancellation=True)
        await runner.setup()
        try:
            site = web.TCPSite(runner, host, 0, ssl_context=tls)
            await site.start()
            port = runner.addresses[0][1]
            self.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
            yield self
        finally:
            await self.cut()
            await runner.cleanup()
