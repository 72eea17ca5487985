"""Certificates and keys in files, which are replaced while we run: read anew whenever they are used."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_ATTEMPTS = 3
_Stamp = tuple[int, int, int]


class TlsFileError(Exception):
    """A file cannot be used. The message says which, and why."""


class Pem(NamedTuple):
    """The files' contents, which belong together."""

    certificate: bytes | None
    key: bytes | None
    authorities: bytes | None


class TlsFiles(NamedTuple):
    """Where they are, in PEM. A certificate (with its chain) and its key come together."""

    certificate: Path | None = None
    key: Path | None = None
    authorities: Path | None = None
    """The CAs whose certificates are believed."""

    def read(self) -> Pem:
        """Their contents, of one moment: a rotation in between is read again. Raises TlsFileError."""
        for _ in range(_ATTEMPTS):
            before = self.stamps()
            pem = Pem(*(_read(path) if path else None for path in self))
            error = self._error(pem)
            if self.stamps() == before:
                break
        if error:
            raise TlsFileError(error)
        return pem

    def stamps(self) -> tuple[_Stamp, ...]:
        """Another value when a file has been replaced or written. Raises TlsFileError."""
        return tuple(self._stamps())

    def _stamps(self) -> Iterator[_Stamp]:
        for path in self:
            if path is not None:
                try:
                    found = path.stat()
                except OSError as error:
                    raise TlsFileError(f"{path}: {error.strerror}") from None
                yield found.st_ino, found.st_size, found.st_mtime_ns

    def _error(self, pem: Pem) -> str:
        """What is wrong with them, by OpenSSL; gRPC itself would only log it, in its own words."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if self.certificate and self.key:
            try:
                # A key with a password would have it asked for on the terminal.
                context.load_cert_chain(self.certificate, self.key, password=lambda: "")
            except ssl.SSLError as error:
                why = (error.reason or str(error)).replace("_", " ").lower()
                return f"{self.certificate} and {self.key} are no certificate and its key: {why}"
            except OSError as error:
                return f"{self.certificate}, {self.key}: {error.strerror}"
        if pem.authorities is not None:
            try:
                context.load_verify_locations(cadata=pem.authorities.decode("ascii", "replace"))
            except (ssl.SSLError, ValueError):
                return f"{self.authorities}: no certificates of CAs in PEM"
        return ""


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsFileError(f"{path}: {error.strerror}") from None
