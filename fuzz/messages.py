"""The messages that are kept, and how one is tried."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from fuzz.agreement import Agreement

FOLDER = Path(__file__).resolve().parent / "corpus"
INDEXED = (b"x-canary", b"a", b"user-agent", b"x-123456789-123456789-123456789-")
"""Names that the kernel looks for in requests: of one byte, of eight, in between, and as long as can be."""


def read(folders: Iterable[Path] = (FOLDER,)) -> list[bytes]:
    """The messages of all files there, in the order of their names. Raises OSError."""
    return [path.read_bytes() for folder in folders for path in sorted(folder.iterdir())]


def favoured(agreement: Agreement, messages: Sequence[bytes]) -> list[bytes]:
    """The messages, and those that the kernel takes as often again that they are a half. Most changes to any
    other message make one that it does not take either. Raises DisagreementError."""
    taken = [message for number, message in enumerate(messages) if try_one(agreement, message, number)]
    others = len(messages) - len(taken)
    return [*messages, *taken * (others // len(taken))]


def try_one(agreement: Agreement, message: bytes, number: int) -> bool:
    """Whether the kernel takes it. Every eighth answer is to HEAD. Raises DisagreementError."""
    if message.startswith(b"HTTP/"):
        return agreement.response(message, "GET" if number % 8 else "HEAD")
    return agreement.request(message)
