"""Is the release whole? The control plane's certificates, and an agent that is ready on each node."""

import json
import os
import ssl
import socket
import sys
import urllib.request
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def control_plane(addresses: str, authority: str) -> None:
    """Each replica shows a certificate for its name, of the CA that agents believe."""
    context = ssl.create_default_context(cafile=authority)
    context.set_alpn_protocols(["h2"])
    for target in addresses.split(","):
        host, _, port = target.rpartition(":")
        host = host.strip("[]")
        found = {info[4] for info in socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)}
        for address in sorted(found):
            with socket.create_connection(address[:2], 10) as plain:
                with context.wrap_socket(plain, server_hostname=host):
                    print(f"control plane at {address[0]} port {port}: its certificate is good")


def agents(namespace: str) -> None:
    """As many agents are ready as there are nodes for them."""
    server = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    host = f"[{server[0]}]" if ":" in server[0] else server[0]
    url = f"https://{host}:{server[1]}/apis/apps/v1/namespaces/{namespace}/daemonsets/meshd-agent"
    headers = {"Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}"}
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=10, context=context) as answer:
        status = json.load(answer)["status"]
    ready, wanted = status.get("numberReady", 0), status["desiredNumberScheduled"]
    print(f"agents: {ready} of {wanted} are ready")
    if not wanted or ready < wanted:
        sys.exit("not all agents are ready: kubectl get pods -l app.kubernetes.io/component=agent")


control_plane(sys.argv[1], sys.argv[2])
agents(sys.argv[3])
