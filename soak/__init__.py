"""Thousands of connections that end in all ways: every byte is right, and nothing stays. `make soak`."""
