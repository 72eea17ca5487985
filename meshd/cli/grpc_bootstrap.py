"""``meshd grpc-bootstrap``: the file by which gRPC's own xDS clients find the control plane."""

from __future__ import annotations

import argparse
import sys

from meshd.cli.errors import CommandError


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    help_text = "print the bootstrap file for gRPC clients that use xds:/// (GRPC_XDS_BOOTSTRAP)"
    parser = commands.add_parser(
        "grpc-bootstrap",
        help=help_text,
        description=help_text,
        epilog="Such a client follows a Service's routes itself: its calls do not pass the proxy.",
    )
    parser.add_argument("--control", required=True, metavar="HOST:PORT", help="the control plane")
    parser.add_argument("--pod", required=True, metavar="NAMESPACE/NAME", help="whose processes will use it")
    parser.add_argument("--node", default="", help="the pod's node, where endpoints near to it come first")
    parser.add_argument("--zone", default="", help="the node's zone, likewise; unset: that of its endpoints")
    parser.add_argument(
        "--tls", action="store_true", help="use TLS, with the authorities that the system knows"
    )
    parser.add_argument("--tls-ca", default="", metavar="FILE", help="who signs for the control plane")
    parser.add_argument("--tls-cert", default="", metavar="FILE", help="the client's certificate")
    parser.add_argument("--tls-key", default="", metavar="FILE", help="its key")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print it. Raises CommandError."""
    from meshd.xds.grpc_bootstrap import Certificates, Client, bootstrap

    namespace, slash, name = args.pod.partition("/")
    if not (namespace and slash and name):
        raise CommandError(f"--pod {args.pod!r} is not NAMESPACE/NAME")
    host, _, port = args.control.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise CommandError(f"--control {args.control!r} is not HOST:PORT")
    if bool(args.tls_cert) != bool(args.tls_key):
        raise CommandError("--tls-cert and --tls-key are of use together only")
    certificates = Certificates(args.tls_ca, args.tls_cert, args.tls_key)
    tls = certificates if args.tls or any(certificates) else None
    sys.stdout.write(bootstrap(args.control, Client(name, namespace, args.node, args.zone), tls).decode())
    return 0
