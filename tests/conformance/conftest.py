from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from meshd.lab.decisions.addressing import FABRIC_ADDRESS
from meshd.lab.mesh import CONTROL_PORT
from meshd.lab.names import Lab as LabNames
from tests.conformance import grpc_cases, l4_cases, own_policies, protocol_cases
from tests.conformance.cases import CASES, NAMESPACE, manifests
from tests.conformance.world import CONSUMER, ENVOY, MESHD, World
from tests.support import envoy
from tests.support.certificates import Authority
from tests.support.lab import Lab, running_lab, until
from tests.support.netns import opened

_PODS = Path(__file__).parent / "pods"
_ENVOY_PORT = 15001
_START_SECONDS = 60.0
"""That all cases may take to be in force, on a busy machine."""
_SERVICES = {f"{NAMESPACE}/{case.slug}:80" for case in CASES}
_SERVICES |= grpc_cases.SERVICES | l4_cases.SERVICES | protocol_cases.SERVICES
"""That must be there before anything is asked."""
_REDIRECT = f"""\
table ip conformance {{
  chain output {{
    type nat hook output priority -105;
    ip daddr 10.96.0.0/16 tcp dport 1-65535 redirect to :{_ENVOY_PORT}
  }}
}}
"""


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("conformance-tls"))


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Lab]:
    """The suite's pods, and the Services and routes of all cases."""
    folder = tmp_path_factory.mktemp("conformance") / "pods"
    shutil.copytree(_PODS, folder)
    (folder / "cases.yaml").write_text(yaml.safe_dump_all(manifests()))
    (folder / "policies.yaml").write_text(yaml.safe_dump_all(own_policies.manifests()))
    (folder / "grpc.yaml").write_text(yaml.safe_dump_all(grpc_cases.manifests()))
    signed = authority.sign("l4", ",".join(f"DNS:{each}" for each in l4_cases.NAMES))
    (folder / "l4.yaml").write_text(yaml.safe_dump_all(l4_cases.manifests(signed)))
    (folder / "protocols.yaml").write_text(yaml.safe_dump_all(protocol_cases.manifests()))
    with running_lab(folder) as running:
        wanted = _SERVICES
        until(lambda: wanted <= {service.name for service in running.services()}, _START_SECONDS)
        yield running


@contextlib.contextmanager
def _sidecar(lab: Lab, namespace: str, folder: Path) -> Iterator[None]:
    """A real Envoy in a pod that meshd leaves alone, fed by the lab's control plane as a sidecar would be."""
    message = envoy.with_ads(envoy.bootstrap(f"sidecar-{namespace}"), (FABRIC_ADDRESS, CONTROL_PORT))
    message.node.metadata.update({"NAMESPACE": namespace})
    envoy.with_outbound_capture(message, _ENVOY_PORT)
    with opened(LabNames(lab.name).pod_netns(namespace, "sidecar")) as pod:
        with pod.entered():
            subprocess.run(["nft", "-f", "-"], input=_REDIRECT, text=True, check=True, capture_output=True)
            process = envoy.EnvoyProcess(message, folder)
        with process:
            process.wait_ready(_START_SECONDS)
            process.wait_for_listeners(_SERVICES, _START_SECONDS)
            yield


@pytest.fixture(scope="session")
def world(lab: Lab, authority: Authority) -> Iterator[World]:
    """Clients in two namespaces, behind meshd and behind Envoy."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mt-conf-")))
        for namespace in (NAMESPACE, CONSUMER):
            stack.enter_context(_sidecar(lab, namespace, folder))
        yield World(lab, {MESHD: "client", ENVOY: "sidecar"}, authority.certificate)
