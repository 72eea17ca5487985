"""Who a client may say to be."""

from __future__ import annotations

import pytest

from meshd.control.identity import Identity, of_certificate, why_not


@pytest.mark.parametrize(
    ("user", "node", "namespace", "allowed"),
    [
        ("system:node:n1", "n1", "", True),
        ("system:node:n1", "n2", "", False),
        ("system:node:n1", "", "", False),
        ("system:serviceaccount:a:web", "anything", "a", True),
        ("system:serviceaccount:a:web", "anything", "b", False),
        ("system:serviceaccount:mesh:agent", "n1", "", True),
        ("spiffe://cluster.local/ns/a/sa/web", "x", "a", True),
        ("spiffe://cluster.local/ns/a/sa/web", "x", "b", False),
        ("spiffe://cluster.local/other", "x", "b", True),
        ("admin", "n1", "b", True),
    ],
)
def test_what_an_identity_may_ask_for(user: str, node: str, namespace: str, allowed: bool) -> None:
    assert (why_not([Identity(user)], node, namespace) == "") is allowed
    # What one of several identities may not, all may not.
    assert (why_not([Identity("admin"), Identity(user)], node, namespace) == "") is allowed


@pytest.mark.parametrize(
    ("node", "namespace", "reason"),
    [
        ("n1", "", ""),
        ("n2", "", "system:serviceaccount:mesh:agent on node n1 may not ask as node n2"),
        ("", "", "system:serviceaccount:mesh:agent on node n1 may not ask as node without a name"),
        ("a-grpc-client", "mesh", ""),
        ("n1", "other", "system:serviceaccount:mesh:agent may not ask for namespace other"),
    ],
)
def test_a_token_that_is_bound_to_a_node_is_for_that_nodes_agent(
    node: str, namespace: str, reason: str
) -> None:
    identity = Identity("system:serviceaccount:mesh:agent", bound_node="n1")
    assert why_not([identity], node, namespace) == reason


def test_identity_of_a_certificate() -> None:
    def shown(*names: bytes, common: tuple[bytes, ...] = (b"cn",)) -> Identity | None:
        return of_certificate({"x509_subject_alternative_name": names, "x509_common_name": common})

    assert shown(b"10.0.0.1", b"spiffe://d/ns/n/sa/a") == Identity("spiffe://d/ns/n/sa/a")
    assert shown(b"10.0.0.1") == Identity("cn")
    assert shown(common=()) is None
    assert of_certificate({}) is None
