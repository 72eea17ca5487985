"""Clients' connections: what comes on them, and the requests in it."""
