"""A CORS filter to the model's, whose origins are exact or regular expressions."""

from __future__ import annotations

import re

from meshd.kube import httproute
from meshd.model.request_policies import Cors, StringMatch

_ORIGIN = re.compile(r"(?P<scheme>https?)://(?P<host>[^:]+)(?::(?P<port>[0-9]+))?")
_DEFAULT_PORT = {"http": "80", "https": "443"}
_LABELS = "[^/:.]+(?:[.][^/:.]+)*"
"""What ``*.`` stands for: labels to its left, any number of them (HTTPCORSFilter.allowOrigins)."""
_ANY_HOST = r"(?:[^/:]+|\[[^/\]]+\])"


def cors(source: httproute.Cors) -> Cors:
    """What the filter asks for. Header names in lower case, as they mean the same in any."""
    return Cors(
        origins=tuple(_origin(each) for each in source.allow_origins),
        methods=source.allow_methods,
        headers=tuple(name.lower() for name in source.allow_headers),
        expose=tuple(name.lower() for name in source.expose_headers),
        max_age=source.max_age,
        credentials=source.allow_credentials,
    )


def _origin(allowed: str) -> StringMatch:
    """Browsers write an origin in lower case, and leave out its scheme's own port (RFC 6454, 6.2)."""
    found = _ORIGIN.fullmatch(allowed.lower())
    if found is None:
        return StringMatch(name="origin", value="*")
    scheme, host, port = found["scheme"], found["host"], found["port"]
    suffix = f":{port}" if port and port != _DEFAULT_PORT[scheme] else ""
    if "*" not in host:
        return StringMatch(name="origin", value=f"{scheme}://{host}{suffix}")
    pattern = _ANY_HOST if host == "*" else _LABELS + re.escape(host.removeprefix("*"))
    return StringMatch(name="origin", value=f"{scheme}://{pattern}{suffix}", regex=True)
