"""Cgroups in which workers outlive their agent's."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd import cgroup_home
from meshd.cgroup_home import Hierarchy, Mount
from meshd.datapath.kernel import cgroup
from tests.support.cgroup import own_cgroup

MOUNTS = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 /pod/agent /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
36 31 0:33 / /host/cpu\\040acct rw shared:4 - cgroup cgroup rw,cpu,cpuacct
41 31 0:38 / /host/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
"""
JOIN = """
import pathlib, sys
from meshd import cgroup_home
for folder in sys.argv[1:]:
    cgroup_home.join(pathlib.Path(folder))
print(pathlib.Path("/proc/self/cgroup").read_text())
sys.stdin.read()
"""


@pytest.fixture
def instance() -> Iterator[str]:
    name = f"mt-{secrets.token_hex(4)}"
    yield name
    list(cgroup_home.remove(name))


def test_which_hierarchies_and_mounts_there_are() -> None:
    found = cgroup_home.hierarchies("4:memory:/pod/agent\n2:cpu,cpuacct:/\n0::/\n")
    assert found == [Hierarchy("", "/"), Hierarchy("cpu,cpuacct", "/"), Hierarchy("memory", "/pod/agent")]
    memory, cpu, unified = cgroup_home.mounts(MOUNTS)
    assert memory == Mount(frozenset({"rw", "memory"}), "/pod/agent", Path("/sys/fs/cgroup/memory"))
    assert (cpu.place, unified.names) == (Path("/host/cpu acct"), frozenset())
    shown = [[each.shows(hierarchy) for each in (memory, cpu, unified)] for hierarchy in found]
    assert shown == [[False, False, True], [False, True, False], [True, False, False]]


def test_who_joins_is_in_its_home_until_that_is_removed(instance: str) -> None:
    homes = cgroup_home.prepare(cgroup.root(), instance)
    assert homes[0] == cgroup.root() / "meshd" / instance
    command = (sys.executable, "-c", JOIN, *map(str, homes))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline()
        for home in homes:
            assert (home / "cgroup.procs").read_text().split() == [str(worker.pid)]
    assert {f"cgroup removed ({home})" for home in homes} <= set(cgroup_home.remove(instance))
    assert not any(home.exists() for home in homes)


def test_what_is_not_the_root_is_refused(instance: str) -> None:
    with own_cgroup() as below, pytest.raises(OSError, match="is not the root of cgroup v2"):
        cgroup_home.prepare(below, instance)


def test_a_cgroup_namespace_is_left() -> None:
    """As a worker leaves its container's, where namespaces are delegation boundaries."""
    script = (
        "import os, pathlib, sys; from meshd import cgroup_home;"
        "inside = os.readlink('/proc/self/ns/cgroup');"
        "cgroup_home.enter_namespace(pathlib.Path(sys.argv[1]));"
        "print(inside, os.readlink('/proc/self/ns/cgroup'))"
    )
    ours = f"/proc/{os.getpid()}/ns/cgroup"
    command = ("unshare", "--cgroup", sys.executable, "-c", script, ours)
    inside, after = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert inside != after == str(Path(ours).readlink())
