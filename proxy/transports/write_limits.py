"""How much may wait to be sent on a connection."""

from __future__ import annotations

WRITE_HIGH_BYTES = 64 * 1024
"""Beyond them the other side is not read from."""
WRITE_LOW_BYTES = 16 * 1024
"""Down to them, after that."""
