"""Mode ``sidecar``: an Envoy in every pod, as Istio has it. Pure.

What leaves the pod is redirected to 15001, where the control plane's listener for the original destination
takes it, or else it is passed on as it is. What comes to the pod is redirected to 15006, and goes on to the
app from 127.0.0.6, whichever port it was for. Envoy's own traffic is known by its group, and left alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from meshd.lab.envoys import bootstrap as envoy
from meshd.lab.envoys.bootstrap import Json

GROUP = 1337
"""The group id that Envoy runs under: what its sockets send is not captured again (Istio's number)."""
CONTAINER = "envoy"
"""By this name it appears among its pod's containers."""
HEALTH_PORT = 15021
HEALTH_PATH = "/healthz/ready"
_INBOUND_PORT = 15006
_FROM_V4 = "127.0.0.6"
FROM_V6 = "::6"
"""What the app sees as its peer: so the rules tell what has been through the inbound listener already."""
_TABLE = "inet meshd_sidecar"
_PASSTHROUGH = "passthrough"
_INBOUND = "inbound"
_ADMIN = "admin"
_DETECTION_SECONDS = 1
"""A caller that is silent for so long speaks a protocol whose server talks first: it is passed on as TCP."""


def bootstrap(pod: str, namespace: str, ips: tuple[str, ...], control: tuple[str, int], admin: Path) -> Json:
    """The bootstrap of a pod's Envoy; ``control`` and ``admin`` as in envoy.bootstrap."""
    return envoy.bootstrap(
        f"sidecar~{ips[0]}~{pod}.{namespace}",
        f"{pod}.{namespace}",
        control,
        admin,
        [_outbound_listener(), _inbound_listener(), _health_listener()],
        [
            envoy.original_destination(_PASSTHROUGH),
            envoy.original_destination(
                _INBOUND,
                upstream_bind_config={
                    "source_address": envoy.socket_address(_FROM_V4, 0),
                    "extra_source_addresses": [{"address": envoy.socket_address(FROM_V6, 0)}],
                },
            ),
            envoy.black_hole(),
            {
                "name": _ADMIN,
                "type": "STATIC",
                "connect_timeout": "1s",
                "load_assignment": envoy.one_endpoint(_ADMIN, {"pipe": {"path": str(admin)}}),
            },
        ],
        namespace,
    )


def _outbound_listener() -> Json:
    return envoy.capture_listener(
        "virtual-outbound",
        "OUTBOUND",
        envoy.OUTBOUND_PORT,
        ("127.0.0.1", "::1"),
        [{"filters": [envoy.tcp_proxy(_PASSTHROUGH, _PASSTHROUGH)]}],
        use_original_dst=True,
    )


def _inbound_listener() -> Json:
    """Takes all ports: HTTP is told from the first bytes (Istio's virtualInbound-catchall-http)."""
    route = {"match": {"prefix": "/"}, "route": {"cluster": _INBOUND, "timeout": "0s"}}
    types = "type.googleapis.com/envoy.extensions.filters.listener"
    return envoy.capture_listener(
        "virtual-inbound",
        "INBOUND",
        _INBOUND_PORT,
        ("0.0.0.0", "::"),
        [
            {
                "filter_chain_match": {"application_protocols": ["http/1.0", "http/1.1", "h2c"]},
                "filters": [envoy.http_manager(_INBOUND, [route])],
            },
            {"filters": [envoy.tcp_proxy(_INBOUND, _INBOUND)]},
        ],
        listener_filters=[
            {
                "name": "envoy.filters.listener.original_dst",
                "typed_config": {"@type": f"{types}.original_dst.v3.OriginalDst"},
            },
            {
                "name": "envoy.filters.listener.http_inspector",
                "typed_config": {"@type": f"{types}.http_inspector.v3.HttpInspector"},
            },
        ],
        listener_filters_timeout=f"{_DETECTION_SECONDS}s",
        continue_on_listener_filters_timeout=True,
    )


def _health_listener() -> Json:
    """Answers the readiness probe by the admin's /ready, and nothing else of the admin's."""
    route = {"match": {"path": HEALTH_PATH}, "route": {"cluster": _ADMIN, "prefix_rewrite": "/ready"}}
    return {
        "name": "health",
        "address": {"socket_address": envoy.socket_address("0.0.0.0", HEALTH_PORT)},
        "filter_chains": [{"filters": [envoy.http_manager("health", [route])]}],
    }


def capture_rules(node_addresses: Iterable[str]) -> str:
    """An nft script for a pod's network namespace, what iptables REDIRECT is in Istio.

    ``node_addresses``: those of the pod's node. What comes from there (probes) goes to the app directly, so
    that it tells of the app alone; Istio rewrites the probes to that end.
    """
    addresses = sorted(node_addresses)
    v4 = ", ".join(a for a in addresses if ":" not in a)
    v6 = ", ".join(a for a in addresses if ":" in a)
    to_inbound, to_outbound = (f"redirect to :{p}" for p in (_INBOUND_PORT, envoy.OUTBOUND_PORT))
    # A pod that calls itself by its service: from its own Envoy to its own Envoy.
    itself = f'oifname "lo" meta skgid {GROUP} meta l4proto tcp'
    return f"""add table {_TABLE}
delete table {_TABLE}
table {_TABLE} {{
  chain outbound {{
    type nat hook output priority -100; policy accept;
    {itself} ip daddr != 127.0.0.0/8 ip saddr != {_FROM_V4} {to_inbound}
    {itself} ip6 daddr != ::1 ip6 saddr != {FROM_V6} {to_inbound}
    meta skgid {GROUP} return
    oifname "lo" return
    meta l4proto tcp {to_outbound}
  }}
  chain inbound {{
    type nat hook prerouting priority -100; policy accept;
    ip saddr {{ {v4} }} return
    ip6 saddr {{ {v6} }} return
    meta l4proto tcp {to_inbound}
  }}
}}
"""
