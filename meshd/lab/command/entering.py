"""``meshd lab exec``: finds a pod, and becomes the command inside it."""

from __future__ import annotations

import os
from typing import NoReturn

import msgspec

from meshd.lab.command.client import LabError
from meshd.lab.command.protocol import PodStatus, Status
from meshd.lab.names import HOSTS_FILE, Lab, env_file
from meshd.lab.system import cgroup
from meshd.lab.system.sandbox import Sandbox


class CommandNotRunError(LabError):
    """The command cannot be executed; ``exit_code`` is what a shell would give (126 or 127)."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def find_pod(status: Status, namespace: str, wanted: str) -> PodStatus:
    """The pod that is meant: its name, ``deploy/NAME``, or the only Deployment's pods or name that begin so.

    Of several pods of a Deployment a ready one is taken, as kubectl does. Raises LabError.
    """
    here = [pod for pod in status.pods if pod.namespace == namespace]
    kind, slash, name = wanted.partition("/")
    if not slash:
        kind, name = "pod", wanted
    if kind in ("deploy", "deployment", "deployments"):
        found = [pod for pod in here if pod.owner == name]
    elif kind in ("pod", "pods", "po"):
        exact = [pod for pod in here if pod.name == name]
        found = exact or [pod for pod in here if pod.name.startswith(f"{name}-")]
        if len({pod.owner for pod in found}) > 1 or (len(found) > 1 and not found[0].owner):
            raise LabError(f"{wanted} could be {', '.join(pod.name for pod in found)}: name one of them")
    else:
        raise LabError(f"{wanted}: say POD, pod/POD or deploy/NAME")
    if not found:
        there = ", ".join(pod.name for pod in here) or "none"
        raise LabError(f"there is no {wanted} in namespace {namespace}; pods there: {there}")
    return max(found, key=lambda pod: (pod.ready, pod.phase == "Running"))


def sandbox_of(lab: Lab, pod: PodStatus) -> Sandbox:
    """What a pod's processes live in."""
    return Sandbox(
        cgroup.find_root() / lab.pod_cgroup(pod.node, pod.namespace, pod.name),
        lab.pod_netns(pod.namespace, pod.name),
        lab.pod_dir(pod.namespace, pod.name) / HOSTS_FILE,
        pod.name,
    )


def become(lab: Lab, pod: PodStatus, container: str, command: list[str]) -> NoReturn:
    """Enter the pod and replace this process by the command, with a container's environment.

    ``container``: empty for the first. Raises LabError.
    """
    container = container or pod.containers[0]
    if container not in pod.containers:
        raise LabError(f"pod {pod.name} has no container {container}; it has {', '.join(pod.containers)}")
    folder = lab.pod_dir(pod.namespace, pod.name)
    try:
        env = msgspec.json.decode((folder / env_file(container)).read_bytes(), type=dict[str, str])
        sandbox_of(lab, pod).enter()
    except OSError as error:
        raise LabError(f"cannot enter pod {pod.namespace}/{pod.name} ({pod.phase}): {error}") from error
    try:
        os.execvpe(command[0], command, {**os.environ, **env})
    except OSError as error:
        code = 127 if isinstance(error, FileNotFoundError) else 126
        raise CommandNotRunError(f"cannot run {command[0]}: {error.strerror}", code) from error
