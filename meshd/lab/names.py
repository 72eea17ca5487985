"""What a lab calls its things: all names follow from the lab's name, so that ``down`` needs no record."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from pathlib import Path

from meshd.paths import RUN_ROOT

NETNS_DIR = Path("/run/netns")
LABS_DIR = RUN_ROOT / "labs"
DEFAULT_LAB = "lab"
MAX_NODES = 16
MODES = ("meshd", "sidecar", "node-proxy", "node-proxy-sockmap", "none")
"""Who carries the pods' traffic to services."""

HOSTS_FILE, GRPC_BOOTSTRAP_FILE = "hosts", "grpc-bootstrap.json"
"""In a pod's folder."""

_LAB_NAME = re.compile(r"[a-z0-9]{1,12}")
_MAX_PART = 120


def shortened(name: str) -> str:
    """``name``, or a cut of it with a digest when it is too long for a file name beside a prefix."""
    if len(name) <= _MAX_PART:
        return name
    return f"{name[: _MAX_PART - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def log_file(container: str) -> str:
    """A container's output, in its pod's folder."""
    return f"{container}.log"


def env_file(container: str) -> str:
    """A container's environment as JSON, in its pod's folder."""
    return f"{container}.env.json"


@dataclasses.dataclass(frozen=True, slots=True)
class Lab:
    """A lab's names. A lab name has no dash, so no lab's prefix is the beginning of another's.

    Raises ValueError for a name that is not 1 to 12 lower-case letters and digits.
    """

    name: str

    def __post_init__(self) -> None:
        if not _LAB_NAME.fullmatch(self.name):
            raise ValueError(f"lab name {self.name!r}: must be 1 to 12 lower-case letters or digits")

    @property
    def state_dir(self) -> Path:
        """Folder of the API socket, the manifests, the pods' files and all logs."""
        return LABS_DIR / self.name

    @property
    def socket(self) -> Path:
        """The supervisor's API."""
        return self.state_dir / "lab.sock"

    @property
    def manifests(self) -> Path:
        """What the control plane reads."""
        return self.state_dir / "manifests"

    def log(self, what: str) -> Path:
        """Log file of one of the lab's own daemons: ``supervisor``, ``control``, ``agent-node1``."""
        return self.state_dir / f"{what}.log"

    def workloads(self, node: str) -> Path:
        """The folder from which a node's agent learns its workloads."""
        return self.state_dir / "workloads" / node

    def pod_dir(self, namespace: str, pod: str) -> Path:
        """A pod's hosts file and logs."""
        return self.state_dir / "pods" / shortened(f"{namespace}_{pod}")

    @property
    def netns_prefix(self) -> str:
        """All network namespaces of the lab, and only they, begin with it."""
        return f"meshd-{self.name}-"

    def netns(self, what: str) -> Path:
        """Network namespace of the ``fabric`` or of a node."""
        return NETNS_DIR / f"{self.netns_prefix}{what}"

    def pod_netns(self, namespace: str, pod: str) -> Path:
        """Network namespace of a pod."""
        return NETNS_DIR / f"{self.netns_prefix}p-{shortened(f'{namespace}-{pod}')}"

    @property
    def cgroup(self) -> str:
        """The lab's cgroup, under the cgroup v2 root."""
        return f"meshd-{self.name}"

    def node_cgroup(self, node: str) -> str:
        """All that runs on a node: its agent, the proxy workers and the pods."""
        return f"{self.cgroup}/{node}"

    def pod_cgroup(self, node: str, namespace: str, pod: str) -> str:
        """A pod's containers."""
        return f"{self.node_cgroup(node)}/pods/{shortened(f'{namespace}_{pod}')}"

    def envoy_admin(self, whose: str) -> Path:
        """An Envoy's admin socket: its pod's first address in mode ``sidecar``, its node's name otherwise.

        Not the pod's name, for that need not be short, and a Unix socket's path must (unix(7): 107 bytes).
        """
        return self.envoys / f"{whose}.sock"

    @property
    def envoys(self) -> Path:
        """The Envoys' admin sockets."""
        return self.state_dir / "envoys"

    def sidecar_cgroup(self, node: str, namespace: str, pod: str) -> str:
        """A pod's Envoy: apart from the pod's containers, for it outlives them."""
        return f"{self.node_cgroup(node)}/sidecars/{shortened(f'{namespace}_{pod}')}"

    def instance(self, node: str) -> str:
        """By which a node's agent names its pin folder and its run folder."""
        return f"{self.name}-{node}"

    def owns_instance(self, instance: str) -> bool:
        """Whether an agent's run or pin folder is of this lab."""
        return re.fullmatch(rf"{self.name}-node\d+", instance) is not None
