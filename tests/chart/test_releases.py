"""The chart installed, upgraded and taken out by the real Helm, on the tests' API server.

Helm keeps its releases in memory here: into a cluster it would write them in Protocol Buffers, which that
server does not read.
"""

from __future__ import annotations

import base64
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helm_python import Config

from tests.chart.rendering import CHART, NAMESPACE, Object
from tests.kube_api.kubeconfig import kubeconfig
from tests.kube_api.server import Server
from tests.kube_api.store import Key
from tests.kube_api.thread import ApiThread, api_thread

SECONDS = 100
TLS, AUTHORITY = ("secrets", "meshd-control-tls"), ("configmaps", "meshd-control-ca")


class Release:
    """One, and the cluster that it is in."""

    def __init__(self, api: ApiThread, config: Config) -> None:
        self.api = api
        self._config = config

    def install(self, **values: Object) -> None:
        self._config.install(str(CHART), "mesh", values, timeout=SECONDS)

    def upgrade(self, **values: Object) -> None:
        self._config.upgrade(str(CHART), "mesh", values, timeout=SECONDS)

    def uninstall(self) -> None:
        self._config.uninstall("mesh", timeout=SECONDS)

    @property
    def objects(self) -> dict[Key, Object]:
        return self.api.server.objects

    def data(self, plural: str, name: str) -> dict[str, str]:
        found: dict[str, str] = self.objects[plural, NAMESPACE, name]["data"]
        return found

    @property
    def certificate(self) -> bytes:
        return base64.b64decode(self.data(*TLS)["tls.crt"])

    @property
    def authority(self) -> str:
        """The CA of the certificate."""
        return base64.b64decode(self.data(*TLS)["ca.crt"]).decode().strip()

    @property
    def authorities(self) -> list[str]:
        """That agents believe."""
        end = "-----END CERTIFICATE-----"
        found = self.data(*AUTHORITY)["ca.crt"].split(end)
        return [f"{each.strip()}\n{end}" for each in found if each.strip()]

    def left(self, seconds: int) -> None:
        """The certificate is to be of use for so long yet, as its annotation has it."""
        secret = self.objects[TLS[0], NAMESPACE, TLS[1]]
        secret["metadata"]["annotations"]["meshd.io/expires"] = str(int(time.time()) + seconds)


@pytest.fixture
def release(tmp_path: Path) -> Iterator[Release]:
    with api_thread(Server()) as api:
        path = kubeconfig(tmp_path, api.server.url)
        with Config(kubeconfig_path=path, namespace=NAMESPACE, storage_driver="memory") as config:
            yield Release(api, config)


def test_an_upgrade_keeps_the_certificate_and_restarts_nothing(release: Release) -> None:
    release.install()
    before, data = dict(release.objects), release.data(*TLS)
    release.upgrade()
    assert release.data(*TLS) == data
    specs = {key: each.get("spec", {}) for key, each in before.items()}
    templates = {key: spec["template"] for key, spec in specs.items() if "template" in spec}
    assert {key: release.objects[key]["spec"]["template"] for key in templates} == templates
    assert {key[2] for key in templates} == {"meshd-agent", "meshd-control"}
    release.uninstall()
    left = {key[0] for key in release.objects}
    assert left == {"namespaces", "customresourcedefinitions"}


def test_an_upgrade_renews_a_certificate_of_which_a_third_is_left(release: Release) -> None:
    """...and the CA with it, of which agents hear beside the last one."""
    release.install(control={"tls": {"validDays": 30}})
    first, first_authority = release.certificate, release.authority
    release.left(11 * 86400)
    release.upgrade(control={"tls": {"validDays": 30}})
    assert release.certificate == first
    release.left(9 * 86400)
    release.upgrade(control={"tls": {"validDays": 30}})
    assert release.certificate != first
    assert release.authorities == [release.authority, first_authority]
    release.upgrade(control={"tls": {"validDays": 30}})
    assert release.authorities == [release.authority]
    release.left(-1)
    release.upgrade(control={"tls": {"validDays": 30}})
    assert release.authorities == [release.authority]


def test_an_upgrade_makes_a_certificate_for_other_names(release: Release, tmp_path: Path) -> None:
    release.install()
    first = release.certificate
    release.upgrade(control={"tls": {"names": ["mesh.example"]}})
    assert release.certificate != first
    (tmp_path / "tls.crt").write_bytes(release.certificate)
    (tmp_path / "ca.crt").write_text(release.data(*AUTHORITY)["ca.crt"])
    for name in ("mesh.example", f"meshd-control.{NAMESPACE}.svc"):
        command = ("openssl", "verify", "-verify_hostname", name, "-CAfile", "ca.crt", "tls.crt")
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
