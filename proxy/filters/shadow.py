"""Mirrored requests: which clusters get a copy, and what the copy's Host says (RequestMirrorPolicy)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from meshd.model.request_policies import MILLION, Mirror
from proxy.http1.field_values import Field
from proxy.requests.rewriting import split_port

_SUFFIX = "-shadow"


def drawn(mirrors: Iterable[Mirror], random: Callable[[], float]) -> list[str]:
    """The clusters that get a copy of a request. ``random``: uniform in [0, 1), drawn for each."""
    return [mirror.cluster for mirror in mirrors if random() * MILLION < mirror.share]


def shadow_host(host: str) -> str:
    """A request's Host as its copy has it: so that a log tells them apart (ShadowWriterImpl)."""
    name, port = split_port(host)
    return f"{name}{_SUFFIX}:{port}" if port else f"{host}{_SUFFIX}"


def shadow_fields(fields: Iterable[Field]) -> list[Field]:
    """A request's fields, as it goes to its server, for its copy."""
    return [
        (name, shadow_host(value.decode("latin-1")).encode("latin-1"))
        if name.lower() == b"host"
        else (name, value)
        for name, value in fields
    ]
