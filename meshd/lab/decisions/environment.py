"""The environment of a container. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from meshd.lab.decisions.podview import PodView
from meshd.lab.manifests.objects import Container

_REFERENCE = re.compile(r"\$(\$|\(([^()]*)\))")


def environment(container: Container, pod: PodView, base: Mapping[str, str]) -> dict[str, str]:
    """``base`` (the host's PATH and the like), HOSTNAME, then the container's own in their order."""
    found = {**base, "HOSTNAME": pod.name}
    fields = {
        "metadata.name": pod.name,
        "metadata.namespace": pod.namespace,
        "metadata.uid": pod.uid,
        "spec.nodeName": pod.node,
        "spec.serviceAccountName": pod.spec.service_account_name,
        "status.hostIP": pod.host_ip,
        "status.podIP": pod.ips[0] if pod.ips else "",
    }
    own: dict[str, str] = {}
    for variable in container.env:
        source = variable.value_from
        own[variable.name] = (
            fields[source.field_ref.field_path] if source is not None else expanded(variable.value, own)
        )
    return found | own


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """Replace $(NAME) by its value. An unknown name stays; $$ is one dollar sign (Kubernetes' rule)."""

    def value(found: re.Match[str]) -> str:
        if found[1] == "$":
            return "$"
        return variables.get(found[2], found[0])

    return _REFERENCE.sub(value, text)
