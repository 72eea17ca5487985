"""Who an ADS client is, and what it may say of itself. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

_NODE = "system:node:"
_SERVICE_ACCOUNT = "system:serviceaccount:"
_SPIFFE = "spiffe://"


class Identity(NamedTuple):
    """Who has authenticated, in Kubernetes' terms (authentication.k8s.io/v1, UserInfo)."""

    user: str
    groups: tuple[str, ...] = ()
    bound_node: str = ""
    """The node of the pod that its token is bound to; empty: the API server does not say."""

    @property
    def node(self) -> str:
        """The node whose own it is (Kubernetes' node authorization); empty: not a node's."""
        return self.user[len(_NODE) :] if self.user.startswith(_NODE) else ""

    @property
    def namespace(self) -> str:
        """Of the pod whose own it is; empty: not a pod's.

        From a service account's name, or a SPIFFE ID as Istio makes it (spiffe://DOMAIN/ns/NAMESPACE/sa/NAME).
        """
        if self.user.startswith(_SERVICE_ACCOUNT):
            return self.user[len(_SERVICE_ACCOUNT) :].partition(":")[0]
        parts = self.user.split("/")
        if self.user.startswith(_SPIFFE) and len(parts) == 7 and (parts[3], parts[5]) == ("ns", "sa"):
            return parts[4]
        return ""


def of_certificate(auth_context: Mapping[str, Iterable[bytes]]) -> Identity | None:
    """Of a client certificate that TLS has verified, as gRPC tells of it: its SPIFFE ID, or common name."""
    names = [
        name.decode("utf-8", "replace") for name in auth_context.get("x509_subject_alternative_name", ())
    ]
    names = [name for name in names if name.startswith(_SPIFFE)]
    names += [name.decode("utf-8", "replace") for name in auth_context.get("x509_common_name", ())]
    return Identity(names[0]) if names else None


def why_not(identities: Iterable[Identity], node: str, namespace: str) -> str:
    """Why who has these identities may not be that node, or speak for that namespace; empty: they may.

    A node's own identity is for that node's agent only, and a pod's for its own namespace, or for its own
    node where it speaks for none, as agents do. Others, as administrators give them out, are not bound.
    """
    for identity in identities:
        if identity.node and identity.node != node:
            return f"{identity.user} may not ask as node {node or 'without a name'}"
        if identity.bound_node and not namespace and identity.bound_node != node:
            who = f"{identity.user} on node {identity.bound_node}"
            return f"{who} may not ask as node {node or 'without a name'}"
        if identity.namespace and namespace and identity.namespace != namespace:
            return f"{identity.user} may not ask for namespace {namespace}"
    return ""
