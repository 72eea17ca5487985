"""The chart: rendered over a matrix of values, validated, documented."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml
from helm_python import HelmValuesError, lint

from meshd import __version__
from meshd.cli import agent, control
from tests.chart.rendering import CHART, NAMESPACE, Object, arguments, objects, one, texts

VERSIONS = ("1.30", "1.33", "1.37")
OWN = {"control": {"tls": {"existingSecret": "own"}}}
EVERYTHING: Object = {
    "image": {"digest": "sha256:" + "0" * 64, "pullSecrets": ["registry"]},
    "agent": {
        "runtime": {"name": "cri-o"},
        "accessLog": {"enabled": True, "sample": 100},
        "extraArgs": ["--log-level=debug"],
        "podLabels": {"team": "net"},
        "podAnnotations": {"a": "b"},
        "affinity": {"nodeAffinity": {}},
    },
    "control": {
        "tls": {"existingSecret": "own"},
        "extraArgs": ["--log-level=debug"],
        "tolerations": [{"operator": "Exists"}],
        "podAnnotations": {"a": "b"},
        "affinity": {"podAffinity": {}},
    },
    "monitoring": {
        "podMonitor": {"enabled": True, "labels": {"release": "p"}},
        "dashboard": {"enabled": True},
    },
    "networkPolicy": {"enabled": True, "metricsFrom": [{"namespaceSelector": {}}]},
}
K3S: Object = {"agent": {"runtime": {"socket": "/run/k3s/containerd/containerd.sock"}, "enrol": "all"}}
MATRIX: dict[str, Object] = {
    "defaults": {},
    "everything": EVERYTHING,
    "docker": {
        "agent": {
            "runtime": {"name": "docker"},
            "updateStrategy": {"type": "OnDelete", "rollingUpdate": None},
        }
    },
    "k3s": K3S,
    "one replica": {"control": {"replicas": 1, "priorityClassName": ""}, "agent": {"tolerations": []}},
}


def test_every_manifest_is_what_kubernetes_takes() -> None:
    """Each once: most are the same whatever the values are."""
    different: dict[str, Object] = {}
    for values in MATRIX.values():
        found = objects({**OWN, **values})
        names = [(each["kind"], each["metadata"]["name"]) for each in found]
        assert len(names) == len(set(names))
        different |= {json.dumps(each): each for each in found}
    # The certificates of the chart's own, which are never the same.
    different |= {json.dumps(each): each for each in objects() if each["kind"] in ("Secret", "ConfigMap")}
    for manifest in different.values():
        assert manifest["metadata"]["labels"]["app.kubernetes.io/name"] == "meshd"
        if not manifest["apiVersion"].startswith("monitoring."):
            for version in VERSIONS:
                kubernetes_validate.validate(manifest, version, strict=True)


def test_helm_finds_nothing_to_complain_of() -> None:
    said = lint(str(CHART))
    assert not said["errors"]
    assert [each["error"] for each in said["messages"]] == ["icon is recommended"]


def test_rendered_twice_it_is_the_same() -> None:
    assert texts(OWN) == texts(OWN)


def test_chart_and_program_are_of_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"agent": {"worker": 2}}, "additional properties 'worker' not allowed"),
        ({"agents": {}}, "additional properties 'agents' not allowed"),
        ({"agent": {"workers": "2"}}, "at '/agent/workers': got string, want integer"),
        ({"agent": {"enrol": "none"}}, "at '/agent/enrol': value must be one of 'labelled', 'all'"),
        ({"control": {"tls": {"validDays": 0}}}, "at '/control/tls/validDays': minimum: got 0, want 1"),
    ],
)
def test_a_typo_in_the_values_is_refused_by_name(values: Object, said: str) -> None:
    with pytest.raises(HelmValuesError, match=re.escape(said)):
        texts(values)


def _paths(values: Object, before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value and f"{before}{key}" not in _WHOLE:
            yield from _paths(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


_WHOLE = {
    f"{part}.{name}"
    for part in ("agent", "control")
    for name in ("resources", "nodeSelector", "tolerations", "updateStrategy", "securityContext")
} | {"monitoring.dashboard.labels"}
"""Values that are documented as one."""


def test_the_readme_lists_each_value_with_its_default() -> None:
    text = (CHART / "values.yaml").read_text()
    said = re.findall(r"# -- (.+)\n *([A-Za-z]+):", text)
    values = list(_paths(yaml.safe_load(text)))
    assert [name for _, name in said] == [path.split(".")[-1] for path, _ in values]
    rows = [
        f"| `{path}` | `{json.dumps(value)}` | {comment} |"
        for (path, value), (comment, _) in zip(values, said, strict=True)
    ]
    readme = (CHART / "README.md").read_text()
    assert re.findall(r"^\| `.*$", readme, re.MULTILINE) == rows, "\n".join(rows)


def test_the_schema_knows_exactly_the_values_there_are() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())

    def compare(part: Object, values: Object, path: str) -> None:
        if not part.get("properties"):
            return
        assert part["additionalProperties"] is False, path
        assert set(part["properties"]) - {"global"} >= values.keys(), path
        optional = {"global", "requests", "limits", "rollingUpdate"}
        assert set(part["properties"]) - optional <= values.keys(), path
        for key, value in values.items():
            if isinstance(value, dict):
                compare(part["properties"][key], value, f"{path}.{key}")

    compare(schema, yaml.safe_load((CHART / "values.yaml").read_text()), "")


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_agent_and_control_plane_take_their_arguments(values: Object) -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    commands = parser.add_subparsers(dest="command")
    agent.add_parser(commands)
    control.add_parser(commands)
    found = objects(values)
    given = arguments(found, "DaemonSet", "meshd-agent", NODE_NAME="n1", HOST_IP="fd00::1")
    parsed = parser.parse_args(given)
    assert (parsed.node, parsed.metrics_listen) == ("n1", ("fd00::1", 15020))
    assert parsed.control == f"meshd-control.{NAMESPACE}.svc:15010"
    assert parsed.daemonset == (NAMESPACE, "meshd-agent")
    parsed = parser.parse_args(arguments(found, "Deployment", "meshd-control", POD_IP="10.1.2.3"))
    assert parsed.metrics_listen == ("10.1.2.3", 15021)


@pytest.mark.parametrize(("values", "folder"), [({}, "/run/containerd"), (K3S, "/run/k3s/containerd")])
def test_the_runtimes_socket_is_where_its_folder_is_mounted(values: Object, folder: str) -> None:
    """The folder, for a socket that is made anew when the runtime restarts is another file."""
    pod = one(objects(values), "DaemonSet", "meshd-agent")["spec"]["template"]["spec"]
    volumes = {each["name"]: each for each in pod["volumes"]}
    assert volumes["runtime"]["hostPath"]["path"] == folder
    (container,) = pod["containers"]
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    assert mounts.keys() == volumes.keys()
    assert f"--runtime-socket={mounts['runtime']}/containerd.sock" in container["args"]
    assert f"--cgroup={mounts['cgroup']}" in container["args"]


def test_every_metric_of_the_dashboard_is_documented() -> None:
    """docs/metrics.md lists them; what it lists is held to the daemons elsewhere."""
    text = (CHART / "dashboards" / "meshd.json").read_text()
    json.loads(text)
    used = set(re.findall(r"\bmeshd_[a-z0-9_]+", text))
    assert len(used) > 8
    documented = (CHART.parents[1] / "docs" / "metrics.md").read_text()
    missing = {name for name in used if not re.search(rf"`{re.sub('_bucket$', '', name)}\b", documented)}
    assert not missing
