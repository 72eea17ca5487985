"""Connections to servers, their pools, and whose they are."""
