"""A real containerd of a test's own, with pods on a CNI bridge, made as kubelet makes them."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from meshd.datapath.kernel import cgroup
from tests.support import kubelet_pb2 as kubelet
from tests.support.image import pause_image
from tests.support.mounts import unmount_below

PAUSE = "meshd.test/pause:1"
_SERVICE = "/runtime.v1.RuntimeService/"
_SECONDS = 60.0
HOST_FOLDERS = ("/bin", "/lib", "/lib64", "/usr", "/etc/alternatives", "/etc/ssl")
"""Of the machine's file system, which containers read their programs from."""
_CONTAINER, _NODE = 1, 2
"""NamespaceMode: whose namespace it is."""
Answer = TypeVar("Answer", bound=Message)


class Pod:
    """One sandbox."""

    def __init__(self, config: kubelet.PodSandboxConfig, sandbox: str) -> None:
        self.config = config
        self.sandbox = sandbox
        self.containers: list[str] = []


class Containerd:
    """The daemon, by its own folders and socket. What it has made goes with ``close``."""

    def __init__(self, folder: Path, subnet: str) -> None:
        """``subnet``: of its pods, ``10.211.0`` for 10.211.0.0/24."""
        self.socket = folder / "containerd.sock"
        self.folder = folder
        self._tag = f"mt-{secrets.token_hex(3)}"
        self._subnet = subnet
        self._pods: list[Pod] = []
        self._log_paths: dict[str, Path] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._channel = grpc.insecure_channel(f"unix:{self.socket}")
        self._write_config()
        self.start()
        self.import_image(pause_image(folder, PAUSE))

    @property
    def gateway(self) -> str:
        """The node's address on the pods' bridge."""
        return f"{self._subnet}.1"

    def import_image(self, path: Path) -> None:
        """An image as ``docker save`` writes it."""
        command = ("ctr", "-a", str(self.socket), "-n", "k8s.io", "images", "import", str(path))
        subprocess.run(command, check=True, capture_output=True)

    def start(self) -> None:
        """Start the daemon, and wait until it answers."""
        with (self.folder / "containerd.log").open("ab") as log:
            self._process = subprocess.Popen(
                ("containerd", "-c", str(self.folder / "config.toml")), stdout=log, stderr=log
            )
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                self._call("Version", kubelet.Empty(), kubelet.Empty)
            except grpc.RpcError:
                assert self._process.poll() is None, self.log()
                assert time.monotonic() < deadline, self.log()
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """End the daemon. Its pods go on."""
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def log(self) -> str:
        """What the daemon wrote last."""
        return (self.folder / "containerd.log").read_text(errors="replace")[-4000:]

    def run_pod(
        self,
        name: str,
        *,
        namespace: str = "default",
        attempt: int = 0,
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        host_network: bool = False,
        host_pid: bool = False,
    ) -> Pod:
        """A pod without containers."""
        known = {"name": name, "namespace": namespace, "uid": f"uid-{name}"}
        # Kubelet's default for PIDs is CONTAINER: each has its own.
        options = kubelet.NamespaceOption(network=_NODE * host_network, pid=_NODE if host_pid else _CONTAINER)
        config = kubelet.PodSandboxConfig(
            metadata=kubelet.PodSandboxMetadata(**known, attempt=attempt),
            log_directory=str(self.folder / "logs"),
            labels={**{f"io.kubernetes.pod.{key}": value for key, value in known.items()}, **(labels or {})},
            annotations=annotations or {},
            linux=kubelet.LinuxPodSandboxConfig(
                cgroup_parent=f"/{self._tag}",
                security_context=kubelet.SandboxSecurityContext(
                    namespace_options=options, privileged=host_network or host_pid
                ),
            ),
        )
        made = self._call(
            "RunPodSandbox", kubelet.RunPodSandboxRequest(config=config), kubelet.RunPodSandboxResponse
        )
        pod = Pod(config, made.pod_sandbox_id)
        self._pods.append(pod)
        return pod

    def run_container(
        self,
        pod: Pod,
        command: Sequence[str],
        *,
        name: str = "app",
        args: Sequence[str] = (),
        attempt: int = 0,
        image: str = PAUSE,
        mounts: Sequence[kubelet.Mount] = (),
        security: kubelet.ContainerSecurityContext | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> str:
        """Start a container, and give its id. Without an ``image`` its programs are the machine's."""
        folders = [
            kubelet.Mount(container_path=each, host_path=os.path.realpath(each), readonly=True)
            for each in HOST_FOLDERS
            if image == PAUSE and Path(each).exists()
        ]
        config = kubelet.ContainerConfig(
            metadata=kubelet.ContainerMetadata(name=name, attempt=attempt),
            image=kubelet.ImageSpec(image=image),
            command=command,
            args=args,
            mounts=[*folders, *mounts],
            envs=[kubelet.KeyValue(key=key, value=value) for key, value in (environment or {}).items()],
            log_path=f"{name}-{attempt}.log",
            linux=kubelet.LinuxContainerConfig(security_context=security),
        )
        request = kubelet.CreateContainerRequest(
            pod_sandbox_id=pod.sandbox, config=config, sandbox_config=pod.config
        )
        made = self._call("CreateContainer", request, kubelet.ContainerId)
        pod.containers.append(made.container_id)
        self._log_paths[name] = self.folder / "logs" / config.log_path
        self._call("StartContainer", made, kubelet.Empty)
        return made.container_id

    def remove_container(self, container: str) -> None:
        """Kill and remove it; the pod stays."""
        self.stop_container(container, 0)
        self._call("RemoveContainer", kubelet.ContainerId(container_id=container), kubelet.Empty)

    def stop_container(self, container: str, grace_seconds: int) -> None:
        """SIGTERM, and SIGKILL after the grace."""
        request = kubelet.StopContainerRequest(container_id=container, timeout=grace_seconds)
        self._call("StopContainer", request, kubelet.Empty)

    def status(self, container: str) -> kubelet.ContainerStatus:
        """What has become of it."""
        request = kubelet.ContainerId(container_id=container)
        return self._call("ContainerStatus", request, kubelet.ContainerStatusResponse).status

    def container_log(self, name: str) -> str:
        """What the container of that name wrote last."""
        path = self._log_paths[name]
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def address(self, pod: Pod) -> str:
        """The pod's IP address."""
        request = kubelet.PodSandboxRequest(pod_sandbox_id=pod.sandbox)
        return self._call("PodSandboxStatus", request, kubelet.PodSandboxStatusResponse).status.network.ip

    def execute(self, container: str, *command: str, seconds: int = 30) -> str:
        """A command's output. Raises AssertionError where it fails."""
        answer = self._execute(container, command, seconds)
        assert answer.exit_code == 0, (answer.stdout, answer.stderr)
        return answer.stdout.decode()

    def succeeds(self, container: str, *command: str, seconds: int = 10) -> bool:
        """Whether a command's exit code is 0."""
        return self._execute(container, command, seconds).exit_code == 0

    def _execute(self, container: str, command: Sequence[str], seconds: int) -> kubelet.ExecSyncResponse:
        request = kubelet.ExecSyncRequest(container_id=container, cmd=command, timeout=seconds)
        return self._call("ExecSync", request, kubelet.ExecSyncResponse)

    def remove_pod(self, pod: Pod) -> None:
        """Stop it and all that is in it."""
        self._pods.remove(pod)
        for method in ("StopPodSandbox", "RemovePodSandbox"):
            self._call(method, kubelet.PodSandboxRequest(pod_sandbox_id=pod.sandbox), kubelet.Empty)

    def close(self) -> None:
        """Take everything away."""
        try:
            if self._process is None:
                self.start()
            for pod in list(self._pods):
                self.remove_pod(pod)
        finally:
            self.stop()
            self._channel.close()
            for pid in _pids_of(str(self.folder)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            subprocess.run(("ip", "link", "delete", self._bridge), capture_output=True, check=False)
            unmount_below(self.folder)
            _remove_cgroups(self._tag)

    @property
    def _bridge(self) -> str:
        return f"{self._tag}br"

    def _write_config(self) -> None:
        (self.folder / "cni").mkdir()
        (self.folder / "logs").mkdir()
        network = {
            "cniVersion": "1.0.0",
            "name": self._tag,
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": self._bridge,
                    "isGateway": True,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": str(self.folder / "ipam"),
                        "ranges": [[{"subnet": f"{self._subnet}.0/24"}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                }
            ],
        }
        (self.folder / "cni" / "10-bridge.conflist").write_text(json.dumps(network))
        (self.folder / "config.toml").write_text(f"""
version = 2
root = "{self.folder}/root"
state = "{self.folder}/state"
[grpc]
  address = "{self.socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true  # to lower it takes a capability that a test machine may not have
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{self.folder}/cni"
""")

    def _call(self, method: str, request: Message, answer: type[Answer]) -> Answer:
        call = self._channel.unary_unary(
            _SERVICE + method,
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        made: Answer = call(request, timeout=_SECONDS)
        return made


@contextlib.contextmanager
def running_containerd(subnet: str) -> Iterator[Containerd]:
    """A containerd for the body."""
    with tempfile.TemporaryDirectory(prefix="mt-cd-") as folder:
        made = Containerd(Path(folder), subnet)
        try:
            yield made
        finally:
            made.close()


def _pids_of(text: str) -> list[int]:
    """Processes with ``text`` in their command line: the shims, which outlive the daemon."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if text.encode() in (folder / "cmdline").read_bytes() and int(folder.name) != os.getpid():
                found.append(int(folder.name))
    return found


def _remove_cgroups(tag: str) -> None:
    roots = {cgroup.root(), *Path("/sys/fs/cgroup").glob("*")}
    for root in roots:
        top = root / tag
        if top.is_dir():
            for folder in sorted((each for each in top.rglob("*") if each.is_dir()), reverse=True):
                with contextlib.suppress(OSError):
                    folder.rmdir()
            with contextlib.suppress(OSError):
                top.rmdir()
