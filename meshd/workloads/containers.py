"""From a Docker engine's containers to sandboxes."""

from __future__ import annotations

import msgspec

from meshd.workloads.sandboxes import Sandbox

NAMESPACE_LABEL = "meshd.io/namespace"
"""On a container: the namespace that its calls come from; without it ``default``."""
_POD_NAME, _POD_NAMESPACE, _POD_UID = (f"io.kubernetes.pod.{what}" for what in ("name", "namespace", "uid"))
"""What cri-dockerd writes on a pod's containers."""


class _State(msgspec.Struct, frozen=True, rename="pascal"):
    pid: int = 0


class _Config(msgspec.Struct, frozen=True, rename="pascal"):
    labels: dict[str, str] | None = None


class _HostConfig(msgspec.Struct, frozen=True, rename="pascal"):
    network_mode: str = ""


class _Network(msgspec.Struct, frozen=True, rename={"ipv4": "IPAddress", "ipv6": "GlobalIPv6Address"}):
    ipv4: str = ""
    ipv6: str = ""


class _NetworkSettings(msgspec.Struct, frozen=True, rename="pascal"):
    sandbox_key: str = ""
    networks: dict[str, _Network] | None = None


class Container(msgspec.Struct, frozen=True, rename="pascal"):
    """What the engine says of one container (Docker Engine API, ContainerInspect)."""

    id: str
    name: str = ""
    state: _State = _State()
    config: _Config = _Config()
    host_config: _HostConfig = _HostConfig()
    network_settings: _NetworkSettings = _NetworkSettings()


def netns_paths(container: Container) -> tuple[str, ...]:
    """Paths that open its network namespace, the best first."""
    named = container.network_settings.sandbox_key
    return (*([named] if named else []), f"/proc/{container.state.pid}/ns/net")


def sandbox(container: Container, netns: str, problem: str = "") -> Sandbox | None:
    """The workload that the container is; None: it lives in another one's network namespace.

    ``netns``: of the paths the one to use; empty: there is a ``problem``. Its labels are its annotations too:
    the engine has no others.
    """
    mode = container.host_config.network_mode
    if mode.startswith("container:") or not container.state.pid:
        return None
    labels = container.config.labels or {}
    networks = (container.network_settings.networks or {}).values()
    return Sandbox(
        id=container.id,
        namespace=labels.get(_POD_NAMESPACE, labels.get(NAMESPACE_LABEL, "default")),
        name=labels.get(_POD_NAME, container.name.lstrip("/")),
        uid=labels.get(_POD_UID, container.id),
        labels=labels,
        annotations=labels,
        host_network=mode == "host",
        netns=netns,
        ips=tuple(ip for network in networks for ip in (network.ipv4, network.ipv6) if ip),
        problem=problem,
    )
