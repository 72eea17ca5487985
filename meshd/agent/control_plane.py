"""How the control plane is reached: at which addresses, and what is shown and asked for there."""

from __future__ import annotations

import random
from pathlib import Path

import grpc
import grpc.aio
import msgspec

from meshd.tls_files import TlsFileError, TlsFiles

CONNECT_SECONDS = 5
"""For one attempt at one address."""
_MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_OPTIONS = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.min_reconnect_backoff_ms", CONNECT_SECONDS * 1000),
    # A name may have the addresses of several replicas: each node begins with another one.
    ("grpc.service_config", '{"loadBalancingConfig": [{"pick_first": {"shuffleAddressList": true}}]}'),
    ("grpc.service_config_disable_resolution", 1),
    # A control plane that vanished without a FIN is noticed within 15 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # A keepalive rides on a ping that is out already, gRPC's own, with that one's timeout.
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Otherwise channels of one process share the connection and with it gRPC's own, longer back-off.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)


class CredentialsError(Exception):
    """What is to be shown to the control plane cannot be read. The message says which file, and why."""


class ControlPlane(msgspec.Struct, frozen=True, kw_only=True):
    """One control plane. Its files are read for each connection: they are replaced when they expire."""

    targets: tuple[str, ...]
    """gRPC targets of its replicas, HOST:PORT or unix:PATH; a host may be a name with several addresses."""
    tls: TlsFiles | None = None
    """None: plain TCP. With a certificate: it is shown."""
    token_file: Path | None = None
    """The bearer token to show."""

    def __str__(self) -> str:
        return ",".join(self.targets)

    def channel(self, target: str) -> grpc.aio.Channel:
        """To one of the targets. Raises CredentialsError."""
        if self.tls is None:
            return grpc.aio.insecure_channel(target, options=_OPTIONS)
        try:
            pem = self.tls.read()
        except TlsFileError as error:
            raise CredentialsError(f"TLS: {error}") from None
        credentials = grpc.ssl_channel_credentials(pem.authorities, pem.key, pem.certificate)
        return grpc.aio.secure_channel(target, credentials, options=_OPTIONS)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The header fields of a call. Raises CredentialsError."""
        if self.token_file is None:
            return ()
        try:
            token = self.token_file.read_text(encoding="ascii").strip()
        except UnicodeDecodeError:
            raise CredentialsError(f"{self.token_file}: is no token, which is ASCII") from None
        except OSError as error:
            raise CredentialsError(f"{self.token_file}: {error.strerror}") from None
        if not token.isprintable() or not token:
            raise CredentialsError(f"{self.token_file}: is empty, or no token")
        return (("authorization", f"Bearer {token}"),)


class Rounds:
    """In which order replicas are tried: in rounds, each of all of them; never the one just lost first."""

    def __init__(self, targets: tuple[str, ...]) -> None:
        self._targets = targets
        self._left: list[str] = []
        self._last = ""

    def next(self) -> str:
        """The one to try now."""
        if not self._left:
            self._left = random.sample(self._targets, len(self._targets))
            if self._left[-1] == self._last:
                self._left.reverse()
        self._last = self._left.pop()
        return self._last

    @property
    def over(self) -> bool:
        """Whether all have been tried in this round: the next is to be waited for."""
        return not self._left

    def lost(self) -> None:
        """The last one had been reached, and was lost: a new round begins with the others."""
        self._left = [each for each in random.sample(self._targets, len(self._targets)) if each != self._last]
