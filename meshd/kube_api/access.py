"""How to reach an API server: from within a pod, or by kubeconfig."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from meshd.kube_api import kubeconfig
from meshd.kube_api.credentials import Certificate, Credential, Credentials, ExecPlugin, Fixed, TokenFile
from meshd.kube_api.kubeconfig import Cluster, KubeConfigError, User

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class Access(Struct, frozen=True):
    """A server, how it proves itself, and how we do."""

    server: str
    """Its URL, without a slash at the end."""
    namespace: str
    """Ours, or the one that the context names."""
    credentials: Credentials
    authority: bytes | None = None
    """CA certificates, PEM; None: the system's."""
    verify: bool = True
    server_name: str = ""
    """That its certificate is for, where this is not in the URL."""


def in_cluster(folder: Path = SERVICE_ACCOUNT, environment: Mapping[str, str] = os.environ) -> Access:
    """As a pod's service account (client-go rest.InClusterConfig). Blocking. Raises KubeConfigError."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise KubeConfigError(
            "not in a cluster: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set; "
            "give a kubeconfig"
        )
    try:
        authority = (folder / "ca.crt").read_bytes()
        namespace = (folder / "namespace").read_text().strip()
    except OSError as error:
        raise KubeConfigError(f"service account {error.filename}: {error.strerror}") from None
    bracketed = f"[{host}]" if ":" in host else host
    return Access(f"https://{bracketed}:{port}", namespace, TokenFile(folder / "token"), authority)


def from_kubeconfig(files: tuple[Path, ...], context: str = "") -> Access:
    """As a context of a kubeconfig says; the current one where none is named. Blocking.

    Raises KubeConfigError.
    """
    chosen = kubeconfig.choose(files, context)
    cluster = chosen.cluster
    if cluster.proxy_url:
        raise KubeConfigError("kubeconfig: proxy-url is not supported; reach the server directly")
    return Access(
        server=cluster.server.rstrip("/"),
        namespace=chosen.namespace,
        credentials=_credentials(chosen.user, cluster),
        authority=_bytes(cluster.certificate_authority_data, cluster.certificate_authority, "authority"),
        verify=not cluster.insecure_skip_tls_verify,
        server_name=cluster.tls_server_name,
    )


def _credentials(user: User, cluster: Cluster) -> Credentials:
    if user.username or user.auth_provider is not None or user.impersonate:
        raise KubeConfigError(
            "kubeconfig: username, auth-provider and as are not supported; use a token, a certificate or exec"
        )
    if user.exec is not None:
        if user.exec.interactive_mode == "Always":
            raise KubeConfigError(f"kubeconfig: exec plugin {user.exec.command} wants a terminal")
        return ExecPlugin(user.exec, cluster)
    certificate = _bytes(user.client_certificate_data, user.client_certificate, "client-certificate")
    key = _bytes(user.client_key_data, user.client_key, "client-key")
    if (certificate is None) != (key is None):
        raise KubeConfigError("kubeconfig: a client certificate or a key is there without the other")
    if certificate is not None and key is not None:
        return Fixed(Credential(token=user.token, certificate=Certificate(certificate, key)))
    if user.token_file:
        return TokenFile(Path(user.token_file))
    return Fixed(Credential(token=user.token))


def _bytes(data: str, path: str, what: str) -> bytes | None:
    """Of the two, data counts, as with client-go."""
    if data:
        return kubeconfig.decoded(data, f"{what}-data")
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise KubeConfigError(f"kubeconfig: {what} {path}: {error.strerror}") from None


def tls_context(access: Access, certificate: Certificate | None) -> ssl.SSLContext:
    """For connections to the server as the owner of a certificate. Blocking. Raises KubeConfigError."""
    try:
        context = ssl.create_default_context(
            cadata=None if access.authority is None else access.authority.decode("ascii", "replace")
        )
        if not access.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if certificate is not None:
            # OpenSSL's interface in Python takes files only. Nobody else can read this one, and it goes.
            with tempfile.NamedTemporaryFile(prefix="meshd-", suffix=".pem") as file:
                file.write(certificate.certificate + b"\n" + certificate.key)
                file.flush()
                context.load_cert_chain(file.name)
    except ssl.SSLError as error:
        raise KubeConfigError(f"TLS to {access.server}: {error.reason or error}") from None
    return context
