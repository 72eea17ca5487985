"""Captured connections in the maps, as the proxy and the agent read and arm them."""
