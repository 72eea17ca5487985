"""Programs come into force once, survive their agent, and are upgraded under traffic."""

from __future__ import annotations

import json
import os
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshd.datapath.datapath import Datapath, ensure_loaded
from meshd.datapath.errors import DatapathError
from meshd.datapath.flows.table import OriginalDestination
from meshd.datapath.kernel import bpf
from meshd.datapath.loading import source
from meshd.datapath.loading.map_names import MAPS
from meshd.datapath.loading.pins import Pins
from meshd.datapath.loading.programs import CGROUP_PROGRAMS, PROGRAMS
from meshd.model.listeners import Protocol
from meshd.model.snapshot import Snapshot
from tests.datapath.mesh import Mesh

ROOT = Path(__file__).resolve().parents[2]
VIP = "10.96.0.10"
LOAD = """
import json, sys
from pathlib import Path
from meshd.datapath.datapath import ensure_loaded
datapath = ensure_loaded(sys.argv[1], Path(sys.argv[2]))
rss = next(line for line in open("/proc/self/status") if line.startswith("VmRSS:"))
answer = {"rss_kib": int(rss.split()[1]), "bcc": "bcc" in sys.modules, "digest": datapath.layout.digest}
print(json.dumps(answer))
datapath.close()
"""


def load_elsewhere(instance: str, cgroup: Path, folder: Path = ROOT) -> dict[str, object]:
    """What another process, perhaps of another version, makes of an instance."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::ResourceWarning", "-c", LOAD, instance, str(cgroup)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


@pytest.fixture
def other_version(tmp_path: Path) -> Path:
    """A copy of the product, to be changed into another version of it."""
    folder = tmp_path / "other"
    shutil.copytree(ROOT / "meshd", folder / "meshd")
    shutil.copytree(ROOT / "bpf", folder / "bpf")
    # What it compiles is not to be in the place of what other tests load.
    replace(folder / "meshd" / "paths.py", '"/var/cache/meshd"', f'"{folder / "cache"}"')
    return folder


@pytest.fixture
def datapath(instance: str, cgroup: Path) -> Iterator[Datapath]:
    """This version in force, whatever the test before left."""
    opened = ensure_loaded(instance, cgroup)
    try:
        yield opened
    finally:
        opened.close()


def until(condition: Callable[[], object]) -> None:
    """The kernel frees a link in the background."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def attached_programs(instance: str) -> dict[str, int]:
    """Program name -> id of what the pinned links have attached."""
    found = {}
    for program in CGROUP_PROGRAMS:
        fd = bpf.open_pinned(str(Pins(instance).link(program.name)))
        found[program.name] = bpf.cgroup_link_info(fd).program
        os.close(fd)
    return found


def links(instance: str) -> dict[str, int]:
    """Program name -> id of its link."""
    found = {}
    for program in CGROUP_PROGRAMS:
        fd = bpf.open_pinned(str(Pins(instance).link(program.name)))
        found[program.name] = bpf.cgroup_link_info(fd).id
        os.close(fd)
    return found


def test_a_restarted_agent_takes_over_what_is_in_force(mesh: Mesh, instance: str, cgroup: Path) -> None:
    mesh.service([VIP], 80, Protocol.HTTP, [("127.0.0.1", 1)])
    before = attached_programs(instance), links(instance)
    again = ensure_loaded(instance, cgroup)
    try:
        assert (attached_programs(instance), links(instance)) == before
        assert again.members() == {mesh.pod.cookie}
        mesh.connect(VIP, 80)
        assert mesh.record(mesh.accept(mesh.proxy4)) == OriginalDestination(VIP, 80)
    finally:
        again.close()


def test_the_kernel_takes_the_license_as_gpl_compatible(datapath: Datapath, instance: str) -> None:
    for program in PROGRAMS:
        fd = bpf.open_pinned(str(Pins(instance).program(datapath.layout.digest, program.name)))
        assert bpf.program_info(fd).gpl_compatible, program.name
        os.close(fd)


def test_the_agent_never_carries_the_compiler(instance: str, cgroup: Path) -> None:
    shutil.rmtree(Pins(instance).folder, ignore_errors=True)
    answer = load_elsewhere(instance, cgroup)
    assert answer["bcc"] is False
    assert isinstance(answer["rss_kib"], int)
    assert answer["rss_kib"] < 40 * 1024


def test_capture_goes_on_without_any_process(mesh: Mesh, instance: str, cgroup: Path) -> None:
    """The agent that loaded is gone (this process only holds map fds): links and programs are pinned."""
    load_elsewhere(instance, cgroup)
    mesh.service([VIP], 80, Protocol.HTTP)
    mesh.connect(VIP, 80)
    assert mesh.record(mesh.accept(mesh.proxy4)) == OriginalDestination(VIP, 80)


@pytest.mark.parametrize("lost", ["links/connect4", "programs", "layout"])
def test_what_was_lost_is_made_again(mesh: Mesh, instance: str, cgroup: Path, lost: str) -> None:
    mesh.service([VIP], 80, Protocol.HTTP)
    if lost == "layout":
        (Path("/run/meshd") / instance / "layout.json").unlink()
    elif lost == "programs":
        shutil.rmtree(Pins(instance).programs)
    else:
        (Pins(instance).folder / lost).unlink()
    ensure_loaded(instance, cgroup).close()
    mesh.connect(VIP, 80)
    assert mesh.record(mesh.accept(mesh.proxy4)) == OriginalDestination(VIP, 80)


def test_another_cgroup_is_a_move(instance: str, cgroup: Path) -> None:
    other = cgroup / "below"
    other.mkdir()
    try:
        before = attached_programs(instance)
        ensure_loaded(instance, other).close()
        assert attached_programs(instance) == before
        until(lambda: not _attached_at(cgroup))
        assert _attached_at(other) == set(before.values())
        ensure_loaded(instance, cgroup).close()
        until(lambda: not _attached_at(other))
    finally:
        other.rmdir()


def _attached_at(cgroup: Path) -> set[int]:
    fd = os.open(cgroup, os.O_RDONLY)
    try:
        return {number for each in CGROUP_PROGRAMS for number in bpf.attached(fd, each.attach_type)}
    finally:
        os.close(fd)


class Traffic:
    """Connects to the VIP without pause; every connection must be captured, with its record."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.connections = 0
        self.failures: list[str] = []

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        mesh = self._mesh
        while not self._stop.is_set():
            with mesh.pod.entered():
                client = socket.socket()
            with client:
                client.settimeout(60)
                mesh.alive(True)
                try:
                    client.connect((VIP, 80))
                except OSError as error:
                    self.failures.append(f"connect: {error}")
                    continue
                accepted, _ = mesh.proxy4.accept()
                with accepted:
                    record = mesh.record(accepted)
                    if record != OriginalDestination(VIP, 80):
                        self.failures.append(f"record: {record}")
                    if client.getpeername() != (VIP, 80):
                        self.failures.append(f"peer: {client.getpeername()}")
            self.connections += 1


def test_an_upgrade_of_the_programs_is_unseen(
    mesh: Mesh, instance: str, cgroup: Path, other_version: Path
) -> None:
    mesh.service([VIP], 80, Protocol.HTTP)
    replace(other_version / "bpf" / "meshd.c", "#define ALLOW  1", "#define ALLOW  (3 - 2)")
    client = mesh.connect(VIP, 80)
    accepted = mesh.accept(mesh.proxy4)
    before, link_ids = attached_programs(instance), links(instance)
    with Traffic(mesh) as traffic:
        answer = load_elsewhere(instance, cgroup, other_version)
    assert traffic.failures == []
    assert traffic.connections > 100
    assert answer["digest"] != mesh.datapath.layout.digest
    after = attached_programs(instance)
    assert not set(before.values()) & set(after.values())
    assert links(instance) == link_ids
    assert client.getpeername() == (VIP, 80)
    assert mesh.record(accepted) == OriginalDestination(VIP, 80)
    assert mesh.datapath.flow_count() == 1
    accepted.close()
    client.close()
    assert mesh.datapath.flow_count() == 0
    assert [each.name for each in Pins(instance).programs.iterdir()] == [answer["digest"]]


def test_an_upgrade_of_layouts_carries_the_maps_over(
    mesh: Mesh, instance: str, cgroup: Path, other_version: Path
) -> None:
    server = mesh.listen("127.0.0.2")
    mesh.service([VIP], 80, Protocol.HTTP)
    mesh.service([VIP], 5432, Protocol.TCP, [server.getsockname()], name="demo/db")
    types = other_version / "bpf" / "types"
    replace(types / "service.h", "struct service {\n", "struct service {\n\t__u64 route_table;\n")
    replace(types / "counts.h", "struct stats {\n", "struct stats {\n\t__u64 novel;\n")
    replace(types / "member.h", "struct member {\n", "struct member {\n\t__u32 zone;\n")
    captured = mesh.counted("captured")
    with Traffic(mesh) as traffic:
        load_elsewhere(instance, cgroup, other_version)
    assert traffic.failures == []
    client = mesh.connect(VIP, 5432)
    mesh.accept(server)
    assert client.getpeername() == (VIP, 5432)
    upgraded = _counters(instance, other_version)
    assert upgraded["novel"] == 0
    assert upgraded["captured"] >= captured + traffic.connections
    assert len(list(Pins(instance).maps.iterdir())) == len(MAPS)
    back = ensure_loaded(instance, cgroup)
    try:
        assert back.members() == {mesh.pod.cookie}
        assert back.counters()["captured"] == upgraded["captured"]
        back.remove_member(mesh.pod.cookie)
        back.apply(Snapshot(), Snapshot())
    finally:
        back.close()


def _counters(instance: str, folder: Path) -> dict[str, int]:
    script = (
        "import json, sys; from meshd.datapath.datapath import Datapath;"
        "from meshd.datapath.loading.layout_file import read_layout;"
        "from meshd.datapath.loading.pins import Pins;"
        "from pathlib import Path; d = Datapath(Pins(sys.argv[1]), read_layout(sys.argv[1]), Path('/'), 0);"
        "print(json.dumps(d.counters())); d.close()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, instance],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    counters: dict[str, int] = json.loads(done.stdout)
    return counters


def test_a_program_that_the_kernel_refuses_leaves_the_old_one_in_force(
    mesh: Mesh, instance: str, cgroup: Path, other_version: Path
) -> None:
    mesh.service([VIP], 80, Protocol.HTTP)
    replace(other_version / "bpf" / "meshd.c", "#define ALLOW  1", "#define ALLOW  7")
    before = attached_programs(instance)
    done = subprocess.run(
        [sys.executable, "-c", LOAD, instance, str(cgroup)],
        cwd=other_version,
        env={**os.environ, "PYTHONPATH": str(other_version)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "the kernel refuses program" in done.stderr
    assert attached_programs(instance) == before
    mesh.connect(VIP, 80)
    assert mesh.record(mesh.accept(mesh.proxy4)) == OriginalDestination(VIP, 80)


def test_a_missing_source_is_said(other_version: Path, instance: str, cgroup: Path) -> None:
    (other_version / "bpf" / "flow.h").unlink()
    done = subprocess.run(
        [sys.executable, "-c", LOAD, instance, str(cgroup)],
        cwd=other_version,
        env={**os.environ, "PYTHONPATH": str(other_version)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{other_version}/bpf/flow.h: No such file or directory; is the package whole?" in done.stderr


def test_what_is_no_cgroup_is_said(tmp_path: Path, instance: str) -> None:
    with pytest.raises(DatapathError, match="is not a cgroup v2 folder; give one with --cgroup"):
        ensure_loaded(instance, tmp_path)
    with pytest.raises(DatapathError, match="No such file or directory; give one with --cgroup"):
        ensure_loaded(instance, tmp_path / "none")


def test_the_programs_compile_for_arm64(tmp_path: Path) -> None:
    """The shim tree holds nothing of one architecture; bcc takes the architecture from ARCH."""
    script = "from meshd.datapath.loading.load import compile_unit; print(sorted(compile_unit().layout.maps))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "ARCH": "arm64"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "members" in done.stdout
    assert not [path for path in source.SHIM.rglob("*") if path.is_symlink()]


def test_full_maps_are_said_and_leave_a_whole_state(mesh: Mesh, datapath: Datapath) -> None:
    server = mesh.listen("127.0.0.2")
    mesh.service([VIP], 5432, Protocol.TCP, [server.getsockname()])
    members = datapath.layout.maps["members"].max_entries
    cookies = range(1 << 40, (1 << 40) + members)
    with pytest.raises(DatapathError, match=f"the members map holds {members}; raise MESHD_MAX_MEMBERS"):
        _fill(datapath, cookies)
    for cookie in cookies:
        datapath.remove_member(cookie)
    assert datapath.members() == {mesh.pod.cookie}
    mesh.connect(VIP, 5432)
    assert select.select([server], [], [], 5)[0]


def _fill(datapath: Datapath, cookies: range) -> None:
    for cookie in cookies:
        datapath.set_member(cookie, 15001, ipv6=True)
