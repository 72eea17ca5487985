"""Which addresses nodes, pods and services have. Pure.

The ranges are kind's. They live in the lab's own network namespaces only, so every lab uses the same.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Container

from meshd.lab.manifests.objects import Service

FABRIC_V4 = ipaddress.IPv4Network("172.18.0.0/24")
FABRIC_V6 = ipaddress.IPv6Network("fd00:172:18::/64")
SERVICES_V4 = ipaddress.IPv4Network("10.96.0.0/16")
SERVICES_V6 = ipaddress.IPv6Network("fd00:10:96::/112")
FABRIC_ADDRESS = str(FABRIC_V4[1])

_FIRST_SERVICE = 16
_FIRST_POD = 2
_LAST_POD = 254


class AddressError(ValueError):
    """An address that is asked for cannot be had."""


@dataclasses.dataclass(frozen=True, slots=True)
class NodeNet:
    """The addresses of one node (numbered from 1): on the fabric, and the range of its pods."""

    number: int

    @property
    def name(self) -> str:
        """node1, node2, ..."""
        return f"node{self.number}"

    @property
    def fabric_v4(self) -> str:
        """The node's own IPv4 address."""
        return str(FABRIC_V4[self.number + 1])

    @property
    def fabric_v6(self) -> str:
        """The node's own IPv6 address."""
        return str(FABRIC_V6[self.number + 1])

    @property
    def pods_v4(self) -> ipaddress.IPv4Network:
        """The pods' range."""
        return ipaddress.IPv4Network(f"10.244.{self.number}.0/24")

    @property
    def pods_v6(self) -> ipaddress.IPv6Network:
        """The pods' IPv6 range."""
        return ipaddress.IPv6Network(f"fd00:10:244:{self.number}::/64")

    @property
    def gateway_v4(self) -> str:
        """The node's address on its pods' bridge."""
        return str(self.pods_v4[1])

    @property
    def gateway_v6(self) -> str:
        """The node's IPv6 address on its pods' bridge."""
        return str(self.pods_v6[1])

    def pod(self, taken: Container[int], after: int) -> int:
        """The next free host number of a pod, counted on from ``after``: an address is not reused at once.

        Raises AddressError.
        """
        span = _LAST_POD - _FIRST_POD + 1
        for step in range(span):
            number = _FIRST_POD + (max(after, _FIRST_POD - 1) - _FIRST_POD + 1 + step) % span
            if number not in taken:
                return number
        raise AddressError(f"{self.name}: all {span} pod addresses of {self.pods_v4} are in use")

    def pod_ips(self, number: int) -> tuple[str, str]:
        """IPv4 and IPv6 address of the pod with that host number."""
        return str(self.pods_v4[number]), str(self.pods_v6[number])


def cluster_ips(service: Service, taken: Container[str], before: tuple[str, ...]) -> tuple[str, ...]:
    """A Service's VIPs, the primary first; none when it is headless or an ExternalName.

    Those it asks for, else those it had before, else free ones; one family unless ``ipFamilyPolicy`` or
    ``ipFamilies`` says otherwise (Kubernetes' rule; RequireDualStack and PreferDualStack are alike here,
    where both families always are).
    Raises AddressError.
    """
    spec = service.spec
    if service.headless or spec.type == "ExternalName":
        return ()
    asked = asked_ips(service)
    for ip in asked:
        address = ipaddress.ip_address(ip)
        if address not in SERVICES_V4 and address not in SERVICES_V6:
            raise AddressError(f"spec.clusterIP: {ip} is not in {SERVICES_V4} or {SERVICES_V6}")
        if ip in taken:
            raise AddressError(f"spec.clusterIP: {ip} is already used by another Service")
    given = {_family(ip): str(ipaddress.ip_address(ip)) for ip in [*before, *asked]}
    return tuple(given.get(family) or _free(family, taken) for family in families(service))


def asked_ips(service: Service) -> tuple[str, ...]:
    """The VIPs that a Service asks for by number."""
    spec = service.spec
    return tuple(ip for ip in (spec.cluster_ips or (spec.cluster_ip,)) if ip not in ("", "None"))


def families(service: Service) -> tuple[str, ...]:
    """The IP families of a Service, the primary first."""
    spec = service.spec
    asked = asked_ips(service)
    wanted: list[str] = list(dict.fromkeys(spec.ip_families)) or [_family(ip) for ip in asked] or ["IPv4"]
    if spec.ip_family_policy in ("PreferDualStack", "RequireDualStack"):
        wanted += [family for family in ("IPv4", "IPv6") if family not in wanted]
    return tuple(wanted)


def _family(ip: str) -> str:
    return "IPv6" if ":" in ip else "IPv4"


def _free(family: str, taken: Container[str]) -> str:
    network = SERVICES_V4 if family == "IPv4" else SERVICES_V6
    for number in range(_FIRST_SERVICE, network.num_addresses - 1):
        if (ip := str(network[number])) not in taken:
            return ip
    raise AddressError(f"all addresses of {network} are in use")
