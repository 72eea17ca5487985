from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest
from aiohttp import web

from meshd.kube_api.access import Access
from meshd.kube_api.backoff import Backoff
from meshd.kube_api.client import Client
from meshd.kube_api.credentials import Credential, Fixed
from meshd.kube_api.following import Following
from meshd.kube_api.reflector import Reflector
from meshd.kube_api.resource import Resource
from tests.kube_api.faults import Faults
from tests.kube_api.server import NAMESPACES, ROUTES, SERVICES, Server

LONG = 30.0


def access(server: Server) -> Access:
    return Access(server.url, "default", Fixed(Credential(token="t")))


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(LONG):
        while not holds():  # noqa: ASYNC110 (it is about what others hold)
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def following(
    server: Server, resource: Resource = SERVICES, namespace: str = ""
) -> AsyncIterator[Reflector]:
    """A reflector that has listed once, where the server let it."""
    async with Client(access(server)) as client:
        reflector = Reflector(client, resource, lambda: None, namespace, Backoff(0.005, 0.02))
        task = asyncio.create_task(reflector.run())
        try:
            yield reflector
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def names(reflector: Reflector) -> set[str]:
    return {name for _, name in reflector.reflection.objects}


def _has(reflector: Reflector, name: str) -> bool:
    return name in names(reflector)


def test_lists_in_pieces_and_watches() -> None:
    async def run() -> None:
        server = Server()
        for i in range(1203):
            await server.put("services", f"s{i}")
        async with server.running(), following(server) as reflector:
            await until(lambda: reflector.settled)
            assert len(names(reflector)) == 1203
            assert [query.get("limit") for query in server.lists] == ["500"] * 3
            await until(lambda: server.watches)
            assert server.watches[0]["allowWatchBookmarks"] == "true"
            assert 300 <= int(server.watches[0]["timeoutSeconds"]) <= 600
            await server.put("services", "new")
            await server.delete("services", "s7")
            await until(lambda: "new" in names(reflector) and "s7" not in names(reflector))
            assert len(server.lists) == 3

    asyncio.run(run())


def test_one_namespace() -> None:
    async def run() -> None:
        server = Server()
        await server.put("services", "mine", "a")
        await server.put("services", "other", "b")
        async with server.running(), following(server, namespace="a") as reflector:
            await until(lambda: reflector.settled)
            await server.put("services", "other2", "b")
            await server.put("services", "mine2", "a")
            await until(lambda: "mine2" in names(reflector))
            assert names(reflector) == {"mine", "mine2"}

    asyncio.run(run())


def test_a_watch_that_breaks_off_goes_on_where_it_was() -> None:
    async def run() -> None:
        server = Server()
        await server.put("services", "a")
        async with server.running(), following(server) as reflector:
            for i in range(5):
                await until(lambda: server.open_watches)
                await server.cut()
                await server.put("services", f"between{i}")
                await until(partial(_has, reflector, f"between{i}"))
            assert len(server.lists) == 1

    asyncio.run(run())


def test_a_bookmark_spares_a_list() -> None:
    """Only other kinds changed; the server forgot the version of our last event, not that of the bookmark."""

    async def run() -> None:
        server = Server()
        await server.put("services", "a")
        async with server.running(), following(server) as reflector:
            await until(lambda: server.open_watches)
            for i in range(10):
                await server.put("httproutes", f"r{i}")
            await server.bookmark("services")
            await until(lambda: reflector.reflection.resource_version == str(server.version))
            await server.forget()
            await server.put("services", "b")
            await until(lambda: "b" in names(reflector))
            assert len(server.lists) == 1

    asyncio.run(run())


def test_a_version_that_is_too_old_is_listed_anew_without_a_gap() -> None:
    async def run() -> None:
        server = Server()
        await server.put("services", "a")
        await server.put("services", "b")
        async with server.running(), following(server) as reflector:
            await until(lambda: server.open_watches)
            may_list = asyncio.Event()

            async def hold_lists(request: web.Request) -> None:
                if "watch" not in request.query:
                    await may_list.wait()

            server.intercept = hold_lists
            await server.cut()
            await server.delete("services", "b")
            await server.put("services", "c")
            await server.forget()
            await until(lambda: reflector.lists == 2)
            assert names(reflector) == {"a", "b"}
            may_list.set()
            await until(lambda: names(reflector) == {"a", "c"})

    asyncio.run(run())


def test_a_list_whose_pieces_expired_begins_again() -> None:
    async def run() -> None:
        server = Server()
        for i in range(1100):
            await server.put("services", f"s{i}")
        expired = 0

        async def expire(request: web.Request) -> None:
            nonlocal expired
            if "continue" in request.query and expired < 2:
                expired += 1
                server.expire_pages()

        server.intercept = expire
        async with server.running(), following(server) as reflector:
            await until(lambda: reflector.settled)
            assert len(names(reflector)) == 1100
            assert expired == 2

    asyncio.run(run())


def test_broken_and_repeated_streams() -> None:
    async def run() -> None:
        server = Server()
        await server.put("services", "a")
        broken = [b"{nonsense\n", b'{"type":"GREW","object":{}}\n', b'{"type":"ADDED","obj', b"\n\n"]

        async def breaking(request: web.Request) -> web.StreamResponse | None:
            if "watch" not in request.query or not broken:
                return None
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(broken.pop())
            return response

        server.intercept = breaking
        async with server.running(), following(server) as reflector:
            await until(lambda: not broken and server.open_watches)
            await server.put("services", "b")
            await until(lambda: names(reflector) == {"a", "b"})
            assert len(server.lists) == 1

    asyncio.run(run())


@pytest.mark.parametrize(
    "faults",
    [
        Faults(repeat=3),
        Faults(piece=7),
        Faults(break_after=1000),
        Faults(break_after=1500, repeat=2, piece=100),
        Faults(delay=0.01),
    ],
    ids=repr,
)
def test_streams_that_repeat_stutter_break_off_and_are_slow(faults: Faults) -> None:
    """Whatever they do, what is held comes to be what there is."""

    async def run() -> None:
        server = Server()
        server.faults = faults
        async with server.running(), following(server) as reflector:
            await until(lambda: server.open_watches)
            for i in range(20):
                await server.put("services", f"s{i}", spec={"clusterIP": f"10.96.0.{i}"})
            for i in range(0, 20, 2):
                await server.delete("services", f"s{i}")
            await until(lambda: names(reflector) == {f"s{i}" for i in range(1, 20, 2)})
            assert len(server.lists) == 1

    asyncio.run(run())


def test_a_server_that_fails_and_is_mute_is_followed_again() -> None:
    async def run() -> None:
        server = Server()
        await server.put("services", "a")
        async with server.running(), following(server) as reflector:
            await until(lambda: server.open_watches)
            server.faults.mute = True
            await server.put("services", "b")
            server.faults.code = 500
            await server.cut()
            await until(lambda: "injected" in reflector.problem)
            assert names(reflector) == {"a"}
            server.faults.code, server.faults.mute = 0, False
            await until(lambda: (names(reflector), reflector.problem) == ({"a", "b"}, ""))
            assert len(server.lists) == 1

    asyncio.run(run())


def test_a_server_that_asks_for_time_gets_it() -> None:
    async def run() -> None:
        server, asked = Server(), list[float]()
        server.faults = Faults(code=429, retry_after=1)

        async def note(request: web.Request) -> None:
            asked.append(asyncio.get_running_loop().time())

        server.intercept = note
        async with server.running(), following(server) as reflector:
            await until(lambda: len(asked) == 2)
            server.faults = Faults()
            await until(lambda: reflector.settled)
        assert asked[1] - asked[0] >= 1

    asyncio.run(run())


def test_a_kind_that_is_not_installed() -> None:
    async def run() -> None:
        server = Server()
        route = server.installed.pop("httproutes")
        async with server.running(), Client(access(server)) as client:
            told = 0

            def changed() -> None:
                nonlocal told
                told += 1

            reflector = Reflector(client, ROUTES, changed, backoff=Backoff(0.005, 0.02), absent_seconds=0.01)
            task = asyncio.create_task(reflector.run())
            await until(lambda: reflector.settled)
            assert (reflector.absent, told, names(reflector)) == (True, 1, set())
            server.installed["httproutes"] = route
            await server.put("httproutes", "r")
            await until(lambda: names(reflector) == {"r"})
            assert not reflector.absent
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    asyncio.run(run())


def test_a_server_in_trouble_is_asked_again_and_says_why() -> None:
    async def run() -> None:
        server = Server()
        await server.put("services", "a")
        down = True

        async def refuse(request: web.Request) -> web.StreamResponse | None:
            status = {"code": 503, "reason": "ServiceUnavailable", "message": "etcd has no leader"}
            return web.json_response(status, status=503) if down else None

        server.intercept = refuse
        async with server.running(), following(server) as reflector:
            await until(lambda: "etcd has no leader" in reflector.problem)
            assert not reflector.settled
            down = False
            await until(lambda: reflector.settled)
            assert (names(reflector), reflector.problem) == ({"a"}, "")

    asyncio.run(run())


def test_several_kinds_and_bursts() -> None:
    async def run() -> None:
        server = Server()
        await server.put("services", "a")
        async with server.running(), Client(access(server)) as client:
            changes = Following(client, (SERVICES, ROUTES, NAMESPACES)).changes()
            async with contextlib.aclosing(changes):
                first = await asyncio.wait_for(anext(changes), LONG)
                assert {kind.kind: len(found) for kind, found in first.items()} == {
                    "Service": 1,
                    "HTTPRoute": 0,
                    "Namespace": 2,
                }
                await until(lambda: len(server.open_watches) == 3)
                for i in range(200):
                    await server.put("httproutes", f"r{i}")
                given = 0
                seen: set[tuple[str, str]] = set()
                while len(seen) < 200:
                    change = await asyncio.wait_for(anext(changes), LONG)
                    given += 1
                    assert change[SERVICES] == {}
                    assert None not in change[ROUTES].values()
                    assert not seen & change[ROUTES].keys()
                    seen |= change[ROUTES].keys()
                assert given < 100
                await server.delete("httproutes", "r7")
                assert (await asyncio.wait_for(anext(changes), LONG))[ROUTES] == {("default", "r7"): None}

    asyncio.run(run())
