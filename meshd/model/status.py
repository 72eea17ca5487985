"""What became of the objects that the user wrote: taken, refused, and why. What ``meshd status`` shows."""

from __future__ import annotations

import enum

import msgspec

ROUTE_KINDS = frozenset({"GRPCRoute", "HTTPRoute", "TLSRoute", "TCPRoute"})
"""The kinds whose status tells of parents (RouteStatus); all others that tell of something are policies."""


class Severity(enum.Enum):
    """How much of an object a problem costs."""

    ERROR = "error"
    """The object, in this version, is not in force; its last good version, if there is one, still is."""
    WARNING = "warning"
    """The object is in force, but for what the problem names."""


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is wrong with an object."""

    message: str
    """What is wrong and what to do."""
    field: str = ""
    """Where in the object: ``spec.rules[0].matches[1].path.value``; empty: the object as a whole."""
    severity: Severity = Severity.ERROR


class Condition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A Gateway API condition, in its vocabulary (kubernetes-sigs/gateway-api, apis/v1/shared_types.go)."""

    type: str
    """``Accepted`` or ``ResolvedRefs``."""
    status: bool
    reason: str
    message: str = ""


class ParentReference(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A parentRef as its route has it: what is empty is not there."""

    group: str = ""
    kind: str
    namespace: str = ""
    name: str
    section_name: str = ""
    port: int = 0


class ParentStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one parent of a route took it."""

    parent: str
    """For people: ``Service namespace/name``, with ``:port`` and the port's name where the route has them."""
    ref: ParentReference
    conditions: tuple[Condition, ...] = ()
    """Accepted, and ResolvedRefs."""


class ObjectStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One object that is a route or has problems. An unreadable file is an object of kind ``File``."""

    kind: str
    namespace: str = ""
    name: str
    source: str = ""
    """The manifest it is in, relative to the manifests directory."""
    generation: int = 0
    """metadata.generation of the version that this is about; 0: it has none."""
    parents: tuple[ParentStatus, ...] = ()
    problems: tuple[Problem, ...] = ()


class ConfigStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The control plane's account of one version of the config."""

    version: str = ""
    """Of the snapshot: a hash of all that is in it."""
    objects: tuple[ObjectStatus, ...] = ()
    """Sorted by kind, namespace and name."""
