"""What a lab's Envoys say of themselves, by their admin sockets."""

from __future__ import annotations

import json
from pathlib import Path

from meshd.lab.names import Lab as LabNames
from tests.support import unix_http
from tests.support.lab import Lab

CANARY = Path(__file__).resolve().parents[2] / "examples" / "canary"


def counters(lab: Lab, pod: str, pattern: str) -> dict[str, int]:
    """The counters of a pod's Envoy whose names match a regular expression."""
    return _counters(LabNames(lab.name).envoy_admin(lab.pod(pod)["ip"]), pattern)


def _counters(admin: Path, pattern: str) -> dict[str, int]:
    found = json.loads(unix_http.get(admin, f"/stats?format=json&filter={pattern}"))["stats"]
    return {stat["name"]: stat["value"] for stat in found if "value" in stat}


def requests(lab: Lab, pod: str, manager: str) -> int:
    """How many requests an HTTP connection manager of a pod's Envoy has taken."""
    return sum(counters(lab, pod, rf"^http\.{manager}\.downstream_rq_total$").values())


def shares(lab: Lab, *curl: str, count: int = 60) -> dict[str, int]:
    """How often each version answered ``count`` requests to ``web``, all of one connection."""
    urls = ["http://web/"] * count
    found = lab.exec("client", "curl", "-sS", "--max-time", "20", *curl, *urls).split()
    return {version: found.count(version) for version in sorted(set(found))}


def route(*backends: tuple[str, int]) -> str:
    """The canary's route with other weights, and nothing for testers."""
    refs = ", ".join(f"{{name: {name}, port: 80, weight: {weight}}}" for name, weight in backends)
    return (
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: web-canary}\nspec:\n"
        f'  parentRefs: [{{group: "", kind: Service, name: web, port: 80}}]\n'
        f"  rules:\n    - backendRefs: [{refs}]\n"
        "    - matches: [{path: {type: Exact, value: /two}}]\n"
        "      backendRefs: [{name: web-v2, port: 80}]\n"
    )
