"""The control plane's ADS server, in a thread, for models that a test makes up."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import TracebackType

from meshd.control.server import AdsServer
from meshd.model.snapshot import Snapshot
from meshd.model.status import ConfigStatus
from meshd.xds.resources import ResourceSet
from tests.support.resource_sets import resource_set


class AdsThread:
    """Serves what was published last on a Unix socket. A context manager."""

    def __init__(self, socket_path: Path) -> None:
        self.socket_path = socket_path
        self.target = f"unix:{socket_path}"
        self._resources = ResourceSet()
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="ads-server")
        self._thread.start()
        self._started.wait()

    def publish(self, snapshot: Snapshot) -> None:
        """Serve this snapshot from now on. Raises ValueError for a model that cannot be sent."""
        self._resources = resource_set(snapshot, ConfigStatus(), self._resources)
        self._loop.call_soon_threadsafe(self._server.publish, self._resources)

    def rejections(self) -> list[str]:
        """What clients refuse at the moment: node, type and reason."""
        return [
            f"{stream.node}: {kind}: {rejection.message}"
            for stream in list(self._server.streams)
            for kind, rejection in list(stream.rejections.items())
        ]

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._server = AdsServer()
        self._server.listen(self.target)
        await self._server.start()
        self._started.set()
        await self._stop.wait()
        await self._server.stop()

    def __enter__(self) -> AdsThread:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
