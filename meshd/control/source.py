"""Where the control plane's objects come from."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Protocol

from meshd.gateway.incremental import Change
from meshd.kube.collection import Content

Files = Mapping[str, Content]
"""What each place holds, by its name: a manifest's text by its path, an API server's object by its own."""


class SourceError(Exception):
    """There is nothing to be had; the message says why and what to do."""


class Source(Protocol):
    """A directory, or a cluster."""

    def versions(self) -> AsyncGenerator[Files, None]:
        """All that there is, and again each time it has changed. Raises SourceError."""

    def taken(self, change: Change) -> None:
        """The last version has been translated, and is served."""
