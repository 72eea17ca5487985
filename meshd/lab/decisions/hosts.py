"""The /etc/hosts of a pod, by which service names resolve. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from meshd.lab.decisions.resolution import Name

_DOMAIN = "cluster.local"


def hosts_file(namespace: str, pod: str, ips: Iterable[str], names: Iterable[Name]) -> str:
    """A hosts file for a pod.

    NAME resolves in its own namespace; NAME.NS, NAME.NS.svc and NAME.NS.svc.cluster.local everywhere.
    """
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    lines += [f"{ip} {pod}" for ip in ips]
    for entry in names:
        scoped = f"{entry.name}.{entry.namespace}"
        spelled = [f"{scoped}.svc.{_DOMAIN}", f"{scoped}.svc", scoped]
        if entry.namespace == namespace:
            spelled.append(entry.name)
        lines += [f"{address} {' '.join(spelled)}" for address in entry.addresses]
    return "\n".join(lines) + "\n"
