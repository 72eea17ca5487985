"""The agent's end of a worker's channel, played by a test, and the worker process at the other."""

from __future__ import annotations

import array
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from meshd.model.snapshot import Delta
from meshd.model.wire import (
    AddWorkload,
    Applied,
    Collect,
    Configure,
    Enrolled,
    FromWorker,
    Hello,
    Replace,
    Stats,
    ToWorker,
    Update,
)
from meshd.model.workload import Workload
from tests.datapath.mesh import Mesh

WORKLOAD = Workload(uid="u-1", namespace="default", name="client", netns="", ips=("10.1.0.7", "fd00::7"))
_HEADER = struct.Struct("!IB")
M = TypeVar("M")


class AgentEnd:
    """Accepts one worker at a time and speaks to it, blocking."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._listener.settimeout(60)
        self._decoder = msgspec.msgpack.Decoder(FromWorker)
        self._data = b""
        self._fds: list[int] = []

    def accept(self) -> Hello:
        """The next worker, and what it says first."""
        self._sock, _ = self._listener.accept()
        self._sock.settimeout(60)
        hello, _ = self.receive(Hello)
        return hello

    def send(self, message: ToWorker, fds: Sequence[int] = ()) -> None:
        body = msgspec.msgpack.encode(message)
        frame = _HEADER.pack(len(body), len(fds)) + body
        if fds:
            sent = socket.send_fds(self._sock, [frame], list(fds))
            frame = frame[sent:]
        self._sock.sendall(frame)

    def receive(self, kind: type[M]) -> tuple[M, tuple[int, ...]]:
        """The next message, which must be of that kind, and its descriptors."""
        while len(self._data) < _HEADER.size or len(self._data) < _HEADER.size + self._length():
            data, ancillary, _, _ = self._sock.recvmsg(65536, 1024)
            assert data, "the worker closed the channel"
            self._data += data
            for _, _, packed in ancillary:
                self._fds.extend(array.array("i", packed))
        length, count = _HEADER.unpack_from(self._data)
        message = self._decoder.decode(self._data[_HEADER.size : _HEADER.size + length])
        self._data = self._data[_HEADER.size + length :]
        fds, self._fds = tuple(self._fds[:count]), self._fds[count:]
        assert isinstance(message, kind), message
        return message, fds

    def _length(self) -> int:
        return int(_HEADER.unpack_from(self._data)[0])

    def configure(
        self,
        mesh: Mesh,
        access_log: str = "",
        text: bool = False,
        fast_path: bool = False,
        sample: int = 0,
    ) -> None:
        datapath = mesh.datapath
        message = Configure(
            node="test",
            mark=datapath.mark,
            plain_mark=datapath.plain_mark,
            heartbeat_interval=0.2,
            layout=datapath.layout_json,
            access_log=access_log,
            access_log_format="text" if text else "json",
            fast_path=fast_path,
            sample=sample,
        )
        self.send(message, datapath.worker_fds())

    def enrol(self, mesh: Mesh, workload: Workload) -> None:
        fds = (mesh.pod.fd, mesh.proxy4.fileno(), mesh.proxy6.fileno())
        self.send(AddWorkload(workload=workload), fds)
        assert self.receive(Enrolled)[0].uid == workload.uid

    def update(self, delta: Delta) -> None:
        self.send(Update(delta=delta))
        assert self.receive(Applied)[0].generation == delta.generation

    def replace(self, snapshot: Delta) -> None:
        self.send(Replace(snapshot=snapshot))
        assert self.receive(Applied)[0].generation == snapshot.generation

    def stats(self) -> Stats:
        self.send(Collect(request=7))
        stats, _ = self.receive(Stats)
        assert stats.request == 7
        return stats

    def hang_up(self) -> None:
        """End the channel, as an agent that dies does."""
        self._sock.close()
        self._data = b""

    def close(self) -> None:
        self._listener.close()
        if hasattr(self, "_sock"):
            self._sock.close()
        for fd in self._fds:
            os.close(fd)


class WorkerProcess:
    """``python -m proxy``. Ended with the context."""

    def __init__(self, path: Path, index: int = 0) -> None:
        command = [sys.executable, "-m", "proxy", "--socket", str(path), "--worker", str(index)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE)

    @property
    def pid(self) -> int:
        return self.process.pid

    def resident_bytes(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    def open_files(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ended(self) -> str:
        """Wait for the end, which must be a clean one; what it logged."""
        _, log = self.process.communicate(timeout=100)
        assert self.process.returncode == 0, log.decode()
        return log.decode()

    def close(self) -> None:
        if self.process.returncode is None:
            self.process.terminate()
            log = self.ended()
            assert "Traceback" not in log, log
