"""The lab's wires: bridges, veth pairs, addresses and routes, each inside a network namespace of the lab.

fabric:  bridge `fabric` (172.18.0.1)
            |                |
node1: eth0 .2          node2: eth0 .3
       bridge `pods`           bridge `pods`
       10.244.1.1              10.244.2.1
        |      |                  |
       pod    pod                pod        (eth0, default route by the bridge)
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from pyroute2 import AsyncIPRoute, NetlinkError

from meshd import netns
from meshd.lab.decisions.addressing import FABRIC_ADDRESS, FABRIC_V4, FABRIC_V6, NodeNet
from meshd.lab.system import netspace

_NODAD = 0x02  # IFA_F_NODAD: nobody else has these addresses, so no second is spent on asking
_ROUTER = {"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"}
_HOST = {
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    "ipv6/conf/default/accept_dad": "0",
    # What is refused is refused every time: by default the kernel tells a sender so only once a second.
    "ipv4/icmp_ratelimit": "0",
    "ipv6/icmp/ratelimit": "0",
    "ipv6/conf/all/disable_ipv6": "0",
    "ipv6/conf/default/disable_ipv6": "0",
}
# A bridge frame is not an IP packet yet: where br_netfilter is loaded, as kubeadm wants it, it goes through a
# node's rules all the same, and what TPROXY finds out for it there is lost before it gets to IP.
_BRIDGE = {"bridge/bridge-nf-call-iptables": "0", "bridge/bridge-nf-call-ip6tables": "0"}


class NetworkError(RuntimeError):
    """A link, address or route could not be made: which, and the kernel's reason."""


@contextlib.asynccontextmanager
async def _routes_of(namespace: Path) -> AsyncIterator[AsyncIPRoute]:
    """A netlink connection to a network namespace. Raises NetworkError for what the kernel refuses."""
    home = netns.open_own()
    try:
        inside = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with netns.entered(inside, home):
                connection = AsyncIPRoute()
                # pyroute2 makes the socket when it is first asked for: that must be now, in here.
                connection.socket.fileno()
        finally:
            os.close(inside)
    finally:
        os.close(home)
    try:
        async with connection:
            yield connection
    except NetlinkError as error:
        raise NetworkError(f"{namespace.name}: {error.args[1]} (netlink error {error.code})") from error


async def _index(connection: AsyncIPRoute, name: str) -> int:
    found = await connection.link_lookup(ifname=name)
    if not found:
        raise NetworkError(f"no link {name}")
    return int(found[0])


async def _bridge(connection: AsyncIPRoute, name: str, ip: str) -> int:
    """A bridge with a MAC address of its own, made from its IPv4 address; its index.

    A bridge that is given none takes the lowest of its ports', and another one when a port joins or leaves:
    those who have the old one in their neighbour tables then lose their gateway.
    """
    mac = ":".join(f"{byte:02x}" for byte in (2, 0, *ipaddress.IPv4Address(ip).packed))
    await connection.link("add", ifname=name, kind="bridge", address=mac)
    return await _index(connection, name)


async def _addresses(connection: AsyncIPRoute, link: int, addresses: Iterable[str]) -> None:
    for address in addresses:
        ip, _, length = address.partition("/")
        extra = {"flags": _NODAD} if ":" in ip else {}
        await connection.addr("add", index=link, address=ip, prefixlen=int(length), **extra)


async def _set_up(connection: AsyncIPRoute, *links: int) -> None:
    for link in links:
        await connection.link("set", index=link, state="up")


async def _namespace(path: Path, sysctls: dict[str, str]) -> None:
    netspace.create(path)
    netspace.set_sysctls(path, sysctls)
    async with _routes_of(path) as connection:
        await _set_up(connection, 1)  # lo is always the first link


async def make_fabric(path: Path) -> None:
    """The network between the nodes. Raises NetworkError, OSError."""
    await _namespace(path, _HOST | _ROUTER)
    async with _routes_of(path) as connection:
        bridge = await _bridge(connection, "fabric", FABRIC_ADDRESS)
        await _addresses(
            connection,
            bridge,
            (f"{FABRIC_ADDRESS}/{FABRIC_V4.prefixlen}", f"{FABRIC_V6[1]}/{FABRIC_V6.prefixlen}"),
        )
        await _set_up(connection, bridge)


async def make_node(path: Path, fabric: Path, node: NodeNet) -> None:
    """A node: joined to the fabric, which learns the way to its pods. Raises NetworkError, OSError."""
    await _namespace(path, _HOST | _ROUTER)
    port = await _wire(path, fabric, node.name, "fabric")
    async with _routes_of(path) as connection:
        bridge = await _bridge(connection, "pods", node.gateway_v4)
        uplink = await _index(connection, "eth0")
        await _addresses(connection, bridge, (f"{node.gateway_v4}/24", f"{node.gateway_v6}/64"))
        await _addresses(
            connection,
            uplink,
            (f"{node.fabric_v4}/{FABRIC_V4.prefixlen}", f"{node.fabric_v6}/{FABRIC_V6.prefixlen}"),
        )
        await _set_up(connection, bridge, uplink)
        # All that is not on this node goes by the fabric, which knows every node's pods and refuses the rest.
        await connection.route("add", dst="default", gateway=FABRIC_ADDRESS)
        await connection.route("add", dst="default", gateway=str(FABRIC_V6[1]))
    async with _routes_of(fabric) as connection:
        await _set_up(connection, port)
        await connection.route("add", dst=str(node.pods_v4), gateway=node.fabric_v4)
        await connection.route("add", dst=str(node.pods_v6), gateway=node.fabric_v6)


async def make_pod(path: Path, node_path: Path, node: NodeNet, number: int) -> None:
    """A pod on a node's bridge. Raises NetworkError, OSError."""
    await _namespace(path, _HOST)
    v4, v6 = node.pod_ips(number)
    port = await _wire(path, node_path, f"pod{number}", "pods")
    async with _routes_of(node_path) as connection:
        await _set_up(connection, port)
    async with _routes_of(path) as connection:
        link = await _index(connection, "eth0")
        await _addresses(connection, link, (f"{v4}/24", f"{v6}/64"))
        await _set_up(connection, link)
        await connection.route("add", dst="default", gateway=node.gateway_v4)
        await connection.route("add", dst="default", gateway=node.gateway_v6)


async def add_to_loopback(path: Path, address: str) -> None:
    """Give a network namespace one more address of its own (ADDRESS/LENGTH). Raises NetworkError, OSError."""
    async with _routes_of(path) as connection:
        await _addresses(connection, 1, (address,))


async def deliver_marked(path: Path, mark: int, table: int) -> None:
    """Have a network namespace take packets with that mark as its own, whatever their destination.

    What TPROXY needs (kernel: Documentation/networking/tproxy.rst). Raises NetworkError, OSError.
    """
    if all(Path("/proc/sys/net", name).exists() for name in _BRIDGE):
        netspace.set_sysctls(path, _BRIDGE)
    async with _routes_of(path) as connection:
        for family, everywhere in ((socket.AF_INET, "0.0.0.0/0"), (socket.AF_INET6, "::/0")):
            await connection.rule("add", family=family, fwmark=mark, table=table)
            await connection.route(
                "add", family=family, dst=everywhere, type="local", scope="host", oif=1, table=table
            )


async def _wire(inner: Path, outer: Path, outer_name: str, bridge: str) -> int:
    """A veth pair: eth0 in ``inner``, ``outer_name`` at a bridge of ``outer``; the outer end's index."""
    async with _routes_of(outer) as connection:
        inside = os.open(inner, os.O_RDONLY | os.O_CLOEXEC)
        try:
            await connection.link(
                "add",
                ifname=outer_name,
                kind="veth",
                peer={"ifname": "eth0", "net_ns_fd": inside},
            )
        except NetlinkError as error:
            if error.code == errno.EEXIST:
                raise NetworkError(f"{outer.name}: there is a link {outer_name} already") from error
            raise
        finally:
            os.close(inside)
        port = await _index(connection, outer_name)
        await connection.link("set", index=port, master=await _index(connection, bridge))
        return port
