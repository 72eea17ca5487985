"""kubeconfig files (k8s.io/client-go, tools/clientcmd/api/v1): which server, and who we are there."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
import yaml
from msgspec import Meta, Struct

MAX_BYTES = 1024 * 1024


class KubeConfigError(Exception):
    """The kubeconfig cannot be used; the message says which file, what is wrong and what to do."""


class Cluster(Struct, frozen=True, rename="kebab"):
    """clusters[].cluster."""

    server: Annotated[str, Meta(pattern=r"^https?://[^/?#\s]+")]
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""


class ExecVariable(Struct, frozen=True):
    """users[].user.exec.env[]."""

    name: str
    value: str


class Exec(Struct, frozen=True, rename="camel"):
    """users[].user.exec: a program that writes an ExecCredential."""

    command: Annotated[str, Meta(min_length=1)]
    api_version: Literal["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"]
    args: tuple[str, ...] | None = None
    env: tuple[ExecVariable, ...] | None = None
    install_hint: str = ""
    provide_cluster_info: bool = False
    interactive_mode: str = "IfAvailable"


class User(Struct, frozen=True):
    """users[].user."""

    token: str = ""
    token_file: str = msgspec.field(default="", name="tokenFile")
    client_certificate: str = msgspec.field(default="", name="client-certificate")
    client_certificate_data: str = msgspec.field(default="", name="client-certificate-data")
    client_key: str = msgspec.field(default="", name="client-key")
    client_key_data: str = msgspec.field(default="", name="client-key-data")
    exec: Exec | None = None
    username: str = ""
    auth_provider: dict[str, object] | None = msgspec.field(default=None, name="auth-provider")
    impersonate: str = msgspec.field(default="", name="as")


class Context(Struct, frozen=True):
    """contexts[].context."""

    cluster: str
    user: str = ""
    namespace: str = ""


class _NamedCluster(Struct, frozen=True):
    name: str
    cluster: Cluster


class _NamedUser(Struct, frozen=True):
    name: str
    user: User


class _NamedContext(Struct, frozen=True):
    name: str
    context: Context


class _File(Struct, frozen=True, rename="kebab"):
    clusters: tuple[_NamedCluster, ...] | None = None
    users: tuple[_NamedUser, ...] | None = None
    contexts: tuple[_NamedContext, ...] | None = None
    current_context: str = ""


class Chosen(Struct, frozen=True):
    """What one context names. Paths of files are absolute."""

    cluster: Cluster
    user: User
    namespace: str


_T = TypeVar("_T")


def paths(environment: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """Where kubectl looks: the files of KUBECONFIG, else ~/.kube/config."""
    given = environment.get("KUBECONFIG", "")
    if given:
        return tuple(Path(part) for part in given.split(os.pathsep) if part)
    return (Path.home() / ".kube" / "config",)


def choose(files: tuple[Path, ...], context: str = "") -> Chosen:
    """The context named, else the current one. Of each name and of current-context the first file's entry
    counts; files that do not exist are left out, as kubectl does it. Blocking. Raises KubeConfigError."""
    contexts: dict[str, Context] = {}
    clusters: dict[str, Cluster] = {}
    users: dict[str, User] = {}
    current = ""
    found = [(path, _read(path)) for path in files if len(files) == 1 or path.exists()]
    for path, file in found:
        for named in file.contexts or ():
            contexts.setdefault(named.name, named.context)
        for cluster in file.clusters or ():
            clusters.setdefault(cluster.name, _absolute(cluster.cluster, path))
        for user in file.users or ():
            users.setdefault(user.name, _absolute(user.user, path))
        current = current or file.current_context
    where = ", ".join(str(path) for path in files)
    name = context or current
    if not name:
        raise KubeConfigError(f"kubeconfig {where}: it has no current-context; name one")
    if name not in contexts:
        raise KubeConfigError(f"kubeconfig {where}: there is no context {name!r}; {_those(contexts)}")
    chosen = contexts[name]
    if chosen.cluster not in clusters:
        raise KubeConfigError(f"kubeconfig {where}: context {name!r} names no cluster that is there")
    if chosen.user and chosen.user not in users:
        raise KubeConfigError(f"kubeconfig {where}: context {name!r} names no user that is there")
    return Chosen(clusters[chosen.cluster], users.get(chosen.user, User()), chosen.namespace or "default")


def _those(contexts: Mapping[str, Context]) -> str:
    return f"there are {', '.join(sorted(contexts))}" if contexts else "there are none"


def _read(path: Path) -> _File:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise KubeConfigError(f"kubeconfig {path}: {error.strerror}") from None
    if len(text) > MAX_BYTES:
        raise KubeConfigError(f"kubeconfig {path}: larger than {MAX_BYTES} bytes")
    try:
        content = yaml.load(text, Loader=yaml.CSafeLoader)
        return msgspec.convert({} if content is None else content, _File)
    except yaml.YAMLError as error:
        raise KubeConfigError(f"kubeconfig {path}: not valid YAML: {error}") from None
    except msgspec.ValidationError as error:
        raise KubeConfigError(f"kubeconfig {path}: {error}") from None


_PATHS = ("certificate_authority", "client_certificate", "client_key", "token_file")


def _absolute(entry: _T, path: Path) -> _T:
    """With paths that were relative to the file's folder."""
    assert isinstance(entry, Struct)
    given = {name: getattr(entry, name) for name in _PATHS if getattr(entry, name, "")}
    folder = path.absolute().parent
    return msgspec.structs.replace(entry, **{name: str(folder / value) for name, value in given.items()})


def decoded(data: str, what: str) -> bytes:
    """A ``-data`` field. Raises KubeConfigError."""
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise KubeConfigError(f"kubeconfig: {what} is not valid base64") from None
