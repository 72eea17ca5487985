"""Start a pod template on a real containerd, as kubelet would: volumes, environment, privileges, probes.

It takes a template as Helm renders it. What it does not know it refuses: no field is silently dropped.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

from tests.support import kubelet_pb2 as kubelet
from tests.support.containerd import Containerd, Pod

Json = dict[str, Any]
Files = Mapping[str, str]
_POD = {
    "automountServiceAccountToken", "containers", "dnsPolicy", "hostNetwork", "hostPID", "initContainers",
    "nodeSelector", "priorityClassName", "securityContext", "serviceAccountName", "tolerations", "affinity",
    "terminationGracePeriodSeconds", "volumes", "topologySpreadConstraints", "imagePullSecrets",
}  # fmt: skip
_CONTAINER = {
    "args", "command", "env", "image", "imagePullPolicy", "livenessProbe", "name", "ports", "readinessProbe",
    "resources", "securityContext", "startupProbe", "volumeMounts", "lifecycle", "terminationMessagePolicy",
}  # fmt: skip
_SECURITY = {
    "allowPrivilegeEscalation", "capabilities", "privileged", "readOnlyRootFilesystem", "runAsGroup",
    "runAsNonRoot", "runAsUser", "seccompProfile",
    "appArmorProfile", "seLinuxOptions",  # of which a test machine has neither
}  # fmt: skip
_SECCOMP = {"RuntimeDefault": 0, "Unconfined": 1}
_PROPAGATION = {"None": 0, "HostToContainer": 1, "Bidirectional": 2}
_EXITED = 2
_OWN = ".kubelet"
_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_SECONDS = 120.0


class Kubelet:
    """Starts pods of one node. ``configs``, ``secrets``: the files of ConfigMaps and Secrets, by name."""

    def __init__(
        self,
        containerd: Containerd,
        node: str,
        folder: Path,
        configs: Mapping[str, Files] | None = None,
        secrets: Mapping[str, Files] | None = None,
        tokens: Mapping[str, Mapping[str, str]] | None = None,
        service_account: Files | None = None,
        environment: Files | None = None,
        hosts: Files | None = None,
    ) -> None:
        """``folder``: for volumes. ``tokens``: by service account and audience.

        ``service_account``: the files of the volume that pods get unless they refuse it. ``environment``: of
        all containers. ``hosts``: addresses by name, in place of a cluster's DNS.
        """
        self._containerd = containerd
        self._node = node
        self._folder = folder
        self._configs = configs or {}
        self._secrets = secrets or {}
        self._tokens = tokens or {}
        self._service_account = service_account or {}
        self._environment = environment or {}
        self.hosts = dict(hosts or {})

    def start(self, template: Json, name: str, namespace: str, image: str) -> Pod:
        """The pod, init containers done and containers ready. ``image``: in place of all images."""
        spec = template["spec"]
        _known(spec, _POD)
        host_network = spec.get("hostNetwork", False)
        metadata = template.get("metadata", {})
        pod = self._containerd.run_pod(
            name,
            namespace=namespace,
            labels=metadata.get("labels"),
            annotations=metadata.get("annotations"),
            host_network=host_network,
            host_pid=spec.get("hostPID", False),
        )
        facts = {
            "metadata.name": name,
            "metadata.namespace": namespace,
            "spec.nodeName": self._node,
            "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
            "status.hostIP": self._containerd.gateway,
            "status.podIP": self._containerd.gateway if host_network else self._containerd.address(pod),
        }
        account = facts["spec.serviceAccountName"]
        folders = {each["name"]: self._volume(each, name, account) for each in spec.get("volumes", ())}
        self._write_own(name)
        for container in spec.get("initContainers", ()):
            self._until_exited(self._run(pod, spec, container, folders, facts, image), container["name"])
        for container in spec["containers"]:
            made = self._run(pod, spec, container, folders, facts, image)
            for probe in ("startupProbe", "readinessProbe"):
                if probe in container:
                    self._until_true(made, container, probe, facts["status.podIP"])
        return pod

    def _run(
        self, pod: Pod, spec: Json, container: Json, folders: Mapping[str, str], facts: Files, image: str
    ) -> str:
        _known(container, _CONTAINER)
        environment = {**self._environment}
        for each in container.get("env", ()):
            environment[each["name"]] = self._value(each, facts)
        own = self._folder / pod.config.metadata.name / _OWN
        mounts = [kubelet.Mount(container_path="/etc/hosts", host_path=f"{own}/hosts")]
        if spec.get("automountServiceAccountToken", True):
            account = kubelet.Mount(container_path=_ACCOUNT, host_path=f"{own}/account", readonly=True)
            mounts.append(account)
        mounts += [
            kubelet.Mount(
                container_path=each["mountPath"],
                host_path="/".join(filter(None, (folders[each["name"]], each.get("subPath")))),
                readonly=each.get("readOnly", False),
                propagation=_PROPAGATION[each.get("mountPropagation", "None")],
            )
            for each in container.get("volumeMounts", ())
        ]
        return self._containerd.run_container(
            pod,
            [_expanded(each, environment) for each in container.get("command", ())],
            args=[_expanded(each, environment) for each in container.get("args", ())],
            name=container["name"],
            image=image,
            mounts=mounts,
            security=_security(spec, container),
            environment=environment,
        )

    def _write_own(self, pod: str) -> None:
        """What a pod gets without having asked for it."""
        names = "".join(f"{address} {name}\n" for name, address in self.hosts.items())
        _write(self._folder / pod / _OWN, {"hosts": f"127.0.0.1 localhost\n{names}"})
        _write(self._folder / pod / _OWN / "account", self._service_account)

    def _volume(self, volume: Json, pod: str, account: str) -> str:
        """Where its files are on this machine."""
        kind = next(each for each in volume if each != "name")
        source = volume[kind]
        folder = self._folder / pod / volume["name"]
        match kind:
            case "hostPath":
                if source.get("type") == "DirectoryOrCreate":
                    Path(source["path"]).mkdir(parents=True, exist_ok=True)
                assert Path(source["path"]).exists(), f"hostPath {source['path']} is not here"
                return str(source["path"])
            case "emptyDir":
                folder.mkdir(parents=True)
            case "configMap":
                _write(folder, self._configs[source["name"]])
            case "secret":
                _write(folder, self._secrets[source["secretName"]])
            case "projected":
                for each in source["sources"]:
                    _write(folder, self._projected(each, account))
            case _:
                raise AssertionError(f"volume {volume['name']}: {kind} is not known here")
        return str(folder)

    def _projected(self, source: Json, account: str) -> Files:
        match source:
            case {"serviceAccountToken": token}:
                return {token["path"]: self._tokens[account][token["audience"]]}
            case {"configMap": picked}:
                return _picked(self._configs, picked)
            case {"secret": picked}:
                return _picked(self._secrets, picked)
            case _:
                raise AssertionError(f"projected volume: {source} is not known here")

    def _value(self, variable: Json, facts: Files) -> str:
        if "value" in variable:
            return str(variable["value"])
        return facts[variable["valueFrom"]["fieldRef"]["fieldPath"]]

    def _until_exited(self, container: str, name: str) -> None:
        deadline = time.monotonic() + _SECONDS
        while (status := self._containerd.status(container)).state != _EXITED:
            assert time.monotonic() < deadline, f"init container {name} goes on and on"
            time.sleep(0.05)
        assert status.exit_code == 0, f"init container {name}: {self._containerd.container_log(name)}"

    def _until_true(self, container: str, of: Json, probe: str, address: str) -> None:
        deadline = time.monotonic() + _SECONDS
        while not self._probe(container, of, of[probe], address):
            said = self._containerd.container_log(of["name"])
            assert self._containerd.status(container).state != _EXITED, f"{of['name']} ended: {said}"
            assert time.monotonic() < deadline, f"{of['name']}: {probe} never succeeds: {said}"
            time.sleep(0.1)

    def _probe(self, container: str, of: Json, probe: Json, address: str) -> bool:
        match probe:
            case {"exec": {"command": command}}:
                return self._containerd.succeeds(container, *command)
            case {"httpGet": how}:
                return _answers(f"http://{how.get('host', address)}:{_port(of, how['port'])}{how['path']}")
            case {"tcpSocket": how}:
                return _listens(how.get("host", address), _port(of, how["port"]))
            case {"grpc": {"port": port}}:
                return _listens(address, port)
            case _:
                raise AssertionError(f"probe {probe} is not known here")


def _answers(url: str) -> bool:
    """As kubelet's httpGet: a status from 200 to 399."""
    try:
        return bool(requests.get(url, timeout=5, allow_redirects=False).status_code < 400)
    except requests.RequestException:
        return False


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), 5):
            return True
    except OSError:
        return False


def _known(given: Json, known: set[str]) -> None:
    assert given.keys() <= known, f"not known here: {sorted(given.keys() - known)}"


def _expanded(text: str, environment: Files) -> str:
    """$(NAME), as kubelet puts it in."""
    return re.sub(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)", lambda found: environment[found[1]], text)


def _picked(of: Mapping[str, Files], how: Json) -> Files:
    files = of[how["name"]]
    return {each["path"]: files[each["key"]] for each in how["items"]} if "items" in how else files


def _write(folder: Path, files: Files) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o644)


def _port(container: Json, port: int | str) -> int:
    if isinstance(port, int):
        return port
    return int(next(each["containerPort"] for each in container["ports"] if each.get("name") == port))


def _security(spec: Json, container: Json) -> kubelet.ContainerSecurityContext:
    context = {**spec.get("securityContext", {}), **container.get("securityContext", {})}
    _known(context, _SECURITY)
    assert not context.get("runAsNonRoot") or context["runAsUser"], f"{container['name']} runs as root"
    wanted = context.get("capabilities", {})
    made = kubelet.ContainerSecurityContext(
        capabilities=kubelet.Capability(
            add_capabilities=wanted.get("add", ()), drop_capabilities=wanted.get("drop", ())
        ),
        privileged=context.get("privileged", False),
        namespace_options=kubelet.NamespaceOption(
            network=2 if spec.get("hostNetwork") else 0, pid=2 if spec.get("hostPID") else 1
        ),
        readonly_rootfs=context.get("readOnlyRootFilesystem", False),
        no_new_privs=not context.get("allowPrivilegeEscalation", True),
        seccomp=kubelet.SecurityProfile(
            profile_type=_SECCOMP[context.get("seccompProfile", {}).get("type", "Unconfined")]
        ),
    )
    if "runAsUser" in context:
        made.run_as_user.value = context["runAsUser"]
    if "runAsGroup" in context:
        made.run_as_group.value = context["runAsGroup"]
    return made
