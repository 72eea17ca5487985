"""Who we are to the API server: tokens that rotate, client certificates, programs that are asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct

from meshd.kube_api.kubeconfig import Cluster, Exec

TOKEN_SECONDS = 60.0
"""A token file is read again so often: the kubelet rotates projected tokens (client-go does the same)."""
MAX_TOKEN_BYTES = 64 * 1024
EXEC_SECONDS = 60.0
MAX_EXEC_BYTES = 1024 * 1024
_EARLY_SECONDS = 10.0
"""A credential is renewed so long before it expires: a request takes time."""


class CredentialError(Exception):
    """There is no credential to be had; the message says why and what to do."""


class Certificate(Struct, frozen=True):
    """A client certificate and its key, PEM."""

    certificate: bytes
    key: bytes


class Credential(Struct, frozen=True):
    """What a request is sent with; both may be absent."""

    token: str = ""
    certificate: Certificate | None = None


class Credentials(Protocol):
    """Where credentials come from."""

    async def current(self) -> Credential:
        """Raises CredentialError."""

    def refused(self) -> None:
        """The server answered 401: do not give the same again without having asked for a new one."""


class Fixed:
    """Always the same."""

    def __init__(self, credential: Credential) -> None:
        self._credential = credential

    async def current(self) -> Credential:
        """It."""
        return self._credential

    def refused(self) -> None:
        """There is no other."""


class TokenFile:
    """A token in a file that is replaced from time to time."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._token = ""
        self._until = 0.0

    async def current(self) -> Credential:
        """The token, as it was TOKEN_SECONDS ago at the latest. An unreadable file leaves it as it was.

        Raises CredentialError when there never was one.
        """
        now = self._clock()
        if not self._token or now >= self._until:
            try:
                self._token = await asyncio.to_thread(self._read)
            except OSError as error:
                if not self._token:
                    raise CredentialError(f"token file {self._path}: {error.strerror}") from None
            self._until = now + TOKEN_SECONDS
        return Credential(token=self._token)

    def _read(self) -> str:
        with self._path.open("rb") as file:
            text = file.read(MAX_TOKEN_BYTES).decode("ascii", "replace").strip()
        if not text:
            raise OSError(0, "it is empty")
        return text

    def refused(self) -> None:
        """Read the file at once."""
        self._until = 0.0


class _Status(Struct, frozen=True, rename="camel"):
    token: str = ""
    client_certificate_data: str = ""
    client_key_data: str = ""
    expiration_timestamp: datetime | None = None


class _ExecCredential(Struct, frozen=True, rename="camel"):
    api_version: str
    kind: str
    status: _Status | None = None


class ExecPlugin:
    """A program that writes an ExecCredential (client.authentication.k8s.io), asked again when it expires."""

    def __init__(self, spec: Exec, cluster: Cluster) -> None:
        self._spec = spec
        self._cluster = cluster
        self._credential: Credential | None = None
        self._expires: datetime | None = None
        self._asking = asyncio.Lock()

    async def current(self) -> Credential:
        """What the program said last, as long as that is good. Raises CredentialError."""
        async with self._asking:
            if self._credential is None or self._is_old():
                status = _status(await self._run(), self._spec)
                self._expires = status.expiration_timestamp
                self._credential = _credential(status, self._spec)
            return self._credential

    def refused(self) -> None:
        """Ask the program again."""
        self._credential = None

    def _is_old(self) -> bool:
        if self._expires is None:
            return False
        expires = self._expires if self._expires.tzinfo else self._expires.replace(tzinfo=UTC)
        return (expires - datetime.now(UTC)).total_seconds() <= _EARLY_SECONDS

    async def _run(self) -> bytes:
        spec = self._spec
        environment = dict(os.environ)
        environment.update({variable.name: variable.value for variable in spec.env or ()})
        environment["KUBERNETES_EXEC_INFO"] = msgspec.json.encode(self._info()).decode()
        try:
            process = await asyncio.create_subprocess_exec(
                spec.command,
                *(spec.args or ()),
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=MAX_EXEC_BYTES,
            )
        except OSError as error:
            hint = f"; {spec.install_hint}" if spec.install_hint else ""
            raise CredentialError(f"exec plugin {spec.command}: {error.strerror}{hint}") from None
        try:
            async with asyncio.timeout(EXEC_SECONDS):
                out, err = await process.communicate()
        except TimeoutError:
            raise CredentialError(f"exec plugin {spec.command}: no answer in {EXEC_SECONDS:g} s") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode != 0:
            said = err.decode("utf-8", "replace").strip()[-500:]
            raise CredentialError(f"exec plugin {spec.command}: exit code {process.returncode}: {said}")
        return out[: MAX_EXEC_BYTES + 1]

    def _info(self) -> dict[str, object]:
        about: dict[str, object] = {"interactive": False}
        if self._spec.provide_cluster_info:
            about["cluster"] = {
                "server": self._cluster.server,
                "certificate-authority-data": self._cluster.certificate_authority_data,
                "tls-server-name": self._cluster.tls_server_name,
                "insecure-skip-tls-verify": self._cluster.insecure_skip_tls_verify,
            }
        return {"apiVersion": self._spec.api_version, "kind": "ExecCredential", "spec": about}


def _status(out: bytes, spec: Exec) -> _Status:
    where = f"exec plugin {spec.command}"
    if len(out) > MAX_EXEC_BYTES:
        raise CredentialError(f"{where}: writes more than {MAX_EXEC_BYTES} bytes")
    try:
        answer = msgspec.json.decode(out, type=_ExecCredential)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CredentialError(f"{where}: does not write an ExecCredential: {error}") from None
    if (answer.api_version, answer.kind) != (spec.api_version, "ExecCredential"):
        raise CredentialError(f"{where}: writes {answer.api_version} {answer.kind}, not {spec.api_version}")
    if answer.status is None:
        raise CredentialError(f"{where}: its ExecCredential has no status")
    return answer.status


def _credential(status: _Status, spec: Exec) -> Credential:
    certificate = None
    if bool(status.client_certificate_data) != bool(status.client_key_data):
        raise CredentialError(f"exec plugin {spec.command}: gives a certificate or a key without the other")
    if status.client_certificate_data:
        certificate = Certificate(status.client_certificate_data.encode(), status.client_key_data.encode())
    if certificate is None and not status.token:
        raise CredentialError(f"exec plugin {spec.command}: gives neither a token nor a certificate")
    return Credential(token=status.token, certificate=certificate)
