"""Whether this node can carry the datapath: a finding for each thing that it needs."""

from __future__ import annotations

import ctypes
import enum
import errno
import os
import platform
import re
import resource
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from meshd.datapath.errors import DatapathError
from meshd.datapath.kernel import bpf, cgroup
from meshd.datapath.loading import attachment, pins, source
from meshd.datapath.loading.layout_file import read_layout
from meshd.datapath.loading.probe import Probe
from meshd.datapath.loading.programs import CGROUP_PROGRAMS, PROGRAMS
from meshd.datapath.selftest.outcome import Check, run_self_test
from meshd.libraries import NGHTTP2, why_not_nghttp2
from meshd.paths import BPF_FS, PIN_ROOT

OLDEST_KERNEL = (5, 18)
"""bpf_set_retval, by which a refused connect(2) says ECONNREFUSED."""
_PROBE_SECONDS = 60
# linux/capability.h
_CAPABILITIES = {
    "CAP_DAC_OVERRIDE": 1,
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYSLOG": 34,
}
"""To make cgroups at the root; to mark sockets; to open pods' namespaces in /proc; to enter them and find
programs by id, and all that CAP_BPF and CAP_PERFMON are; to read /proc/kallsyms, from which bcc learns which
helpers there are."""
_SOCKMAP_TYPES = {15: "sockmap", 18: "sockhash"}


class Verdict(enum.Enum):
    """How a finding bears on meshd."""

    OK = "ok"
    NOTE = "note"
    """Works; worth knowing."""
    FAIL = "fail"


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of ``meshd check``."""

    check: str
    verdict: Verdict
    found: str
    mend: str = ""
    """What to do about it."""


def findings(instance: str, at: Path | None) -> Iterator[Finding]:
    """Check everything, in the order in which to mend it. ``at``: the cgroup v2 folder, default its root."""
    yield _kernel()
    yield _privileges()
    yield _memlock()
    folder, finding = _cgroup(at)
    yield finding
    yield _bpf_fs()
    yield from _programs(folder)
    yield from _fast_path()
    yield _http2()
    try:
        yield _pins(instance, folder)
    except OSError as error:
        yield Finding("pins", Verdict.NOTE, f"cannot be looked at: {error}", "run as root")
    if folder is not None:
        yield _others_at(folder, instance)
    yield _sockmap_users()


def _kernel() -> Finding:
    release = platform.release()
    numbers = re.match(r"(\d+)\.(\d+)", release)
    found = f"{release} {platform.machine()}"
    if numbers and (int(numbers[1]), int(numbers[2])) >= OLDEST_KERNEL:
        return Finding("kernel", Verdict.OK, found)
    wanted = ".".join(map(str, OLDEST_KERNEL))
    return Finding(
        "kernel",
        Verdict.NOTE,
        found,
        f"made for {wanted} or later; the lines on programs say whether this one does",
    )


def _privileges() -> Finding:
    status = Path("/proc/self/status").read_text()
    effective = int(status.split("CapEff:")[1].split()[0], 16)
    missing = [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]
    if missing:
        return Finding(
            "privileges", Verdict.FAIL, f"without {', '.join(missing)}", "run as root, or privileged"
        )
    return Finding("privileges", Verdict.OK, f"uid {os.geteuid()} with {', '.join(_CAPABILITIES)}")


def _memlock() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    limits = "/".join("unlimited" if n == resource.RLIM_INFINITY else f"{n >> 10} KiB" for n in (soft, hard))
    # Kernel 5.11 charges maps to the memory cgroup instead.
    return Finding(
        "memlock", Verdict.OK, f"{limits}; maps are charged to the memory cgroup since kernel 5.11"
    )


def _cgroup(at: Path | None) -> tuple[Path | None, Finding]:
    try:
        folder = at or cgroup.root()
        number = cgroup.cgroup_id(folder)
    except DatapathError as error:
        return None, Finding("cgroup v2", Verdict.FAIL, str(error), "mount cgroup v2, or give a folder of it")
    return folder, Finding("cgroup v2", Verdict.OK, f"{folder} (id {number})")


def _bpf_fs() -> Finding:
    if pins.is_bpf_fs(BPF_FS):
        return Finding("bpf file system", Verdict.OK, f"mounted at {BPF_FS}")
    if BPF_FS.is_dir():
        return Finding("bpf file system", Verdict.OK, f"not mounted; the agent mounts it at {BPF_FS}")
    return Finding(
        "bpf file system",
        Verdict.FAIL,
        f"{BPF_FS} does not exist",
        "mount sysfs: mount -t sysfs sysfs /sys",
    )


def _programs(folder: Path | None) -> Iterator[Finding]:
    command = [sys.executable, "-m", "meshd.datapath.loading.probe", "--cgroup", str(folder or "/")]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=False)
        found = msgspec.json.decode(done.stdout, type=Probe)
    except subprocess.TimeoutExpired:
        yield Finding(
            "bcc", Verdict.FAIL, f"the trial did not end within {_PROBE_SECONDS} s", "look at the load"
        )
        return
    except msgspec.MsgspecError:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        yield Finding("bcc", Verdict.FAIL, f"the trial ended early: {last}", "look at dmesg")
        return
    if found.compile:
        yield Finding(
            "bcc",
            Verdict.FAIL,
            found.compile,
            "what the compiler says: python3 -m meshd.datapath.loading.probe --cgroup /",
        )
        return
    yield Finding("bcc", Verdict.OK, f"{found.bcc} compiles the programs")
    for program in PROGRAMS:
        refused = found.programs.get(program.name, "was not tried")
        if refused:
            yield Finding(
                f"program {program.name}", Verdict.FAIL, refused, f"use kernel {program.kernel} or later"
            )
        else:
            yield Finding(f"program {program.name}", Verdict.OK, "loads and attaches")


def _fast_path() -> Iterator[Finding]:
    tested = run_self_test()
    if tested.reason:
        mend = "without it all requests go through the proxy; mend what the line says, or use another kernel"
        yield Finding("fast path", Verdict.NOTE, tested.reason, mend)
    else:
        yield Finding("fast path", Verdict.OK, f"the self-test passed: {_names(tested.checks)}")
    if tested.verdict_program_needed:
        failed = [each for each in tested.bare if each.reason]
        found = f"needed by this kernel, and used; without it fail: {_names(failed)} ({failed[0].reason})"
        yield Finding("verdict program", Verdict.OK, found)
    elif tested.bare:
        yield Finding("verdict program", Verdict.OK, "used, although this kernel would do without")


def _http2() -> Finding:
    """Looked for as the proxy looks for it, which without it does not start."""
    try:
        library = ctypes.CDLL(NGHTTP2)
    except OSError:
        library = None
    if why_not := why_not_nghttp2(library):
        found, _, mend = why_not.rpartition(": " if library is None else "; ")
        return Finding("libnghttp2", Verdict.FAIL, found, mend)
    return Finding("libnghttp2", Verdict.OK, NGHTTP2)


def _names(checks: Iterable[Check]) -> str:
    return ", ".join(check.name for check in checks)


def _pins(instance: str, folder: Path | None) -> Finding:
    own = pins.Pins(instance)
    if not own.folder.is_dir():
        return Finding("pins", Verdict.OK, f"none at {own.folder}: nothing is in force")
    layout = read_layout(instance)
    if layout is None:
        return Finding(
            "pins", Verdict.NOTE, f"{own.folder} without a layout file", "start the agent, or meshd cleanup"
        )
    current = layout.digest == source.digest(source.unit())
    version = "this version" if current else "another version"
    if folder is not None and attachment.in_force(own, layout, cgroup.cgroup_id(folder)):
        return Finding("pins", Verdict.OK, f"{version} ({layout.digest}) in force, {own.folder}")
    return Finding(
        "pins",
        Verdict.NOTE,
        f"{version} ({layout.digest}) at {own.folder}, not in force",
        "start the agent, or meshd cleanup",
    )


def _others_at(folder: Path, instance: str) -> Finding:
    own = attachment.program_ids(pins.Pins(instance))
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        others = [
            f"{_program_name(number)} ({program.attach_type.name.lower()}, id {number})"
            for program in CGROUP_PROGRAMS
            for number in bpf.attached(fd, program.attach_type)
            if number not in own
        ]
    except OSError as error:
        return Finding("other programs", Verdict.NOTE, f"cannot be asked for: {error}")
    finally:
        os.close(fd)
    if others:
        return Finding(
            "other programs",
            Verdict.NOTE,
            f"at {folder}: {', '.join(others)}",
            "they run too; on doubt see their docs",
        )
    return Finding("other programs", Verdict.OK, f"none at {folder}")


def _program_name(number: int) -> str:
    try:
        fd = bpf.program_by_id(number)
    except OSError:
        return "unnamed"
    try:
        return bpf.program_info(fd).name
    finally:
        os.close(fd)


def _sockmap_users() -> Finding:
    own = attachment.map_ids(PIN_ROOT)
    try:
        others = [
            f"{each.name or 'unnamed'} ({_SOCKMAP_TYPES[each.type]}, id {each.id})"
            for each in bpf.all_maps()
            if each.type in _SOCKMAP_TYPES and each.id not in own
        ]
    except OSError as error:
        if error.errno == errno.EPERM:
            return Finding("other sockmaps", Verdict.NOTE, "may not be looked for", "needs CAP_SYS_ADMIN")
        raise
    if others:
        return Finding(
            "other sockmaps",
            Verdict.NOTE,
            ", ".join(others),
            "a socket takes one sk_msg program: those that are in there already stay on the TCP path",
        )
    return Finding("other sockmaps", Verdict.OK, "none")
