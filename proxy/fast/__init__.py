"""The proxy's share in the fast path."""
