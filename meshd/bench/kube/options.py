"""What a user may say about the cluster. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from meshd import __version__
from meshd.bench.results import Scenario

SCENARIOS: tuple[Scenario, ...] = ("direct", "sidecar", "meshd-slow", "meshd-fast")
"""What a namespace can choose for itself. A node proxy is a cluster's, and none is known to be there."""
NO_SUCH_SCENARIO = "a namespace cannot choose it on a cluster; meshd bench without --kube measures it"
PREFIX = "meshd-bench"
"""Of the namespaces."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of ``--kube``."""

    image: str = f"meshd:{__version__}"
    """Of the client and the streams' server: it has this meshd for its python3, wrk and h2load."""
    server_image: str = "nginx:1.28"
    """Of the server: it has nginx and a shell."""
    sidecar_label: tuple[str, str] = ("istio-injection", "enabled")
    """The namespace's label by which a sidecar is injected into its pods."""
    context: str = ""
    """kubectl's; empty: the current one."""


def sidecar_label(text: str) -> tuple[str, str]:
    """KEY=VALUE. Raises ValueError."""
    key, equals, value = text.partition("=")
    if not key or not equals or not value:
        raise ValueError(f"{text!r} is not KEY=VALUE, as istio-injection=enabled")
    return key, value


def possible(scenarios: Sequence[Scenario]) -> list[Scenario]:
    """Those that a cluster can measure."""
    return [scenario for scenario in scenarios if scenario in SCENARIOS]
