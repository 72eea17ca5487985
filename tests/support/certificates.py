"""Certificate authorities and what they sign, made by OpenSSL's command line."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple


class Certificate(NamedTuple):
    """Files, in PEM."""

    certificate: Path
    key: Path


class Authority:
    """A CA. Its files and those of what it signs go to one folder."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder = folder
        self._own = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
        _openssl(*_request(self._own.key, name), "-x509", "-days", "2", "-out", self._own.certificate)

    @property
    def certificate(self) -> Path:
        """Its own, by which those that it signs are believed."""
        return self._own.certificate

    def sign(self, common_name: str, alternative_names: str = "", file: str = "") -> Certificate:
        """A certificate, for what OpenSSL's subjectAltName takes. ``file``: what to call its files."""
        made = Certificate(
            self._folder / f"{file or common_name}.pem", self._folder / f"{file or common_name}.key"
        )
        request = self._folder / "request"
        _openssl(*_request(made.key, common_name), "-out", request)
        extensions = self._folder / "extensions"
        extensions.write_text(f"subjectAltName={alternative_names}\n" if alternative_names else "")
        _openssl(
            "x509", "-req", "-in", request, "-CA", self._own.certificate, "-CAkey", self._own.key,
            "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", made.certificate,
        )  # fmt: skip
        return made


def _request(key: Path, common_name: str) -> tuple[str | Path, ...]:
    return (
        "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-keyout", key, "-subj", f"/CN={common_name}",
    )  # fmt: skip


def _openssl(*arguments: str | Path) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
