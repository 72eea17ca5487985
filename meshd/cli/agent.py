"""``meshd agent``: the node daemon."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import logging
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING

from meshd import cgroup_home, log
from meshd.build import own_build
from meshd.cli import leftovers
from meshd.cli.addresses import address
from meshd.cli.cluster_access import add_cluster_options, cluster_access
from meshd.cli.daemonset import daemonset, take_out, why_last
from meshd.cli.errors import CommandError
from meshd.datapath.errors import DatapathError
from meshd.datapath.kernel import cgroup
from meshd.paths import CACHE_DIR, run_dir
from meshd.tls_files import TlsFiles

if TYPE_CHECKING:
    from meshd.kube_api.access import Access


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("agent", help="run the node agent", description=__doc__)
    parser.add_argument("--node", required=True, help="this node's name, told to the control plane")
    parser.add_argument(
        "--control",
        default="127.0.0.1:15010",
        metavar="ADDRESS[,ADDRESS]",
        help="the control plane: HOST:PORT or unix:PATH, of each of its replicas; a host's name may have the "
        "addresses of several (default: %(default)s)",
    )
    parser.add_argument(
        "--control-ca",
        type=Path,
        metavar="FILE",
        help="connect to it by TLS, and believe certificates of these CAs (PEM)",
    )
    parser.add_argument(
        "--control-cert", type=Path, metavar="FILE", help="the certificate to show to it (PEM)"
    )
    parser.add_argument("--control-key", type=Path, metavar="FILE", help="that certificate's key (PEM)")
    parser.add_argument(
        "--control-token-file", type=Path, metavar="FILE", help="the bearer token to show to it"
    )
    parser.add_argument(
        "--instance",
        default="default",
        help="keeps several agents on one kernel apart (default: %(default)s)",
    )
    parser.add_argument("--cgroup", type=Path, help="where to attach (default: the root of cgroup v2)")
    parser.add_argument(
        "--runtime",
        choices=("netns", "containerd", "cri-o", "docker"),
        default="netns",
        help="who makes the pods; netns: a directory with a file for each (default: %(default)s)",
    )
    parser.add_argument(
        "--workloads", type=Path, metavar="DIR", help="for --runtime netns (default: in the run directory)"
    )
    parser.add_argument(
        "--runtime-socket", type=Path, metavar="PATH", help="the runtime's (default: where it puts it)"
    )
    parser.add_argument(
        "--enrol",
        choices=("labelled", "all"),
        default="labelled",
        help="which of a runtime's pods are in the mesh where neither they nor their namespaces say: none or "
        "all (default: %(default)s)",
    )
    parser.add_argument(
        "--kubernetes",
        action="store_true",
        help="ask the API server for the labels of the node's pods and of their namespaces: that of the "
        "cluster that this pod is in, or --kubeconfig's",
    )
    add_cluster_options(parser)
    parser.add_argument(
        "--daemonset",
        type=daemonset,
        metavar="NAMESPACE/NAME",
        help="that this agent is of: if it is gone when the agent ends, all that the agent has put on the "
        "node is removed, as by meshd cleanup",
    )
    parser.add_argument(
        "--workers", type=_count, default=1, help="proxy worker processes, one a core (default: %(default)s)"
    )
    parser.add_argument(
        "--detach-workers",
        action="store_true",
        help="keep workers in a cgroup of their own, meshd/INSTANCE at the root, so that they outlive the "
        "container or unit that the agent runs in; with the limits that the agent's own cgroup has",
    )
    parser.add_argument(
        "--drain",
        type=_seconds,
        default=300.0,
        metavar="SECONDS",
        help="that connections of workers of another version have to end (default: 300)",
    )
    parser.add_argument(
        "--orphaned-after",
        type=_seconds,
        default=600.0,
        metavar="SECONDS",
        help="without an agent, after which workers drain and end (default: 600)",
    )
    parser.add_argument(
        "--access-log",
        default="",
        metavar="PATH",
        help="of the requests; - for standard output (default: none)",
    )
    parser.add_argument("--access-log-format", choices=("json", "text"), default="json")
    parser.add_argument(
        "--access-log-sample",
        type=_sample,
        default=0,
        metavar="N",
        help="let the kernel carry requests although there is an access log, and log one in N of those "
        "(default: 0, the proxy takes and logs every request)",
    )
    parser.add_argument(
        "--fast-path",
        choices=("on", "off", "auto"),
        default="auto",
        help="whether the kernel may carry requests; auto: if a self-test finds it able to (default: auto)",
    )
    parser.add_argument(
        "--subscribe",
        choices=("on-demand", "all"),
        default="on-demand",
        help="to the config of what this node's workloads use, once they do, or of all services; all is for "
        "control planes that send clusters to nobody who asks for them by name (default: on-demand)",
    )
    parser.add_argument(
        "--unused-after",
        type=_seconds,
        default=600.0,
        metavar="SECONDS",
        help="since its last connection, after which a service is out of use (default: 600)",
    )
    parser.add_argument(
        "--keep-unused",
        type=_seconds,
        default=60.0,
        metavar="SECONDS",
        help="for which its config is kept all the same, to be in use again at once (default: 60)",
    )
    parser.add_argument(
        "--metrics-listen",
        type=address,
        default=("127.0.0.1", 15020),
        metavar="HOST:PORT",
        help="for /metrics, /healthz and /readyz (default: 127.0.0.1:15020)",
    )
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT."""
    from meshd.agent.fast_path import Wish, decide
    from meshd.datapath.datapath import HEARTBEAT_TIMEOUT, ensure_loaded
    from meshd.datapath.selftest.outcome import kept_result, self_test

    log.configure(args.log_level)
    _check_control(args)
    access = _check_runtime(args)
    directory = run_dir(args.instance)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = _lock(directory / "agent.lock", args.instance)
    homes = _worker_homes(args)
    kept = CACHE_DIR / "selftest.json"
    tested, wish = kept_result(kept), Wish(args.fast_path)
    fast_path = decide(wish, tested, args.access_log_sample, bool(args.access_log))
    with ThreadPoolExecutor(2) as children:
        # What an earlier agent had switched on stays on meanwhile, if the outcome is known.
        loading = children.submit(
            ensure_loaded,
            args.instance,
            args.cgroup,
            fast_path=fast_path.on,
            in_use=bool(leftovers.workers(args.instance)),
        )
        testing = children.submit(self_test, kept) if tested is None and wish is Wish.AUTO else None
        # Importing gRPC and aiohttp takes about as long as compiling the programs, which is another process.
        from meshd.agent.agent import Agent
        from meshd.agent.control_plane import ControlPlane
        from meshd.agent.on_demand import Settings
        from meshd.agent.options import Options
        from meshd.agent.worker_start import Outputs, WorkerStart
        from meshd.workloads.discovery import SOCKETS, Discovery, Runtime
        from meshd.workloads.membership import Enrol
    try:
        datapath = loading.result()
        if testing is not None:
            fast_path = decide(wish, testing.result(), args.access_log_sample, bool(args.access_log))
    except (DatapathError, OSError) as error:
        raise CommandError(str(error)) from error
    datapath.configure(HEARTBEAT_TIMEOUT, fast_path.on, fast_path.sample, bool(args.access_log))
    host, port = args.metrics_listen
    runtime = Runtime(args.runtime)
    if runtime is Runtime.NETNS:
        place = args.workloads or directory / "workloads"
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    else:
        place = args.runtime_socket or SOCKETS[runtime]
    options = Options(
        node=args.node,
        instance=args.instance,
        control=ControlPlane(
            targets=tuple(args.control.split(",")),
            tls=TlsFiles(args.control_cert, args.control_key, args.control_ca) if args.control_ca else None,
            token_file=args.control_token_file,
        ),
        run_dir=directory,
        discovery=Discovery(
            runtime=runtime, place=place, node=args.node, enrol=Enrol(args.enrol), access=access
        ),
        workers=args.workers,
        worker_start=WorkerStart(
            build=own_build(),
            places=datapath.layout.maps["heartbeat"].max_entries,
            orphaned_after=args.orphaned_after,
            drain_seconds=args.drain,
            homes=homes,
            outputs=Outputs(directory) if homes else None,
        ),
        metrics_host=host,
        metrics_port=port,
        access_log=args.access_log,
        access_log_format=args.access_log_format,
        fast_path=fast_path,
        demand=Settings(
            everything=args.subscribe == "all",
            unused_after=args.unused_after,
            kept_for=args.keep_unused,
        ),
    )

    async def until_signalled() -> str:
        """Why no agent follows; empty: one may."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await Agent(options, datapath).run(stop)
        return await why_last(access, args.daemonset) if access and args.daemonset else ""

    last = ""
    try:
        last = asyncio.run(until_signalled())
    except OSError as error:
        raise CommandError(f"node {args.node}: {error}") from error
    finally:
        datapath.close()
        if last:
            take_out(args.instance, last)
        lock.close()
        logging.shutdown()
    return 0


def _check_control(args: argparse.Namespace) -> None:
    """Raises CommandError. Whether the files can be read is seen, and shown, when they are used."""
    if not all(args.control.split(",")):
        raise CommandError(f"--control {args.control}: an address is empty")
    if (args.control_cert is None) != (args.control_key is None):
        raise CommandError("--control-cert and --control-key go together")
    for option, value in (
        ("--control-cert", args.control_cert),
        ("--control-token-file", args.control_token_file),
    ):
        if value is not None and args.control_ca is None:
            raise CommandError(f"{option} needs TLS: give --control-ca, too")


def _check_runtime(args: argparse.Namespace) -> Access | None:
    """The API server to ask, if any. Raises CommandError."""
    if args.runtime == "netns":
        if args.runtime_socket is not None or args.kubernetes:
            given = "--kubernetes" if args.kubernetes else "--runtime-socket"
            raise CommandError(f"{given}: with --runtime netns the folder's files say all there is to know")
    elif args.workloads is not None:
        raise CommandError("--workloads is for --runtime netns")
    if args.daemonset is not None and not args.kubernetes:
        raise CommandError("--daemonset needs --kubernetes")
    return cluster_access(args)


def _worker_homes(args: argparse.Namespace) -> tuple[Path, ...]:
    """The cgroups that workers are to live in. Raises CommandError."""
    if not args.detach_workers:
        return ()
    try:
        return tuple(cgroup_home.prepare(args.cgroup or cgroup.root(), args.instance))
    except (DatapathError, OSError) as error:
        raise CommandError(f"--detach-workers: {error}") from error


def _lock(path: Path, instance: str) -> IO[str]:
    """Hold the instance while this process lives: two agents would take each other's workers away."""
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise CommandError(
            f"an agent of instance {instance!r} runs already: stop it, or give this one another --instance"
        ) from error
    return file


def _count(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 99")
    return int(text)


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,3})?", text) or not float(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return float(text)


def _sample(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 999999999")
    return int(text)
