"""The maps that say what is captured and where it goes: services, endpoints, and the rules of requests."""

from __future__ import annotations

import errno
from collections import defaultdict
from collections.abc import Mapping

from meshd.datapath.errors import CaptureError
from meshd.datapath.kernel.bpf_map import Map
from meshd.datapath.loading.layout import Layout
from meshd.datapath.rules.maps import RuleMaps
from meshd.datapath.services.installed import Handling, Installed, ServiceEntry, Slots
from meshd.datapath.services.plan import (
    Operation,
    PutService,
    PutSlots,
    RemoveService,
    RemoveSlots,
    plan,
)
from meshd.datapath.services.slots import Target
from meshd.model.listeners import FailurePolicy
from meshd.model.shared_map import SharedMap
from meshd.model.snapshot import Snapshot


class ServiceMaps:
    """Brings the maps from snapshot to snapshot. The maps are the caller's to close."""

    def __init__(self, services: Map, endpoints: Map, rules: RuleMaps, layout: Layout) -> None:
        """Raises OSError, KeyError (a layout of other programs)."""
        self._services = services
        self._endpoints = endpoints
        self._rules = rules
        self._service = layout.codec(
            "service",
            "id",
            "generation",
            "first_slot",
            "slots",
            "protocol",
            "failure_policy",
            "rules",
            "joined",
        )
        self._endpoint_key = layout.codec("endpoint_key", "service", "generation", "slot")
        self._address_port = layout.codec("address_port", "address", "port")
        protocols, policies = layout.enums["protocol"], layout.enums["failure_policy"]
        self._protocols = {each: protocols["PROTOCOL_" + each.name] for each in Handling}
        self._policies = {each: policies["FAILURE_POLICY_" + each.name] for each in FailurePolicy}
        self._installed = self._read()

    @property
    def ids(self) -> Mapping[str, int]:
        """The kernel's number of each listener of the last snapshot, as its counts name them."""
        return self._installed.ids

    def apply(self, old: Snapshot, new: Snapshot) -> None:
        """Bring the maps to ``new``; services that are alike in ``old`` are not looked at again.

        No connect(2) meets a state that is neither the old nor the new one of its service. Raises
        CaptureError; the maps then hold some of both, and know it: apply again with an empty ``old``.
        """
        try:
            rules = self._rules.prepare(new)
        except OSError as error:
            raise CaptureError(f"the kernel refuses the rules of services: {error}") from error
        planned = plan(self._installed, old, new, rules)
        try:
            for operation in planned.operations:
                self._perform(operation)
        except OSError as error:
            self._installed = self._read()
            raise CaptureError(_explain(operation, error, self._services, self._endpoints)) from error
        self._installed = planned.result
        try:
            self._rules.retire()
        except OSError as error:
            raise CaptureError(f"the kernel keeps rules that are out of force: {error}") from error

    def _perform(self, operation: Operation) -> None:
        match operation:
            case PutSlots(service, generation, targets):
                for slot, where in enumerate(targets):
                    key = self._endpoint_key.pack(service, generation, slot)
                    self._endpoints[key] = self._address_port.pack(*where)
            case PutService(vip, entry):
                self._services[self._address_port.pack(*vip)] = self._service.pack(
                    *entry[:4],
                    self._protocols[entry.handling],
                    self._policies[entry.failure_policy],
                    entry.rules,
                    entry.joined,
                )
            case RemoveService(vip):
                self._services.discard(self._address_port.pack(*vip))
            case RemoveSlots(service, generation, slots):
                for slot in range(slots):
                    self._endpoints.discard(self._endpoint_key.pack(service, generation, slot))

    def _read(self) -> Installed:
        """What the maps hold; slots that no service shows are removed."""
        protocols = {value: each for each, value in self._protocols.items()}
        policies = {value: each for each, value in self._policies.items()}
        services: dict[Target, ServiceEntry] = {}
        for key, value in self._services.items():
            address, port = self._address_port.unpack(key)
            number, generation, first, slots, protocol, policy, *rest = self._service.unpack(value)
            known = protocols[protocol], policies[policy]
            entry = ServiceEntry(number, generation, first, slots, *known, *rest)
            services[Target(address, port)] = entry
        shown = {entry.id: entry.generation for entry in services.values()}
        found: dict[int, dict[int, Target]] = defaultdict(dict)
        for key, value in self._endpoints.items():
            service, generation, slot = self._endpoint_key.unpack(key)
            if shown.get(service) == generation:
                address, port = self._address_port.unpack(value)
                found[service][slot] = Target(address, port)
            else:
                self._endpoints.discard(key)
        slots = {
            service: Slots(generation, tuple(found[service][slot] for slot in sorted(found[service])))
            for service, generation in shown.items()
        }
        return Installed(SharedMap(services), SharedMap(slots), next_id=1 + max(shown, default=0))


def _explain(operation: Operation, error: OSError, services: Map, endpoints: Map) -> str:
    if error.errno == errno.E2BIG and isinstance(operation, PutSlots):
        return (
            f"no room for {len(operation.targets)} more endpoint slots: the endpoints map holds "
            f"{endpoints.max_entries}; raise MESHD_MAX_ENDPOINTS in bpf/consts.h"
        )
    if error.errno == errno.E2BIG:
        return (
            f"no room for another service: the services map holds {services.max_entries}; "
            "raise MESHD_MAX_SERVICES in bpf/consts.h"
        )
    return f"the kernel refuses {type(operation).__name__}: {error}"
