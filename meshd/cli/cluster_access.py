"""The options by which a command reaches a Kubernetes API server."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from meshd.cli.errors import CommandError

if TYPE_CHECKING:
    from meshd.kube_api.access import Access


def add_cluster_options(parser: argparse.ArgumentParser) -> None:
    """--kubeconfig and --context; the command has a --kubernetes of its own."""
    parser.add_argument(
        "--kubeconfig", type=Path, metavar="FILE", help="how to reach the cluster, from outside of it"
    )
    parser.add_argument("--context", default="", metavar="NAME", help="the kubeconfig's context to use")


def cluster_access(args: argparse.Namespace) -> Access | None:
    """None: the command is not to ask a cluster. Raises CommandError."""
    from meshd.kube_api.access import from_kubeconfig, in_cluster
    from meshd.kube_api.kubeconfig import KubeConfigError

    if not args.kubernetes:
        for given, value in (("--kubeconfig", args.kubeconfig), ("--context", args.context)):
            if value:
                raise CommandError(f"{given} needs --kubernetes")
        return None
    if args.context and args.kubeconfig is None:
        raise CommandError("--context needs --kubeconfig")
    try:
        if args.kubeconfig is None:
            return in_cluster()
        return from_kubeconfig((args.kubeconfig,), args.context)
    except KubeConfigError as error:
        raise CommandError(str(error)) from None
