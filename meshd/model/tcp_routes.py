"""Where a service port's TCP connections go: by the name that a TLS client asks for, and by weight.

Nothing is decrypted. Where a field has an xDS counterpart, its docstring names it.
"""

from __future__ import annotations

import msgspec

from meshd.model.routes import WeightedCluster


class TcpRoute(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Connections for some names. xDS: a FilterChain with a TcpProxy (weighted_clusters)."""

    name: str
    """Whose rule it is: ``namespace/route/rule-index``."""
    server_names: tuple[str, ...] = ()
    """What the ClientHello's server_name may be: exact or ``*.suffix``, the most exact first of all routes
    (FilterChainMatch.server_names); empty: every connection, TLS or not, that no other route takes."""
    clusters: tuple[WeightedCluster, ...] = ()
    """One for each connection, by weight; none: it is reset (TLSRoute and TCPRoute without a backend)."""
    idle_timeout: float = 3600.0
    """Seconds without a byte in either direction; 0: no limit (TcpProxy.idle_timeout)."""
