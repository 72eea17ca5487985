"""The bootstrap file of gRPC's own xDS clients: where the control plane is, and who they are (proposal A27).

They find it by the environment variable GRPC_XDS_BOOTSTRAP. Pure.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

FILE_VARIABLE = "GRPC_XDS_BOOTSTRAP"


class Client(NamedTuple):
    """A pod whose processes are such clients."""

    name: str
    namespace: str
    """Whose consumer routes it follows, and where names without a namespace are looked for."""
    node: str = ""
    """On which it is; empty: it does not matter. Likewise ``zone``."""
    zone: str = ""


class Certificates(NamedTuple):
    """Files of PEM, which the clients read again when they change (proposal A65). Empty: there is none."""

    authorities: str = ""
    """Of the control plane's certificate."""
    chain: str = ""
    """Of the client's own certificate; ``key``: its key."""
    key: str = ""


def bootstrap(control: str, client: Client, tls: Certificates | None = None) -> bytes:
    """The file's text, JSON. ``control``: the control plane, HOST:PORT. ``tls``: None: without TLS."""
    credentials: dict[str, object] = {"type": "insecure"}
    if tls is not None:
        files = {
            "ca_certificate_file": tls.authorities,
            "certificate_file": tls.chain,
            "private_key_file": tls.key,
        }
        credentials = {"type": "tls", "config": {name: file for name, file in files.items() if file}}
    server = {"server_uri": control, "channel_creds": [credentials], "server_features": ["xds_v3"]}
    node: dict[str, object] = {
        "id": f"{client.namespace}/{client.name}",
        "metadata": {"NAMESPACE": client.namespace},
    }
    if client.node or client.zone:
        node["locality"] = {"zone": client.zone, "sub_zone": client.node}
    document = {"xds_servers": [server], "node": node}
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
