"""The chart's pods from the image, on a real containerd: they mesh a user's pods, are replaced, and go."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from meshd import cgroup_home
from meshd.cli import leftovers
from meshd.paths import PIN_ROOT, run_dir
from tests.image.node import VIP, Node, running_node
from tests.support.debian import slim
from tests.support.docker import running_docker
from tests.support.lab import until

pytestmark = pytest.mark.timeout(900)

ROOT = Path(__file__).resolve().parents[2]
IMAGE, NEXT_IMAGE = "meshd.test/meshd:1", "meshd.test/meshd:2"
MAX_IMAGE_BYTES = 500_000_000
NEXT = f"""
FROM {IMAGE}
USER 0
WORKDIR /opt/meshd/lib/python3.11/site-packages
RUN sed -i 's/^__version__ = .*/__version__ = "next"/' meshd/__init__.py
RUN sed -i 's/^struct flow {{/& __u64 novel;/' bpf/types/flow.h
USER 65532:65532
"""
"""The Dockerfile of another version, whose workers cannot use the same maps."""
ASK = """
import http.client, json, pathlib, sys, threading, time
address, until = sys.argv[1], pathlib.Path(sys.argv[2])
errors, waits, made = [], {"kept": [], "new": []}, []

def ask(pause, keeps, headers):
    connection = http.client.HTTPConnection(address, timeout=60)
    while not until.exists():
        if connection.sock is None:
            made.append(keeps)
        began = time.monotonic()
        try:
            connection.request("GET", "/BSD", headers=headers)
            answer = connection.getresponse()
            if answer.status != 200 or b"University of California" not in answer.read():
                errors.append(str(answer.status))
        except Exception as error:
            errors.append(repr(error))
            connection.close()
        waits["kept" if keeps else "new"].append(time.monotonic() - began)
        if not keeps:
            connection.close()
        time.sleep(pause)

upcall = {"Expect": "100-continue"}
several = [(0.005, True, {}), (0.005, True, upcall), (2, True, {}), (0.05, False, {})]
threads = [threading.Thread(target=ask, args=each) for each in several]
for thread in threads: thread.start()
for thread in threads: thread.join()
longest = {kind: max(all) for kind, all in waits.items()}
print(json.dumps({"errors": errors, "connections": sum(made), "longest": longest}))
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The Dockerfile's, on a base of Debian's packages, and another version's, as a file."""
    folder = tmp_path_factory.mktemp("image")
    base, made, following = folder / "base.tar", folder / "meshd.tar", folder / "next"
    slim(base)
    following.mkdir()
    (following / "Dockerfile").write_text(NEXT)
    with running_docker("10.211.4.0/24") as docker:
        docker.load_base(base, "debian:12-slim")
        docker.build(ROOT, IMAGE)
        assert docker.size(IMAGE) < MAX_IMAGE_BYTES
        docker.build(following, NEXT_IMAGE)
        docker.save(made, IMAGE, NEXT_IMAGE)
    base.unlink()
    yield made
    made.unlink()


@pytest.fixture(scope="module")
def node(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running_node(tmp_path_factory.mktemp("node"), images, IMAGE, f"mt{secrets.token_hex(4)}") as running:
        yield running


class Traffic:
    """Requests from the user's pod, by both paths, on connections that are kept and on new ones."""

    def __init__(self, node: Node, threads: ThreadPoolExecutor) -> None:
        self._node = node
        self._end = f"/end-{secrets.token_hex(4)}"
        command = ("/usr/bin/python3", "-c", ASK, VIP, self._end)
        self._said: Future[str] = threads.submit(node.containerd.execute, node.client, *command, seconds=300)
        before = self._counts()
        until(lambda: all(now >= was + 100 for now, was in zip(self._counts(), before, strict=True)), 60)

    def _counts(self) -> tuple[int, int]:
        """Requests that the kernel carried, and the others."""
        (service,) = self._node.ask("services")
        return service["fast_requests"], service["requests"] - service["fast_requests"]

    def ended(self) -> Any:
        """What has become of them."""
        self._node.containerd.execute(self._node.client, "/usr/bin/touch", self._end)
        return json.loads(self._said.result(90))


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as made:
        yield made


def test_two_pods_are_meshed(node: Node, threads: ThreadPoolExecutor) -> None:
    assert Traffic(node, threads).ended()["errors"] == []
    assert node.ask("status")["failed_requests"] == 0


def test_nothing_notices_that_the_agents_pod_is_replaced(node: Node, threads: ThreadPoolExecutor) -> None:
    workers = node.worker_pids()
    traffic = Traffic(node, threads)
    node.end_agent()
    node.start_agent(IMAGE)
    assert node.worker_pids() == workers
    found = traffic.ended()
    print("an agent's pod replaced:", found)
    assert found["errors"] == []
    assert found["connections"] == 3  # each of them was kept


def test_no_request_fails_when_another_version_takes_over(node: Node, threads: ThreadPoolExecutor) -> None:
    (before,) = node.worker_pids()
    traffic = Traffic(node, threads)
    node.end_agent()
    node.start_agent(NEXT_IMAGE)
    assert node.ask("status")["version"] == "next"
    until(lambda: before not in leftover_pids(node.instance), 60)
    assert node.worker_pids() == leftover_pids(node.instance)
    found = traffic.ended()
    print("another version:", found)
    assert found["errors"] == []


def test_nothing_is_left_of_what_is_uninstalled(node: Node) -> None:
    (home,) = {path for path in cgroups(node.instance) if (path / "cgroup.controllers").exists()}
    assert set(map(int, (home / "cgroup.procs").read_text().split())) == leftover_pids(node.instance)
    node.delete_daemonset()
    node.end_agent()
    assert not (PIN_ROOT / node.instance).exists()
    assert not run_dir(node.instance).exists()
    assert not leftover_pids(node.instance)
    assert not cgroups(node.instance)


def leftover_pids(instance: str) -> set[int]:
    """The workers that live."""
    return {each.pid for each in leftovers.workers(instance)}


def cgroups(instance: str) -> list[Path]:
    """Those of workers."""
    places = [mount.place for mount in cgroup_home.mounts(Path("/proc/self/mountinfo").read_text())]
    return [place / "meshd" / instance for place in places if (place / "meshd" / instance).is_dir()]
