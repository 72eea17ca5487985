"""A Kubernetes API server for the kinds that we use, that can be slow, forgetful and broken.

It lists in pieces, watches, and takes writes of all ways (writing.py), for whoever asks: us, kubectl, client
libraries. What of a real one it lacks: schemas (nothing is validated), tables (kubectl makes its own),
graceful deletion (what has no finalizers is gone at once), and controllers but for that of namespaces.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from meshd.kube_api.resource import Resource
from tests.kube_api import discovery, selectors, writing
from tests.kube_api.faults import Faults, Stream
from tests.kube_api.kinds import KINDS, NAMESPACES, ROUTES, SERVICES, SLICES
from tests.kube_api.paths import Place, place
from tests.kube_api.store import Event, Key, Object, Store
from tests.kube_api.writing import Asked, RefusedError

__all__ = ["NAMESPACES", "ROUTES", "SERVICES", "SLICES", "Interceptor", "Object", "Server"]
Interceptor = Callable[[web.Request], Awaitable[web.StreamResponse | None]]
MAX_OBJECT_BYTES = 3 * 1024 * 1024
"""Of a request (kube-apiserver MaxRequestBodyBytes)."""
_DELETED = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}


def _refusal(code: int, reason: str, message: str = "") -> web.Response:
    status = {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": code, "reason": reason, "message": message or reason,
    }  # fmt: skip
    return web.json_response(status, status=code)


class Server:
    """Objects, who asked for what, and what goes wrong."""

    def __init__(self, namespaces: tuple[str, ...] = ("default", "meshd-system")) -> None:
        """``namespaces``: that there are from the beginning."""
        self.store = Store()
        self.installed: dict[str, Resource] = {each.plural: each for each in KINDS}
        self.faults = Faults()
        self.tokens: dict[str, Object] = {}
        """What is said of a token that is reviewed: status of a TokenReview."""
        self.log: Callable[[Object], str] = lambda pod: ""
        """What a pod's containers have written."""
        self.lists: list[dict[str, str]] = []
        self.watches: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        """Of all requests but those of leases."""
        self.patches: list[tuple[str, Object]] = []
        """Of statuses."""
        self.open_watches: set[web.StreamResponse] = set()
        self.intercept: Interceptor | None = None
        """Takes requests before the server does; None: not this one."""
        self.after: Callable[[Event], None] = lambda event: None
        """Called after each change: a controller, that may write to the store."""
        self.url = ""
        self._news = asyncio.Condition()
        self._told = 0
        for name in namespaces:
            self.store.write("namespaces", {"metadata": {"name": name}})

    @property
    def version(self) -> int:
        """The newest resourceVersion."""
        return self.store.version

    @property
    def objects(self) -> dict[Key, Object]:
        """By plural, namespace, name."""
        return self.store.objects

    async def put(
        self,
        plural: str,
        name: str,
        namespace: str = "default",
        labels: dict[str, str] | None = None,
        uid: str = "",
        **fields: Any,
    ) -> Object:
        """Create or replace an object, as if by another client."""
        metadata: Object = {"name": name}
        metadata |= {"namespace": namespace} if namespace else {}
        metadata |= {"labels": labels} if labels else {}
        metadata |= {"uid": uid} if uid else {}
        made = self.store.write(plural, {"metadata": metadata, **fields})
        await self._tell()
        return made

    async def delete(self, plural: str, name: str, namespace: str = "default") -> None:
        """Take an object away, as if by another client."""
        self.store.remove((plural, namespace, name))
        await self._tell()

    async def bookmark(self, plural: str) -> None:
        """Send one to the watches of a kind."""
        self.store.bookmark(plural)
        await self._tell()

    async def forget(self) -> None:
        """Every version but the newest is too old; all watches end."""
        self.store.oldest = self.version
        await self.cut()

    def expire_pages(self) -> None:
        """No list can be gone on with."""
        self.store.expire_pages()

    async def cut(self) -> None:
        """Drop the connections of all watches."""
        for response in tuple(self.open_watches):
            transport = response._req.transport if response._req is not None else None
            if transport is not None:
                transport.abort()

    async def _tell(self) -> None:
        while self._told < len(self.store.history):
            event = self.store.history[self._told]
            self._told += 1
            self.after(event)
        async with self._news:
            self._news.notify_all()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request."""
        self.headers.append(dict(request.headers))
        if "/leases" not in request.path:
            self.paths.append(request.path)
        if self.intercept is not None:
            answer = await self.intercept(request)
            if answer is not None:
                return answer
        if (answer := await self.faults.answer()) is not None:
            return answer
        if (known := discovery.answer(request.path, self.installed.values())) is not None:
            return web.json_response(known)
        try:
            path = place(request.path)
        except ValueError:
            return _refusal(404, "NotFound", "the server could not find the requested resource")
        if path.plural == "tokenreviews":
            given = await request.json()
            status = self.tokens.get(given["spec"]["token"], {"authenticated": False})
            return web.json_response({**given, "status": status}, status=201)
        resource = self.installed.get(path.plural)
        if resource is None:
            return _refusal(404, "NotFound", "the server could not find the requested resource")
        try:
            return await self._answer(request, resource, path)
        except RefusedError as error:
            return _refusal(error.code, error.reason, str(error))

    async def _answer(self, request: web.Request, resource: Resource, path: Place) -> web.StreamResponse:
        if request.method != "GET":
            return await self._write(request, resource, path)
        if path.name:
            held = self.objects.get((path.plural, path.namespace, path.name))
            if held is None:
                raise RefusedError(404, "NotFound", f'{path.plural} "{path.name}" not found')
            if path.subresource == "log":
                return web.Response(text=self.log(held))
            return web.json_response(_typed(resource, held))
        if request.query.get("watch") in ("true", "1"):
            self.watches.append(dict(request.query))
            return await self._watch(request, resource, path.namespace)
        self.lists.append(dict(request.query))
        return self._list(request, resource, path.namespace)

    async def _write(self, request: web.Request, resource: Resource, path: Place) -> web.Response:
        body = await request.read()
        asked = Asked(
            resource, path.namespace, path.name, path.subresource, request.query, request.content_type, body
        )
        code = 200
        match request.method:
            case "POST":
                made, code = writing.create(self.store, asked), 201
            case "PUT":
                made = writing.replace(self.store, asked)
            case "PATCH":
                made, new = writing.patch(self.store, asked)
                code = 201 if new else 200
                if path.subresource == "status":
                    self.patches.append((request.path, asked.given()))
            case "DELETE" if path.name:
                left = writing.delete(self.store, asked)
                if left is None:
                    await self._tell()
                    return web.json_response(_DELETED)
                made = left
            case "DELETE":
                for each in self.store.found(path.plural, path.namespace, selectors.matcher(request.query)):
                    meta = each["metadata"]
                    one = {"namespace": meta.get("namespace", ""), "name": meta["name"], "body": b""}
                    writing.delete(self.store, asked._replace(**one))
                await self._tell()
                return web.json_response(_DELETED)
            case other:
                raise RefusedError(405, "MethodNotAllowed", f"no {other} here")
        await self._tell()
        return web.json_response(_typed(resource, made), status=code)

    def _list(self, request: web.Request, resource: Resource, namespace: str) -> web.Response:
        query = request.query
        try:
            items, metadata = self.store.page(
                resource.plural, namespace, selectors.matcher(query),
                int(query.get("limit", "0")), query.get("continue", ""),
            )  # fmt: skip
        except KeyError:
            raise RefusedError(410, "Expired", "The provided continue parameter is too old") from None
        kind = {"kind": f"{resource.kind}List", "apiVersion": resource.api_version}
        return web.json_response({**kind, "metadata": metadata, "items": items})

    async def _watch(self, request: web.Request, resource: Resource, namespace: str) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_type = "application/json"
        await response.prepare(request)
        self.open_watches.add(response)
        try:
            async with asyncio.timeout(float(request.query.get("timeoutSeconds", "3600"))):
                await self._events(Stream(response, self.faults), resource, namespace, request.query)
        except TimeoutError:
            pass  # its time is over
        finally:
            self.open_watches.discard(response)
        return response

    async def _events(self, stream: Stream, resource: Resource, namespace: str, query: Any) -> None:
        """Send events until the stream breaks off."""
        matches, given = selectors.matcher(query), query.get("resourceVersion", "")
        after, at = int(given or 0), 0
        if after == 0 or query.get("sendInitialEvents") == "true":
            after, at = self.version, len(self.store.history)
            for each in self.store.found(resource.plural, namespace, matches):
                if not await stream.line(_event("ADDED", resource, each)):
                    return
            if query.get("sendInitialEvents") == "true":
                end = {"resourceVersion": str(after), "annotations": {"k8s.io/initial-events-end": "true"}}
                await stream.line(_event("BOOKMARK", resource, {"metadata": end}))
        elif after < self.store.oldest:
            status = {
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410,
                "reason": "Expired", "message": f"too old resource version: {after}",
            }  # fmt: skip
            await stream.line(json.dumps({"type": "ERROR", "object": status}).encode())
            return
        history = self.store.history
        while True:
            async with self._news:
                while len(history) == at:
                    await self._news.wait()
                news, at = history[at:], len(history)
            for event in news:
                old = event.version < after or (event.version == after and event.kind != "BOOKMARK")
                mine = event.plural == resource.plural and not old
                kind = event.seen_by(namespace, matches) if mine else ""
                if kind and not await stream.line(_event(kind, resource, event.object)):
                    return

    @asynccontextmanager
    async def running(
        self, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
    ) -> AsyncIterator[Server]:
        """Serve on a port of its own."""
        app = web.Application(client_max_size=MAX_OBJECT_BYTES)
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


def _typed(resource: Resource, made: Object) -> Object:
    return {"kind": resource.kind, "apiVersion": resource.api_version, **made}


def _event(kind: str, resource: Resource, made: Object) -> bytes:
    return json.dumps({"type": kind, "object": _typed(resource, made)}).encode()
