"""Where the control plane's objects come from."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from meshd.gateway.incremental import Change
from meshd.kube.collection import Edits


class SourceError(Exception):
    """There is nothing to be had; the message says why and what to do."""


class Source(Protocol):
    """A directory, or a cluster."""

    def versions(self) -> AsyncGenerator[Edits, None]:
        """All that there is, and then what has changed each time. Raises SourceError.

        Places are a manifest's path, or an API server's object's own.
        """

    def taken(self, change: Change) -> None:
        """The last version has been translated, and is served."""
