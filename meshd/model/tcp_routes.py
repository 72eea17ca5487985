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
    """What the ClientHello's server_name may be, in lower case: exact, or ``*.suffix`` for any number of
    labels before it. Of all routes' names the most exact decides (FilterChainMatch.server_names); empty:
    every connection, TLS or not, that no other route takes."""
    clusters: tuple[WeightedCluster, ...]
    """At least one, of a weight above 0: one is drawn for each connection. A connection for one that does not
    exist is reset."""
    idle_timeout: float = 3600.0
    """Seconds without a byte in either direction; 0: no limit (TcpProxy.idle_timeout)."""
    connect_attempts: int = 1
    """Connections that are tried before the client's is reset, to other endpoints where there are any
    (TcpProxy.max_connect_attempts)."""
    hash_source: bool = False
    """Whether clusters that hash do so by the caller's address (TcpProxy.hash_policy); else by chance."""
