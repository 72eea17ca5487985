"""``meshd check`` and ``meshd cleanup`` on this node."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd.datapath.datapath import Datapath, ensure_loaded
from meshd.datapath.kernel import bpf, cgroup
from meshd.datapath.loading.pins import Pins
from meshd.datapath.loading.programs import PROGRAMS

MESHD = (sys.executable, "-m", "meshd")
ROOT = Path(__file__).resolve().parents[2]
RUN = Path("/run/meshd")
COMPILE = """
from meshd.datapath.loading.load import compile_unit
unit = compile_unit()
print("up", flush=True)
input()
"""


def meshd(*arguments: str, through: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (*through, *MESHD, *arguments), cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.fixture
def fresh() -> Iterator[str]:
    """The name of an instance that a test may leave in any state."""
    name = f"mt-{secrets.token_hex(4)}"
    yield name
    done = meshd("cleanup", "--instance", name, "--force")
    assert done.returncode == 0, done.stderr


def findings(output: str) -> dict[str, dict[str, str]]:
    return {each["check"]: each for each in json.loads(output)["findings"]}


def test_check_says_that_this_node_can_carry_meshd(datapath: Datapath, instance: str) -> None:
    done = meshd("check", "--instance", instance, "--cgroup", str(datapath.cgroup))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert all(line.split()[0] in ("ok", "note") for line in lines)
    for program in PROGRAMS:
        assert any(f"program {program.name} " in line for line in lines)
    assert any(f"this version ({datapath.layout.digest}) in force" in line for line in lines)
    assert not [path for path in datapath.cgroup.iterdir() if path.is_dir()]


def test_check_without_privileges_fails_and_says_what_to_do(datapath: Datapath, instance: str) -> None:
    arguments = ("check", "--instance", instance, "--cgroup", str(datapath.cgroup), "-o", "json")
    done = meshd(*arguments, through=("setpriv", "--bounding-set=-all", "--inh-caps=-all"))
    assert done.returncode == 1
    assert json.loads(done.stdout)["ok"] is False
    found = findings(done.stdout)
    assert found["privileges"]["verdict"] == "fail"
    assert "CAP_NET_ADMIN" in found["privileges"]["found"]
    assert found["privileges"]["mend"] == "run as root, or privileged"


def test_check_of_what_is_no_cgroup(tmp_path: Path) -> None:
    done = meshd("check", "--cgroup", str(tmp_path))
    assert done.returncode == 1
    assert f"fail  cgroup v2              {tmp_path} is not a cgroup v2 folder" in done.stdout


def test_check_names_the_programs_and_sockmaps_of_others(datapath: Datapath, fresh: str) -> None:
    ensure_loaded(fresh, datapath.cgroup).close()
    with subprocess.Popen(
        [sys.executable, "-c", COMPILE],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"up\n"
        done = meshd("check", "--instance", "mt-none", "--cgroup", str(datapath.cgroup), "-o", "json")
        holder.communicate(b"\n")
    assert done.returncode == 0, done.stdout
    found = findings(done.stdout)
    assert found["other programs"]["verdict"] == found["other sockmaps"]["verdict"] == "note"
    assert "connect4 (cgroup_inet4_connect, id " in found["other programs"]["found"]
    assert "clients (sockhash, id " in found["other sockmaps"]["found"]
    assert "nothing is in force" in found["pins"]["found"]


def _gone(program: int) -> bool:
    try:
        os.close(bpf.program_by_id(program))
    except FileNotFoundError:
        return True
    return False


def test_cleanup_after_kill_9(cgroup: Path, fresh: str) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from meshd.datapath.datapath import ensure_loaded;"
        "ensure_loaded(sys.argv[1], Path(sys.argv[2])); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script, fresh, str(cgroup)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    programs = []
    for pin in Pins(fresh).programs.glob("*/*"):
        fd = bpf.open_pinned(str(pin))
        programs.append(bpf.program_info(fd).id)
        os.close(fd)
    assert len(programs) == len(PROGRAMS)
    cleaned = meshd("cleanup", "--instance", fresh)
    assert cleaned.returncode == 0, cleaned.stderr
    for program in PROGRAMS:
        assert f"program {program.name} detached" in cleaned.stdout
    assert not Pins(fresh).folder.exists()
    assert not (RUN / fresh).exists()
    deadline = time.monotonic() + 60
    while not all(map(_gone, programs)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    again = meshd("cleanup", "--instance", fresh)
    assert (again.returncode, again.stdout) == (0, "nothing to remove\n")


def test_cleanup_of_half_made_pins(cgroup: Path, fresh: str) -> None:
    """Whatever step the loader was killed at."""
    for kept in ("links", "programs", "maps"):
        ensure_loaded(fresh, cgroup).close()
        for folder in {"links", "programs", "maps"} - {kept}:
            for pin in sorted((Pins(fresh).folder / folder).rglob("*"), reverse=True):
                pin.rmdir() if pin.is_dir() else pin.unlink()
        assert meshd("cleanup", "--instance", fresh).returncode == 0
        assert not Pins(fresh).folder.exists()


@contextlib.contextmanager
def _like(*arguments: str, ignores_term: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """A process with the command line of one of ours."""
    trap = "trap '' TERM; " if ignores_term else ""
    script = f"{trap}echo up; while :; do read -t 60 || sleep 60; done"
    with subprocess.Popen(
        ("bash", "-c", script, *arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        try:
            yield process
        finally:
            process.kill()


def test_cleanup_leaves_a_running_agent_alone_unless_forced(cgroup: Path, fresh: str) -> None:
    ensure_loaded(fresh, cgroup).close()
    with _like("/usr/bin/meshd", "agent", "--instance", fresh, "--node", "n") as agent:
        done = meshd("cleanup", "--instance", fresh)
        assert done.returncode == 1
        assert f"instance {fresh}: its agent runs (pid {agent.pid}); stop it, or use --force" in done.stderr
        assert Pins(fresh).folder.exists()
        forced = meshd("cleanup", "--instance", fresh, "--force")
        assert forced.returncode == 0, forced.stderr
        assert f"agent ended (pid {agent.pid}, instance {fresh})" in forced.stdout
        assert agent.wait(60) == -signal.SIGTERM
    assert not Pins(fresh).folder.exists()


def test_cleanup_ends_workers_that_outlived_their_agent(cgroup: Path, fresh: str) -> None:
    ensure_loaded(fresh, cgroup).close()
    channel = str(RUN / fresh / "agent.sock")
    with (
        _like("-m", "proxy", "--socket", channel, "--worker", "0", ignores_term=True) as worker,
        _like("-m", "proxy", "--socket", str(RUN / "mt-other" / "agent.sock"), "--worker", "0") as other,
    ):
        done = meshd("cleanup", "--instance", fresh)
        assert done.returncode == 0, done.stderr
        assert worker.wait(60) == -signal.SIGKILL
        assert other.poll() is None


WHOLE_NODE = """
import ctypes, os, subprocess, sys
from pathlib import Path
from meshd.datapath.kernel import cgroup
from meshd.datapath.datapath import ensure_loaded

libc = ctypes.CDLL(None, use_errno=True)

def mount(kind, where):
    Path(where).mkdir(exist_ok=True)
    assert libc.mount(b"none", where.encode(), kind, 0, None) == 0, os.strerror(ctypes.get_errno())

while (found := cgroup.mount_point(Path("/proc/self/mounts").read_text())) is not None:
    assert libc.umount2(os.fsencode(found), 2) == 0, os.strerror(ctypes.get_errno())
mount(b"tmpfs", "/run")
mount(b"cgroup2", "/run/cgroup")
mount(b"bpf", "/sys/fs/bpf")
Path("/run/cgroup/node").mkdir()
ensure_loaded("one", Path("/run/cgroup/node"))
ensure_loaded("two", Path("/run/cgroup/node"))
worker = subprocess.Popen(
    ["bash", "-c", "sleep 60; :", "-m", "proxy", "--socket", "/run/meshd/three/agent.sock"])
Path("/run/meshd/labs/x/manifests").mkdir(parents=True)
subprocess.run(["ip", "netns", "add", "meshd-x-node1"], check=True)
subprocess.run(["ip", "netns", "add", "somebody-elses"], check=True)
Path("/run/cgroup/meshd-x/node1").mkdir(parents=True)
lab = subprocess.Popen(["sleep", "60"])
Path("/run/cgroup/meshd-x/node1/cgroup.procs").write_text(str(lab.pid))

def cleanup():
    done = subprocess.run([sys.executable, "-m", "meshd", "cleanup"], capture_output=True, text=True)
    assert done.returncode == 0, done
    return done.stdout

said = cleanup()
for expected in ("run directory removed (/run/meshd/one)", "pin folder removed (/sys/fs/bpf/meshd/two)",
                 "worker ended", "lab x: removed network namespace meshd-x-node1"):
    assert expected in said, said
assert worker.wait(60) and lab.wait(60)
assert not Path("/run/meshd").exists() and not Path("/sys/fs/bpf/meshd").exists()
assert not Path("/run/cgroup/meshd-x").exists()
assert os.listdir("/run/netns") == ["somebody-elses"]
assert cleanup() == "nothing to remove\\n"
Path("/run/cgroup/node").rmdir()
"""


def test_cleanup_of_all_leaves_nothing_on_a_node(cgroup: Path) -> None:
    """On a node of its own: mounts, processes and cgroups apart, so that nobody else's are touched."""
    apart = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--cgroup")
    done = subprocess.run(
        (*apart, sys.executable, "-c", WHOLE_NODE), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_cgroup_mount_is_found_in_the_mount_table() -> None:
    hybrid = "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
    assert cgroup.mount_point(hybrid) == Path("/sys/fs/cgroup/unified")
    assert cgroup.mount_point("none /a\\040b cgroup2 rw 0 0\n") == Path("/a b")
    assert cgroup.mount_point("tmpfs /run tmpfs rw 0 0\n") is None
