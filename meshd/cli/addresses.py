"""HOST:PORT on the command line."""

from __future__ import annotations

import argparse


def address(text: str) -> tuple[str, int]:
    """An IPv6 host may be in brackets. Raises argparse.ArgumentTypeError."""
    host, separator, port = text.rpartition(":")
    if not separator or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)
