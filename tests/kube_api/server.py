"""A Kubernetes API server for list, watch and status patches, that can be slow, forgetful and broken."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from meshd.kube_api.resource import Resource

Object = dict[str, Any]
SERVICES = Resource("Service", "v1", "services")
ROUTES = Resource("HTTPRoute", "gateway.networking.k8s.io/v1", "httproutes")
NAMESPACES = Resource("Namespace", "v1", "namespaces")
_GONE = {"kind": "Status", "apiVersion": "v1", "code": 410, "reason": "Expired", "message": "too old"}

Interceptor = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


class Server:
    """Objects by resource; every change has a resourceVersion of its own."""

    def __init__(self) -> None:
        self.version = 100
        self.objects: dict[tuple[str, str, str], Object] = {}
        """By plural, namespace, name."""
        self.installed = {SERVICES.plural: SERVICES, ROUTES.plural: ROUTES, NAMESPACES.plural: NAMESPACES}
        self.history: list[tuple[int, str, str, Object]] = []
        self.oldest = 0
        """Watches from before this version are 410."""
        self.lists: list[dict[str, str]] = []
        self.watches: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.patches: list[tuple[str, Object]] = []
        self.open_watches: set[web.StreamResponse] = set()
        self.intercept: Interceptor | None = None
        """Takes requests before the server does; None: not this one."""
        self._news = asyncio.Condition()
        self._pages: dict[str, list[Object]] = {}
        self.url = ""

    async def put(self, plural: str, name: str, namespace: str = "default", **fields: Any) -> Object:
        key = (plural, namespace, name)
        kind = "MODIFIED" if key in self.objects else "ADDED"
        uid = self.objects[key]["metadata"]["uid"] if key in self.objects else f"uid-{self.version + 1}"
        self.version += 1
        metadata = {"name": name, "namespace": namespace, "resourceVersion": str(self.version), "uid": uid}
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
        if self.intercept is not None:
            answer = await self.intercept(request)
            if answer is not None:
                return answer
        parts = request.path.strip("/").split("/")
        if request.method == "PATCH":
            body = await request.json()
            self.patches.append((request.path, body))
            return web.json_response({})
        plural = parts[-1]
        namespace = parts[parts.index("namespaces") + 1] if "namespaces" in parts[:-1] else ""
        if plural not in self.installed:
            return web.json_response({"kind": "Status", "code": 404, "reason": "NotFound"}, status=404)
        if request.query.get("watch") == "true":
            self.watches.append(dict(request.query))
            return await self._watch(request, plural, namespace)
        self.lists.append(dict(request.query))
        return self._list(request, plural, namespace)

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
            token = f"{version}-{len(rest)}"
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
                        kind == "BOOKMARK" or namespace in ("", made["metadata"]["namespace"])
                    ):
                        full = {"kind": resource.kind, "apiVersion": resource.api_version, **made}
                        line = json.dumps({"type": kind, "object": full}).encode() + b"\n"
                        await response.write(line)
        finally:
            self.open_watches.discard(response)

    @asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", self.handle)
        runner = web.AppRunner(app, shutdown_timeout=1.0, handler_cancellation=True)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
            await site.start()
            port = runner.addresses[0][1]
            self.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
            yield self
        finally:
            await self.cut()
            await runner.cleanup()
