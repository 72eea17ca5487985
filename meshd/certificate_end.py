"""Until when a certificate is good: read from its DER, as far as it takes (RFC 5280, 4.1)."""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_VERSION, _UTC_TIME, _SEQUENCE = 0xA0, 0x17, 0x30


def not_after(pem: bytes) -> float | None:
    """When the first of the certificates that are there first ends, in seconds since 1970.

    A chain is only as good as the certificate of it that ends first. None: there is none that can be read.
    """
    try:
        return min(_ends(ssl.PEM_cert_to_DER_cert(each.decode("ascii"))) for each in _PEM.findall(pem))
    except (ValueError, IndexError):
        return None


def _ends(der: bytes) -> float:
    """Raises ValueError, IndexError."""
    certificate, _ = _taken(der, _SEQUENCE)
    rest, _ = _taken(certificate, _SEQUENCE)
    if rest[0] == _VERSION:
        _, rest = _taken(rest)
    for _ in ("serialNumber", "signature", "issuer"):
        _, rest = _taken(rest)
    validity, _ = _taken(rest, _SEQUENCE)
    _, rest = _taken(validity)
    tag = rest[0]
    text = _taken(rest)[0].decode("ascii")
    if tag == _UTC_TIME:  # a year of two digits is one from 1950 on (4.1.2.5.1)
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _taken(der: bytes, tag: int | None = None) -> tuple[bytes, bytes]:
    """The contents of the first value, and what follows it (X.690, 8.1). Raises ValueError, IndexError."""
    if tag is not None and der[0] != tag:
        raise ValueError(f"tag {der[0]:#x} where {tag:#x} should be")
    size, at = der[1], 2
    if size & 0x80:
        at += size & 0x7F
        size = int.from_bytes(der[2:at])
    if len(der) < at + size:
        raise ValueError("it ends early")
    return der[at : at + size], der[at + size :]
