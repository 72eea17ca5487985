"""What goes wrong at the tests' API server, beside what a test intercepts by itself."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from aiohttp import web


@dataclass
class Faults:
    """Of all answers, from now on until a test takes them back."""

    delay: float = 0.0
    """Seconds before each answer, and before each line of a watch."""
    code: int = 0
    """An HTTP status that every request gets; 0: none."""
    retry_after: int = 0
    """Seconds that such an answer asks clients to wait."""
    repeat: int = 1
    """So often each event of a watch is sent."""
    piece: int = 0
    """Bytes of a watch's stream that are sent at a time; 0: whole lines."""
    break_after: int = 0
    """Bytes of a watch after which it breaks off; 0: it does not."""
    mute: bool = False
    """Watches tell nothing."""

    async def answer(self) -> web.Response | None:
        """Before a request is looked at: the answer that it gets instead of its own."""
        if self.delay:
            await asyncio.sleep(self.delay)
        if not self.code:
            return None
        headers = {"Retry-After": str(self.retry_after)} if self.retry_after else {}
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": self.code,
                  "reason": "InternalError", "message": "injected"}  # fmt: skip
        return web.json_response(status, status=self.code, headers=headers)


class Stream:
    """The lines of one watch on their way out."""

    def __init__(self, response: web.StreamResponse, faults: Faults) -> None:
        self._response = response
        self._faults = faults
        self._sent = 0

    async def line(self, text: bytes) -> bool:
        """Send one; whether the watch goes on."""
        faults = self._faults
        if faults.delay:
            await asyncio.sleep(faults.delay)
        for _ in range(faults.repeat if not faults.mute else 0):
            data = text + b"\n"
            left = faults.break_after - self._sent if faults.break_after else len(data)
            size = faults.piece or len(data)
            for at in range(0, min(left, len(data)), size):
                await self._response.write(data[at : min(at + size, left)])
            self._sent += len(data)
            if left < len(data):
                return False
        return True
