"""The tests' API server from its other side: the official Python client, in threads of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from kubernetes import client, watch

from tests.kube_api.server import Server

CALL_SECONDS = 60


def _with_client(work: Callable[[Server, client.CoreV1Api, asyncio.AbstractEventLoop], None]) -> None:
    async def run() -> None:
        server = Server()
        async with server.running():
            configuration = client.Configuration(host=server.url)
            with client.ApiClient(configuration) as api:
                await asyncio.to_thread(work, server, client.CoreV1Api(api), asyncio.get_running_loop())

    asyncio.run(run())


def _service(name: str, **labels: str) -> dict[str, Any]:
    spec = {"clusterIP": "10.96.0.1", "ports": [{"name": "http", "port": 80}]}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec}


def test_it_lists_in_pieces_and_by_selectors() -> None:
    def work(server: Server, core: client.CoreV1Api, loop: asyncio.AbstractEventLoop) -> None:
        for i in range(7):
            core.create_namespaced_service("default", _service(f"s{i}", parity=str(i % 2)))
        found, token = [], None
        while token != "":
            page = core.list_service_for_all_namespaces(limit=3, _continue=token or "")
            found += [each.metadata.name for each in page.items]
            token = page.metadata._continue or ""
        assert found == [f"s{i}" for i in range(7)]
        odd = core.list_namespaced_service("default", label_selector="parity in (1),parity!=0")
        assert [each.metadata.name for each in odd.items] == ["s1", "s3", "s5"]
        one = core.list_namespaced_service("default", field_selector="metadata.name=s2")
        assert [each.metadata.name for each in one.items] == ["s2"]
        page = core.list_namespaced_service("default", limit=3)
        server.expire_pages()
        with pytest.raises(client.ApiException) as refused:
            core.list_namespaced_service("default", limit=3, _continue=page.metadata._continue)
        assert refused.value.status == 410

    _with_client(work)


def test_it_writes_and_is_refused_what_is_out_of_date() -> None:
    def work(server: Server, core: client.CoreV1Api, loop: asyncio.AbstractEventLoop) -> None:
        made = core.create_namespaced_service("default", _service("web"))
        with pytest.raises(client.ApiException) as refused:
            core.create_namespaced_service("default", _service("web"))
        assert refused.value.status == 409
        with pytest.raises(client.ApiException) as refused:
            core.create_namespaced_service("nowhere", _service("web"))
        assert refused.value.status == 404
        patched = core.patch_namespaced_service("web", "default", {"metadata": {"labels": {"a": "b"}}})
        assert (patched.metadata.labels, patched.spec.ports[0].port) == ({"a": "b"}, 80)
        assert patched.metadata.generation == made.metadata.generation == 1
        with pytest.raises(client.ApiException) as refused:
            core.replace_namespaced_service("web", "default", made)
        assert refused.value.status == 409
        patched.spec.ports[0].port = 81
        replaced = core.replace_namespaced_service("web", "default", patched)
        assert (replaced.metadata.generation, replaced.spec.ports[0].port) == (2, 81)
        status = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}, "spec": {"ports": []}}
        told = core.patch_namespaced_service_status("web", "default", status)
        assert (told.status.load_balancer.ingress[0].ip, told.spec.ports[0].port) == ("192.0.2.1", 81)
        core.delete_namespaced_service("web", "default")
        with pytest.raises(client.ApiException) as refused:
            core.read_namespaced_service("web", "default")
        assert refused.value.status == 404

    _with_client(work)


def test_what_has_finalizers_stays_until_they_are_gone() -> None:
    def work(server: Server, core: client.CoreV1Api, loop: asyncio.AbstractEventLoop) -> None:
        metadata = {"generateName": "kept-", "finalizers": ["example.com/hold"]}
        made = core.create_namespaced_config_map("default", {"metadata": metadata, "data": {"a": "b"}})
        name = made.metadata.name
        assert name.startswith("kept-")
        core.delete_namespaced_config_map(name, "default")
        assert core.read_namespaced_config_map(name, "default").metadata.deletion_timestamp
        core.patch_namespaced_config_map(name, "default", {"metadata": {"finalizers": None}})
        for other in ("one", "two"):
            core.create_namespaced_config_map("default", {"metadata": {"name": other}})
        assert len(core.list_namespaced_config_map("default").items) == 2
        core.delete_collection_namespaced_config_map("default")
        assert core.list_namespaced_config_map("default").items == []

    _with_client(work)


def test_it_watches() -> None:
    """From a version on, from the beginning, and from one that is forgotten."""

    def work(server: Server, core: client.CoreV1Api, loop: asyncio.AbstractEventLoop) -> None:
        def events(count: int, **query: Any) -> list[tuple[str, str]]:
            found = []
            stream = watch.Watch().stream(
                core.list_namespaced_service, "default", _request_timeout=CALL_SECONDS, **query
            )
            for event in stream:
                found.append((event["type"], event["object"].metadata.name))
                if len(found) == count:
                    break
            return found

        core.create_namespaced_service("default", _service("a"))
        version = core.list_namespaced_service("default").metadata.resource_version
        core.create_namespaced_service("default", _service("b"))
        core.patch_namespaced_service("a", "default", {"metadata": {"labels": {"x": "y"}}})
        core.delete_namespaced_service("b", "default")
        told = [("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "b")]
        assert events(3, resource_version=version) == told
        assert events(1, resource_version=version, label_selector="x=y") == [("ADDED", "a")]
        assert events(1) == [("ADDED", "a")]
        asyncio.run_coroutine_threadsafe(server.forget(), loop).result(CALL_SECONDS)
        with pytest.raises(client.ApiException) as refused:
            events(1, resource_version=version)
        assert refused.value.status == 410

    _with_client(work)
