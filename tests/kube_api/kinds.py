"""The kinds that the tests' API server has: those that we follow and write, and those of the chart."""

from __future__ import annotations

from meshd.control.cluster_source import RESOURCES
from meshd.kube_api.leading import LEASES
from meshd.kube_api.resource import Resource

KINDS = (
    *RESOURCES,
    LEASES,
    Resource("ConfigMap", "v1", "configmaps"),
    Resource("Pod", "v1", "pods"),
    Resource("Secret", "v1", "secrets"),
    Resource("ServiceAccount", "v1", "serviceaccounts"),
    Resource("CustomResourceDefinition", "apiextensions.k8s.io/v1", "customresourcedefinitions"),
    Resource("DaemonSet", "apps/v1", "daemonsets"),
    Resource("Deployment", "apps/v1", "deployments"),
    Resource("Job", "batch/v1", "jobs"),
    Resource("NetworkPolicy", "networking.k8s.io/v1", "networkpolicies"),
    Resource("PodDisruptionBudget", "policy/v1", "poddisruptionbudgets"),
    Resource("ClusterRole", "rbac.authorization.k8s.io/v1", "clusterroles"),
    Resource("ClusterRoleBinding", "rbac.authorization.k8s.io/v1", "clusterrolebindings"),
    Resource("Role", "rbac.authorization.k8s.io/v1", "roles"),
    Resource("RoleBinding", "rbac.authorization.k8s.io/v1", "rolebindings"),
)
NAMESPACES, SERVICES, SLICES, ROUTES, *_ = RESOURCES
CLUSTER_SCOPED = frozenset(("namespaces", "clusterroles", "clusterrolebindings", "customresourcedefinitions"))
_WITHOUT_STATUS = frozenset(
    (
        "configmaps", "secrets", "serviceaccounts", "leases", "endpointslices", "referencegrants",
        "networkpolicies", "clusterroles", "clusterrolebindings", "roles", "rolebindings",
    )
)  # fmt: skip
_CUSTOM = ("gateway.networking.k8s.io/", "meshd.io/")


def has_status(resource: Resource) -> bool:
    """Whether status is a resource of its own, which writes to the object leave alone."""
    return resource.plural not in _WITHOUT_STATUS


def is_custom(resource: Resource) -> bool:
    """Whether a CRD defines it: then there is no strategic merge."""
    return resource.api_version.startswith(_CUSTOM)
