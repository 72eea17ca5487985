"""Which maps two versions of the programs share, and what goes from one to the next. Pure."""

from __future__ import annotations

WORKER_MAPS = (
    *("flows", "heartbeat", "armed", "connections", "upstreams", "owners", "kept", "bells"),
    *("spliced_flows", "spliced_armed", "spliced"),
)
"""What a proxy worker reads and writes."""
CARRIED_MAPS = ("members", "homes", "services", "endpoints", "flows", "settings")
"""What an upgrade carries from maps of an earlier layout into those of its own."""
SIDE_BY_SIDE = frozenset((*WORKER_MAPS, *CARRIED_MAPS, "rule_sets", "paths"))
"""A version of which a worker could not use the earlier one's maps has all of these of its own: until its
programs are in force the earlier ones find there what they need, whatever the new version writes."""
