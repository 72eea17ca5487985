"""Who may open an ADS stream: TLS of the listener, and what a client has to show."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

import grpc

from meshd import log
from meshd.certificate_end import not_after
from meshd.control.identity import Identity, of_certificate
from meshd.control.tokens import Authenticator, TokensError
from meshd.tls_files import TlsFileError, TlsFiles

_BEARER = "bearer "
_logger = logging.getLogger("meshd.control.access")


class UnauthenticatedError(Exception):
    """A client has not shown who it is. The message is for the client."""


class Call(Protocol):
    """What of a call says who it is from (grpc.aio.ServicerContext)."""

    def peer(self) -> str:
        """The client's address, as gRPC writes it."""

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """What TLS found."""

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        """The call's header fields."""


class Access(NamedTuple):
    """What is asked for: each that is there, of every client that comes over TCP.

    A Unix socket is guarded by the permissions of its file.
    """

    tls: TlsFiles | None = None
    """With authorities: a client has to have a certificate of one of them."""
    tokens: Authenticator | None = None
    """A client has to show a token that this knows."""

    async def identify(self, call: Call) -> tuple[Identity, ...]:
        """Who the client has shown to be: by certificate, by token. Raises UnauthenticatedError."""
        found = []
        if call.peer().startswith("unix:"):
            return ()
        if self.tls is not None and self.tls.authorities is not None:
            shown = of_certificate(call.auth_context())
            if shown is None:
                raise UnauthenticatedError(
                    "the client certificate names nobody: no SPIFFE ID, no common name"
                )
            found.append(shown)
        if self.tokens is not None:
            fields = call.invocation_metadata() or ()
            values = [str(value) for name, value in fields if name == "authorization"]
            if not values or not values[0].lower().startswith(_BEARER):
                raise UnauthenticatedError("a bearer token is asked for, in the field authorization")
            try:
                known = await self.tokens.identify(values[0][len(_BEARER) :].strip())
            except TokensError as error:
                raise UnauthenticatedError(str(error)) from None
            if known is None:
                raise UnauthenticatedError("the bearer token is not known here")
            found.append(known)
        return tuple(found)

    def certificate_ends(self) -> float | None:
        """When the listener's certificate, as it is in its file, ends: seconds since 1970.

        None: there is none, or it cannot be read.
        """
        if self.tls is None or self.tls.certificate is None:
            return None
        try:
            return not_after(self.tls.certificate.read_bytes())
        except OSError:
            return None

    def credentials(self) -> grpc.ServerCredentials | None:
        """For the listener; the files are read again when they are replaced. Raises TlsFileError."""
        if self.tls is None:
            return None
        certificates = _Certificates(self.tls)
        return grpc.dynamic_ssl_server_credentials(
            certificates.first(),
            # grpc's documentation lets it return None, its stubs do not.
            certificates.replaced,  # type: ignore[arg-type]
            require_client_authentication=self.tls.authorities is not None,
        )


NOTHING_ASKED = Access()
"""Plain TCP, and everybody is served."""


class _Certificates:
    """The files as gRPC asks for them, before each handshake, in a thread of its own."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._stamps: object = None

    def first(self) -> grpc.ServerCertificateConfiguration:
        """Raises TlsFileError."""
        self._stamps = self._files.stamps()
        return self._read()

    def replaced(self) -> grpc.ServerCertificateConfiguration | None:
        """What is new; None where nothing is, or nothing that can be used: the last good ones stay."""
        try:
            stamps = self._files.stamps()
            if stamps == self._stamps:
                return None
            self._stamps = stamps
            found = self._read()
        except TlsFileError as error:
            log.event(
                _logger, logging.ERROR, "certificates not read", reason=error, left="the last good ones"
            )
            return None
        log.event(_logger, logging.INFO, "certificates read", file=self._files.certificate)
        return found

    def _read(self) -> grpc.ServerCertificateConfiguration:
        pem = self._files.read()
        assert pem.key is not None
        assert pem.certificate is not None
        return grpc.ssl_server_certificate_configuration([(pem.key, pem.certificate)], pem.authorities)
