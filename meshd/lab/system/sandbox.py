"""What a process of the lab lives in: a cgroup, a netns and, for pods, a hosts file and a host name."""

from __future__ import annotations

import dataclasses
import os
import socket
from pathlib import Path

from meshd import netns
from meshd.lab.system import syscalls


@dataclasses.dataclass(frozen=True, slots=True)
class Sandbox:
    """Where a process is to run. ``ip netns exec`` would mount a new /sys, without bpffs and cgroup v2."""

    cgroup: Path
    netns: Path | None = None
    hosts: Path | None = None
    """Stands in for /etc/hosts, by a bind mount in a mount namespace of the process's own."""
    hostname: str = ""
    group: int = 0
    """Group id to run under, by which firewall rules know the process."""

    def enter(self) -> None:
        """Move the calling process in. Raises OSError.

        The cgroup comes first: sockets made before their process joined do not trigger its sock_ops programs.
        """
        (self.cgroup / "cgroup.procs").write_text("0")
        if self.netns is not None:
            inside = os.open(self.netns, os.O_RDONLY | os.O_CLOEXEC)
            netns.enter(inside)
            os.close(inside)
        if self.hosts is not None:
            syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWUTS)
            # Slave: what is unmounted outside later (another pod's netns) does not live on in here.
            syscalls.mount("none", "/", syscalls.MS_REC | syscalls.MS_SLAVE)
            syscalls.mount(str(self.hosts), "/etc/hosts", syscalls.MS_BIND)
            socket.sethostname(self.hostname[:64])
        if self.group:
            os.setgroups([])
            os.setgid(self.group)
