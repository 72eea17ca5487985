"""A root file system like that of the Debian image that others build upon, from Debian's packages."""

from __future__ import annotations

import subprocess
from pathlib import Path

_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
_CERTIFICATES = "/etc/ssl/certs"


def slim(path: Path) -> None:
    """Write it as a tar. It believes the certificates that this machine believes."""
    subprocess.run(
        (
            "mmdebstrap", "--quiet", "--variant=minbase", "--include=ca-certificates",
            *(f"--dpkgopt=path-exclude={each}" for each in _LEFT_OUT),
            f"--customize-hook=copy-in {_CERTIFICATES}/ca-certificates.crt {_CERTIFICATES}",
            "bookworm", str(path),
        ),
        check=True, stdin=subprocess.DEVNULL, timeout=600,
    )  # fmt: skip
