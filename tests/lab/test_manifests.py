from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from meshd.lab.decisions.store import Store
from meshd.lab.manifests.files import Manifest, ManifestError, load
from meshd.lab.manifests.objects import Deployment, Service
from meshd.lab.manifests.parsing import InvalidObjectError, parse

_POD = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: %s}"
_SERVICE = "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: %s}"
_CONTAINER = "{containers: [{name: a, command: [b], %s}]}"


def _object(text: str) -> object:
    return yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3", "object: expected `object`, got `int`"),
        ("{kind: Pod}", "object: object missing required field `apiVersion`"),
        ("{apiVersion: v1, kind: Pod, metadata: {name: A_b}}", "metadata.name: 'A_b' is not"),
        ("{apiVersion: apps/v1, kind: Pod, metadata: {name: a}}", "apiVersion: 'apps/v1' must be 'v1'"),
        ("{apiVersion: batch/v1, kind: Job, metadata: {name: a}}", "kind: the lab runs Pod and Deployment"),
        (_POD % "{}", "Pod default/a: spec: object missing required field `containers`"),
        (_POD % "{containers: []}", "spec.containers: expected `array` of length >= 1"),
        (_POD % "{containers: [{name: a, image: nginx}]}", "spec.containers[0].command: required"),
        (_POD % "{containers: [{name: a, command: [b]}, {name: a, command: [b]}]}", "'a' is used twice"),
        (_POD % _CONTAINER % "env: [{name: X, value: 1}]", "spec.containers[0].env[0].value: expected `str`"),
        (_POD % _CONTAINER % "env: [{name: X, valueFrom: {fieldRef: {fieldPath: x}}}]", "'x' is not one of"),
        (_POD % _CONTAINER % "ports: [{containerPort: 0}]", "ports[0].containerPort: expected `int` >= 1"),
        (_POD % _CONTAINER % "readinessProbe: {}", "readinessProbe: exactly one of httpGet, "),
        (_POD % _CONTAINER % "readinessProbe: {httpGet: {port: web}}", "port: 'web' is not the name of"),
        (_POD % _CONTAINER % "readinessProbe: {tcpSocket: {port: 70000}}", "port: 70000 is not a port"),
        (_POD % _CONTAINER % "lifecycle: {preStop: {}}", "preStop: exactly one of exec, sleep must be given"),
        (_SERVICE % "{}", "Service default/a: spec.ports: required"),
        (_SERVICE % "{ports: [{port: 1}, {port: 2}]}", "with several ports each needs a name of its own"),
        (_SERVICE % "{ports: [{port: 1, name: a}, {port: 1, name: b}]}", "a port is given twice"),
        (_SERVICE % "{ports: [{port: 1, protocol: SCTP}]}", "spec.ports[0].protocol: invalid enum value"),
        (_SERVICE % "{clusterIP: here, ports: [{port: 1}]}", "spec.clusterIP: 'here' is not an IP address"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    with pytest.raises(InvalidObjectError) as caught:
        parse(_object(text))
    assert message in str(caught.value)


def test_what_the_lab_does_not_act_upon_passes_whatever_it_holds() -> None:
    route = (
        "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: a}, spec: {rules: 7}}"
    )
    assert parse(_object(route)) is None


_KEYS = st.sampled_from(["apiVersion", "kind", "metadata", "name", "spec", "ports", "containers"])
_LEAVES = st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["v1", "Pod", "Service"])


@given(st.recursive(_LEAVES, lambda inner: st.lists(inner) | st.dictionaries(_KEYS, inner)))
def test_no_input_is_answered_by_another_error(source: object) -> None:
    with contextlib.suppress(InvalidObjectError):
        parse(source)


def test_nulls_are_absent_lists_are_read_and_folders_are_remembered(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "kind: List\nitems:\n- "
        + _SERVICE % "{selector: null, ports: [{port: 1}]}"
        + "\n---\n---\n# nothing\n"
    )
    (found,) = load([str(tmp_path)])
    assert found.folder == str(tmp_path)
    assert found.source["spec"] == {"ports": [{"port": 1}]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", "a.yaml: not valid YAML: a is given twice (line 2"),
        ("[" * 10_000, "a.yaml: nested deeper than"),
        ("\t", "a.yaml: not valid YAML"),
    ],
)
def test_what_is_not_yaml(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ManifestError) as caught:
        load([str(tmp_path / "a.yaml")])
    assert message in str(caught.value)


def test_an_empty_folder_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no .yaml, .yml or .json file"):
        load([str(tmp_path)])


def _manifest(text: str) -> Manifest:
    return msgspec.convert({"folder": "/", "source": _object(text)}, Manifest)


def _service(name: str, more: str = "") -> Manifest:
    return _manifest(_SERVICE.replace("name: a", f"name: {name}") % f"{{ports: [{{port: 80}}]{more}}}")


def test_vips_stay_with_their_service_and_are_not_given_twice() -> None:
    store = Store()
    store.apply([_service("a"), _service("b", ", clusterIP: 10.96.0.16"), _service("c")])
    vips = {service.metadata.name: ips for service, ips in store.services()}
    assert vips == {"a": ("10.96.0.17",), "b": ("10.96.0.16",), "c": ("10.96.0.18",)}
    store.apply([_service("a", ", ipFamilyPolicy: PreferDualStack")])
    vips = {service.metadata.name: ips for service, ips in store.services()}
    assert vips["a"] == ("10.96.0.17", "fd00:10:96::10")


def test_a_bad_object_changes_nothing() -> None:
    store = Store()
    with pytest.raises(InvalidObjectError, match="not in"):
        store.apply([_service("a"), _service("b", ", clusterIP: 1.2.3.4")])
    assert store.services() == []


def test_outcomes() -> None:
    store = Store()
    assert store.apply([_service("a")]) == [("Service default/a", "created")]
    assert store.apply([_service("a")]) == [("Service default/a", "unchanged")]
    assert store.apply([_service("a", ", type: NodePort")]) == [("Service default/a", "configured")]
    assert store.delete([_service("a"), _service("b")]) == [
        ("Service default/a", "deleted"),
        ("Service default/b", "not found"),
    ]


def test_a_namespace_takes_its_objects_with_it() -> None:
    store = Store()
    namespace = _manifest("{apiVersion: v1, kind: Namespace, metadata: {name: n}}")
    inner = _manifest(_SERVICE.replace("name: a", "name: a, namespace: n") % "{ports: [{port: 80}]}")
    store.apply([namespace, inner, _service("b")])
    assert store.delete([namespace]) == [("Namespace n", "deleted"), ("Service n/a", "deleted")]
    assert [service.metadata.name for service, _ in store.services()] == ["b"]


def test_who_is_in_the_mesh() -> None:
    store = Store()
    store.apply(
        [
            _manifest(
                "{apiVersion: v1, kind: Namespace, metadata: {name: n, labels: {meshd.io/mesh: disabled}}}"
            )
        ]
    )
    assert not store.in_mesh("n", {}, {})
    assert store.in_mesh("m", {}, {})
    assert not store.in_mesh("m", {"meshd.io/mesh": "disabled"}, {})
    assert not store.in_mesh("m", {}, {"meshd.io/mesh": "disabled"})


def test_defaults_are_kubernetes() -> None:
    pods = "{metadata: {labels: {a: b}}, spec: {containers: [{name: c, command: [x]}]}}"
    spec = f"{{selector: {{matchLabels: {{a: b}}}}, template: {pods}}}"
    text = f"{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: d}}, spec: {spec}}}"
    found = parse(_object(text))
    assert isinstance(found, Deployment)
    assert found.spec.replicas == 1
    assert found.spec.template.spec.termination_grace_period_seconds == 30
    service = parse(_object(_SERVICE % "{ports: [{port: 80}]}"))
    assert isinstance(service, Service)
    assert service.spec.type == "ClusterIP"
