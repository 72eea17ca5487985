"""Shared libraries that the proxy loads from the distribution."""

from __future__ import annotations

from typing import Final

NGHTTP2: Final = "libnghttp2.so.14"
NGHTTP2_PACKAGE: Final = "libnghttp2-14"
"""Debian's."""
NGHTTP2_NEEDED: Final = (
    ("nghttp2_option_set_stream_reset_rate_limit", "CVE-2023-44487"),
    ("nghttp2_option_set_max_continuations", "CVE-2024-28182"),
)
"""Functions that came with the mending of a hole, and which. In 1.57 and 1.61, and back-ported by Debian."""


def why_not_nghttp2(library: object | None) -> str:
    """What is wrong with libnghttp2, and what to do about it; empty: nothing.

    ``library``: its functions are attributes; None: it is missing.
    """
    if library is None:
        return f"{NGHTTP2} is not installed, and HTTP/2 needs it: apt install {NGHTTP2_PACKAGE}"
    for function, hole in NGHTTP2_NEEDED:
        if not hasattr(library, function):
            return f"{NGHTTP2} is too old: {hole} is not mended in it; update {NGHTTP2_PACKAGE}"
    return ""
