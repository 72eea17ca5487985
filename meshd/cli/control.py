"""``meshd control``: the control plane, from manifests to xDS."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import socket
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from meshd import log
from meshd.cli.addresses import address
from meshd.cli.cluster_access import add_cluster_options, cluster_access
from meshd.cli.errors import CommandError

if TYPE_CHECKING:
    from meshd.control.access import Access
    from meshd.control.source import Source
    from meshd.kube_api.access import Access as Cluster

DEFAULT_LISTEN = "127.0.0.1:15010"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("control", help="run the control plane", description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--manifests",
        type=Path,
        metavar="DIR",
        help="Kubernetes YAML or JSON, read now and whenever it changes, with all folders below",
    )
    source.add_argument(
        "--kubernetes", action="store_true", help="follow the cluster that this pod is in, or --kubeconfig's"
    )
    add_cluster_options(parser)
    parser.add_argument("--namespace", default="", metavar="NAME", help="follow this one only (default: all)")
    parser.add_argument(
        "--listen",
        default=DEFAULT_LISTEN,
        metavar="HOST:PORT",
        help="where to serve xDS (ADS over gRPC) (default: %(default)s)",
    )
    parser.add_argument(
        "--uds", type=Path, metavar="PATH", help="serve it on a Unix socket, too, and replace what is there"
    )
    parser.add_argument(
        "--tls-cert", type=Path, metavar="FILE", help="serve TLS, with this certificate (PEM)"
    )
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="the certificate's key (PEM)")
    parser.add_argument(
        "--client-ca",
        type=Path,
        metavar="FILE",
        help="ask each client for a certificate of one of these CAs (PEM)",
    )
    parser.add_argument(
        "--tokens-file",
        type=Path,
        metavar="FILE",
        help="ask each client for a bearer token of this file: TOKEN,USER,UID a line",
    )
    parser.add_argument(
        "--token-audience",
        default="",
        metavar="NAME",
        help="ask each client for a service account's token for this audience, which the API server of "
        "--kubernetes reviews",
    )
    parser.add_argument(
        "--metrics-listen",
        type=address,
        metavar="HOST:PORT",
        help="for /metrics, /healthz and /readyz (default: none)",
    )
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT."""
    from meshd.control.control import Control, ControlError, Options

    log.configure(args.log_level)
    cluster = cluster_access(args)
    access = _access(args, cluster)
    source = _source(args, cluster)
    listen = [args.listen]
    if args.uds is not None:
        listen.append(f"unix:{args.uds.absolute()}")

    async def until_signalled() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await Control(Options(source, tuple(listen), access, args.metrics_listen)).run(stop)

    try:
        asyncio.run(until_signalled())
    except ControlError as error:
        raise CommandError(str(error)) from error
    finally:
        logging.shutdown()
    return 0


def _source(args: argparse.Namespace, cluster: Cluster | None) -> Source:
    """Where the objects are. Raises CommandError."""
    from meshd.control.cluster_source import ClusterSource
    from meshd.control.directory import Directory

    if cluster is None:
        if args.namespace:
            raise CommandError("--namespace needs --kubernetes")
        if not args.manifests.is_dir():
            raise CommandError(f"--manifests {args.manifests}: not a directory")
        return Directory(args.manifests)
    identity = f"{socket.gethostname()}_{uuid.uuid4()}"
    return ClusterSource(cluster, identity, args.namespace)


def _access(args: argparse.Namespace, cluster: Cluster | None) -> Access:
    """What clients have to show. Raises CommandError."""
    from meshd.control.access import NOTHING_ASKED, Access
    from meshd.control.token_review import TokenReview
    from meshd.control.tokens import Authenticator, TokensError, TokensFile
    from meshd.tls_files import TlsFiles

    if (args.tls_cert is None) != (args.tls_key is None):
        raise CommandError("--tls-cert and --tls-key go together")
    if args.tls_cert is None:
        for given, value in (
            ("--client-ca", args.client_ca),
            ("--tokens-file", args.tokens_file),
            ("--token-audience", args.token_audience),
        ):
            if value:
                raise CommandError(f"{given} needs TLS: give --tls-cert and --tls-key, too")
        return NOTHING_ASKED
    if args.token_audience and args.tokens_file is not None:
        raise CommandError("a client shows one token: give --token-audience or --tokens-file")
    if args.token_audience and cluster is None:
        raise CommandError("--token-audience needs --kubernetes")
    tokens: Authenticator | None = None
    try:
        if args.tokens_file is not None:
            tokens = TokensFile(args.tokens_file)
        elif args.token_audience and cluster is not None:
            tokens = TokenReview(cluster, args.token_audience)
    except TokensError as error:
        raise CommandError(f"--tokens-file: {error}") from None
    return Access(TlsFiles(args.tls_cert, args.tls_key, args.client_ca), tokens)
