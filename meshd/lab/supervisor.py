"""The lab's background process: builds the nodes, runs the control loops and answers the command line."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
from pathlib import Path

import msgspec

from meshd import log
from meshd.lab.carrier import Carrier
from meshd.lab.cluster import Cluster, Node
from meshd.lab.command.protocol import (
    MAX_MESSAGE,
    Apply,
    Delete,
    Done,
    Failed,
    GetStatus,
    Reply,
    Request,
    Stop,
)
from meshd.lab.daemon import Daemon
from meshd.lab.decisions.addressing import NodeNet
from meshd.lab.envoys import legs, tproxy
from meshd.lab.envoys.bootstrap import NoEnvoyError
from meshd.lab.manifests.parsing import InvalidObjectError
from meshd.lab.mesh import MeshOptions, NodeMesh, control_daemon
from meshd.lab.names import MODES, Lab
from meshd.lab.report import status
from meshd.lab.system import cgroup, network
from meshd.lab.system.logfiles import keep_bounded

_logger = logging.getLogger("meshd.lab.supervisor")

_REQUEST_SECONDS = 10.0
_REASONS = (OSError, network.NetworkError, cgroup.NoCgroup2Error, NoEnvoyError, legs.SockmapError)
"""Why a lab may be impossible here."""
_decoder = msgspec.msgpack.Decoder(Request)
_encoder = msgspec.msgpack.Encoder()


class Supervisor:
    """One lab."""

    def __init__(self, lab: Lab, node_count: int, mode: str, options: MeshOptions) -> None:
        self._lab = lab
        self._node_count = node_count
        self._mode = mode
        self._options = options
        self._root = cgroup.find_root()
        self._stop = asyncio.Event()
        self._control: Daemon | None = None
        self._cluster: Cluster | None = None

    async def run(self) -> None:
        """Build the lab, serve until told to stop, end the pods."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        nodes = await self._build()
        self._cluster = cluster = Cluster(self._lab, nodes, self._root)
        server = await asyncio.start_unix_server(self._answer, str(self._lab.socket))
        self._lab.socket.chmod(0o600)
        log.event(_logger, logging.INFO, "lab runs", lab=self._lab.name, nodes=len(nodes), mode=self._mode)
        cluster.poke()
        stopped = asyncio.create_task(self._stop.wait())
        tasks = {
            asyncio.create_task(cluster.run(), name="control loops"),
            asyncio.create_task(keep_bounded(self._lab.state_dir), name="log files"),
        }
        try:
            await asyncio.wait({stopped, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*tasks, stopped):
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(result, Exception):
                    log.event(_logger, logging.ERROR, "task failed", reason=repr(result))
            await cluster.stop()
            await asyncio.gather(
                *(d.stop() for d in (*(n.mesh for n in nodes if n.mesh), self._control) if d)
            )
            server.close()
            await server.wait_closed()
            log.event(_logger, logging.INFO, "lab ended", lab=self._lab.name)

    async def _build(self) -> list[Node]:
        """The fabric and the nodes. Daemons start as soon as they can: they take longest."""
        lab = self._lab
        for folder in (lab.manifests, lab.state_dir / "pods"):
            folder.mkdir(parents=True, exist_ok=True)
        await network.make_fabric(lab.netns("fabric"))
        if self._mode != "none":
            self._control = control_daemon(lab, self._root)
        nodes = []
        for number in range(1, self._node_count + 1):
            net = NodeNet(number)
            await network.make_node(lab.netns(net.name), lab.netns("fabric"), net)
            (self._root / lab.node_cgroup(net.name) / "pods").mkdir(parents=True, exist_ok=True)
            nodes.append(Node(net, await self._carrier(net)))
        return nodes

    async def _carrier(self, net: NodeNet) -> Carrier | None:
        """What carries the traffic of a node's pods."""
        match self._mode:
            case "meshd":
                return NodeMesh(self._lab, net.name, self._root, self._options)
            case "sidecar":
                from meshd.lab.envoys.sidecar_mesh import (
                    SidecarMesh,  # aiohttp is not loaded where it is not used
                )

                return SidecarMesh(self._lab, net, self._root, self._options.workers)
            case "node-proxy" | "node-proxy-sockmap":
                from meshd.lab.envoys.node_proxy import NodeProxy

                if self._mode == "node-proxy-sockmap":
                    await legs.load(self._lab, net, self._root)
                await network.deliver_marked(self._lab.netns(net.name), tproxy.MARK, tproxy.TABLE)
                return NodeProxy(self._lab, net.name, self._root, self._options.workers)
        return None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            message = bytearray()
            async with asyncio.timeout(_REQUEST_SECONDS):
                while chunk := await reader.read(1 << 16):
                    message += chunk
                    if len(message) > MAX_MESSAGE:
                        return
            try:
                reply = await self._handle(_decoder.decode(message))
            except msgspec.MsgspecError as error:
                reply = Failed(f"not a request: {error}")
            except InvalidObjectError as error:
                reply = Failed(str(error))
            writer.write(_encoder.encode(reply))
            await writer.drain()
        except (ConnectionError, TimeoutError) as error:
            log.event(_logger, logging.DEBUG, "client gone", reason=error)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _handle(self, request: Request) -> Reply:
        if self._cluster is None:
            return Failed("the lab is not up yet")
        match request:
            case Apply(manifests=manifests):
                return Done(await self._cluster.apply(manifests))
            case Delete(manifests=manifests):
                return Done(await self._cluster.delete(manifests))
            case GetStatus():
                return status(self._mode, self._cluster, await self._cluster.enrolled())
            case Stop():
                self._stop.set()
                return Done([])


def main() -> None:
    """Entry point of the process that ``meshd lab up`` leaves in the background."""
    parser = argparse.ArgumentParser(prog="meshd-lab-supervisor")
    parser.add_argument("--name", required=True)
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--mode", choices=MODES, required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--access-log", default="")
    parser.add_argument("--fast-path", default="auto")
    parser.add_argument("--log-level", default="info")
    args = parser.parse_args()
    log.configure(args.log_level)
    logging.getLogger("pyroute2").setLevel(logging.WARNING)  # at debug it logs every netlink message
    os.umask(0o022)
    os.chdir("/")
    lab = Lab(args.name)
    try:
        options = MeshOptions(args.workers, args.access_log, args.fast_path)
        asyncio.run(Supervisor(lab, args.nodes, args.mode, options).run())
    except _REASONS as error:
        log.event(_logger, logging.ERROR, "lab failed", lab=lab.name, reason=error)
        raise SystemExit(1) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(lab.socket).unlink()


if __name__ == "__main__":
    main()
