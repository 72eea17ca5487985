"""Mode ``node-proxy``: one Envoy for all pods of a node. Pure.

Pods send what is for a service to their node, as their default route says. There TPROXY gives it to the
node's Envoy with both addresses as they were, so the control plane's listener for that address takes it.
Envoy opens its own connection to a pod, from the node's address.
"""

from __future__ import annotations

from pathlib import Path

from meshd.lab.decisions.addressing import SERVICES_V4, SERVICES_V6
from meshd.lab.envoys import bootstrap as envoy
from meshd.lab.envoys.bootstrap import Json

MARK = 1
"""On captured packets, by which the node takes them as its own."""
TABLE = 100
"""The routing table that says so."""
_NFT_TABLE = "inet meshd_node_proxy"


def bootstrap(node: str, control: tuple[str, int], admin: Path) -> Json:
    """The bootstrap of a node's Envoy; ``control`` and ``admin`` as in envoy.bootstrap."""
    capture = envoy.capture_listener(
        "capture",
        "OUTBOUND",
        envoy.OUTBOUND_PORT,
        ("127.0.0.1", "::1"),
        # A service's address at a port that it does not serve.
        [{"filters": [envoy.tcp_proxy("unknown", envoy.BLACK_HOLE)]}],
        use_original_dst=True,
        transparent=True,
    )
    return envoy.bootstrap(f"node~{node}", node, control, admin, [capture], [envoy.black_hole()])


def capture_rules() -> str:
    """An nft script for a node's network namespace."""
    port = envoy.OUTBOUND_PORT
    return f"""add table {_NFT_TABLE}
delete table {_NFT_TABLE}
table {_NFT_TABLE} {{
  chain capture {{
    type filter hook prerouting priority -150; policy accept;
    iifname "pods" ip daddr {SERVICES_V4} meta l4proto tcp tproxy ip to 127.0.0.1:{port} meta mark set {MARK}
    iifname "pods" ip6 daddr {SERVICES_V6} meta l4proto tcp tproxy ip6 to [::1]:{port} meta mark set {MARK}
  }}
}}
"""
