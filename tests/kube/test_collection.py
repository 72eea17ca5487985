"""Manifests over time: bad edits leave the good state alone."""

from __future__ import annotations

from meshd.kube.collection import Collection, Objects, Unreadable
from meshd.kube.objects import Key


def service(name: str, port: int = 80) -> str:
    return (
        f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n"
        f"spec: {{clusterIP: 10.0.0.1, ports: [{{port: {port}}}]}}\n"
    )


def ports(objects: Objects) -> dict[str, int]:
    return {name: s.spec.ports[0].port for (_, name), s in objects.services.items()}


def messages(objects: Objects) -> list[str]:
    return [f"{key}: {p.field}: {p.message}" for key, ps in sorted(objects.problems.items()) for p in ps]


def test_file_that_is_no_yaml_any_more_keeps_its_objects() -> None:
    collection = Collection()
    collection.update({"a.yaml": service("a") + "---\n" + service("b"), "c.yaml": service("c")})
    for broken in ("{", "{{", Unreadable("cannot be read: Permission denied")):
        objects = collection.update({"a.yaml": broken, "c.yaml": service("c", 81)})
        assert ports(objects) == {"a": 80, "b": 80, "c": 81}
        (message,) = messages(objects)
        assert message.startswith("File a.yaml: :")
        assert message.endswith("the objects of its last good version stay in force")
    assert ports(collection.update({"a.yaml": service("a", 82), "c.yaml": service("c")})) == {
        "a": 82,
        "c": 80,
    }


def test_invalid_object_keeps_its_last_good_version() -> None:
    collection = Collection()
    collection.update({"a.yaml": service("a")})
    objects = collection.update({"a.yaml": service("a", 0) + "---\n" + service("b", 0)})
    assert ports(objects) == {"a": 80}
    assert messages(objects) == [
        "Service default/a: spec.ports[0].port: expected int >= 1",
        "Service default/a: : its last good version stays in force",
        "Service default/b: spec.ports[0].port: expected int >= 1",
    ]
    objects = collection.update({"a.yaml": service("a", 81)})
    assert (ports(objects), messages(objects)) == ({"a": 81}, [])


def test_deleted_is_gone_even_if_another_file_is_bad() -> None:
    collection = Collection()
    collection.update({"a.yaml": service("a"), "b.yaml": service("b")})
    assert ports(collection.update({"b.yaml": "{"})) == {"b": 80}
    assert ports(collection.update({})) == {}


def test_same_object_in_two_files_the_later_wins_with_a_warning() -> None:
    collection = Collection()
    objects = collection.update({"b.yaml": service("a", 82), "a.yaml": service("a", 81)})
    assert ports(objects) == {"a": 82}
    assert messages(objects) == [
        "Service default/a: : is also in a.yaml; the one in b.yaml is used",
    ]
    assert objects.sources[Key("Service", "default", "a")] == "b.yaml"


def test_same_object_twice_in_one_file_and_moved_between_files() -> None:
    collection = Collection()
    assert ports(collection.update({"a.yaml": service("a", 81) + "---\n" + service("a", 82)})) == {"a": 82}
    objects = collection.update({"b.yaml": service("a", 83)})
    assert (ports(objects), messages(objects)) == ({"a": 83}, [])
