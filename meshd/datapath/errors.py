"""What the datapath raises. The message is for the person who runs the node: object, fault, remedy."""

from __future__ import annotations


class DatapathError(Exception):
    """The programs or maps cannot be brought into the state asked for."""


class CaptureError(DatapathError):
    """The kernel did not take a change of members, services or endpoints."""
