"""Starts a lab's supervisor in the background, and waits until the lab is ready."""

from __future__ import annotations

import os
import sys
import time

from meshd.lab.command.client import LabError, NotRunningError, ask
from meshd.lab.command.protocol import GetStatus, Membership, Status
from meshd.lab.command.sweep import sweep
from meshd.lab.mesh import MeshOptions
from meshd.lab.names import Lab
from meshd.lab.system import cgroup

_START_SECONDS = 60.0
_STEADY_SECONDS = 0.1


def launch(lab: Lab, nodes: int, mode: str, options: MeshOptions, log_level: str) -> None:
    """Start the supervisor; returns when it answers. What a dead lab of that name left is removed first.

    Raises LabError.
    """
    group = cgroup.find_root() / lab.cgroup / "supervisor"
    if cgroup.populated(group):
        raise LabError(f"lab {lab.name} is running already: use `meshd lab apply`, or `meshd lab down` first")
    sweep(lab)
    group.mkdir(parents=True)
    lab.state_dir.mkdir(parents=True)
    # It joins its cgroup before all else, or ends: who kills us now and sweeps the lab leaves no supervisor.
    command = ["/bin/sh", "-c", 'echo $$ >"$0" && exec "$@"', str(group / "cgroup.procs")]
    command += [sys.executable, "-m", "meshd.lab.supervisor", "--name", lab.name]
    command += ["--nodes", str(nodes), "--mode", mode, "--workers", str(options.workers)]
    command += ["--access-log", options.access_log, "--fast-path", options.fast_path]
    command += ["--log-level", log_level]
    log_file = str(lab.log("supervisor"))
    supervisor = os.posix_spawn(
        command[0],
        command,
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            ask(lab, GetStatus(), Status)
        except NotRunningError:
            if os.waitpid(supervisor, os.WNOHANG)[0] or time.monotonic() > deadline:
                last = lab.log("supervisor").read_text(errors="replace").strip().splitlines()[-1:]
                sweep(lab)
                raise LabError(f"the lab did not start: {''.join(last) or 'no reason given'}") from None
        else:
            return
        time.sleep(0.01)


def wait_until_ready(lab: Lab, seconds: float) -> list[str]:
    """Wait until all that was asked for is ready; after ``seconds``, what is not. Raises LabError.

    It must be so for a moment: a container without a probe is ready when it starts, even if it ends at once.
    """
    deadline = time.monotonic() + seconds
    ready_since = 0.0
    while True:
        waiting = _not_ready(ask(lab, GetStatus(), Status))
        now = time.monotonic()
        if not waiting:
            ready_since = ready_since or now
            if now - ready_since >= _STEADY_SECONDS:
                return []
        else:
            ready_since = 0.0
            if now > deadline:
                return waiting
        time.sleep(0.05)


def _not_ready(status: Status) -> list[str]:
    waiting = [
        f"pod {pod.namespace}/{pod.name}: {pod.reason or pod.phase}"
        for pod in status.pods
        if not pod.ready and pod.phase not in ("Terminating", "Succeeded")
    ]
    waiting += status.missing
    waiting += [f"{node.name}: its proxy does not answer" for node in status.nodes if not node.ready]
    waiting += [
        f"pod {pod.namespace}/{pod.name}: not enrolled by the proxy of {pod.node}"
        for pod in status.pods
        if pod.mesh is Membership.MISSING and pod.phase == "Running"
    ]
    return waiting
