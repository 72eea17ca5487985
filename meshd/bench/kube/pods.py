"""What a pod's status says. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from meshd.bench.kube.objects import CONTAINER, Object
from meshd.bench.results import Scenario

_HOPELESS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError"})
_OURS = frozenset({CONTAINER, "server", "echo", "content", "place"})


def ready(pod: Object) -> bool:
    """Whether it serves."""
    return _condition(pod, "Ready") == "True"


def node(pod: Object) -> str:
    """Where it is; empty: nowhere yet."""
    return str(pod["spec"].get("nodeName", ""))


def hopeless(pod: Object) -> str:
    """Why it will never run; empty: it may."""
    for one in _statuses(pod):
        waiting = one.get("state", {}).get("waiting", {})
        if waiting.get("reason") in _HOPELESS:
            return f"container {one['name']}: {waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")
    return ""


def waits_for(pod: Object) -> str:
    """Why it is not ready, as far as it says."""
    for one in pod.get("status", {}).get("conditions", []):
        if one["type"] == "PodScheduled" and one["status"] != "True":
            return f"it has no node: {one.get('message', 'the scheduler does not say why')}"
    return hopeless(pod) or f"it is {pod.get('status', {}).get('phase', 'Pending')}"


def finished(pod: Object) -> bool:
    """Whether its load is done, whatever an injected sidecar beside it does."""
    if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return True
    return any(one["name"] == CONTAINER and "terminated" in one.get("state", {}) for one in _statuses(pod))


def injected(pod: Object) -> list[str]:
    """The containers that somebody else has put into it."""
    spec = pod["spec"]
    return [
        one["name"]
        for one in (*spec.get("initContainers", []), *spec["containers"])
        if one["name"] not in _OURS
    ]


def wrong_way(scenario: Scenario, found: Iterable[Object]) -> str:
    """Why pods are not what their scenario says; empty: they are."""
    for pod in found:
        strangers = injected(pod)
        if scenario == "sidecar" and not strangers:
            return "no sidecar was injected: is there an injector, and is --sidecar-label its label?"
        if scenario != "sidecar" and strangers:
            return f"a sidecar was injected, though the namespace does not ask for it: {', '.join(strangers)}"
    return ""


def _condition(pod: Object, name: str) -> str:
    conditions = pod.get("status", {}).get("conditions", [])
    return next((str(one["status"]) for one in conditions if one["type"] == name), "")


def _statuses(pod: Object) -> Iterator[Object]:
    status = pod.get("status", {})
    yield from status.get("initContainerStatuses", [])
    yield from status.get("containerStatuses", [])
